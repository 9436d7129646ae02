"""A page of a memory block is allocated while the block goes offline.

``set_migratetype_isolate()`` moves a pageblock's free pages out of the allocator's reach under ``zone->lock``. What was
taken before is moved to other memory.

There is no variant as it was: what kernels do against errors of old here is about pages in per-CPU lists
(``zone_pcp_disable()`` in ``offline_pages()``) and about counts that are kept beside the lists (the migrate type that
``free_one_page()`` of 6.1 reads again under the lock), and the model has neither.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable

from memhp.explore.case import Case, Configuration, Variant, configurations
from memhp.explore.cases.actors import laws_hold, pfns
from memhp.explore.cases.memory_error_vs_removal import write_offline
from memhp.explore.cases.near_dimm import add_near, boot_near, near_dimm
from memhp.explore.doors.run import KernelProgram
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.base.memory_state import memory_block, state_store
from memhp.linux.mm.page_alloc import alloc_pages
from memhp.linux.profiles import MAINLINE
from memhp.linux.state import Kernel
from memhp.units import KiB

ONE_PAGEBLOCK = tuple(configurations(release, "arm64", page_size=64 * KiB)[0] for release in MAINLINE)
"""A memory block is one pageblock there, which offlining isolates at once."""
APP = Owner(Use.MOVABLE, "app")


def take_page(k: Kernel) -> Hashable:
    """A process gets a page, of ZONE_MOVABLE if there is one."""
    return len(alloc_pages(k, 0, 0, movable=True, owner=APP, where="mm/memory.c:do_anonymous_page"))


def nothing_in_use_is_offline(k: Kernel) -> str | None:
    """The first law that does not hold when all is done, or that a process has a page of memory that is offline."""
    taken = [start for start, _, owner in k.hw.memory.owners.runs(*pfns(k, near_dimm(k))) if owner == APP]
    if taken and memory_block(k, k.block_id(taken[0])).state == "offline":
        return f"page-in-use: PFN {taken[0]:#x} is in use, and its memory block is offline"
    return laws_hold(k)


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM is online in ZONE_MOVABLE, and nobody uses it."""
    k = boot_near(variant.config(configuration))
    add_near(k)
    state_store(k, k.block_id(pfns(k, near_dimm(k)).start), "online_movable")
    return KernelProgram(
        k, (write_offline, take_page), ("offline", "page fault"), check=nothing_in_use_is_offline
    )


CASE = Case(
    name="allocation-vs-offline",
    actors="an allocation from a memory block; the block goes offline",
    build=build,
    geometry="a memory block of one pageblock",
    variants=(
        Variant("zone-locked", "set_migratetype_isolate() holds zone->lock", "repaired", ONE_PAGEBLOCK),
    ),
)
