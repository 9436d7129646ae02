"""Each frame has one owner.

The owner map holds one owner a frame by its nature; the free lists of the zones and the ranges that altmaps were
given are other claims to the same frames. Handing out or freeing a frame that is somebody's is seen at the doors.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from itertools import pairwise

from memhp.check.law import Breach, Law, nothing_near
from memhp.check.machine_view import MachineView, minus, pfn_text
from memhp.check.snapshot import Snapshot
from memhp.hw.memory import Use
from memhp.linux.mmzone import Zone
from memhp.spans import Span, SpanSet

NAME = "one-owner"


def _claims(look: MachineView) -> Iterator[tuple[Span, str]]:
    """Every claim to frames that excludes all others, in words."""
    for zone in look.k.zones():
        for span in look.spans(zone.free):
            yield span, f"the free lists of {zone_name(zone)}"
        for span in look.spans(zone.isolated_free):
            yield span, f"the isolated free lists of {zone_name(zone)}"
    for block, altmap in look.k.altmaps.items():
        if look.near is None or altmap.base_pfn in look.near.pfns:
            yield Span(altmap.base_pfn, altmap.base_pfn + altmap.reserve + altmap.free), f"the altmap of memory{block}"


def zone_name(zone: Zone) -> str:
    """A zone as the kernel's reports name it: ``node 0 zone Normal``."""
    return f"node {zone.nid} zone {zone.name}"


def find(look: MachineView, before: Snapshot | None) -> Iterator[Breach]:
    """Frames that two free lists or altmaps claim, or a free list and a user."""
    claims = sorted(_claims(look))
    for (low, one), (high, other) in pairwise(claims):
        if low.overlaps(high):
            shared = low.clip(high)
            yield Breach(NAME, f"{pfn_text(shared)} is both in {one} and in {other}", pfns=shared)
    for zone in look.k.zones():
        for free in (zone.free, zone.isolated_free):
            yield from _listed_but_used(look, zone, free)


def _listed_but_used(look: MachineView, zone: Zone, free: SpanSet) -> Iterator[Breach]:
    for span in minus(SpanSet.joined(look.spans(free)), look.frames[Use.FREE]):
        for start, end, owner in look.k.hw.memory.owners.runs(*span):
            text = f"{pfn_text(Span(start, end))} is in the free lists of {zone_name(zone)}, but is {owner}"
            yield Breach(NAME, text, pfns=Span(start, end))


LAW = Law(
    NAME,
    "Each frame has one owner: nothing is handed out, listed as free or set aside twice",
    find,
    doors=("one-owner",),
    still=nothing_near(find),
)
