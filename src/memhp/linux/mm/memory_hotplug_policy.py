"""Kernel zone or Movable: the auto-movable policy of ``memory_hotplug.online_policy``, and the default kernel zone.

mm/memory_hotplug.c: ``auto_movable_zone_for_pfn()`` and what it rests on.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass

from memhp.linux.drivers.base.memory_groups import walk_dynamic_memory_groups
from memhp.linux.mm.mmzone import for_each_zone
from memhp.linux.mm.sparse import pfn_to_online_page
from memhp.linux.mmzone import MemoryGroup, Zone, ZoneType
from memhp.linux.place import of_file
from memhp.linux.state import Kernel
from memhp.units import align_down

KERNEL_FILE = "mm/memory_hotplug.c"


@of_file("include/linux/mmzone.h")
def zone_intersects(zone: Zone, start_pfn: int, nr_pages: int) -> bool:
    """Whether the span of a zone meets the range."""
    return bool(zone.spanned) and start_pfn < zone.end_pfn and start_pfn + nr_pages > zone.start_pfn


def default_kernel_zone_for_pfn(k: Kernel, nid: int, start_pfn: int, nr_pages: int) -> Zone:
    """The lowest zone below Normal that spans part of the range, else Normal."""
    node = k.nodes[nid]
    for kind in (ZoneType.DMA, ZoneType.DMA32):
        if kind in node.zones and zone_intersects(node.zones[kind], start_pfn, nr_pages):
            return node.zones[kind]
    return node.zone(ZoneType.NORMAL)


@dataclass
class AutoMovableStats:
    """``struct auto_movable_stats``: pages of a node, or of all nodes."""

    kernel_early: int = 0
    """Pages present since boot in zones other than Movable."""
    movable: int = 0

    def account_zone(self, zone: Zone) -> None:
        """CMA pages behave like Movable ones."""
        if zone.type is ZoneType.MOVABLE:
            self.movable += zone.present
        else:
            self.kernel_early += zone.present_early - zone.cma_pages
            self.movable += zone.cma_pages


def auto_movable_can_online_movable(k: Kernel, nid: int | None, group: MemoryGroup | None, nr_pages: int) -> bool:
    """Whether `nr_pages` more in Movable keep within ``auto_movable_ratio``: on a node, or on all of them (None)."""
    ratio = k.config.auto_movable_ratio
    stats = AutoMovableStats()
    for zone in for_each_zone(k) if nid is None else k.nodes[nid].zones.values():
        if zone.populated:
            stats.account_zone(zone)
    required = 0
    for each in walk_dynamic_memory_groups(k, nid, group):
        required += max(0, each.present_movable_pages * 100 // ratio - each.present_kernel_pages)
        stats.movable -= each.present_movable_pages
    if stats.kernel_early <= required:
        return False
    kernel = stats.kernel_early - required
    if group is not None and group.dynamic:
        kernel += group.present_kernel_pages
    return stats.movable + nr_pages <= ratio * kernel // 100


def auto_movable_zone_for_pfn(k: Kernel, nid: int, group: MemoryGroup | None, pfn: int, nr_pages: int) -> Zone:
    """Movable if all of the DIMM or unit that the range is part of could go there, else a kernel zone.

    As in the kernel, the kernel zone is looked up for where the search through a unit ended, not for where it began.
    """
    online_pages = 0
    max_pages = nr_pages
    if not k.config.auto_movable_ratio:
        return default_kernel_zone_for_pfn(k, nid, pfn, nr_pages)
    if group is not None and not group.dynamic:
        max_pages, online_pages = group.max_pages, group.present_movable_pages
        if group.present_kernel_pages:
            return default_kernel_zone_for_pfn(k, nid, pfn, nr_pages)
    elif group is not None and group.unit_pages != nr_pages:
        max_pages = group.unit_pages
        pfn = align_down(pfn, group.unit_pages)
        end_pfn = pfn + group.unit_pages
        while pfn < end_pfn:
            if pfn_to_online_page(k, pfn):
                zone = k.page_zone.get(pfn)
                if zone is None or zone.type is not ZoneType.MOVABLE:
                    return default_kernel_zone_for_pfn(k, nid, pfn, nr_pages)
                online_pages += k.config.pages_per_section
            pfn += k.config.pages_per_section
    nr_pages = max_pages - online_pages
    scopes = (None, nid) if k.config.auto_movable_numa_aware else (None,)
    if all(auto_movable_can_online_movable(k, scope, group, nr_pages) for scope in scopes):
        return k.nodes[nid].zone(ZoneType.MOVABLE)
    return default_kernel_zone_for_pfn(k, nid, pfn, nr_pages)
