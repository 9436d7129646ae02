"""The order of the free lists: what comes online goes to their tails, so what came first is taken first.

``mm/page_alloc.c:__free_pages_core`` frees with ``FPI_TO_TAIL``, and so does ``__putback_isolated_page()`` when a
pageblock is not isolated any more; ``move_to_free_list()`` adds to the tail as well.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memhp.linux.mm.rmqueue import arrive, put_free, rmqueue
from memhp.linux.mmzone import NOWHERE, Arrival, MigrateType, Zone, ZoneType
from memhp.spans import Span
from zoned import X86, unzoned

ORDER = 10
"""MAX_PAGE_ORDER."""
BLOCK = 1 << ORDER
COUNT = 16
ACTS = ("online", "offline", "take", "free")
K = unzoned(X86, [(0, 4096, 0)])


def zone() -> Zone:
    made = Zone(0, ZoneType.NORMAL, 0, COUNT * BLOCK)
    made.migratetypes.set(0, COUNT * BLOCK, MigrateType.MOVABLE)
    return made


def online(zone: Zone, start: int, end: int) -> None:
    """Blocks of the largest order come online."""
    span = Span(start * BLOCK, end * BLOCK)
    arrive(zone, span, ORDER)
    put_free(zone, span)


def take(zone: Zone, count: int, order: int = ORDER) -> list[int]:
    got = rmqueue(K, zone, order, count, MigrateType.MOVABLE, nofragment=False)
    return [page >> order for span in got for page in range(span.start, span.end, 1 << order)]


def test_what_came_online_first_is_used_first_from_its_lowest_address_on() -> None:
    it = zone()
    for start, end in ((8, 10), (2, 4), (12, 13), (4, 5)):
        online(it, start, end)
    assert take(it, 3) + take(it, 3) == [8, 9, 2, 3, 12, 4]


def test_what_goes_offline_and_online_again_comes_last() -> None:
    it = zone()
    online(it, 0, 8)
    it.free.remove(2 * BLOCK, 4 * BLOCK)
    online(it, 2, 4)
    assert take(it, 8) == [0, 1, 4, 5, 6, 7, 2, 3]


def test_what_is_freed_again_is_found_again_where_it_was() -> None:
    it = zone()
    online(it, 8, 10)
    online(it, 0, 2)
    assert take(it, 4) == [8, 9, 0, 1]
    for block in (1, 9):
        put_free(it, Span(block * BLOCK, (block + 1) * BLOCK))
    assert take(it, 4) == [9, 1]


def test_a_block_that_grows_whole_later_is_one_block_at_the_tail() -> None:
    """A sub-block of virtio-mem is half of the largest block: the two halves merge."""
    it, half = zone(), BLOCK // 2
    online(it, 1, 2)
    for start in (0, half):
        arrive(it, Span(start, start + half), ORDER)
        put_free(it, Span(start, start + half))
    assert take(it, 2) == [1, 0]


@pytest.mark.parametrize("order", [0, 3, ORDER])
@given(
    st.lists(
        st.tuples(st.sampled_from(["online", "offline", "take", "free"]), st.integers(0, COUNT - 1), st.integers(1, 6))
    )
)
def test_the_lists_are_those_of_pages_kept_one_by_one(order: int, history: list[tuple[str, int, int]]) -> None:
    it = zone()
    came: list[int] = []
    """Largest blocks by when they came online."""
    used: set[int] = set()
    """Blocks of the order that are taken."""
    each = BLOCK >> order
    for what, first, count in history:
        blocks = range(first, min(first + count, COUNT))
        if what == "online" and not set(blocks) & set(came):
            online(it, blocks.start, blocks.stop)
            came += blocks
        elif what == "offline" and set(blocks) <= set(came) and not {block // each for block in used} & set(blocks):
            it.free.remove(blocks.start * BLOCK, blocks.stop * BLOCK)
            came = [block for block in came if block not in blocks]
        elif what == "take":
            free = [part for block in came for part in range(block * each, (block + 1) * each) if part not in used]
            assert take(it, count, order) == free[:count]
            used |= set(free[:count])
        elif what == "free" and used:
            part = sorted(used)[first % len(used)]
            used.remove(part)
            put_free(it, Span(part << order, (part + 1) << order))
    assert [(each.start, each.end) for each in sorted(it.arrivals, key=lambda one: one.start)] == cut(it.arrivals)


def cut(arrivals: list[Arrival]) -> list[tuple[int, int]]:
    """All page frames, cut where arrivals begin."""
    starts = sorted(each.start for each in arrivals)
    return list(zip(starts, [*starts[1:], NOWHERE], strict=True))
