"""A page of a memory block is allocated, or freed, while the block goes offline.

``set_migratetype_isolate()`` moves a pageblock's free pages out of the allocator's reach under ``zone->lock``. What was
taken before is moved to other memory.

A page that is freed goes to a list of its CPU if its pageblock is not isolated yet, which is looked at without a lock.
Kernels before 5.9 emptied these lists once, when all was isolated; a page that came to a list after that stayed there,
and offlining waited for it for ever. 5.9 empties them again as long as pages are missing, 5.11 and later let nothing
stay in a list meanwhile (``zone_pcp_disable()``).
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
from memhp.linux.mm.page_alloc import alloc_pages, take_pages_off_buddy
from memhp.linux.mm.pcplists import IN_A_LIST, free_unref_page, setup_zone_pageset
from memhp.linux.profiles import MAINLINE
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import KiB

ONE_PAGEBLOCK = tuple(configurations(release, "arm64", page_size=64 * KiB)[0] for release in MAINLINE)
"""A memory block is one pageblock there, which offlining isolates at once."""
APP = Owner(Use.MOVABLE, "app")


def take_page(k: Kernel) -> Hashable:
    """A process gets a page, of ZONE_MOVABLE if there is one."""
    return len(alloc_pages(k, 0, 0, movable=True, owner=APP, where="mm/memory.c:do_anonymous_page"))


def free_last(k: Kernel) -> None:
    """The last reference to a page is gone, as when its process ends: ``free_unref_page()``."""
    free_unref_page(k, pfns(k, near_dimm(k)).end - 1, "mm/swap.c:__folio_put")


def nothing_in_use_is_offline(k: Kernel) -> str | None:
    """The first law that does not hold when all is done, or that a process has a page of memory that is offline."""
    taken = [start for start, _, owner in k.hw.memory.owners.runs(*pfns(k, near_dimm(k))) if owner == APP]
    if taken and memory_block(k, k.block_id(taken[0])).state == "offline":
        return f"page-in-use: PFN {taken[0]:#x} is in use, and its memory block is offline"
    return laws_hold(k)


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM is online in ZONE_MOVABLE; nobody uses it, or a page is just about to be freed."""
    k = boot_near(variant.config(configuration))
    add_near(k)
    state_store(k, k.block_id(pfns(k, near_dimm(k)).start), "online_movable")
    if variant.name == "zone-locked":
        names, actors = ("offline", "page fault"), (write_offline, take_page)
        return KernelProgram(k, actors, names, check=nothing_in_use_is_offline)
    page = Span(pfns(k, near_dimm(k)).end - 1, pfns(k, near_dimm(k)).end)
    taken = take_pages_off_buddy(k, page, IN_A_LIST, "mm/memory.c:do_anonymous_page")
    zone = k.zone_of(page.start)
    assert taken and zone is not None
    setup_zone_pageset(k, zone, (0, 1))
    return KernelProgram(k, (write_offline, free_last), ("offline", "free"), check=nothing_in_use_is_offline)


CASE = Case(
    name="allocation-vs-offline",
    actors="an allocation from a memory block, or a free of a page in it; the block goes offline",
    build=build,
    geometry="a memory block of one pageblock",
    variants=(
        Variant("zone-locked", "set_migratetype_isolate() holds zone->lock", "repaired", ONE_PAGEBLOCK),
        Variant(
            "free-drained-once",
            "drain_all_pages() when all is isolated, as before 5.9",
            "broken",
            ONE_PAGEBLOCK[:1],
            generic={"pcplists": "drained-once"},
        ),
        Variant(
            "free-drained-again",
            "drain_all_pages() as long as pages are missing, as in 5.9",
            "repaired",
            ONE_PAGEBLOCK[:1],
            generic={"pcplists": "drained-again"},
        ),
        Variant("free-pcp-disabled", "zone_pcp_disable() before isolation", "repaired", ONE_PAGEBLOCK),
    ),
)
