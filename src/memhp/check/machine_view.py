"""One look at a machine: what several laws read, gathered once.

Page tables come from the one walker, in bulk; who owns what comes as runs. A look is good until the next door is
used.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator, Sequence
from copy import copy
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np

from memhp.check.resource_changes import Siblings
from memhp.hw.format import U64
from memhp.hw.memory import Use
from memhp.hw.ranges import Ranges, ranges
from memhp.hw.tlb import ALL_ADDRESSES
from memhp.hw.walker import Bools, Heights, slabs
from memhp.linux.mmzone import MemoryBlock, ZoneRef
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanMap, SpanSet

V = TypeVar("V")


class TableFrames(NamedTuple):
    """Every table that a root leads to, an element a path to it: its PFN, height and first address."""

    frame: U64
    height: Heights
    va: U64

    def chosen(self, which: Bools) -> "TableFrames":
        """Some of them."""
        return TableFrames(self.frame[which], self.height[which], self.va[which])

    def ordered(self) -> "TableFrames":
        """The same level by level, ascending by address in each."""
        order = np.lexsort((self.va, -self.height.astype(np.int8)))
        return TableFrames(self.frame[order], self.height[order], self.va[order])


class Leaves(NamedTuple):
    """Ranges of leaves, ascending by address: bytes, the height of the leaves and their attribute bits."""

    va: U64
    size: U64
    pa: U64
    height: Heights
    bits: U64

    def chosen(self, which: Bools) -> "Leaves":
        """Some of them."""
        return Leaves(self.va[which], self.size[which], self.pa[which], self.height[which], self.bits[which])


def leaves_in(found: Ranges, area: Span) -> Leaves:
    """The leaves that translate some of `area` (bytes), those at its edges whole."""
    end = np.uint64(min(area.end, (1 << 64) - 1))
    inside = found.mapped & (found.va < end) & (found.va + (found.size - np.uint64(1)) >= np.uint64(area.start))
    return Leaves(found.va, found.size, found.pa, found.height, found.bits).chosen(inside)


class Near(NamedTuple):
    """The parts of a machine that a look is confined to: whole memory blocks (PFNs), addresses (bytes), resources."""

    pfns: SpanSet
    vas: SpanSet
    resources: Sequence[Siblings] = ()


class MachineView:
    """The state of a machine `k` at one moment; `near` confines it, so that a law which looks at frames and leaves one
    by one finds what it would find there.
    """

    def __init__(self, k: Kernel, near: Near | None = None) -> None:
        self.k = k
        self.near = near

    def hold(self, **found: object) -> None:
        """Keep what is known of this moment, so that it is not read out of the machine again."""
        self.__dict__.update(found)

    def of(self, k: Kernel) -> "MachineView":
        """The same look at a machine that is an exact copy of this one."""
        other = copy(self)
        other.k = k
        return other

    def read(self) -> None:
        """Read the page tables now: they may be others when a law asks for them."""
        _ = self.ranges, self.tables

    @property
    def nothing(self) -> bool:
        """Whether the look is confined to nothing."""
        return self.near is not None and not self.near.pfns and not self.near.vas

    @cached_property
    def ranges(self) -> Ranges:
        """Everything that ``init_mm`` translates, in runs of like leaves; runs of other entries as well."""
        return ranges(self.k.hw.memory, self.k.hw.fmt, self.k.init_mm.frame, holes=True)

    @cached_property
    def tables(self) -> TableFrames:
        """Every table of ``init_mm``, the root first, level by level."""
        root = self.k.init_mm
        below = tables_below(self.k, ALL_ADDRESSES)
        return TableFrames(
            np.concatenate([np.array([root.frame], dtype=np.uint64), below.frame]),
            np.concatenate([np.array([root.height], dtype=np.uint8), below.height]),
            np.concatenate([np.array([root.va], dtype=np.uint64), below.va]),
        )

    def runs(self, these: SpanMap[V], unit: int = 1) -> Iterator[tuple[int, int, V]]:
        """The runs of a map whose keys stand for `unit` pages each, as ``(start, end, value)`` in keys, ascending."""
        if self.near is None:
            return iter(these)
        return (run for span in self.near.pfns for run in these.runs(span.start // unit, -(-span.end // unit)))

    def spans(self, these: SpanSet, unit: int = 1) -> Iterator[Span]:
        """The spans of a set whose members stand for `unit` pages each, ascending."""
        if self.near is None:
            return iter(these)
        return (part for span in self.near.pfns for part in these.runs(span.start // unit, -(-span.end // unit)))

    @property
    def memory_blocks(self) -> Iterator[tuple[int, int, MemoryBlock]]:
        """The memory blocks, in runs of like ones."""
        return self.runs(self.k.memory_blocks, self.k.pages_per_block)

    def leaves(self, area: Span) -> Leaves:
        """The leaves that translate some of `area` (bytes), those at its edges whole."""
        leaves = leaves_in(self.ranges, area)
        return leaves if self.near is None else _confined(leaves, self.near.vas)

    @cached_property
    def frames(self) -> dict[Use, SpanSet]:
        """By use: the frames (PFNs) in it."""
        found: dict[Use, list[tuple[int, int]]] = {use: [] for use in Use}
        for start, end, owner in self.runs(self.k.hw.memory.owners):
            found[owner.use].append((start, end))
        return {use: SpanSet.joined(spans) for use, spans in found.items()}

    @cached_property
    def zone_pages(self) -> dict[ZoneRef, SpanSet]:
        """By zone: the pages (PFNs) that are linked to it."""
        found: dict[ZoneRef, list[tuple[int, int]]] = {}
        for start, end, ref in self.runs(self.k.page_zone):
            found.setdefault(ref, []).append((start, end))
        return {ref: SpanSet.joined(spans) for ref, spans in found.items()}

    @cached_property
    def storage(self) -> tuple[SpanSet, list[Span]]:
        """The frames (PFNs) that vmemmap leaves map, and those among them that are mapped more than once."""
        leaves = self.leaves(self.k.layout.vmemmap_usable)
        shift = np.uint64(self.k.config.page_shift)
        first = leaves.pa >> shift
        return merged(first, first + (leaves.size >> shift))

    @cached_property
    def present(self) -> SpanSet:
        """PFNs of the memory that sections say is there: of a boot section the boot memory in it, of others what
        ``subsection_map`` holds.
        """
        parts: list[Span] = []
        for span in self.early_sections:
            for part in self.k.subsection_map.runs(*span):
                parts += self.k.boot_memory.runs(*part)
                parts += self.boot_subsections.gaps(*part)
        for span in self.hot_sections:
            parts += self.k.subsection_map.runs(*span)
        return SpanSet.joined(sorted(parts))

    @cached_property
    def boot_subsections(self) -> SpanSet:
        """PFNs of the sub-sections that boot memory lies in, rounded out to whole ones."""
        unit = self.k.config.pages_per_subsection
        return SpanSet((span.start // unit * unit, -(-span.end // unit) * unit) for span in self.k.boot_memory)

    @cached_property
    def early_sections(self) -> SpanSet:
        """PFNs of the sections that are there since boot."""
        return self._sections(early=True)

    @cached_property
    def hot_sections(self) -> SpanSet:
        """PFNs of the sections that were added later."""
        return self._sections(early=False)

    @cached_property
    def online_sections(self) -> SpanSet:
        """PFNs of the online sections."""
        per = self.k.config.pages_per_section
        sections = self.runs(self.k.mem_section, per)
        return SpanSet.joined((first * per, last * per) for first, last, section in sections if section.online)

    @cached_property
    def block_frames(self) -> SpanSet:
        """PFNs of all memory blocks; where there are none without ``CONFIG_MEMORY_HOTPLUG``, of boot memory's."""
        per = self.k.pages_per_block
        if not self.k.config.memory_hotplug:
            return SpanSet.joined((span.start // per * per, -(-span.end // per) * per) for span in self.early_sections)
        return SpanSet.joined((first * per, last * per) for first, last, _ in self.memory_blocks)

    def _sections(self, *, early: bool) -> SpanSet:
        per = self.k.config.pages_per_section
        sections = self.runs(self.k.mem_section, per)
        return SpanSet.joined((first * per, last * per) for first, last, s in sections if s.early is early)


def tables_below(k: Kernel, addresses: Span) -> TableFrames:
    """The tables of ``init_mm`` below the root that translate nothing but `addresses` (bytes), level by level."""
    fmt = k.hw.fmt
    none = np.zeros(0, dtype=np.uint64)
    found = [TableFrames(none, none.astype(np.uint8), none)]
    last = np.uint64(addresses.end - 1)
    for slab in slabs(k.hw.memory, fmt, k.init_mm.frame, va_start=addresses.start, va_end=addresses.end):
        if slab.height == 0:
            break
        rows, columns = np.nonzero(np.asarray(fmt.is_table(slab.entries, slab.height)))
        size = np.uint64(fmt.levels[slab.height].size)
        va = slab.va[rows] + columns.astype(np.uint64) * size
        inside = (va >= np.uint64(addresses.start)) & (va + (size - np.uint64(1)) <= last)
        frames = fmt.table_pfn(slab.entries[rows, columns])[inside]
        found.append(TableFrames(frames, np.full(frames.size, slab.height - 1, dtype=np.uint8), va[inside]))
    return TableFrames(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


def _confined(leaves: Leaves, vas: SpanSet) -> Leaves:
    """The parts of leaves that translate these addresses, cut at the edges."""
    parts = [leaves.chosen(np.zeros(leaves.va.size, dtype=np.bool_))]
    for span in vas:
        start, last = np.uint64(span.start), np.uint64(span.end - 1)
        part = leaves.chosen((leaves.va <= last) & (leaves.va + (leaves.size - np.uint64(1)) >= start))
        skipped = np.maximum(part.va, start) - part.va
        va = part.va + skipped
        size = np.minimum(part.va + (part.size - np.uint64(1)), last) - va + np.uint64(1)
        parts.append(part._replace(va=va, size=size, pa=part.pa + skipped))
    return Leaves(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def merged(start: U64, end: U64) -> tuple[SpanSet, list[Span]]:
    """The union of many spans ``[start[i], end[i])`` in any order, and the parts that more than one of them has."""
    if not start.size:
        return SpanSet(), []
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    reach = np.maximum.accumulate(end)
    again = np.flatnonzero(start[1:] < reach[:-1]) + 1
    twice = SpanSet(zip(start[again].tolist(), np.minimum(end[again], reach[again - 1]).tolist(), strict=True))
    heads = np.concatenate([[0], np.flatnonzero(start[1:] > reach[:-1]) + 1])
    tails = np.append(heads[1:] - 1, start.size - 1)
    return SpanSet.joined(zip(start[heads].tolist(), reach[tails].tolist(), strict=True)), list(twice)


def minus(these: SpanSet, those: SpanSet) -> list[Span]:
    """What one set has and another has not, ascending."""
    return these.minus(those)


def pfn_text(span: Span) -> str:
    """A span of PFNs as laws print it: ``PFN 0x100-0x1ff``, the last one included, as the kernel prints ranges."""
    return f"PFN {span.start:#x}-{span.end - 1:#x}"


def va_text(span: Span) -> str:
    """A span of virtual addresses as laws print it."""
    return f"{span.start:#x}-{span.end - 1:#x}"
