"""What becomes of an order-0 allocation that may not fail: mm/oom_kill.c.

``GFP_KERNEL`` of a single page is tried for ever (``__alloc_pages_slowpath()``): once nothing can be reclaimed, process
after process is killed, the largest first, and when none is left the kernel panics. A process is what a scenario has
allocated under a tag. Those that a machine was seen with are not told from its page cache, and nobody among them is
killed.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from dataclasses import dataclass

from memhp.errors import KernelPanic
from memhp.hw.memory import Use
from memhp.linux.mm.free_area import nr_free_pages
from memhp.linux.mm.mmzone import for_each_zone
from memhp.linux.mm.rmqueue import free_cma_pages
from memhp.linux.mm.users import free
from memhp.linux.mmzone import Zone, ZoneType
from memhp.linux.place import here
from memhp.linux.state import Kernel
from memhp.units import KiB

KERNEL_FILE = "mm/oom_kill.c"
RSS = frozenset({Use.MOVABLE, Use.PINNED, Use.SECRETMEM})
"""Uses that count for a process (``oom_badness()``); huge pages of a pool do not."""


@dataclass
class OomKill:
    """Who was killed since boot, by tag, in order, and which tags are no single process."""

    killed: tuple[str, ...] = ()
    spared: frozenset[str] = frozenset()


def out_of_memory(k: Kernel) -> bool:
    """Kill a process, if an allocation of a single page failed as no zone has one above its watermark: whether so, and
    the allocation is to be tried again.

    An allocation that was made to fail, for a test or by an explorer, does not get here in the kernel either. Raises
    :class:`KernelPanic` where nobody is left to be killed.
    """
    zones = [zone for zone in for_each_zone(k) if zone.type < ZoneType.MOVABLE]
    if any(_usable(zone) > zone.watermark_min + zone.lowmem_reserve.get(ZoneType.NORMAL, 0) for zone in zones):
        return False
    victim = _select_bad_process(k)
    if victim is None:
        k.hw.log("Out of memory and no killable processes...", "warn")
        raise KernelPanic("System is deadlocked on memory", place=here())
    tag, pages = victim
    k.hw.log(f"Out of memory: Killed process ({tag}) rss:{pages * k.config.page_size // KiB}kB", "err")
    free(k, tag)
    state = k.statics(OomKill)
    state.killed = (*state.killed, tag)
    return True


def _usable(zone: Zone) -> int:
    """Free pages outside of CMA, which the kernel's own allocations never get."""
    return nr_free_pages(zone) - free_cma_pages(zone)


def _select_bad_process(k: Kernel) -> tuple[str, int] | None:
    """The tag with the most memory of a process, and its pages; None where no tag has any."""
    rss: Counter[str] = Counter()
    spared = k.statics(OomKill).spared
    for start, end, owner in k.hw.owners:
        if owner.use in RSS and owner.tag and owner.tag not in spared:
            rss[owner.tag] += end - start
    return max(sorted(rss.items()), key=lambda each: each[1], default=None)
