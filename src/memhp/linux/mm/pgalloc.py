"""Frames for page tables, and where frames go that tables and struct pages were in.

``memblock_phys_alloc()`` while booting, the page allocator after that; on the way back, what boot reserved goes by
``free_reserved_page()`` and what lies in an altmap only by its count.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field

import numpy as np

from memhp.hw.memory import Owner, Use
from memhp.hw.runs import frame_spans
from memhp.linux.choices import TableDtor
from memhp.linux.mm.altmap import VmemAltmap, vmem_altmap_free, vmem_altmap_offset
from memhp.linux.mm.page_alloc import alloc_pages, free_pages, free_reserved
from memhp.linux.mm.ptdesc import pagetable_dtor
from memhp.linux.mm.vmemmap_alloc import SELF_HOSTED
from memhp.linux.mmzone import PageFlags
from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet

TABLE = Owner(Use.TABLE)


@dataclass
class PageRefs:
    """``_refcount`` of pages that hold struct pages and that vmemmap maps several times."""

    more: dict[int, int] = field(default_factory=dict)
    """PFN → references beyond the first."""


def alloc_tables(k: Kernel, height: int, count: int, where: str) -> list[Span]:
    """Up to `count` frames (PFNs) for page tables of a height that hold nothing; none when there are none.

    From the running CPU's node.
    """
    if k.slab_is_available:
        spans = alloc_pages(k, 0, min(k.nodes, default=0), count=count, owner=TABLE, where=where)
        k.hw.blank_tables(spans, height)
        return spans
    size = k.config.page_size
    addresses = np.sort(k.memblock.memblock_phys_alloc_many(size, count, align=size))
    spans = frame_spans(addresses // np.uint64(size))
    for span in spans:
        k.hw.claim(span, TABLE, where)
    k.hw.blank_tables(spans, height)
    return spans


def free_tables(k: Kernel, spans: list[Span], where: str, height: int = 0, dtor: TableDtor = "none") -> None:
    """Give the frames (PFNs) of page tables back to the buddy: ``pagetable_free()`` or ``free_reserved_page()``.

    `dtor` says which of them, of a height, have their destructor run before that.
    """
    pagetable_dtor(k, spans, height, dtor, where)
    _give_back(k, spans, where)


def _give_back(k: Kernel, spans: list[Span], where: str) -> None:
    for span in spans:
        for part, reserved in by_reserved(k, span):
            (free_reserved if reserved else free_pages)(k, [part], where)


@kernel_function(None)
def free_memmap(k: Kernel, spans: list[Span], altmap: VmemAltmap | None, where: str) -> None:
    """Give frames (PFNs) that held struct pages back to the buddy, or take them off an altmap's account.

    The kernel does not look whether frames lie in the altmap: others are nobody's from then on. Where RAM may stand in
    for the altmap, it does (arch/powerpc/mm/init_64.c:__vmemmap_free).
    """
    if altmap is None:
        _give_back(k, _put_pages(k, spans), where)
        return
    if k.config.choices.altmap_fallback == "ram":
        room = Span(altmap.base_pfn, altmap.base_pfn + vmem_altmap_offset(altmap))
        others = [part for span in spans for part in SpanSet([room]).gaps(*span)]
        _give_back(k, others, where)
        spans = [part for span in spans if (part := span.clip(room))]
    for span in spans:
        vmem_altmap_free(altmap, span.size)
        for start, end, owner in list(k.hw.owners.runs(*span)):
            if owner == SELF_HOSTED:
                k.hw.release(Span(start, end), Owner(Use.DEVICE), where)


def _put_pages(k: Kernel, spans: list[Span]) -> list[Span]:
    """Drop a reference for each frame of `spans`, which come as often as they were mapped; those free now."""
    refs = k.statics(PageRefs).more
    if not spans or not refs:
        return spans
    starts, sizes = np.array([(span.start, span.size) for span in spans], dtype=np.int64).T
    ends = np.cumsum(sizes)
    frames = (np.repeat(starts - (ends - sizes), sizes) + np.arange(ends[-1])).astype(np.uint64)
    seen, times = np.unique(frames, return_counts=True)
    gone = np.ones(len(seen), dtype=bool)
    shared = ((place, frame) for place, frame in enumerate(seen.tolist()) if frame in refs)
    for place, frame in shared:
        left = refs.pop(frame) - int(times[place])
        if left >= 0:
            refs[frame] = left
            gone[place] = False
    return frame_spans(seen[gone])


def by_reserved(k: Kernel, span: Span) -> list[tuple[Span, bool]]:
    """A span (PFNs) cut into runs that are ``PageReserved()`` and runs that are not."""
    reserved = [Span(lo, hi) for lo, hi, flags in k.page_flags.runs(*span) if PageFlags.RESERVED in flags]
    if not reserved:
        return [(span, False)] if span.size else []
    parts: list[tuple[Span, bool]] = []
    at = span.start
    for run in reserved:
        if run.start > at:
            parts.append((Span(at, run.start), False))
        parts.append((run, True))
        at = run.end
    if at < span.end:
        parts.append((Span(at, span.end), False))
    return parts
