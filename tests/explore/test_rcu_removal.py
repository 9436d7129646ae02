"""RCU read-side sections of the kernel's code that are left out are noticed, or it is known why not: bench/locks.py."""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import cache
from itertools import chain
from typing import Any

import pytest

from bench.rcu_pairs import rcu_pairs
from bench.sections import Sections, of_execution, sections_told, why
from bench.virtio_mem_pairs import virtio_mem_pairs
from memhp.explore.cases import p2pdma_dma_vs_unbind, pagemap_lookup_vs_unmap, pfn_valid_vs_remove
from memhp.explore.doors.run import KernelProgram
from memhp.explore.doors.stepper import Doors
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.verdict import Verdict
from memhp.explore.lock_removal import SECTION, Position, Site, removed, sites, told
from memhp.hw.locks import LockDoors

MMAP = "p2pdma: unbind | mmap"
LOOKUP = "pagemap-lookup-vs-unmap/generic"
POOL = "p2pdma-dma-vs-unbind/taken-pool-first"
UNBIND = "virtio-mem, 0 memory blocks: unbind | online-dimm"
USE = "use-after-free: "
NOTICED = (
    ("drivers/virtio/virtio_mem_fake_offline.py:__call__", UNBIND, USE),
    ("drivers/pci/p2pdma.py:pci_alloc_p2pmem", POOL, "unbind: KernelBug: BUG_ON: a pool is destroyed"),
    ("mm/sparse.py:pfn_valid", "pfn-valid-vs-remove/grace-period", USE),
    ("mm/sparse.py:pfn_to_online_page", "pfn-valid-vs-remove/online-page-rcu", USE),
    ("mm/dev_pagemap.py:get_dev_pagemap", LOOKUP, USE),
    ("lib/percpu_refcount.py:percpu_ref_put_many", LOOKUP, "deadlock: unbind at wait for 1 references"),
    (
        "lib/percpu_refcount.py:percpu_ref_tryget_live",
        "private memory, 6.12: unbind | page taken into use",
        "driver: KernelBug: dev_pagemap.ref: 1 references dropped of 0",
    ),
    (
        "lib/percpu_refcount.py:percpu_ref_tryget_many",
        "private memory, 7.2: unbind | page taken into use",
        "driver: KernelBug: dev_pagemap.ref: 1 references dropped of 0",
    ),
)
"""A section, what meets it, and what breaks without it."""
KERNFS = ("drivers/pci/p2pdma.py:p2pmem_alloc_mmap", "lib/percpu_refcount.py:percpu_ref_get_many")


@cache
def program(name: str) -> KernelProgram:
    for case in (pfn_valid_vs_remove.CASE, pagemap_lookup_vs_unmap.CASE, p2pdma_dma_vs_unbind.CASE):
        if name.startswith(case.name):
            return case.program(name.split("/")[1])
    return dict(chain(rcu_pairs(), virtio_mem_pairs()))[name]()


def decided(name: str) -> Verdict:
    run = program(name).run()
    run.tell_apart(frozenset())
    try:
        return search(run, Limits(executions=300))
    finally:
        run.close()


def section(place: str) -> Site:
    (found,) = (one for one in sites() if str(one) == f"{place} {SECTION}")
    return found


@pytest.mark.parametrize(("place", "name", "breaks"), NOTICED, ids=[place for place, _, _ in NOTICED])
def test_what_is_read_goes_when_nobody_waits_for_the_reader(place: str, name: str, breaks: str) -> None:
    with removed(section(place)):
        failure = decided(name).failure
    assert failure is not None
    assert failure.reason.startswith(breaks)


@pytest.mark.parametrize("name", sorted({MMAP, *(name for _, name, _ in NOTICED)}))
def test_with_its_read_side_sections_the_same_is_safe(name: str) -> None:
    assert decided(name).word == "safe"


def noted(name: str) -> Sections:
    """What is noted of sections while a program is decided."""
    places = {one.position: str(one).split()[0] for one in sites() if one.lock == SECTION}
    notes: dict[str, Any] = {}
    seen = Sections(notes)

    def begins(position: Position, hw: LockDoors) -> None:
        if isinstance(hw.stepper, Doors):
            of_execution(hw.stepper).begins[hw.cpu] = places[position]

    with told(lambda *_: None, begins), sections_told(seen):
        decided(name)
    return seen


@pytest.mark.parametrize("place", KERNFS)
def test_mmap_of_a_file_of_sysfs_is_over_before_the_device_takes_its_pool_away(place: str) -> None:
    """fs/kernfs/file.c:kernfs_fop_mmap() holds an active reference, for which the removal of the file waits."""
    with removed(section(place)):
        assert decided(MMAP).word == "safe"
    assert why(place, [noted(MMAP)]) == "apart from grace periods: who begins one has waited at BAR/p2pmem/allocate"


def test_a_grace_period_that_a_reader_holds_up_is_no_reason_why_nothing_could_notice() -> None:
    place = "mm/dev_pagemap.py:get_dev_pagemap"
    seen = noted(LOOKUP)
    assert seen.alone(place)
    assert seen.held_up(place)
    assert not why(place, [seen])


def test_a_section_within_another_one_holds_up_nobody_of_its_own() -> None:
    seen = Sections({})
    seen.enter("outer", "", 0, [])
    seen.enter("inner", "outer", 0, [])
    assert why("inner", [seen]) == "always within outer"
