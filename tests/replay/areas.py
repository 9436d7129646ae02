"""The direct map and the vmemmap of a kernel as arrays and sets, real or modelled, to be held against each other."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import NamedTuple

import numpy as np

from memhp.facts.elfcore import ElfCore
from memhp.hw.format import U64, Format
from memhp.hw.reader import TableReader
from memhp.hw.walker import Heights, leaves, tables
from memhp.linux.layout import Layout
from memhp.linux.state import Kernel
from memhp.spans import Span

Position = tuple[int, int]
"""Height of a table and the first address that it translates."""


class Leaves(NamedTuple):
    """Leaves, or base pages as leaves map them, ascending by address: an element each."""

    va: U64
    pa: U64
    height: Heights
    bits: U64
    """The entry without its frame number."""

    def same(self, other: "Leaves", *, pa: bool = True) -> bool:
        """Whether both map the same addresses with the same heights and bits, and, if `pa`, to the same memory."""
        alike = (
            np.array_equal(self.va, other.va)
            and np.array_equal(self.height, other.height)
            and np.array_equal(self.bits, other.bits)
        )
        return alike and (not pa or np.array_equal(self.pa, other.pa))


class Area(NamedTuple):
    """Part of an address space: its leaves, and its tables below the root with whether each is empty."""

    fmt: Format
    leaves: Leaves
    tables: dict[Position, bool]


def area(reader: TableReader, fmt: Format, root: int, index: int, span: Span) -> Area:
    """The part that translates some of `span`."""
    where = {"va_start": span.start, "va_end": span.end, "root_index": index}
    leaf = leaves(reader, fmt, root, **where)
    bits = np.zeros(leaf.va.size, dtype=np.uint64)
    for height in range(len(fmt.levels)):
        bits[leaf.height == height] = fmt.attributes(leaf.entry[leaf.height == height], height)
    found = tables(reader, fmt, root, **where)
    columns = zip(found.height.tolist(), found.va.tolist(), found.empty.tolist(), strict=True)
    positions = {(height, va): empty for height, va, empty in columns if height < fmt.root_height}
    return Area(fmt, Leaves(leaf.va, leaf.pa, leaf.height, bits), positions)


def of_model(k: Kernel, span: Span) -> Area:
    """The model's."""
    return area(k.hw.memory, k.hw.fmt, k.init_mm.frame, 0, span)


def of_core(core: ElfCore, span: Span) -> Area:
    """A real guest's."""
    root = core.root()
    return area(core, root.fmt, root.pfn, root.index, span)


def by_page(found: Area) -> Leaves:
    """The same leaves as base pages, an element each, with the height and bits of the leaf that maps it."""
    own, fmt = found.leaves, found.fmt
    pages = np.array([level.size >> fmt.page_shift for level in fmt.levels], dtype=np.int64)[own.height]
    leaf = np.repeat(np.arange(own.va.size), pages)
    first = np.cumsum(pages) - pages
    offset = ((np.arange(leaf.size) - first[leaf]) << fmt.page_shift).astype(np.uint64)
    return Leaves(own.va[leaf] + offset, own.pa[leaf] + offset, own.height[leaf], own.bits[leaf])


def direct_map(layout: Layout, phys: Span) -> Span:
    """The addresses of a physical range in the direct map."""
    start = layout.phys_to_virt(phys.start)
    return Span(start, start + phys.size)


def memmap(layout: Layout, phys: Span) -> Span:
    """The addresses of the struct pages of a physical range."""
    shift = layout.config.page_shift
    return layout.memmap(phys.start >> shift, phys.end >> shift)
