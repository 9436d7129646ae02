"""What translations CPUs may still hold: the life of an entry after it was changed, as ghost state.

A valid entry may at any time be cached by any CPU: a leaf in the TLB, a table pointer in the walk cache. When it is
cleared or replaced, the old value stays reachable (`Stale`) until a flush whose scope covers it has reached every
CPU. A frame that is given back while a stale entry still leads to it is *exposed*; handing it to somebody new before
the flush is a violation. Nothing here changes what the modelled kernel does.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from memhp.hw.format import U64, Format
from memhp.spans import Span, SpanSet

ALL_ADDRESSES = Span(0, 1 << 64)


class Table(NamedTuple):
    """A page-table frame in its place in the tree: its PFN, its height, the first address it translates.

    `mm` is the address space whose tree it belongs to; the kernel's own is ``init_mm``.
    """

    frame: int
    height: int
    va: int
    mm: str = "init_mm"


class Flush(NamedTuple):
    """One kind of invalidation: the kernel function, the hardware operation, and how far it reaches.

    `last_level` flushes leave cached table pointers alone; `local` ones reach only the CPU that makes them.
    """

    function: str
    operation: str
    last_level: bool = False
    local: bool = False


@dataclass
class Stale:
    """A run of entries that were valid and no longer stand in memory, and the CPUs that may still use them."""

    table: Table
    index: int
    old: U64
    """The old values, shape [n]; zero where the entry was not valid or has been flushed."""
    cpus: int
    """Bit mask of CPUs that no flush has reached yet."""
    where: str
    leaves: bool


class Exposure(NamedTuple):
    """Frames given back while a stale entry still led to them."""

    frames: Span
    stale: Stale
    where: str


@dataclass
class TlbState:
    """Every stale entry of the machine, the frames exposed through them, and what went wrong."""

    fmt: Format
    nr_cpus: int
    stale: list[Stale] = field(default_factory=list)
    exposed: list[Exposure] = field(default_factory=list)
    exposed_frames: int = 0
    """How many frames were ever given back before the flush that covers them."""

    @property
    def all_cpus(self) -> int:
        """Bit mask of every CPU."""
        return (1 << self.nr_cpus) - 1

    def unmap(self, table: Table, index: int, old: U64, where: str) -> None:
        """Entries ``[index, index + n)`` of a table held `old` and no longer do."""
        valid = (old & np.uint64(self.fmt.valid)) != 0
        if not valid.any():
            return
        leaf = self.fmt.is_leaf(old, table.height)
        for leaves in (True, False):
            chosen = valid & (leaf if leaves else ~np.asarray(leaf))
            if chosen.any():
                kept = np.where(chosen, old, np.uint64(0))
                self.stale.append(Stale(table, index, kept, self.all_cpus, where, leaves))

    def flush(self, flush: Flush, span: Span, cpu: int) -> None:
        """A flush of the addresses in `span` (bytes) has completed."""
        if not self.stale:
            return
        reached = 1 << cpu if flush.local else self.all_cpus
        kept: list[Stale] = []
        for stale in self.stale:
            if not stale.leaves and flush.last_level:
                kept.append(stale)
                continue
            step = self.fmt.levels[stale.table.height].size
            first = stale.table.va + stale.index * step
            inside = span.clip(Span(first, first + len(stale.old) * step))
            if not inside:
                kept.append(stale)
                continue
            lo, hi = (inside.start - first) // step, -(-(inside.end - first) // step)
            if stale.cpus & ~reached:
                for part, cpus in (
                    (slice(0, lo), stale.cpus),
                    (slice(lo, hi), stale.cpus & ~reached),
                    (slice(hi, None), stale.cpus),
                ):
                    kept.extend(_part(stale, part, cpus))
            else:
                kept.extend(_part(stale, slice(0, lo), stale.cpus))
                kept.extend(_part(stale, slice(hi, None), stale.cpus))
        self.stale = kept
        if self.exposed:
            self.exposed = [e for e in self.exposed if self._leads_to(e.frames)]

    def _leads_to(self, frames: Span) -> Stale | None:
        """A stale entry through which some CPU may still reach one of these frames."""
        for stale in self.stale:
            old = stale.old[stale.old != 0]
            if stale.leaves:
                first = self.fmt.leaf_pfn(old, stale.table.height)
                pages = self.fmt.pages_at(stale.table.height)
            else:
                first, pages = self.fmt.table_pfn(old), 1
            if ((first < frames.end) & (first + np.uint64(pages) > frames.start)).any():
                return stale
        return None

    def give_back(self, frames: Span, where: str) -> Exposure | None:
        """Frames are being freed: the exposure that this makes, if any."""
        stale = self._leads_to(frames) if self.stale else None
        if stale is None:
            return None
        exposure = Exposure(frames, stale, where)
        self.exposed.append(exposure)
        self.exposed_frames += frames.size
        return exposure

    def reuse(self, frames: Span) -> Exposure | None:
        """Frames are being handed out: the exposure through which a CPU may still reach them, if any."""
        for exposure in self.exposed:
            if exposure.frames.overlaps(frames):
                return exposure
        return None

    def exposed_set(self) -> SpanSet:
        """Every frame (PFNs) that is free or somebody else's and yet reachable."""
        return SpanSet(exposure.frames for exposure in self.exposed)


def _part(stale: Stale, part: slice, cpus: int) -> list[Stale]:
    old = stale.old[part]
    if not cpus or not old.any():
        return []
    return [Stale(stale.table, stale.index + (part.start or 0), old, cpus, stale.where, stale.leaves)]
