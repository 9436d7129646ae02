"""Hyper-V's host backs more of a memory block while it goes online."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from deciding import behaviours, counterexample, in_turn
from memhp.explore.cases.hv_backing_vs_online import CASE, back_the_rest
from memhp.explore.lock_removal import removed, sites
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.hv.hv_balloon import DmDevice

WHERE = ("arm64-64K-48-linux-6.12", "x86_64-4K-48-linux-7.2")
SMALL = "arm64-64K-48-linux-6.12"


@pytest.mark.parametrize("configuration", WHERE)
def test_what_is_backed_between_the_callback_and_the_mark_of_the_section_stays_out(configuration: str) -> None:
    """mm/memory_hotplug.c:online_pages_range: online_mem_sections() comes after the callback."""
    reason, lines = counterexample(CASE, "as-it-is", configuration)
    assert reason.startswith("pages: ")
    last = max(number for number, line in enumerate(lines) if line.name == "host")
    before, after = ([line.text for line in part if line.name == "online"] for part in (lines[:last], lines[last:]))
    assert "unlock dm_device.ha_lock" in before
    assert not any(text.startswith("write mem_section") for text in before)
    assert any(text.startswith("write mem_section") for text in after)


def test_a_notifier_that_looks_once_more_leaves_none_out() -> None:
    pages = CASE.program("notifier", SMALL).kernel.pages_per_block // 2
    assert behaviours(CASE, "notifier", SMALL) == {((pages, None), ())}
    assert in_turn(CASE.program("notifier", SMALL)) == {(pages, None)}


@pytest.mark.parametrize("variant", ["as-it-is", "notifier"])
def test_one_after_the_other_every_page_comes_to_the_buddy_and_is_counted_once(variant: str) -> None:
    """drivers/hv/hv_balloon.c:hv_page_online_one counts up, hv_memory_notifier() down when the block goes offline."""
    k = CASE.program(variant, SMALL).kernel
    (state,) = k.statics(DmDevice).ha_region_list
    block = k.block_id(state.start_pfn)
    assert back_the_rest(k) == k.pages_per_block // 2
    for _ in range(2):
        state_store(k, block, "online_movable")
        assert k.statics(DmDevice).num_pages_onlined == k.pages_per_block
        state_store(k, block, "offline")
        assert k.statics(DmDevice).num_pages_onlined == 0


def test_more_that_goes_offline_than_was_counted_is_a_warning_and_no_number_below_zero() -> None:
    """The driver counts a page too few here; what it does about it is WARN_ON_ONCE(), and 0."""
    k = CASE.program("as-it-is", SMALL).kernel
    (state,) = k.statics(DmDevice).ha_region_list
    state_store(k, k.block_id(state.start_pfn), "online_movable")
    k.statics(DmDevice).num_pages_onlined -= 1
    back_the_rest(k)
    state_store(k, k.block_id(state.start_pfn), "offline")
    assert k.statics(DmDevice).num_pages_onlined == 0
    assert [line.text for line in k.hw.log_lines if "hv_memory_notifier" in line.text] == [
        "WARNING: at drivers/hv/hv_balloon.c:hv_memory_notifier"
    ]


def test_a_notifier_that_looks_without_the_lock_may_set_pages_offline_that_the_host_has_just_backed() -> None:
    (site,) = (one for one in sites() if str(one) == "drivers/hv/hv_balloon.py:hv_memory_notifier HA_LOCK #2")
    with removed(site):
        assert "the buddy never gets them" in counterexample(CASE, "notifier", SMALL)[0]
