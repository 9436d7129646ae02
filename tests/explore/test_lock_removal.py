"""Locks of the kernel's code that are left out are noticed; ``bench/locks.py`` tries each of them."""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import cache

import pytest

from bench.callers import of_boot
from bench.lock_pairs import pairs
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.verdict import Verdict
from memhp.explore.lock_removal import Site, removed, sites

NOTICED = (
    ("mm/page_alloc.py:free_pages zone.lock", "allocate-movable | free"),
    ("mm/page_alloc.py:_rmqueue_buddy zone.lock", "allocate-movable | free"),
    ("mm/page_isolation.py:_isolate zone.lock", "arm64-64K: offline | free"),
    ("mm/memory_hotplug_offline.py:__offline_isolated_pages zone.lock", "arm64-64K: offline | free"),
    ("mm/memory_hotplug_add.py:register_memory_resource 'resource_lock'", "pmem | add"),
    ("mm/memory_hotplug_remove.py:try_remove_memory 'resource_lock'", "kmem | pmem"),
    ("mm/memremap.py:_check_range 'resource_lock'", "pmem-pagemap | add"),
    ("drivers/nvdimm/pmem.py:request_mem_region 'resource_lock'", "pmem | pmem"),
    ("mm/alloc_contig.py:alloc_contig_range zone.lock", "contiguous | allocate"),
    ("mm/vmalloc.py:_alloc_vmap_area FREE_VMAP_AREA_LOCK", "vmalloc | vmalloc-too"),
    ("mm/memory_failure.py:memory_failure MF_MUTEX", "memory-failure | memory-failure-next"),
    ("mm/memory_hotplug_online.py:_callback_locked 'online_page_callback_lock'", "callback | callback"),
)
"""A place that takes a lock, as the code has it, and the two paths that race without it."""
SETTINGS = "x86-64: watermarks | higher-watermarks"
SAFE = (
    "arm64-64K: offline | allocate-movable",
    "pmem-pagemap | online",
    "watermarks | watermarks",
    SETTINGS,
)
"""Other paths that meet under locks."""
POISONED = "arm64-64K: offline | memory-failure"


@cache
def programs() -> dict[str, KernelProgram]:
    return {name: program() for name, program in pairs() if name in {*SAFE, POISONED, *(pair for _, pair in NOTICED)}}


def decided(pair: str) -> Verdict:
    run = programs()[pair].run()
    run.tell_apart(frozenset())
    try:
        return search(run, Limits(executions=60))
    finally:
        run.close()


def site(place: str) -> Site:
    (found,) = (one for one in sites() if str(one) == place)
    return found


@pytest.mark.parametrize(("place", "pair"), NOTICED, ids=[place for place, _ in NOTICED])
def test_a_lock_that_is_not_taken_is_a_data_race(place: str, pair: str) -> None:
    with removed(site(place)):
        without = decided(pair)
    assert without.failure is not None
    assert without.failure.reason.startswith("data race: ")


@pytest.mark.parametrize("pair", sorted({*SAFE, *(pair for _, pair in NOTICED)}))
def test_with_its_locks_the_same_is_safe(pair: str) -> None:
    assert decided(pair).word == "safe"


def test_watermarks_of_two_settings_mix_where_nobody_keeps_those_apart_who_set_them() -> None:
    """mm/page_alloc.c:setup_per_zone_wmarks has a static lock around all zones."""
    with removed(site("mm/watermarks.py:setup_per_zone_wmarks LOCK")):
        failure = decided(SETTINGS).failure
    assert failure is not None
    assert failure.reason.startswith("watermarks: zones have those of two settings")


def test_a_page_may_be_marked_as_poisoned_when_its_struct_page_has_gone_offline() -> None:
    """pfn_to_online_page() keeps nothing: memory_failure() of every kernel holds mf_mutex only, which offlining does
    not take.
    """
    failure = decided(POISONED).failure
    assert failure is not None
    assert failure.reason == "data race: write of page_zone by offline and read of page_zone by memory-failure"


def test_only_boot_comes_to_a_function_that_nobody_else_names_on_the_way() -> None:
    assert of_boot("preallocate_pgd_pages_range") == ["start_kernel", "mem_init", "preallocate_pgd_pages_range"]
    assert not any(map(of_boot, ("vfree", "add_memory", "device_online", "memory_failure")))


def test_a_lock_is_let_go_by_whoever_would_have_taken_it() -> None:
    """An acquisition in one function whose lock another lets go: nothing is taken, and the unlock drops nothing."""
    hw = next(iter(programs().values())).kernel.hw
    here = next(one for one in sites() if one.function == "install")
    assert here.lock == "PAGE_TABLE_LOCK"
    with removed(here):
        hw.lock("another")
        assert hw.holds("another")
        hw.unlock("another")
        assert not hw.holds("another")
