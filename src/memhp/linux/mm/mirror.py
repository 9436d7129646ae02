"""``kernelcore=mirror``: ZONE_NORMAL and ZONE_MOVABLE overlap, and each page is that zone's whose kind of memory it is.

So boot means it to be. Where struct pages are initialised in parallel (``CONFIG_DEFERRED_STRUCT_PAGE_INIT``), the first
section of a node's ZONE_NORMAL is, and all that is left goes to the highest zone, mirrored or not, or until 6.18 to
nobody. mm/mm_init.c. PFNs and pages.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from dataclasses import dataclass, field

from memhp.errors import BadInput
from memhp.linux.mm.memblock import MEMBLOCK_MIRROR
from memhp.linux.mm.rmqueue import set_pageblock_migratetype
from memhp.linux.mmzone import MigrateType, Zone, ZoneRef, ZoneType
from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet
from memhp.units import align_up

KERNEL_FILE = "mm/mm_init.c"


def _regions(k: Kernel) -> Iterator[tuple[Span, bool]]:
    """The whole pages of each region of memory, and whether it is mirrored."""
    page = k.config.page_size
    for start, end, region in k.memblock.memory:
        yield Span(-(-start // page), end // page), bool(region.flags & MEMBLOCK_MIRROR)


@kernel_function(f"{KERNEL_FILE}:zone_absent_pages_in_node")
def other_zones_pages(k: Kernel, kind: ZoneType, span: Span) -> int:
    """Pages of memory in the span of a zone that count as absent there, for they are to be the other zone's."""
    if kind not in (ZoneType.NORMAL, ZoneType.MOVABLE):
        return 0
    return sum(
        part.clip(span).size
        for part, mirrored in _regions(k)
        if mirrored is (kind is ZoneType.MOVABLE) and part.overlaps(span)
    )


@dataclass
class DeferredPages:
    """``first_deferred_pfn`` of nodes whose zones overlap, and what was initialised before."""

    first: dict[int, int] = field(default_factory=dict)
    initialised: dict[int, int] = field(default_factory=dict)
    """Pages by node, in zones that reach to its end."""

    def initialised_now(self, k: Kernel, zone: Zone, part: Span) -> Span:
        """What of a range of equal memory boot makes the zone's: ``overlap_memmap_init()``, ``defer_init()``.

        Where zones do not overlap, when it is done makes no difference to what is.
        """
        if not k.config.mirrored_kernelcore:
            return part
        region = k.memblock.memory.get(part.start << k.config.page_shift)
        if zone.type is ZoneType.MOVABLE and region is not None and region.flags & MEMBLOCK_MIRROR:
            return Span(part.start, part.start)
        node = k.nodes[zone.nid]
        at_once = not k.config.deferred_struct_page_init or k.config.profile.deferred_pages == "at-boot"
        if at_once or zone.end_pfn < node.end_pfn:
            return part
        if zone.nid in self.first:
            return Span(part.start, part.start)
        unit = k.config.pages_per_section
        initialised = self.initialised.get(zone.nid, 0)
        first = align_up(part.start + max(unit - initialised, 0), unit)
        if first < part.end:
            self.first[zone.nid] = first
            return Span(part.start, first)
        self.initialised[zone.nid] = initialised + part.size
        return part


def deferred_init_memmap(k: Kernel) -> SpanSet:
    """Initialise what is left of nodes whose zones overlap; gives the free pages that nobody initialises.

    What is reserved goes to the lowest zone that spans it (``init_deferred_page()``), the rest to the node's highest.
    """
    lost = SpanSet()
    shift = k.config.page_shift
    _check_zones(k)
    for nid, first in k.statics(DeferredPages).first.items():
        node = k.nodes[nid]
        highest = max(zone for zone in node.zones.items() if zone[1].populated)[1]
        reach = Span(highest.start_pfn if k.config.profile.deferred_pages == "of-zone" else first, node.end_pfn)
        for start, end, _ in k.memblock.for_each_mem_pfn_range(nid):
            part = Span(max(start, first), end)
            if not part:
                continue
            free = SpanSet(
                (-(-span.start >> shift), span.end >> shift)
                for span in k.memblock.free_ranges(part.start << shift, part.end << shift)
            )
            for span in free.gaps(*part):
                lowest = min(zone for zone in node.zones.items() if _spans(zone[1], span.start))[1]
                _link(k, span, lowest)
            for span in free:
                lost.add_each(list(SpanSet([reach]).gaps(*span)))
                _link(k, span.clip(reach), highest)
    return lost


def _check_zones(k: Kernel) -> None:
    """Refuse memory whose struct pages no zone initialises. Raises :class:`BadInput`."""
    deferred = k.statics(DeferredPages).first
    for start, end, nid in k.memblock.for_each_mem_pfn_range() if k.config.mirrored_kernelcore else ():
        for gap in k.page_zone.gaps(start, min(end, deferred.get(nid, end))):
            text = f"mirrored memory at PFN {gap.start:#x} lies above other memory of node {nid}: its pages get no zone"
            raise BadInput(text, where="memory", fix="mirror what lies lowest on each node, as firmware does")


def _spans(zone: Zone, pfn: int) -> bool:
    return zone.start_pfn <= pfn < zone.end_pfn


def _link(k: Kernel, span: Span, zone: Zone) -> None:
    """Pages are the zone's (``__init_single_page()``)."""
    if span:
        k.page_zone.set(*span, ZoneRef(zone.nid, zone.type))
        set_pageblock_migratetype(zone, *span, MigrateType.MOVABLE)
