"""Zones and nodes of boot memory, and struct pages brought to life: mm/mm_init.c. PFNs and pages throughout.

Every node has all the zones that the kernel was built with, most of them empty.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from dataclasses import dataclass, field

from memhp.hw.memory import Owner, Use
from memhp.linux.mm.mirror import DeferredPages, other_zones_pages
from memhp.linux.mm.page_alloc import adjust_managed_page_count
from memhp.linux.mm.rmqueue import put_free, set_pageblock_migratetype
from memhp.linux.mm.sparse import online_runs
from memhp.linux.mm.zone_limits import zone_limits, zone_types
from memhp.linux.mm.zone_movable import find_zone_movable_pfns_for_nodes
from memhp.linux.mmzone import MigrateType, Node, PageFlags, Zone, ZoneRef, ZoneType
from memhp.linux.place import here, of_file
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet
from memhp.units import align_down, align_up

KERNEL_FILE = "mm/mm_init.c"


@dataclass
class ZoneLimits:
    """How boot memory is divided."""

    ends: dict[ZoneType, int] = field(default_factory=dict)
    """First PFN above each zone (``arch_zone_limits_init``)."""


def free_area_init(k: Kernel) -> None:
    """Divide boot memory, as memblock knows it, into zones, and initialise its struct pages.

    Sets the zones' limits if nobody has, ``k.nodes``, the sub-section map, node states, zone links and migrate types.
    Nothing is free yet. mm/mm_init.c:free_area_init.
    """
    if not k.statics(ZoneLimits).ends:
        dram = Span(k.memblock.memblock_start_of_DRAM(), k.memblock.memblock_end_of_DRAM())
        k.statics(ZoneLimits).ends = zone_limits(k.config, dram)
    ranges = list(k.memblock.for_each_mem_pfn_range())
    arch = _arch_zone_ranges(k, ranges[0][0])
    movable = find_zone_movable_pfns_for_nodes(k, arch)
    _log_ranges(k, arch, movable, ranges)
    for start, end, _ in ranges:
        unit = k.config.pages_per_subsection
        k.subsection_map.add(align_down(start, unit), align_up(end, unit))
    for nid in sorted({nid for _, _, nid in ranges} | k.node_states.online):
        _free_area_init_node(k, nid, [Span(start, end) for start, end, owner in ranges if owner == nid], arch, movable)
    _memmap_init(k, ranges)


def _arch_zone_ranges(k: Kernel, start_pfn: int) -> dict[ZoneType, Span]:
    """``arch_zone_lowest_possible_pfn`` and ``arch_zone_highest_possible_pfn``: where each zone may lie."""
    ranges = {}
    for kind in zone_types(k.config):
        if kind < ZoneType.MOVABLE:
            end = max(k.statics(ZoneLimits).ends.get(kind, 0), start_pfn)
            ranges[kind] = Span(start_pfn, end)
            start_pfn = end
    return ranges


def _free_area_init_node(
    k: Kernel, nid: int, memory: list[Span], arch: dict[ZoneType, Span], movable: dict[int, int]
) -> None:
    """Span and present pages of a node and its zones: ``free_area_init_node()``, ``calculate_node_totalpages()``."""
    node = free_area_init_core_hotplug(k, nid)
    shift = k.config.page_shift
    if not memory:
        k.hw.log(f"Initmem setup node {nid} as memoryless")
        return
    whole = Span(memory[0].start, memory[-1].end)
    k.hw.log(f"Initmem setup node {nid} [mem {whole.start << shift:#018x}-{(whole.end << shift) - 1:#018x}]")
    for kind, zone in node.zones.items():
        span = _zone_span(kind, whole, arch, movable.get(nid), overlap=k.config.mirrored_kernelcore)
        if span:
            zone.start_pfn, zone.spanned = span.start, span.size
            zone.present = zone.present_early = sum(part.clip(span).size for part in memory)
            if nid in movable and k.config.mirrored_kernelcore:
                zone.present -= other_zones_pages(k, kind, span)
                zone.present_early = zone.present
    node.start_pfn, node.spanned = whole.start, whole.size
    node.present = sum(zone.present for zone in node.zones.values())
    k.node_states.memory.add(nid)
    if any(zone.populated for kind, zone in node.zones.items() if kind <= ZoneType.NORMAL):
        k.node_states.normal_memory.add(nid)


def _zone_span(
    kind: ZoneType, node: Span, arch: dict[ZoneType, Span], movable_pfn: int | None, *, overlap: bool
) -> Span:
    """What a zone spans in a node: ``zone_spanned_pages_in_node()``, ``adjust_zone_range_for_zone_movable()``.

    With `overlap` ZONE_MOVABLE ends no other zone that begins below it.
    """
    if kind is ZoneType.MOVABLE and movable_pfn is not None:
        return Span(movable_pfn, min(node.end, max(span.end for span in arch.values() if span)))
    if kind not in arch:
        return Span(0, 0)
    span = arch[kind].clip(node)
    if movable_pfn is None or (overlap and span.start < movable_pfn):
        return span
    return Span(span.start, max(span.start, min(span.end, movable_pfn)))


def _log_ranges(
    k: Kernel, arch: dict[ZoneType, Span], movable: dict[int, int], ranges: list[tuple[int, int, int]]
) -> None:
    shift = k.config.page_shift
    k.hw.log("Zone ranges:")
    for kind in zone_types(k.config):
        if kind is not ZoneType.MOVABLE:
            span = arch.get(kind, Span(0, 0)).scaled(shift)
            k.hw.log(f"  {kind.title:<8} " + (f"[mem {span.start:#018x}-{span.end - 1:#018x}]" if span else "empty"))
    k.hw.log("Movable zone start for each node")
    for nid, pfn in sorted(movable.items()):
        k.hw.log(f"  Node {nid}: {pfn << shift:#018x}")
    k.hw.log("Early memory node ranges")
    for start, end, nid in ranges:
        k.hw.log(f"  node {nid:3d}: [mem {start << shift:#018x}-{(end << shift) - 1:#018x}]")


def free_area_init_core_hotplug(k: Kernel, nid: int) -> Node:
    """The node of that id with all its zones, empty where it is new: ``free_area_init_core_hotplug()``."""
    node = k.nodes.setdefault(nid, Node(nid, k.hw))
    node.zeroed = False
    for kind in zone_types(k.config):
        node.zone(kind)
    return node


def _memmap_init(k: Kernel, ranges: list[tuple[int, int, int]]) -> None:
    """Initialise the struct pages of boot memory, then those of the holes in its sections: ``memmap_init()``."""
    hole = 0
    last: Zone | None = None
    early = k.statics(DeferredPages)
    for start, end, nid in ranges:
        for _, zone in sorted(k.nodes[nid].zones.items()):
            part = Span(start, end).clip(Span(zone.start_pfn, zone.end_pfn))
            if zone.populated and part:
                now = early.initialised_now(k, zone, part)
                memmap_init_range(k, now.start, now.size, zone)
                _init_unavailable_range(k, hole, part.start, zone)
                hole, last = part.end, zone
    if last is not None and k.config.profile.boot_tail == "whole-section":
        _init_unavailable_range(k, hole, align_up(ranges[-1][1], k.config.pages_per_section), last)


def memmap_init_range(
    k: Kernel,
    start_pfn: int,
    nr_pages: int,
    zone: Zone,
    migratetype: MigrateType = MigrateType.MOVABLE,
    *,
    flags: PageFlags = PageFlags.NONE,
    isolate: bool = False,
) -> None:
    """Initialise struct pages: they belong to `zone`, their pageblocks have a type, and are isolated if `isolate`.

    A pageblock that starts below the range keeps its type, Unmovable if it has none. Pages get `flags`: those of
    memory that is being onlined are ``PageOffline`` until the buddy gets them. No counter of the zone changes.
    mm/mm_init.c:memmap_init_range.
    """
    end_pfn = start_pfn + nr_pages
    k.page_zone.set(start_pfn, end_pfn, ZoneRef(zone.nid, zone.type))
    k.page_flags.clear(start_pfn, end_pfn)
    if flags:
        k.page_flags.set(start_pfn, end_pfn, flags)
    first = min(align_up(start_pfn, k.config.pageblock_nr_pages), end_pfn)
    for gap in list(zone.migratetypes.gaps(start_pfn, first)):
        set_pageblock_migratetype(zone, gap.start, gap.end, MigrateType.UNMOVABLE)
    set_pageblock_migratetype(zone, first, end_pfn, migratetype)
    if isolate:
        zone.isolated.add(first, end_pfn)


def _init_unavailable_range(k: Kernel, start_pfn: int, end_pfn: int, zone: Zone) -> None:
    """Mark the struct pages of a hole reserved, where its section has any: ``init_unavailable_range()``."""
    pages = 0
    for part in _with_struct_pages(k, start_pfn, end_pfn):
        k.page_zone.set(*part, ZoneRef(zone.nid, zone.type))
        k.page_flags.set(*part, PageFlags.RESERVED)
        pages += part.size
    if pages:
        k.hw.log(f"On node {zone.nid}, zone {zone.name}: {pages} pages in unavailable ranges")


def _with_struct_pages(k: Kernel, start_pfn: int, end_pfn: int) -> Iterator[Span]:
    """The parts of a range that lie in present sections; an early section has struct pages for all of itself."""
    unit = k.config.pages_per_section
    whole = Span(start_pfn, end_pfn)
    for first, last, _ in k.mem_section.runs(start_pfn // unit, -(-end_pfn // unit)):
        part = Span(first * unit, last * unit).clip(whole)
        if part:
            yield part


def init_cma_reserved_pageblock(k: Kernel, start_pfn: int, nr_pages: int) -> None:
    """Lend reserved pageblocks (`Use.BOOT`) to the buddy for movable pages until CMA wants them: mm/mm_init.c."""
    zone = k.zone_of(start_pfn)
    assert zone is not None
    end_pfn = start_pfn + nr_pages
    k.page_flags.clear(start_pfn, end_pfn)
    set_pageblock_migratetype(zone, start_pfn, end_pfn, MigrateType.CMA)
    k.hw.release(Span(start_pfn, end_pfn), Owner(Use.FREE), here())
    put_free(zone, Span(start_pfn, end_pfn))
    adjust_managed_page_count(k, start_pfn, nr_pages)
    zone.cma_pages += nr_pages


def set_zone_contiguous(k: Kernel, zone: Zone) -> None:
    """Note whether the zone has no hole: mm/mm_init.c:set_zone_contiguous.

    Asked are the first and the last page of each pageblock; the first must be online. While memory is onlined its
    sections are not yet, so that the zone which gets it is never contiguous then. One that is stays so.
    """
    span = Span(zone.start_pfn, zone.end_pfn)
    unit = k.config.pageblock_nr_pages
    own = SpanSet(
        (start, end)
        for part in _online_sections(k, span)
        for start, end, ref in k.page_zone.runs(*part)
        if ref == (zone.nid, zone.type)
    )
    online = SpanSet(run for run in online_runs(k, *span))
    holes = [hole for found in (own, online) for hole in found.gaps(*span)]
    first_missed = any(hole.start == span.start or align_up(hole.start, unit) < hole.end for hole in holes)
    last_missed = any(hole.end == span.end or hole.start < align_down(hole.end, unit) for hole in own.gaps(*span))
    if span and not first_missed and not last_missed:
        zone.contiguous = True


def _online_sections(k: Kernel, span: Span) -> Iterator[Span]:
    """The parts of a range that lie in online sections: no other struct pages are read."""
    unit = k.config.pages_per_section
    for first, last, section in k.mem_section.runs(span.start // unit, -(-span.end // unit)):
        if section.online:
            yield Span(first * unit, last * unit).clip(span)


@of_file("mm/debug.c")
def page_init_poison(k: Kernel, start_pfn: int, nr_pages: int, zone: Zone) -> None:
    """Struct pages are uninitialised again: no zone, no flags, no pageblock type: include/linux/page-flags.h.

    What kernels write over them (``PAGE_POISON_PATTERN``) makes a page that is looked at nevertheless stand out. The
    bits of pageblocks are part of the section, and kernels leave them as they are; here they go, so that whoever looks
    at them meanwhile finds what no kernel has: that is told as a data race.
    """
    end_pfn = start_pfn + nr_pages
    k.page_zone.clear(start_pfn, end_pfn)
    k.page_flags.clear(start_pfn, end_pfn)
    zone.migratetypes.clear(start_pfn, end_pfn)
    zone.isolated.remove(start_pfn, end_pfn)
