"""Storage of struct pages: every frame that vmemmap maps is a memmap's, once, and no memmap frame is mapped nowhere.

A frame that is left as memmap after its section is gone was not returned; one that is mapped although it is somebody
else's was returned too early.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator

from memhp.check.law import Breach, Law, nothing_near
from memhp.check.machine_view import MachineView, minus, pfn_text
from memhp.check.snapshot import Snapshot
from memhp.hw.memory import Use
from memhp.linux.mm.pgalloc import PageRefs
from memhp.spans import Span, SpanSet

NAME = "memmap-storage"


def find(look: MachineView, before: Snapshot | None) -> Iterator[Breach]:
    """Frames mapped twice, mapped but not a memmap's, a memmap's but not mapped."""
    mapped, twice = look.storage
    for span in (part for each in twice for part in _minus_shared(look, each)):
        yield Breach(NAME, f"vmemmap maps {pfn_text(span)} more than once", pfns=span)
    for span in mapped:
        for start, stop, owner in look.k.hw.memory.owners.runs(*span):
            if owner.use is not Use.MEMMAP:
                text = f"vmemmap maps {pfn_text(Span(start, stop))}, which is {owner}"
                yield Breach(NAME, text, pfns=Span(start, stop))
        for hole in look.k.hw.memory.owners.gaps(*span):
            yield Breach(NAME, f"vmemmap maps {pfn_text(hole)}, where there is no memory", pfns=hole)
    for lost in minus(look.frames[Use.MEMMAP], mapped):
        kept_as = look.k.hw.memory.owners.get(lost.start)
        text = f"{pfn_text(lost)} is kept as {kept_as}, but vmemmap does not map it: the storage was not returned"
        yield Breach(NAME, text, pfns=lost)


def _minus_shared(look: MachineView, span: Span) -> list[Span]:
    """The parts of a span that no page of equal tails lies in, which compound pages of a device map many times."""
    refs = look.k.statics(PageRefs).more
    pfns: Iterable[int] = range(*span) if span.size < len(refs) else sorted(refs)
    shared = SpanSet.joined((pfn, pfn + 1) for pfn in pfns if pfn in refs and pfn in span)
    return list(shared.gaps(*span))


LAW = Law(
    NAME,
    "Every frame behind vmemmap is a memmap's, once; storage of removed sections went back to its zone or altmap",
    find,
    doors=("use-after-free",),
    still=nothing_near(find),
)
