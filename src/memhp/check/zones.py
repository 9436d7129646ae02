"""Zone counters add up: what zones and nodes say of themselves agrees with the zone links of the pages.

``present`` counts the pages that are online; ``spanned`` reaches from the first page with a zone link to the last, as
``mm/memory_hotplug.c:shrink_zone_span`` leaves it, or as wide as boot made it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from memhp.check.law import Breach, Law
from memhp.check.machine_view import MachineView, pfn_text
from memhp.check.owners import zone_name
from memhp.check.snapshot import Snapshot
from memhp.linux.mm.mm_init import ZoneLimits
from memhp.linux.mmzone import Node, Zone, ZoneRef, ZoneType
from memhp.spans import Span, SpanSet

NAME = "zones"


def find(look: MachineView, before: Snapshot | None) -> Iterator[Breach]:
    """Zones and nodes whose numbers do not add up."""
    pages = dict(look.zone_pages)
    for zone in look.k.zones():
        linked = pages.pop(ZoneRef(zone.nid, zone.type), SpanSet())
        yield from _span(look, zone, linked)
        yield from _counters(look, zone, linked)
    for ref, left in pages.items():
        spans = ", ".join(pfn_text(span) for span in left)
        yield Breach(NAME, f"{spans} are linked to zone {ref.type.title} of node {ref.nid}, which does not exist")
    for node in look.k.nodes.values():
        yield from _node(node)


def _span(look: MachineView, zone: Zone, linked: SpanSet) -> Iterator[Breach]:
    """The zone spans its pages, and no more than these or what boot gave it.

    Struct pages for holes in boot memory are linked to the zone beside them, whatever it spans. ZONE_DEVICE never
    shrinks (``remove_pfn_range_from_zone()``).
    """
    spans = [part for span in linked for part in look.present.runs(*span)]
    whole = Span(zone.start_pfn, zone.end_pfn)
    for span in spans:
        if not whole.covers(span):
            text = f"{zone_name(zone)} has {pfn_text(span)}, but spans {pfn_text(whole)}"
            yield Breach(NAME, text, pfns=span)
    if not whole or zone.type is ZoneType.DEVICE:
        return
    unit = look.k.config.pages_per_subsection
    outermost = Span(spans[0].start // unit * unit, -(-spans[-1].end // unit) * unit) if spans else Span(1 << 64, 0)
    if whole.start < outermost.start and whole.start not in _boot_edges(look):
        text = f"{zone_name(zone)} starts at PFN {whole.start:#x}, where it has no page"
        yield Breach(NAME, text, pfns=whole)
    if whole.end > outermost.end and whole.end not in _boot_edges(look):
        text = f"{zone_name(zone)} ends behind PFN {whole.end - 1:#x}, where it has no page"
        yield Breach(NAME, text, pfns=whole)


def _boot_edges(look: MachineView) -> set[int]:
    """Where boot may have let a zone start or end without a page: at its limits, and at edges of boot memory; where
    zones overlap, at the end of a node.
    """
    edges = set(look.k.statics(ZoneLimits).ends.values())
    for span in look.k.boot_memory:
        edges |= {span.start, span.end}
    if look.k.config.mirrored_kernelcore:
        edges |= {node.end_pfn for node in look.k.nodes.values()}
    return edges


def _counters(look: MachineView, zone: Zone, linked: SpanSet) -> Iterator[Breach]:
    k = look.k
    online = [part for span in linked for part in look.online_sections.runs(*span)]
    early = sum(
        boot.size for span in online for part in look.early_sections.runs(*span) for boot in k.boot_memory.runs(*part)
    )
    hot = sum(part.size for span in online for part in look.hot_sections.runs(*span))
    present = 0 if zone.type is ZoneType.DEVICE else early + hot
    if zone.present != present:
        yield Breach(NAME, f"{zone_name(zone)} counts {zone.present} present pages, but has {present}")
    if k.config.profile.auto_movable and zone.present_early != early:
        text = f"{zone_name(zone)} counts {zone.present_early} present pages from boot, but has {early}"
        yield Breach(NAME, text)
    if not zone.managed <= zone.present <= zone.spanned:
        text = f"{zone_name(zone)} manages {zone.managed} of {zone.present} present of {zone.spanned} spanned pages"
        yield Breach(NAME, text)
    blocks = zone.isolated.size // k.config.pageblock_nr_pages
    if zone.nr_isolate_pageblock != blocks:
        text = f"{zone_name(zone)} counts {zone.nr_isolate_pageblock} isolated pageblocks, but has {blocks}"
        yield Breach(NAME, text)
    for span in zone.isolated:
        yield Breach(NAME, f"{pfn_text(span)} of {zone_name(zone)} is left isolated", pfns=span)


def _node(node: Node) -> Iterator[Breach]:
    """A node sums up its zones: ``mm/memory_hotplug.c:update_pgdat_span``."""
    zones = [zone for zone in node.zones.values() if zone.spanned]
    present = sum(zone.present for zone in node.zones.values())
    if node.present != present:
        yield Breach(NAME, f"node {node.nid} counts {node.present} present pages, its zones have {present}")
    start = min((zone.start_pfn for zone in zones), default=0)
    end = max((zone.end_pfn for zone in zones), default=0)
    if (node.start_pfn, node.end_pfn) != (start, end):
        own, theirs = Span(node.start_pfn, node.end_pfn), Span(start, end)
        yield Breach(NAME, f"node {node.nid} spans {pfn_text(own)}, its zones {pfn_text(theirs)}", pfns=own)


LAW = Law(NAME, "Zones and nodes count and span exactly the pages that are linked to them", find)
