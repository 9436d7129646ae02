"""What is not as it was in the tree of resources: what its log has, and lists of children that are other lists now.

Lists are compared with copies, by the resources that are in them and not by what these are, and the first and last
places that differ are found by halving, so that the many resources that are as they were cost next to nothing.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from typing import NamedTuple

from memhp.linux.kernel.resource import Extent, Resource
from memhp.spans import Span


class Siblings(NamedTuple):
    """The children ``[first, last)`` of a resource: those that changed, and the one on either side."""

    parent: Resource
    first: int
    last: int


class ResourceChanges:
    """What changes in a tree between two looks at it. The log of the tree is kept for these looks."""

    def __init__(self) -> None:
        self._children: dict[Resource, list[Resource]] = {}
        """By resource in the tree that has or had children: a copy of the list of these."""

    def look(self, root: Resource) -> tuple[list[Span], list[Siblings]]:
        """What changed since the last look, the first time everything: the bytes concerned, and where in the tree."""
        log, root.written = root.written or {}, {}
        spans: list[Span] = []
        places: list[Siblings] = []
        for res, before in log.items():
            now = Extent(res.start, res.end, res.flags, res.parent)
            if now != before:
                spans += (Span(one.start, one.end + 1) for one in (before, now))
                places += _around(res, (before.parent, now.parent))
        gone: list[Resource] = []
        come: list[Resource] = []
        for parent in {root: None, **self._children, **log}:
            old = self._children.get(parent, [])
            if parent.children != old:
                first = _alike(parent.children, old)
                last = _alike(parent.children[first:][::-1], old[first:][::-1])
                these, those = slice(first, len(parent.children) - last), slice(first, len(old) - last)
                gone += old[those]
                come += parent.children[these]
                places.append(Siblings(parent, max(first - 1, 0), these.stop + 1))
                old[those] = parent.children[these]
                self._children[parent] = old
        for res in gone:
            gone += self._children.pop(res, ())
        for res in come:
            if res.children and res not in self._children:
                self._children[res] = res.children[:]
                come += res.children
        spans += (Span(res.start, res.end + 1) for res in (*gone, *come))
        return spans, places


def _around(res: Resource, parents: tuple[Resource | None, ...]) -> Iterator[Siblings]:
    """Where one of these lists a resource."""
    for parent in {parent for parent in parents if parent is not None}:
        if res in parent.children:
            at = parent.children.index(res)
            yield Siblings(parent, max(at - 1, 0), at + 2)


def _alike(these: list[Resource], those: list[Resource]) -> int:
    """How many items two lists begin with that are the same in both."""
    least, most = 0, min(len(these), len(those))
    while least < most:
        middle = (least + most + 1) // 2
        if these[least:middle] == those[least:middle]:
            least = middle
        else:
            most = middle - 1
    return least
