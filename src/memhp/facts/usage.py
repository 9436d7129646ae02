"""Memory in use at one moment: how much of each zone, of which kinds, and where it lies, as far as a machine tells.

How much: the zone's managed pages less those free in the buddy and in the per-CPU lists. Kinds: pages on the zone's LRU
lists are movable, huge pages of a pool are counted by node; what is left is the kernel's.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from typing import NamedTuple

from memhp.facts.observed import Facts
from memhp.facts.zoneinfo import ZoneInfo
from memhp.units import KiB

LRU = (
    "nr_zone_inactive_anon",
    "nr_zone_active_anon",
    "nr_zone_inactive_file",
    "nr_zone_active_file",
    "nr_zone_unevictable",
)
"""Counters of a zone for pages on LRU lists (``include/linux/mmzone.h:zone_stat_item``)."""
FILE_LRU = ("nr_zone_inactive_file", "nr_zone_active_file")


class ZoneUse(NamedTuple):
    """Use of one zone, in pages. `free` has the per-CPU lists in it; the kinds add up to what is not free."""

    node: int
    zone: str
    managed: int
    free: int
    movable: int
    cache: int
    """Of the movable pages those of files, which reclaim can drop."""
    hugetlb: int
    hugetlb_free: int
    reclaimable: int
    """Slab that a shrinker may free: never in ZONE_MOVABLE."""
    kernel: int
    """All else: slab, stacks, page tables, per-CPU memory."""

    @property
    def used(self) -> int:
        """Pages in use."""
        return self.managed - self.free


def free_pages(zone: ZoneInfo) -> int:
    """Free pages of a zone with those in per-CPU lists, which are free to whoever allocates on that CPU."""
    return zone.free + sum(pageset.count for pageset in zone.pagesets)


def usage(facts: Facts) -> tuple[ZoneUse, ...]:
    """Use of each zone that manages memory."""
    return tuple(use for nid in dict.fromkeys(zone.node for zone in facts.zones) for use in _node(facts, nid))


def _node(facts: Facts, nid: int) -> Iterator[ZoneUse]:
    zones = [zone for zone in facts.zones if zone.node == nid and zone.managed]
    huge, huge_free = _huge_pages(facts, nid)
    stats = next((zone.node_stats for zone in zones if zone.node_stats), {})
    reclaimable = stats.get("nr_slab_reclaimable", 0)
    found = []
    for zone in reversed(zones):
        free = min(free_pages(zone), zone.managed)
        used = zone.managed - free
        movable = min(sum(zone.stats.get(name, 0) for name in LRU), used)
        cache = min(sum(zone.stats.get(name, 0) for name in FILE_LRU), movable)
        pool = min(huge + huge_free, used - movable)
        taken_free = min(huge_free, pool)
        taken = pool - taken_free
        huge, huge_free = huge - taken, huge_free - taken_free
        rest = used - movable - pool
        if zone.name == "Movable":
            movable, rest = movable + rest, 0
        slab = min(reclaimable, rest)
        reclaimable -= slab
        found.append(ZoneUse(nid, zone.name, zone.managed, free, movable, cache, taken, taken_free, slab, rest - slab))
    return iter(reversed(found))


def _huge_pages(facts: Facts, nid: int) -> tuple[int, int]:
    """Base pages in huge pages of the default size on a node: in use, free."""
    node = next((each for each in facts.nodes.nodes if each.nid == nid), None) if facts.nodes is not None else None
    counted = node.meminfo if node is not None and node.meminfo else facts.meminfo
    size = facts.meminfo.get("Hugepagesize", 0) * KiB
    each = size // (facts.page_size or 4 * KiB)
    total, free = counted.get("HugePages_Total", 0), counted.get("HugePages_Free", 0)
    return (total - free) * each, free * each
