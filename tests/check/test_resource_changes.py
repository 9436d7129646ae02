"""What a look at the resource tree tells is what a walk of the whole tree, before and after, finds to differ."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memhp.check.resource_changes import ResourceChanges
from memhp.linux.kernel import resource as r
from memhp.spans import SpanSet

SIZE = 64


def rows(parent: r.Resource) -> Iterator[tuple[int, int, tuple[object, ...]]]:
    for child in parent.children:
        yield child.start, child.end, (child.flags, id(child), id(child.parent), id(parent))
        yield from rows(child)


def tree() -> r.Resource:
    root = r.Resource(0, SIZE - 1, "root")
    for start in range(0, SIZE, 16):
        r.request_resource(root, r.Resource(start, start + 7, "RAM", r.BUSY_SYSTEM_RAM))
    r.insert_resource(root, r.Resource(16, 31, "device"))
    return root


def change(root: r.Resource, what: str, number: int, at: int, size: int) -> None:
    """One change, by a function of the kernel or past them all."""
    these = [res for _, res in r.iter_resources(root)]
    one, end = (these[number % len(these)] if these else root), min(at + size, SIZE) - 1
    if what == "request":
        r.request_resource_conflict(root, r.Resource(at, end, "new"))
    elif what == "insert":
        r.insert_resource_conflict(root, r.Resource(at, end, "over"))
    elif what == "adjustable":
        r.release_mem_region_adjustable(root, at, size)
    elif what == "merge":
        r.merge_system_ram_resource(one)
    elif what == "field":
        setattr(one, ("start", "end", "flags")[size % 3], at)
    elif what == "list":
        one.children.append(r.Resource(at, end, "listed", parent=one))
    elif one is not root and one.parent is not None and one in one.parent.children:
        if what == "remove":
            r.remove_resource(one)
        elif what == "release":
            r.release_resource(one)
        elif what == "unlisted":
            one.parent.children.remove(one)
        elif what == "again":
            r.release_resource(one)
            one.end += 1
            r.request_resource_conflict(root, one)


CHANGES = ("request", "insert", "adjustable", "merge", "field", "list", "remove", "release", "unlisted", "again")
STEPS = st.lists(
    st.lists(
        st.tuples(st.sampled_from(CHANGES), st.integers(0, 20), st.integers(0, SIZE - 1), st.integers(1, 20)),
        max_size=3,
    ),
    max_size=6,
)


@given(STEPS)
def test_a_look_tells_where_the_tree_is_not_what_it_was(steps: list[list[tuple[str, int, int, int]]]) -> None:
    root, changes = tree(), ResourceChanges()
    changes.look(root)
    for these in steps:
        before = {*rows(root)}
        for one in these:
            change(root, *one)
        differ = before ^ {*rows(root)}
        spans, places = changes.look(root)
        told = SpanSet(span for span in spans if span.start < span.end)
        assert all(start > end or told.covers(start, end + 1) for start, end, _ in differ)
        listed = {id(res) for parent, first, last in places for res in parent.children[first:last]}
        below = (res for _, one in r.iter_resources(root) if id(one) in listed for _, res in r.iter_resources(one))
        inside = {*map(id, below)}
        assert {row[2][1] for row in differ & {*rows(root)}} <= listed | inside
        assert changes.look(root) == ([], [])


@pytest.mark.parametrize("how", ["grows", "is marked", "goes"])
def test_a_look_reads_as_few_resources_among_many_as_among_few(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: Counter[str] = Counter()

    def look(count: int) -> Counter[str]:
        root, changes = r.Resource(0, 1 << 20, "root"), ResourceChanges()
        for start in range(0, count * 16, 16):
            r.request_resource(root, r.Resource(start, start + 7, "RAM", r.BUSY_SYSTEM_RAM))
        changes.look(root)
        one = root.children[count // 2]
        if how == "goes":
            r.release_resource(one)
        elif how == "grows":
            one.end += 1
        else:
            one.flags |= r.IORESOURCE_SYSRAM_MERGEABLE
        reads.clear()
        assert changes.look(root)[0]
        return Counter(reads)

    def counted(res: r.Resource, name: str) -> object:
        reads[name] += 1
        return object.__getattribute__(res, name)

    monkeypatch.setattr(r.Resource, "__getattribute__", counted, raising=False)
    assert look(10) == look(1000)
