"""What becomes of an order-0 allocation that may not fail: mm/oom_kill.c.

``GFP_KERNEL`` of a single page is tried for ever (``__alloc_pages_slowpath()``): once nothing can be reclaimed, process
after process is killed, and when none is left the kernel panics. Processes hold little of a model's memory, and none of
it is taken back here: of a machine that comes so far, what is foretold is its end.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import KernelPanic
from memhp.linux.mm.free_area import nr_free_pages
from memhp.linux.mm.rmqueue import free_cma_pages
from memhp.linux.mmzone import Zone, ZoneType
from memhp.linux.place import here
from memhp.linux.state import Kernel

KERNEL_FILE = "mm/oom_kill.c"


def out_of_memory(k: Kernel) -> None:
    """Raise :class:`KernelPanic` where an allocation of a single page failed as no zone has one above its watermark.

    An allocation that was made to fail, for a test or by an explorer, does not get here in the kernel either.
    """
    zones = [zone for zone in k.zones() if zone.populated and zone.type < ZoneType.MOVABLE]
    if all(_usable(zone) <= zone.watermark_min + zone.lowmem_reserve.get(ZoneType.NORMAL, 0) for zone in zones):
        raise KernelPanic("System is deadlocked on memory", place=here())


def _usable(zone: Zone) -> int:
    """Free pages outside of CMA, which the kernel's own allocations never get."""
    return nr_free_pages(zone) - free_cma_pages(zone)
