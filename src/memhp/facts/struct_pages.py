"""Struct pages in a kernel's memory, of ``/proc/kcore``, a dump, or a VM's RAM: where they lie, and which DMA holds.

No file shows who has pinned a page. But ``pin_user_pages()`` adds 1024 to the reference count of a single page, which
is more than page tables and the page cache ever do, and VMCOREINFO says where in a struct page that count is. Of pages
that are larger than one the pins are counted elsewhere, where VMCOREINFO does not say.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from memhp.errors import BadInput
from memhp.facts.noted_layout import noted_kernel
from memhp.facts.ptwalk import ptwalk
from memhp.facts.table_source import TableSource
from memhp.hw.format import U64
from memhp.hw.reader import read_frames
from memhp.hw.runs import frame_spans
from memhp.hw.walker import translate
from memhp.linux.arch.registry import ARCHES
from memhp.spans import Span

GUP_PIN_COUNTING_BIAS = 1024
"""include/linux/mm.h: what a pin adds to the count of a page that is no part of a larger one."""
MOST = 1 << 24
"""No count is as large: more is a page of something else, or a negative number."""


class Storage(NamedTuple):
    """Page frames that hold struct pages, and the pages that these describe (PFNs)."""

    frames: Span
    pages: Span


class StructPages:
    """The struct pages of a kernel. Raises BadInput where its notes do not say where they are."""

    def __init__(self, source: TableSource) -> None:
        if source.info is None:
            raise BadInput("no VMCOREINFO note in it", where=source.where, fix="a dump with the kernel's notes")
        self._source = source
        self.size = source.info.integer("SIZE(page)")
        self._refcount = source.info.integer("OFFSET(page._refcount)")
        if not 0 < self.size <= 256 or self._refcount % 4 or not 0 <= self._refcount < self.size:
            raise BadInput(f"no struct page has {self.size} bytes", where=source.where)
        self._found = ptwalk(source.reader, source.root)
        layout = noted_kernel(source.info, source.root, self._found).layout
        if layout is None:
            what = f"struct pages of {source.root.fmt.arch} are not read"
            raise BadInput(what, where=source.where, fix=f"one of {', '.join(ARCHES)}")
        self.layout = layout

    @cached_property
    def _leaves(self) -> tuple[U64, U64, U64]:
        """The leaves of vmemmap: virtual and physical addresses, sizes."""
        found, area = self._found, self.layout.vmemmap_usable
        there = found.mapped & (found.va >= np.uint64(area.start)) & (found.va <= np.uint64(area.end - 1))
        return found.va[there], found.pa[there], found.size[there]

    def storage(self, pfns: Span) -> Iterator[Storage]:
        """The frames of a range that hold struct pages, by where vmemmap maps them; some may be mapped often."""
        page = self._source.root.fmt.page_size
        low, high = pfns.start * page, pfns.end * page
        vas, pas, sizes = self._leaves
        there = (pas < np.uint64(high)) & (pas + sizes > np.uint64(low))
        for va, pa, size in zip(*(each[there].tolist() for each in (vas, pas, sizes)), strict=True):
            start, end = max(pa, low), min(pa + size, high)
            first = self.layout.page_to_pfn(va + start - pa)
            yield Storage(Span(start // page, end // page), Span(first, first + -(-(end - start) // self.size)))

    def reference_counts(self, pfns: Span) -> npt.NDArray[np.int32]:
        """``page->_refcount`` of each page; 0 for those whose struct page is not there."""
        page = self._source.root.fmt.page_size
        start = self.layout.pfn_to_page(pfns.start)
        first, last = start & -page, start + pfns.size * self.size
        vas = np.arange(first, last, page, dtype=np.uint64)
        found = translate(
            self._source.reader, self._source.root.fmt, self._source.root.pfn, vas, root_index=self._source.root.index
        )
        frames: U64 = found.pa // np.uint64(page)
        rows, there = read_frames(self._source.memory, frames, page // 8)
        words = np.where((there & found.mapped)[:, None], rows, np.uint64(0)).reshape(-1).view(np.int32)
        at = (start - first + self._refcount) // 4
        return words[at : at + pfns.size * self.size // 4 : self.size // 4][: pfns.size]

    def pinned(self, pfns: Span) -> list[Span]:
        """The pages of a range that DMA holds, ascending."""
        counts = self.reference_counts(pfns)
        held = np.flatnonzero((counts >= GUP_PIN_COUNTING_BIAS) & (counts < MOST))
        return list(frame_spans(held.astype(np.uint64) + np.uint64(pfns.start)))
