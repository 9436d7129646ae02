"""Frames are conserved: none is lost, none is invented, and the accounts of what the buddy manages agree.

Every plugged frame has an entry in the owner map. A free one must be in the free lists of its zone; an online one that
the buddy was never given, or that a driver keeps from it, is not managed. A pool of huge pages counts those in it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from memhp.check.law import Breach, Law
from memhp.check.machine_view import MachineView, minus, pfn_text
from memhp.check.owners import zone_name
from memhp.check.snapshot import Snapshot
from memhp.hw.memory import Use
from memhp.linux.mm.hugetlb import POOLS, Hugetlb, huge_page_order
from memhp.linux.mmzone import PageFlags, Zone, ZoneRef, ZoneType
from memhp.spans import Span, SpanSet

NAME = "frames"
UNMANAGED = PageFlags.RESERVED | PageFlags.OFFLINE | PageFlags.VMEMMAP_SELF_HOSTED
"""Pages of an online block that are not the buddy's: reserved since boot, kept back by a driver, self-hosted memmap."""


def find(look: MachineView, before: Snapshot | None) -> Iterator[Breach]:
    """Free frames on no list or on a wrong one, lists of what is not there, wrong counts of managed pages."""
    listed: list[Span] = []
    for zone in look.k.zones():
        own = look.zone_pages.get(ZoneRef(zone.nid, zone.type), SpanSet())
        mine = SpanSet.joined(sorted([*look.spans(zone.free), *look.spans(zone.isolated_free)]))
        yield from _foreign(look, zone, mine, own)
        listed += mine
        yield from () if look.near is not None else _managed(look, zone, own)
    yield from _lost(look, SpanSet.joined(sorted(listed)))
    yield from () if look.near is not None else _pools(look)


def _pools(look: MachineView) -> Iterator[Breach]:
    """Pools of huge pages that count more free ones than they have, or fewer."""
    k = look.k
    for pool in POOLS.values():
        order = huge_page_order(k.config, pool)
        counted = k.statics(Hugetlb).free_huge_pages.get(pool, 0)
        held = k.hw.memory.used(pool) >> (order or 0)
        if counted != held:
            yield Breach(NAME, f"the pool of {pool} pages counts {counted} free ones, but has {held}")


def _lost(look: MachineView, listed: SpanSet) -> Iterator[Breach]:
    for lost in minus(look.frames[Use.FREE], listed):
        yield Breach(NAME, f"{pfn_text(lost)} is free, but in no zone's free lists: it is lost", pfns=lost)


def _foreign(look: MachineView, zone: Zone, mine: SpanSet, own: SpanSet) -> Iterator[Breach]:
    """What a zone lists as free though it is no memory, or another zone's."""
    for used in minus(mine, look.frames[Use.FREE]):
        for hole in look.k.hw.memory.owners.gaps(*used):
            text = f"{pfn_text(hole)} is in the free lists of {zone_name(zone)}, but there is no memory"
            yield Breach(NAME, text, pfns=hole)
    for other in minus(mine, own):
        text = f"{pfn_text(other)} is in the free lists of {zone_name(zone)}, but its zone link says otherwise"
        yield Breach(NAME, text, pfns=other)
    for span in look.spans(zone.isolated_free):
        for gap in zone.isolated.gaps(*span):
            text = f"{pfn_text(gap)} is in the isolated free lists of {zone_name(zone)}, but in no isolated pageblock"
            yield Breach(NAME, text, pfns=gap)


def _managed(look: MachineView, zone: Zone, own: SpanSet) -> Iterator[Breach]:
    """``managed_pages``: what the buddy was given and nobody took away for good."""
    if zone.type is ZoneType.DEVICE:
        wanted = 0
    else:
        online = [part for span in own for part in look.online_sections.runs(*span)]
        present = [part for span in online for part in look.present.runs(*span)]
        wanted = sum(span.size for span in present) - sum(_kept_back(look, span) for span in present)
    if zone.managed != wanted:
        text = f"{zone_name(zone)} counts {zone.managed} managed pages, but the buddy was given {wanted}"
        yield Breach(NAME, text)


def _kept_back(look: MachineView, span: Span) -> int:
    """Pages that are marked so, or that have no memory behind them though they are not: a balloon lent them."""
    lent = sum(gap.size - _marked(look, gap) for gap in look.k.hw.memory.owners.gaps(*span))
    return _marked(look, span) + lent


def _marked(look: MachineView, span: Span) -> int:
    return sum(end - start for start, end, flags in look.k.page_flags.runs(*span) if flags & UNMANAGED)


def still(look: MachineView, near: MachineView) -> bool:
    """Free frames are looked at where something changed, the sums anew."""
    sums = (
        _managed(look, zone, look.zone_pages.get(ZoneRef(zone.nid, zone.type), SpanSet())) for zone in look.k.zones()
    )
    return next(find(near, None), None) is None and not any(next(found, None) for found in (*sums, _pools(look)))


LAW = Law(
    NAME,
    "No frame is lost: the free lists hold exactly the free frames of their zone, managed pages and huge ones add up",
    find,
    doors=("frames",),
    still=still,
)
