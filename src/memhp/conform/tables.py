"""Page tables of hot-added memory, real and modelled: the direct map entry by entry, and the struct pages' mapping.

Where struct pages and tables are stored is the allocator's choice, so of the memmap only the shape is compared: which
addresses are mapped, by leaves of which height, with which bits. The direct map is compared to the last bit. Where
memory went again both are compared as well: what was left there is a difference, unless the model leaves it too.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from memhp.hw.format import U64, Format
from memhp.hw.reader import MissingTables, TableReader
from memhp.hw.walker import leaves, tables
from memhp.linux.port import Root
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet


class Entries(NamedTuple):
    """Leaves, ascending by address: an element each; and the tables below the root, by height and first address."""

    va: U64
    pa: U64
    height: U64
    bits: U64
    tables: frozenset[tuple[int, int]]


def entries(reader: TableReader, fmt: Format, root: int, index: int, span: Span) -> Entries:
    """What translates some of a span of addresses. Raises :class:`MissingTables`: unread is not the same as empty."""
    leaf = leaves(reader, fmt, root, va_start=span.start, va_end=span.end, root_index=index)
    if leaf.missing.frame.size:
        raise MissingTables(leaf.missing.frame.tolist())
    bits = np.zeros(leaf.va.size, dtype=np.uint64)
    for height in range(len(fmt.levels)):
        bits[leaf.height == height] = fmt.attributes(leaf.entry[leaf.height == height], height)
    found = tables(reader, fmt, root, va_start=span.start, va_end=span.end, root_index=index)
    places = zip(found.height.tolist(), found.va.tolist(), strict=True)
    below = frozenset((height, va) for height, va in places if height < fmt.root_height)
    return Entries(leaf.va, leaf.pa, leaf.height.astype(np.uint64), bits, below)


class Compared(NamedTuple):
    """One area: how many facts, and how many are equal; the first difference in words, real and modelled."""

    name: str
    facts: int
    equal: int
    expected: str
    got: str


def added_memory(k: Kernel, blocks: Iterable[int]) -> SpanSet:
    """Memory blocks, by number, in which no memory of boot is, as physical ranges (bytes)."""
    size, shift, boot = k.pages_per_block, k.config.page_shift, SpanSet(k.boot_memory)
    frames = (Span(block * size, (block + 1) * size) for block in blocks)
    return SpanSet(Span(each.start << shift, each.end << shift) for each in frames if not boot.covered(*each))


def compare_tables(
    k: Kernel, real: TableReader, root: Root, hot: Iterable[Span], *, gone: bool = False
) -> Iterator[Compared]:
    """Compare the tables of hot-added physical ranges (bytes) in the direct map and the memmap.

    Of those that are `gone` again it is a fact of its own whether anything translates there.
    """
    shift = k.config.page_shift
    for span in hot:
        start = k.layout.phys_to_virt(span.start)
        memmap = k.layout.memmap(span.start >> shift, span.end >> shift)
        for name, area, with_pa in (("direct map", Span(start, start + span.size), True), ("memmap", memmap, False)):
            theirs = entries(real, root.fmt, root.pfn, root.index, area)
            mine = entries(k.hw.memory, k.hw.fmt, k.init_mm.frame, 0, area)
            where = f"{name} {'that was of' if gone else 'of'} {span.start:#x}-{span.end - 1:#x}"
            found = _compare(where, theirs, mine, with_pa=with_pa)
            nothing = gone and theirs.va.size == mine.va.size == 0
            yield found._replace(facts=found.facts + nothing, equal=found.equal + nothing)


def _compare(name: str, real: Entries, mine: Entries, *, with_pa: bool) -> Compared:
    """An entry is equal where both have the same leaf at the same address; what only one side has is a fact too."""
    _, here, there = np.intersect1d(real.va, mine.va, assume_unique=True, return_indices=True)
    same = (real.height[here] == mine.height[there]) & (real.bits[here] == mine.bits[there])
    if with_pa:
        same &= real.pa[here] == mine.pa[there]
    equal = int(same.sum()) + len(real.tables & mine.tables)
    facts = real.va.size + mine.va.size + len(real.tables) + len(mine.tables) - equal
    return Compared(
        name,
        facts,
        equal,
        _first(real, here[same], real.tables - mine.tables),
        _first(mine, there[same], mine.tables - real.tables),
    )


def _first(side: Entries, same: npt.NDArray[np.intp], table: frozenset[tuple[int, int]]) -> str:
    """The first of what only one side has, with how many there are."""
    other = np.ones(side.va.size, dtype=np.bool_)
    other[same] = False
    if other.any():
        at = int(np.flatnonzero(other)[0])
        where, height, bits = int(side.va[at]), int(side.height[at]), int(side.bits[at])
        return f"{int(other.sum())} leaves, first at {where:#x} of height {height} with bits {bits:#x}"
    return f"{len(table)} tables, first at {min(table)[1]:#x}" if table else "nothing more"
