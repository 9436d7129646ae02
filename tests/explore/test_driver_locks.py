"""What drivers of memory share with user space and with each other is under the locks that the kernel has there."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from bench.driver_pairs import driver_pairs
from bench.states import KEPT, case_differs
from memhp.explore.case import Configuration
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.search import search
from memhp.explore.engine.shortest import decide
from memhp.explore.engine.verdict import Verdict
from memhp.explore.lock_removal import removed, sites
from memhp.linux.drivers.hv.hv_balloon import DmDevice
from memhp.linux.mmzone import ZoneType
from memhp.linux.state import Kernel
from memhp.units import KiB

ENOUGH = 4000
"""More executions and states than any of the pairs has."""
NOTICED = (
    ("drivers/hv/hv_balloon.py:_process_hot_add HA_LOCK", "hv: next | online"),
    ("drivers/hv/hv_balloon.py:_pfn_covered HA_LOCK", "hv: end of it | online"),
    ("drivers/hv/hv_balloon.py:_handle_pg_range HA_LOCK", "hv: rest of it | online"),
    ("drivers/hv/hv_balloon.py:_hv_mem_hot_add HA_LOCK", "hv: next in the region | online"),
    ("drivers/hv/hv_balloon.py:_hv_mem_hot_add HA_LOCK #2", "hv: next, which is there | online"),
    ("drivers/hv/hv_balloon.py:hv_online_page HA_LOCK", "hv: next | online"),
    ("mm/memory_hotplug_online.py:_callback_locked 'online_page_callback_lock'", "hv: bind | xen: bind"),
)
"""A place that takes a lock, as the code has it, and the two paths that race without it."""


@cache
def programs() -> dict[str, KernelProgram]:
    return {name: make() for name, make in driver_pairs()}


def decided(pair: str) -> Verdict:
    run = programs()[pair].run()
    run.tell_apart(frozenset())
    try:
        return search(run)
    finally:
        run.close()


@pytest.mark.parametrize("pair", [name for name, _ in driver_pairs()])
def test_what_two_paths_come_to_is_the_same_whichever_search_and_whoever_is_first(pair: str) -> None:
    """They are safe, in both orders; and all states one by one end as the schedules end that the search looks at."""
    assert decided(pair).word == "safe"
    counts: Counter[str] = Counter()
    assert case_differs(programs()[pair], replace(KEPT, executions=ENOUGH), ENOUGH, counts) == []
    assert counts["orders of actors"] == 2


@pytest.mark.parametrize(("place", "pair"), NOTICED, ids=[place for place, _ in NOTICED])
def test_a_lock_that_a_driver_does_not_take_is_a_data_race(place: str, pair: str) -> None:
    (site,) = (one for one in sites() if str(one) == place)
    with removed(site):
        without = decided(pair)
    assert without.failure is not None
    assert without.failure.reason.startswith("data race: ")


# Hyper-V's dynamic memory ------------------------------------------------------------------------------------------


def all_that_is_backed_is_online(k: Kernel) -> str | None:
    (region,) = k.statics(DmDevice).ha_region_list
    left = region.backed.size - k.nodes[0].zone(ZoneType.MOVABLE).managed
    return f"the buddy never gets {left:#x} pages" if left else None


@pytest.mark.parametrize("release", ["linux-6.12", "linux-7.2"])
def test_what_the_host_backs_before_a_block_is_marked_as_online_may_stay_out_of_it(release: str) -> None:
    """drivers/hv/hv_balloon.c:handle_pg_range asks whether the section is online, and leaves the pages to
    hv_online_page() if it is not: but mm/memory_hotplug.c:online_pages_range marks sections after the callback.
    """
    pairs = dict(driver_pairs(Configuration("arm64", 64 * KiB, 48, release)))
    program = replace(pairs["hv: rest of it | online"](), check=all_that_is_backed_is_online)
    failure = decide(program.run()).failure
    assert failure is not None
    assert failure.reason == "the buddy never gets 0x1000 pages"
