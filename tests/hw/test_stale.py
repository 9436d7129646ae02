"""Translations that CPUs may still hold: which flush of what reaches which of them, against a set of single entries."""
# SPDX-License-Identifier: GPL-2.0-or-later

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from memhp.hw.tlb import Flush, Table, TlbState
from memhp.linux.formats import FORMATS
from memhp.spans import Span

FMT = FORMATS["riscv64-sv48"]
SIZE = FMT.levels[1].size
TABLE = Table(0x1234, 1, 0xFFFF_AF80_0000_0000)
CPUS = 2


def reachable(tlb: TlbState) -> set[tuple[int, int]]:
    """(entry, CPU) for every entry that some CPU may still use."""
    found = set()
    for stale in tlb.stale:
        for at, count in zip(stale.runs.at.tolist(), stale.runs.length.tolist(), strict=True):
            for place in range(stale.index + at, stale.index + at + count):
                found |= {(place, cpu) for cpu in range(CPUS) if stale.cpus >> cpu & 1}
    return found


kinds_of = st.lists(st.sampled_from(("none", "leaf", "table")), max_size=30)
flushes = st.tuples(st.integers(0, 40), st.integers(0, 40), st.booleans(), st.booleans(), st.integers(0, CPUS - 1))


@settings(max_examples=200)
@given(
    st.integers(0, 9), st.lists(st.sampled_from(("none", "leaf", "table")), max_size=30), st.lists(flushes, max_size=4)
)
def test_a_flush_reaches_the_entries_in_its_range_on_the_cpus_in_its_scope(
    index: int, kinds: list[str], made: list[tuple[int, int, bool, bool, int]]
) -> None:
    tlb = TlbState(FMT, CPUS)
    old = [
        {"none": 0, "leaf": FMT.leaf_entry(512 * n, 1, 0xE6), "table": FMT.table_entry(0x90000 + n)}[kind]
        for n, kind in enumerate(kinds)
    ]
    tlb.unmap(TABLE, index, np.array(old, dtype=np.uint64), "test")
    wanted = {(index + n, cpu) for n, kind in enumerate(kinds) if kind != "none" for cpu in range(CPUS)}
    assert reachable(tlb) == wanted
    for a, b, last_level, local, cpu in made:
        first, end = min(a, b), max(a, b)
        tlb.flush(Flush("f", "op", last_level, local), Span(TABLE.va + first * SIZE, TABLE.va + end * SIZE), cpu)
        wanted -= {
            (place, who)
            for place, who in wanted
            if first <= place < end and (not local or who == cpu) and (not last_level or kinds[place - index] == "leaf")
        }
        assert reachable(tlb) == wanted
    for n, kind in enumerate(kinds):
        frames = {"leaf": Span(512 * n + 7, 512 * n + 8), "table": Span(0x90000 + n, 0x90001 + n)}.get(kind)
        if frames is not None:
            exposed = any((index + n, cpu) in wanted for cpu in range(CPUS))
            assert (tlb.give_back(frames, "test") is not None) == exposed


def test_a_flush_of_one_page_of_a_block_invalidates_it() -> None:
    tlb = TlbState(FMT, CPUS)
    tlb.unmap(TABLE, 0, np.array([FMT.leaf_entry(512 * n, 1, 0xE6) for n in range(3)], dtype=np.uint64), "test")
    tlb.flush(Flush("f", "op"), Span(TABLE.va + SIZE + 4096, TABLE.va + SIZE + 8192), 0)
    assert {place for place, _ in reachable(tlb)} == {0, 2}


def test_an_exposure_lasts_until_every_entry_that_leads_to_it_is_flushed() -> None:
    tlb = TlbState(FMT, CPUS)
    entries = np.array([FMT.leaf_entry(512, 1, 0xE6)] * 2, dtype=np.uint64)
    tlb.unmap(TABLE, 0, entries, "test")
    frames = Span(600, 601)
    assert tlb.give_back(frames, "test") is not None
    for place, exposed in ((0, True), (1, False)):
        tlb.flush(Flush("f", "op"), Span(TABLE.va + place * SIZE, TABLE.va + (place + 1) * SIZE), 0)
        assert (tlb.reuse(frames) is not None) == exposed
    assert tlb.exposed_frames == 1


changes = st.tuples(st.booleans(), st.integers(0, 12), st.integers(0, 12))


@settings(max_examples=200)
@given(st.integers(0, 3), st.lists(st.booleans(), min_size=1, max_size=8), st.lists(changes, max_size=6))
def test_an_entry_that_stands_is_come_by_again_after_a_flush_until_it_is_cleared(
    index: int, there: list[bool], made: list[tuple[bool, int, int]]
) -> None:
    """What an entry leads to may be freed before it is cleared; a page walk finds it there as long as it is not."""
    tlb = TlbState(FMT, CPUS)
    row = np.zeros(16, dtype=np.uint64)
    for n, one in enumerate(there):
        row[index + n] = FMT.leaf_entry(512 * n, 1, 0xE6) if one else 0
    tlb.expect(TABLE, index, row[index : index + len(there)], "test")
    stands = {index + n for n, one in enumerate(there) if one}
    cached: set[int] = set()
    for clears, a, b in made:
        first, end = min(a, b), max(a, b)
        if clears:
            tlb.unmap(TABLE, first, row[first:end].copy(), "test")
            row[first:end] = 0
            cached |= {place for place in stands if first <= place < end}
            stands -= cached
        else:
            tlb.flush(Flush("f", "op"), Span(TABLE.va + first * SIZE, TABLE.va + end * SIZE), 0)
            cached -= set(range(first, end))
        assert {place for place, _ in reachable(tlb)} == stands | cached


def test_entries_of_a_table_to_which_nothing_leads_any_more_stand_for_nobody() -> None:
    tlb = TlbState(FMT, CPUS)
    tlb.expect(TABLE, 3, np.array([FMT.leaf_entry(512, 1, 0xE6)], dtype=np.uint64), "test")
    tlb.flush(Flush("f", "op"), Span(0, 1 << 64), 0)
    assert tlb.give_back(Span(600, 601), "test") is not None
    (standing,) = tlb.standing
    tlb.left(standing)
    assert tlb.leads_to(600) and not tlb.standing
    tlb.flush(Flush("f", "op"), Span(0, 1 << 64), 0)
    assert not tlb.leads_to(600)
