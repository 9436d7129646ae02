"""The kernel allocates a page while zonelists are built anew: ZONE_MOVABLE gets its first memory, or loses its last.

``__build_all_zonelists()`` writes entry over entry, and ``get_page_from_freelist()`` goes on from the one that
``first_zones_zonelist()`` chose before (``ac->preferred_zoneref``). With ZONE_MOVABLE gone the zone of that entry is
one entry further up, and the list may end where the allocation begins; half-built, the list has ZONE_MOVABLE where the
other zone was, and its old end behind it. So the allocation finds no zone, and the OOM killer comes though memory is
free. Since 3d36424b3b58 ("mm/page_alloc: fix race condition between build_all_zonelists and page allocation", 6.0)
``__alloc_pages_slowpath()`` begins with ``zonelist_iter_begin()``, and asks ``check_retry_zonelist()`` before it gives
up.

That leaves an allocation which does find a page. It takes the zone of the entry that it chose without a look at its
index, and when ZONE_MOVABLE has come, that is the first one.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable

from memhp.errors import KernelBug
from memhp.explore.case import Case, Configuration, Variant, configurations
from memhp.explore.cases.actors import laws_hold, pfns
from memhp.explore.cases.memory_error_vs_removal import write_offline
from memhp.explore.cases.near_dimm import add_near, boot_near, near_dimm
from memhp.explore.doors.run import KernelProgram
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.mm.free_area import nr_free_pages
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.mmzone import ZoneType
from memhp.linux.profiles import MAINLINE
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import KiB

ONE_ZONE = configurations(MAINLINE[-1], "arm64", page_size=64 * KiB)[:1]
"""Beside ZONE_MOVABLE there is one zone, and a memory block is one pageblock."""
SOMEBODY = Owner(Use.KERNEL, "somebody")
OFFLINE, ONLINE = "offline", "online"


def take_kernel_page(k: Kernel) -> Hashable:
    """``alloc_pages(GFP_KERNEL, 0)``. KernelBug: it would have processes killed, though there is free memory."""
    got = alloc_pages(k, 0, 0, owner=SOMEBODY, where="mm/page_alloc.c:alloc_pages")
    if not got:
        free = sum(nr_free_pages(zone) for zone in k.zones())
        raise KernelBug(
            f"OOM: an allocation of a page finds no zone, and {free} pages are free",
            place="mm/page_alloc.c:__alloc_pages_may_oom",
        )
    return len(got)


def write_online_movable(k: Kernel) -> None:
    """``echo online_movable > /sys/devices/system/memory/memoryN/state``: the zone's first memory."""
    state_store(k, k.block_id(pfns(k, near_dimm(k)).start), "online_movable")


def take_down(k: Kernel) -> None:
    """Leave so little memory in the other zone that an allocation goes the slow path, and gets a page there."""
    (low,) = (zone for zone in k.zones() if zone.populated and zone.type is not ZoneType.MOVABLE)
    taken = alloc_pages(k, 0, 0, count=low.managed, owner=SOMEBODY, where="mm/page_alloc.c:alloc_pages")
    free_pages(k, [Span(taken[-1].end - 1, taken[-1].end)], "mm/page_alloc.c:__free_pages")


def no_kernel_page_is_movable(k: Kernel) -> str | None:
    """The first law that does not hold when all is done, or that the kernel's page is in ZONE_MOVABLE, where none may
    be.
    """
    for start, end, owner in k.hw.memory.owners:
        zone = k.zone_of(start)
        if owner == SOMEBODY and zone is not None and zone.type is ZoneType.MOVABLE:
            return f"zone-movable: PFN {start:#x}-{end:#x} is the kernel's, and in ZONE_MOVABLE"
    return laws_hold(k)


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM is all of ZONE_MOVABLE, or is to be."""
    k = boot_near(variant.config(configuration))
    add_near(k)
    if variant.name.startswith(OFFLINE):
        write_online_movable(k)
        take_down(k)
    change, name = (write_offline, OFFLINE) if variant.name.startswith(OFFLINE) else (write_online_movable, ONLINE)
    return KernelProgram(k, (change, take_kernel_page), (name, "allocate"), check=no_kernel_page_is_movable)


CASE = Case(
    name="zonelists-vs-allocation",
    actors="the kernel allocates a page; the only memory of ZONE_MOVABLE goes offline, or online",
    build=build,
    geometry="a node with one zone beside ZONE_MOVABLE; a memory block of one pageblock",
    variants=(
        Variant(
            f"{OFFLINE}-unseen",
            "who builds zonelists tells nobody: until 6.0",
            "broken",
            ONE_ZONE,
            generic={"zonelist_update": "spinlock"},
        ),
        Variant(
            f"{OFFLINE}-seqlock",
            "an allocation that finds nothing asks zonelist_update_seq",
            "repaired",
            ONE_ZONE,
        ),
        Variant(
            f"{ONLINE}-unseen",
            "who builds zonelists tells nobody: until 6.0",
            "broken",
            ONE_ZONE,
            generic={"zonelist_update": "spinlock"},
        ),
        Variant(
            f"{ONLINE}-seqlock",
            "an allocation that finds nothing asks zonelist_update_seq; it begins with whatever zone has come first",
            "broken",
            ONE_ZONE,
            finding="The kernel's own pages may come from ZONE_MOVABLE",
        ),
        Variant(
            f"{ONLINE}-allowed",
            "and looks on where that zone is above those that it may use",
            "repaired",
            ONE_ZONE,
            generic={"first_zone": "allowed"},
        ),
    ),
)
