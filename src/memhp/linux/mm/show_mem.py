"""How much memory there is for whoever asks before taking it: mm/show_mem.c. Pages."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.mm.free_area import nr_free_pages
from memhp.linux.mm.mmzone import for_each_online_pgdat, for_each_zone
from memhp.linux.place import of_file
from memhp.linux.state import Kernel

KERNEL_FILE = "mm/show_mem.c"


def si_mem_available(k: Kernel) -> int:
    """Free pages beyond the reserves, those of isolated pageblocks left out (``NR_FREE_PAGES``): page cache and
    reclaimable slab would count too, but nothing is reclaimed.
    """
    free = sum(map(nr_free_pages, for_each_zone(k)))
    return max(free - calculate_totalreserve_pages(k), 0)


@of_file("mm/page_alloc.c")
def calculate_totalreserve_pages(k: Kernel) -> int:
    """What each zone keeps from allocations that it need not serve, and its high watermark, but no more than it
    manages; the kernel adds that up when it sets watermarks, and here it is added up when it is asked for.
    """
    zones = [zone for pgdat in for_each_online_pgdat(k) for zone in pgdat.zones.values()]
    k.reads_zones(zones, "lowmem_reserve", "_watermark", "managed_pages")
    return sum(min(max(zone.lowmem_reserve.values(), default=0) + zone.watermark_high, zone.managed) for zone in zones)
