"""A page is allocated while zonelists are built anew: mm/page_alloc.c of 6.1 to 7.2, and as it was before 6.0."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import pytest

from deciding import behaviours, counterexample
from memhp.explore.cases.actors import laws_hold
from memhp.explore.cases.zonelists_vs_allocation import CASE
from memhp.explore.engine.search import Limits, search
from memhp.linux.profiles import profile

WHERE = "arm64-64K-42-linux-7.2"
EVERY = Limits(stop_at_failure=False, keep_behaviours=True)


@pytest.mark.parametrize("zone", ["offline", "online"])
def test_before_6_0_an_allocation_finds_no_zone_though_memory_is_free(zone: str) -> None:
    """Patrick Daly's report in 3d36424b3b58: ac->preferred_zoneref leads to NULL, and the OOM killer comes."""
    reason, lines = counterexample(CASE, f"{zone}-unseen", WHERE)
    assert "OOM: an allocation of a page finds no zone, and" in reason
    assert " 0 pages are free" not in reason
    written = [line.text for line in lines if line.name == zone and "_zonerefs" in line.text]
    assert written
    assert not [line for line in lines if "seqcount" in line.text]


def test_at_offline_the_whole_list_is_new_and_ends_where_the_allocation_begins() -> None:
    """[MOVABLE, DMA, NULL] has become [DMA, NULL], and the entry that was chosen is the second."""
    _, lines = counterexample(CASE, "offline-unseen", WHERE)
    read = [line.text for line in lines if line.name == "allocate" and "_zonerefs" in line.text]
    assert read[-1].endswith("_zonerefs[1]")


def test_at_online_half_a_list_is_enough() -> None:
    """[DMA, NULL] becomes [MOVABLE, DMA, NULL], from the front on: for a while its old end is behind the new zone."""
    _, lines = counterexample(CASE, "online-unseen", WHERE)
    written = [line.text.rpartition(".")[2] for line in lines if line.name == "online" and "_zonerefs" in line.text]
    assert written == ["_zonerefs[0]"]


def test_since_6_0_it_begins_again_when_a_zone_has_gone() -> None:
    assert behaviours(CASE, "offline-seqlock", WHERE) == {(("offline", 1), ())}


def test_since_6_0_it_gets_a_page_when_a_zone_comes_but_maybe_one_of_zone_movable() -> None:
    """f-31: get_page_from_freelist() does not compare the index of the zone that it begins with."""
    reason, _ = counterexample(CASE, "online-seqlock", WHERE)
    assert reason.startswith("zone-movable: ")
    program = CASE.program("online-seqlock")
    found = search(replace(program, check=laws_hold).run(), EVERY).coverage.behaviours
    assert {(state[0], state[1]) for state in found if isinstance(state, tuple)} == {((None, 1), ())}
    assert CASE.variant("online-seqlock").current(CASE.variant("online-seqlock").configuration(WHERE))


def test_with_a_look_on_from_the_first_entry_no_kernel_page_is_in_zone_movable() -> None:
    assert behaviours(CASE, "online-allowed", WHERE) == {((None, 1), ())}


@pytest.mark.parametrize(
    ("release", "update"),
    [
        ("5.15.71", "spinlock"), ("5.15.72", "zonelist_update_seq"), ("5.19.12", "spinlock"),
        ("5.19.13", "zonelist_update_seq"), ("6.0", "zonelist_update_seq"), ("6.1", "zonelist_update_seq"),
    ],
)  # fmt: skip
def test_stable_kernels_have_it_since_october_2022(release: str, update: str) -> None:
    assert profile(release).zonelist_update == update
