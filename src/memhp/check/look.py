"""One look at a machine: what several laws read, gathered once.

Page tables come from the one walker, in bulk; who owns what comes as runs. A look is good until the next door is
used.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import cached_property
from typing import NamedTuple

import numpy as np

from memhp.hw.format import U64
from memhp.hw.memory import Use
from memhp.hw.ranges import Ranges, ranges
from memhp.hw.walker import Heights, slabs
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet


class TableFrames(NamedTuple):
    """Every table that a root leads to, an element a path to it: its PFN, height and first address."""

    frame: U64
    height: Heights
    va: U64


class Leaves(NamedTuple):
    """Ranges of leaves, ascending by address: bytes, the height of the leaves and their attribute bits."""

    va: U64
    size: U64
    pa: U64
    height: Heights
    bits: U64


class Look:
    """The state of a machine `k` at one moment."""

    def __init__(self, k: Kernel) -> None:
        self.k = k

    @cached_property
    def ranges(self) -> Ranges:
        """Everything that ``init_mm`` translates, in runs of like leaves; runs of other entries as well."""
        return ranges(self.k.hw.memory, self.k.hw.fmt, self.k.init_mm.frame, holes=True)

    @cached_property
    def tables(self) -> TableFrames:
        """Every table of ``init_mm``, the root first, level by level."""
        fmt, root = self.k.hw.fmt, self.k.init_mm
        frames = [np.array([root.frame], dtype=np.uint64)]
        heights = [np.array([root.height], dtype=np.uint8)]
        vas = [np.array([root.va], dtype=np.uint64)]
        for slab in slabs(self.k.hw.memory, fmt, root.frame, clip=False):
            if slab.height == 0:
                break
            rows, columns = np.nonzero(np.asarray(fmt.is_table(slab.entries, slab.height)))
            size = np.uint64(fmt.levels[slab.height].size)
            frames.append(fmt.table_pfn(slab.entries[rows, columns]))
            heights.append(np.full(rows.size, slab.height - 1, dtype=np.uint8))
            vas.append(slab.va[rows] + columns.astype(np.uint64) * size)
        return TableFrames(np.concatenate(frames), np.concatenate(heights), np.concatenate(vas))

    def leaves(self, area: Span) -> Leaves:
        """The leaves that translate some of `area` (bytes), those at its edges whole."""
        found = self.ranges
        end = np.uint64(min(area.end, (1 << 64) - 1))
        inside = found.mapped & (found.va < end) & (found.va + (found.size - np.uint64(1)) >= np.uint64(area.start))
        return Leaves(found.va[inside], found.size[inside], found.pa[inside], found.height[inside], found.bits[inside])

    @cached_property
    def frames(self) -> dict[Use, SpanSet]:
        """By use: the frames (PFNs) in it."""
        found = {use: SpanSet() for use in Use}
        for start, end, owner in self.k.hw.memory.owners:
            found[owner.use].add(start, end)
        return found

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
        found = SpanSet()
        for span in self.early_sections:
            for part in self.k.subsection_map.runs(*span):
                for boot in self.k.boot_memory.runs(*part):
                    found.add(*boot)
                for hot in self.boot_subsections.gaps(*part):
                    found.add(*hot)
        for span in self.hot_sections:
            for part in self.k.subsection_map.runs(*span):
                found.add(*part)
        return found

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
        return SpanSet((first * per, last * per) for first, last, section in self.k.mem_section if section.online)

    @cached_property
    def block_frames(self) -> SpanSet:
        """PFNs of all memory blocks."""
        per = self.k.pages_per_block
        return SpanSet((first * per, last * per) for first, last, _ in self.k.memory_blocks)

    def _sections(self, *, early: bool) -> SpanSet:
        per = self.k.config.pages_per_section
        return SpanSet((first * per, last * per) for first, last, s in self.k.mem_section if s.early is early)


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
    return SpanSet(zip(start[heads].tolist(), reach[tails].tolist(), strict=True)), list(twice)


def minus(these: SpanSet, those: SpanSet) -> list[Span]:
    """What one set has and another has not, ascending."""
    return [gap for span in these for gap in those.gaps(*span)]


def pfn_text(span: Span) -> str:
    """A span of PFNs as laws print it: ``PFN 0x100-0x1ff``, the last one included, as the kernel prints ranges."""
    return f"PFN {span.start:#x}-{span.end - 1:#x}"


def va_text(span: Span) -> str:
    """A span of virtual addresses as laws print it."""
    return f"{span.start:#x}-{span.end - 1:#x}"
