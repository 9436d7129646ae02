"""A zone's span is read while memory goes online below it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from deciding import behaviours, counterexample, in_turn
from memhp.explore.cases.lone_dimm import lone_dimm
from memhp.explore.cases.zone_span_vs_allocation import CASE
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.mm.zone_span import page_outside_zone_boundaries, zone_span_seqbegin

WHERE = ("x86_64-4K-48-linux-7.2", "arm64-64K-48-linux-6.12")
BUG = "VM_BUG_ON_PAGE(bad_range(zone, page))"


@pytest.mark.parametrize("configuration", WHERE)
def test_between_start_and_length_a_page_at_the_end_is_outside(configuration: str) -> None:
    """resize_zone_range(): zone_start_pfn, then spanned_pages; 6.12 and 7.2 have no zone_span_writelock() around."""
    reason, lines = counterexample(CASE, "span-unlocked", configuration)
    assert BUG in reason
    stored = [line.text.rpartition(".")[2] for line in lines if line.name == "online" and "write zone" in line.text]
    assert stored == ["start_pfn"]
    assert CASE.variant("span-unlocked").current(CASE.variant("span-unlocked").configuration(configuration))


@pytest.mark.parametrize("configuration", WHERE)
def test_under_the_seqlock_no_reader_sees_a_torn_span(configuration: str) -> None:
    assert behaviours(CASE, "span-seqlock", configuration) == {((None, None), ())}
    assert in_turn(CASE.program("span-seqlock", configuration)) == {(None, None)}


@pytest.mark.parametrize("configuration", WHERE)
def test_a_reader_that_does_not_look_again_sees_it_all_the_same(configuration: str) -> None:
    assert BUG in counterexample(CASE, "no-retry", configuration)[0]


@pytest.mark.parametrize(("variant", "written"), [("span-seqlock", 4), ("span-unlocked", 0)])
def test_the_sequence_is_even_again_and_tells_how_often_the_span_was_written(variant: str, written: int) -> None:
    k = CASE.program(variant).kernel
    lower = lone_dimm(k, 0).start // k.memory_block_size
    zone = k.zone_of(lone_dimm(k, 1).start >> k.config.page_shift)
    assert zone is not None
    before = zone_span_seqbegin(k, zone)
    state_store(k, lower, "online_movable")
    assert not page_outside_zone_boundaries(k, zone, zone.start_pfn)
    state_store(k, lower, "offline")
    assert page_outside_zone_boundaries(k, zone, zone.start_pfn - 1)
    assert zone_span_seqbegin(k, zone) - before == written
