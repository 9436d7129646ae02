"""How many pages each zone keeps free: min_free_kbytes, watermarks, lowmem reserve.

The part of mm/page_alloc.c from ``setup_per_zone_lowmem_reserve()`` to ``init_per_zone_wmark_min()``, with khugepaged's
wish for more. All of it follows from the zones' managed pages, at the moments when the kernel works it out anew: at
boot, and whenever memory goes online or offline. Counts are pages, but for min_free_kbytes.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from math import isqrt

from memhp.linux.mm.mmzone import for_each_online_pgdat, for_each_zone
from memhp.linux.mmzone import Zone, ZoneType
from memhp.linux.place import of_file
from memhp.linux.state import Kernel
from memhp.units import KiB, MiB

KERNEL_FILE = "mm/page_alloc.c"
LOWMEM_RESERVE_RATIO = {ZoneType.DMA: 256, ZoneType.DMA32: 256, ZoneType.NORMAL: 32, ZoneType.MOVABLE: 0}
"""``sysctl_lowmem_reserve_ratio``: one page of the zone is kept for so many of the zones above; 0: none is."""

WATERMARK_SCALE_FACTOR = 10
"""``watermark_scale_factor``, in units of 1/10000: the least distance between the watermarks."""

MIN_FREE_KBYTES = (128, 262144)
"""Bounds of what ``calculate_min_free_kbytes()`` sets."""

MOVABLE_MIN_PAGES = (32, 128)
"""Bounds of ZONE_MOVABLE's min watermark: ``SWAP_CLUSTER_MAX`` and 128."""

THP_LEAST_RAM = 512 * MiB
"""``hugepage_init()`` leaves transparent huge pages off on machines with less."""

LOCK = "setup_per_zone_wmarks.lock"
"""The lock that is static in that function."""

KHUGEPAGED_MUTEX = "khugepaged_mutex"

PCPTYPES = 3
"""``MIGRATE_PCPTYPES``: migrate types that have pageblocks of their own in every zone."""


@dataclass
class Khugepaged:
    """``khugepaged_thread`` of mm/khugepaged.c."""

    on: bool = False
    """Whether transparent huge pages are on, and with them khugepaged, which wants more memory kept free."""


def init_per_zone_wmark_min(k: Kernel) -> int:
    """Set watermarks and lowmem reserve of every zone from its managed pages: the new min_free_kbytes.

    mm/page_alloc.c:init_per_zone_wmark_min: at boot, and after memory went online or offline.
    """
    kbytes = calculate_min_free_kbytes(k)
    setup_per_zone_wmarks(k, kbytes)
    setup_per_zone_lowmem_reserve(k)
    return khugepaged_min_free_kbytes_update(k, kbytes)


@of_file("mm/khugepaged.c")
def khugepaged_min_free_kbytes_update(k: Kernel, min_free_kbytes: int) -> int:
    """Set watermarks anew as khugepaged wants them, if it runs: the new min_free_kbytes."""
    with k.hw.locked(KHUGEPAGED_MUTEX):
        return set_recommended_min_free_kbytes(k, min_free_kbytes) if k.statics(Khugepaged).on else min_free_kbytes


def calculate_min_free_kbytes(k: Kernel) -> int:
    """min_free_kbytes for the lowmem there is, unless the administrator set it: mm/page_alloc.c."""
    low, high = MIN_FREE_KBYTES
    return min(max(isqrt(nr_free_buffer_pages(k) * _page_kbytes(k) * 16), low), high)


def nr_free_buffer_pages(k: Kernel) -> int:
    """Pages above the high watermark in zones up to ZONE_NORMAL, all nodes: mm/page_alloc.c:nr_free_zone_pages."""
    zones = _lowmem_zones(k)
    k.reads_zones(zones, "managed_pages", "_watermark")
    return sum(max(0, zone.managed - zone.watermark_high) for zone in zones)


def setup_per_zone_wmarks(k: Kernel, min_free_kbytes: int) -> None:
    """Divide min_free_kbytes among the zones by their size, one caller at a time: __setup_per_zone_wmarks()."""
    pages_min = min_free_kbytes // _page_kbytes(k)
    capped = k.config.profile.movable_watermark == "capped"
    with k.hw.locked(LOCK):
        zones = list(for_each_zone(k))
        managed = _managed(k, zones)
        lowmem = sum(has for zone, has in zip(zones, managed, strict=True)
                     if not (capped and zone.type is ZoneType.MOVABLE))  # fmt: skip
        for zone, has in zip(zones, managed, strict=True):
            with k.hw.locked(zone.lock):
                share = pages_min * has // max(lowmem, 1)
                own = capped and zone.type is ZoneType.MOVABLE
                distance = max(share >> 2, has * WATERMARK_SCALE_FACTOR // 10000)
                k.hw.writes(zone.field("_watermark"))
                zone.watermark_min = _movable_min(has) if own else share
                zone.watermark_low = zone.watermark_min + distance
                zone.watermark_high = zone.watermark_low + distance
                zone.watermark_promo = zone.watermark_high + distance


def _managed(k: Kernel, zones: list[Zone]) -> list[int]:
    """The managed pages of each zone, read in one step: ``zone_managed_pages()``."""
    k.reads_zones(zones, "managed_pages")
    return [zone.managed for zone in zones]


def _movable_min(managed: int) -> int:
    low, high = MOVABLE_MIN_PAGES
    return min(max(managed // 1024, low), high)


def setup_per_zone_lowmem_reserve(k: Kernel) -> None:
    """What each zone keeps from allocations that could be served from a higher one: mm/page_alloc.c."""
    for node in for_each_online_pgdat(k):
        managed = dict(zip(node.zones, _managed(k, list(node.zones.values())), strict=True))
        for kind, zone in node.zones.items():
            ratio = LOWMEM_RESERVE_RATIO.get(kind, 0) if managed[kind] else 0
            above = 0
            k.hw.writes(zone.field("lowmem_reserve"))
            for upper in sorted(node.zones):
                if upper > kind:
                    above += managed[upper]
                zone.lowmem_reserve[upper] = above // ratio if ratio and upper > kind else 0


@of_file("mm/khugepaged.c")
def set_recommended_min_free_kbytes(k: Kernel, min_free_kbytes: int) -> int:
    """Keep enough pageblocks free for huge pages to form, up to 5 % of lowmem: the new min_free_kbytes.

    mm/khugepaged.c, with watermarks set anew.
    """
    nr_zones = sum(1 for zone in _lowmem_zones(k) if zone.populated)
    wanted = k.config.pageblock_nr_pages * nr_zones * (2 + PCPTYPES * PCPTYPES)
    wanted = min(wanted, nr_free_buffer_pages(k) // 20) * _page_kbytes(k)
    kbytes = max(min_free_kbytes, wanted)
    setup_per_zone_wmarks(k, kbytes)
    return kbytes


@of_file("mm/huge_memory.c")
def hugepage_init(k: Kernel, min_free_kbytes: int) -> int:
    """Turn transparent huge pages on unless the machine is small: the new min_free_kbytes.

    mm/huge_memory.c:hugepage_init, late in boot.
    """
    total = sum(_managed(k, list(for_each_zone(k)))) * k.config.page_size
    return start_stop_khugepaged(k, min_free_kbytes) if total >= THP_LEAST_RAM else min_free_kbytes


@of_file("mm/khugepaged.c")
def start_stop_khugepaged(k: Kernel, min_free_kbytes: int) -> int:
    """Start khugepaged: the new min_free_kbytes, which are what it wants."""
    with k.hw.locked(KHUGEPAGED_MUTEX):
        k.statics(Khugepaged).on = True
        return set_recommended_min_free_kbytes(k, min_free_kbytes)


def _lowmem_zones(k: Kernel) -> list[Zone]:
    """Zones that ``GFP_USER`` may use."""
    return [zone for zone in for_each_zone(k) if zone.type <= ZoneType.NORMAL]


def _page_kbytes(k: Kernel) -> int:
    return k.config.page_size // KiB
