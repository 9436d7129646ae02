"""Zones as memory comes and goes: their spans, their present pages, and which zone memory goes to.

The part of ``mm/memory_hotplug.c`` from ``find_smallest_section_pfn()`` to ``adjust_present_page_count()``; the
auto-movable policy has a file of its own.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.config import OnlineType
from memhp.linux.mm.altmap import VmemAltmap, vmem_altmap_offset
from memhp.linux.mm.memory_hotplug_policy import auto_movable_zone_for_pfn, default_kernel_zone_for_pfn, zone_intersects
from memhp.linux.mm.mm_init import memmap_init_range, page_init_poison, set_zone_contiguous
from memhp.linux.mm.sparse import early_section, online_runs, section_taint_zone_device, valid_section
from memhp.linux.mm.util import pf_poisoned_check
from memhp.linux.mm.zone_span import set_zone_span, zone_span_writelock
from memhp.linux.mmzone import MemoryGroup, MigrateType, Node, PageFlags, Zone, ZoneRef, ZoneType
from memhp.linux.place import here, kernel_function
from memhp.linux.state import Kernel

KERNEL_FILE = "mm/memory_hotplug.c"


# Spans -------------------------------------------------------------------------------------------------------


def find_smallest_section_pfn(k: Kernel, zone: Zone, start_pfn: int, end_pfn: int) -> int:
    """The first online page of a zone, going up from `start_pfn` in sub-sections, below `end_pfn`; 0 for none."""
    step = k.config.pages_per_subsection
    for start, end in _online_pages(k, zone, start_pfn, end_pfn):
        pfn = start + -(start - start_pfn) % step
        if pfn < end:
            _look(k, start_pfn, pfn)
            return pfn
    _look(k, start_pfn, end_pfn)
    return 0


def find_biggest_section_pfn(k: Kernel, zone: Zone, start_pfn: int, end_pfn: int) -> int:
    """The last online page of a zone, going down from ``end_pfn - 1`` in sub-sections to `start_pfn`; 0 for none."""
    step = k.config.pages_per_subsection
    for start, end in reversed(_online_pages(k, zone, start_pfn, end_pfn)):
        pfn = end - 1 - (end - end_pfn) % step
        if pfn >= start:
            _look(k, pfn + 1, end_pfn)
            return pfn
    _look(k, start_pfn, end_pfn)
    return 0


def _look(k: Kernel, start_pfn: int, end_pfn: int) -> None:
    """The search came by these pages, and read the struct pages of all that are valid, or only of those in use."""
    if k.config.profile.shrink_reads == "valid":
        read_struct_pages(k, start_pfn, end_pfn)


@kernel_function(None)
def read_struct_pages(k: Kernel, start_pfn: int, end_pfn: int) -> None:
    """Read the zone and node in the struct pages of valid pages. KernelBug: one was never initialised."""
    for run in k.subsection_map.runs(start_pfn, end_pfn):
        for hole in k.page_zone.gaps(*run):
            pf_poisoned_check(k, hole.start, here())


def _online_pages(k: Kernel, zone: Zone, start_pfn: int, end_pfn: int) -> list[tuple[int, int]]:
    """The runs of a zone's online pages, ascending; kernels that shrink on removal take every valid page."""
    ref = ZoneRef(zone.nid, zone.type)
    found: list[tuple[int, int]] = []
    on_remove = k.config.profile.zone_shrink == "on-remove"
    for run in k.subsection_map.runs(start_pfn, end_pfn) if on_remove else online_runs(k, start_pfn, end_pfn):
        found.extend((start, end) for start, end, each in k.page_zone.runs(*run) if each == ref)
    return found


def shrink_zone_span(k: Kernel, zone: Zone, start_pfn: int, end_pfn: int) -> None:
    """Cut a zone back when ``[start_pfn, end_pfn)`` leaves it at one of its ends; a hole in the middle stays."""
    if zone.start_pfn == start_pfn:
        pfn = find_smallest_section_pfn(k, zone, end_pfn, zone.end_pfn)
        if pfn:
            set_zone_span(k, zone, spanned=zone.end_pfn - pfn, start_pfn=pfn)
        else:
            set_zone_span(k, zone, start_pfn=0, spanned=0)
    elif zone.end_pfn == end_pfn:
        pfn = find_biggest_section_pfn(k, zone, zone.start_pfn, start_pfn)
        if pfn:
            set_zone_span(k, zone, spanned=pfn - zone.start_pfn + 1)
        else:
            set_zone_span(k, zone, start_pfn=0, spanned=0)


def update_pgdat_span(k: Kernel, node: Node) -> None:
    """Give a node the span of its zones. Kernels that go by its pages read every struct page that is valid there."""
    how = k.config.profile.node_span
    if how == "by-page":
        read_struct_pages(k, node.start_pfn, node.end_pfn)
    spans = [(zone.start_pfn, zone.end_pfn) for zone in node.zones.values() if zone.spanned]
    node.start_pfn = 0 if how == "from-zero" else min((start for start, _ in spans), default=0)
    node.spanned = max((end for _, end in spans), default=0) - node.start_pfn


def resize_zone_range(k: Kernel, zone: Zone, start_pfn: int, nr_pages: int) -> None:
    """Widen a zone to hold the range."""
    end = max(start_pfn + nr_pages, zone.end_pfn)
    if not zone.spanned or start_pfn < zone.start_pfn:
        set_zone_span(k, zone, start_pfn=start_pfn)
    set_zone_span(k, zone, spanned=end - zone.start_pfn)


def resize_pgdat_range(node: Node, start_pfn: int, nr_pages: int) -> None:
    """Widen a node to hold the range."""
    end = max(start_pfn + nr_pages, node.end_pfn)
    if not node.spanned or start_pfn < node.start_pfn:
        node.start_pfn = start_pfn
    node.spanned = end - node.start_pfn


def move_pfn_range_to_zone(
    k: Kernel,
    zone: Zone,
    start_pfn: int,
    nr_pages: int,
    migratetype: MigrateType,
    *,
    altmap: VmemAltmap | None = None,
    isolate: bool = False,
) -> None:
    """Put pages into a zone: widen zone and node, initialise the struct pages, which are ``PageOffline`` then.

    The pageblocks get `migratetype`, and are isolated at once if `isolate`; the zone's count of those stays. Of
    ZONE_DEVICE only the pages that an altmap sets aside are initialised, as reserved; the rest is left to
    ``memmap_init_zone_device()``.
    """
    node = k.nodes[zone.nid]
    zone.contiguous = False
    with zone_span_writelock(k, zone):
        resize_zone_range(k, zone, start_pfn, nr_pages)
    resize_pgdat_range(node, start_pfn, nr_pages)
    if zone.type is ZoneType.DEVICE:
        section_taint_zone_device(k, start_pfn, start_pfn + nr_pages)
        if altmap is not None:
            first = start_pfn + (altmap.reserve if start_pfn == altmap.base_pfn else 0)
            pages = altmap.base_pfn + vmem_altmap_offset(altmap) - first
            memmap_init_range(k, first, pages, zone, migratetype, flags=PageFlags.RESERVED)
    else:
        memmap_init_range(k, start_pfn, nr_pages, zone, migratetype, flags=_mark(k), isolate=isolate)
    set_zone_contiguous(k, zone)


def _mark(k: Kernel) -> PageFlags:
    """What pages on their way online are marked with."""
    return PageFlags.OFFLINE if k.config.profile.hotplugged_pages == "offline" else PageFlags.RESERVED


def test_pages_in_a_zone(k: Kernel, start_pfn: int, end_pfn: int) -> Zone | None:
    """The one zone of a range; None if there are several, or it reaches beyond the zone: before 5.18.

    Asked is one page of each block of the largest order, in sections that are there.
    """
    found: Zone | None = None
    for pfn in range(start_pfn, end_pfn, 1 << k.config.max_page_order):
        if not valid_section(k, k.section_nr(pfn)):
            continue
        zone = k.zone_of(pfn)
        if zone is None or not zone.start_pfn <= pfn < zone.end_pfn or found not in (None, zone):
            return None
        found = zone
    return found


def remove_pfn_range_from_zone(k: Kernel, zone: Zone, start_pfn: int, nr_pages: int) -> None:
    """Take pages out of a zone: their struct pages are uninitialised again, zone and node shrink where they can.

    Kernels that shrink zones on removal leave the pages in their zone until then.
    """
    if k.config.profile.zone_shrink == "on-remove":
        zone.isolated.remove(start_pfn, start_pfn + nr_pages)
        return
    page_init_poison(k, start_pfn, nr_pages, zone)
    if zone.type is ZoneType.DEVICE:
        return
    zone.contiguous = False
    with zone_span_writelock(k, zone):
        shrink_zone_span(k, zone, start_pfn, start_pfn + nr_pages)
    update_pgdat_span(k, k.nodes[zone.nid])
    set_zone_contiguous(k, zone)


def adjust_present_page_count(k: Kernel, pfn: int, group: MemoryGroup | None, nr_pages: int) -> None:
    """Account `nr_pages` pages (negative: unaccount) to the zone of page `pfn`, its node and its memory group."""
    zone = k.zone_of(pfn)
    assert zone is not None
    if k.config.profile.auto_movable and early_section(k, pfn):
        zone.present_early += nr_pages
    zone.present += nr_pages
    k.nodes[zone.nid].present += nr_pages
    if group is not None and zone.type is ZoneType.MOVABLE:
        group.present_movable_pages += nr_pages
    elif group is not None:
        group.present_kernel_pages += nr_pages


# Choice of a zone --------------------------------------------------------------------------------------------


def default_zone_for_pfn(k: Kernel, nid: int, start_pfn: int, nr_pages: int) -> Zone:
    """contig-zones: the zone that spans part of the range; with none or both, Movable under ``movable_node`` only."""
    kernel_zone = default_kernel_zone_for_pfn(k, nid, start_pfn, nr_pages)
    movable_zone = k.nodes[nid].zone(ZoneType.MOVABLE)
    in_kernel = zone_intersects(kernel_zone, start_pfn, nr_pages)
    in_movable = zone_intersects(movable_zone, start_pfn, nr_pages)
    if in_kernel != in_movable:
        return kernel_zone if in_kernel else movable_zone
    return movable_zone if k.config.movable_node else kernel_zone


def zone_for_pfn_range(
    k: Kernel, online_type: OnlineType, nid: int, group: MemoryGroup | None, start_pfn: int, nr_pages: int
) -> Zone:
    """The zone that a range would go to if it went online now."""
    if k.config.profile.zone_pfn == "32-bit":
        start_pfn %= 1 << 32
    if online_type == "online_kernel":
        return default_kernel_zone_for_pfn(k, nid, start_pfn, nr_pages)
    if online_type == "online_movable":
        return k.nodes[nid].zone(ZoneType.MOVABLE)
    if k.config.online_policy == "auto-movable":
        return auto_movable_zone_for_pfn(k, nid, group, start_pfn, nr_pages)
    return default_zone_for_pfn(k, nid, start_pfn, nr_pages)
