"""What translations CPUs may still hold: the life of an entry after it was changed, as ghost state.

A valid entry may at any time be cached by any CPU: a leaf in the TLB, a table pointer in the walk cache. When it is
cleared or replaced, the old value stays reachable (`Stale`) until a flush whose scope covers it has reached every
CPU. A frame that is given back while a stale entry still leads to it is *exposed*; handing it to somebody new before
the flush is a violation. Nothing here changes what the modelled kernel does.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from memhp.hw.format import U64, Format
from memhp.hw.interval_index import Overlaps
from memhp.hw.runs import I64, Bools, EntryRuns, entry_runs
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


class FlushPlan(NamedTuple):
    """What one call of a flush function comes to: `times` operations that name `pages` base pages from an address on.

    No pages: everything is invalidated.
    """

    flush: Flush
    times: int = 1
    pages: int = 0


@dataclass
class Stale:
    """Neighbouring entries that were valid and no longer stand in memory, or soon will not, and the CPUs that may still
    use them.
    """

    table: Table
    index: int
    count: int
    """How many entries there are from `index` on, those between the runs included."""
    runs: EntryRuns
    """Where the entries led; places are counted from `index`."""
    cpus: int
    """Bit mask of CPUs that no flush has reached yet."""
    where: str
    leaves: bool
    pages: int
    """How many frames each entry led to."""
    stands: bool = False
    """Whether the entries stand in memory still: what a flush drops comes back."""

    def frames(self) -> tuple[I64, I64]:
        """The frames (PFNs) that can be reached through the entries: where each run starts and ends."""
        starts = self.runs.pfn.astype(np.int64)
        return starts, starts + self.runs.length * self.pages

    def part(self, start: int, end: int, cpus: int) -> list["Stale"]:
        """What is left of it in entries ``[start, end)`` counted from `index`, for these CPUs."""
        if not cpus or start >= end:
            return []
        runs = self.runs.clipped(start, end, self.pages)
        if not len(runs.at):
            return []
        moved = runs._replace(at=runs.at - start)
        return [replace(self, index=self.index + start, count=end - start, runs=moved, cpus=cpus)]


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
    _standing: list[Stale] = field(default_factory=list)
    """Those of `stale` that stand."""
    _reach: Overlaps = field(default_factory=Overlaps)
    """The frames that the first so many of `stale` lead to."""
    _exposures: Overlaps = field(default_factory=Overlaps)
    """The frames of the first so many of `exposed`."""

    @property
    def all_cpus(self) -> int:
        """Bit mask of every CPU."""
        return (1 << self.nr_cpus) - 1

    def unmap(self, table: Table, index: int, old: U64, where: str) -> None:
        """Entries ``[index, index + n)`` of a table held `old` (zero: nothing) and no longer do."""
        self.cleared(table, index, old)
        self.stale += self._entries(table, index, old, where)

    def expect(self, table: Table, index: int, values: U64, where: str) -> None:
        """Entries ``[index, index + n)`` of a table hold `values` (zero: nothing) and soon will not: until then a CPU
        comes by them again, whatever is flushed.
        """
        expected = self._entries(table, index, values, where, stands=True)
        self.stale += expected
        self._standing += expected

    def _entries(self, table: Table, index: int, old: U64, where: str, *, stands: bool = False) -> list[Stale]:
        found = []
        runs = entry_runs(self.fmt, old, table.height)
        for leaves, kept in runs.by_kind():
            pages = self.fmt.pages_at(table.height) if leaves else 1
            found.append(Stale(table, index, len(old), kept, self.all_cpus, where, leaves, pages, stands))
        return found

    @property
    def standing(self) -> list[Stale]:
        """Those of the stale entries that stand in memory."""
        return self._standing[:]

    def cleared(self, table: Table, index: int, old: U64) -> None:
        """Entries ``[index, index + n)`` of a table, which held `old` (zero: nothing), stand no longer."""
        for stale in self.standing:
            first, end = max(index, stale.index), min(index + len(old), stale.index + stale.count)
            if stale.table.frame != table.frame or first >= end:
                continue
            gone = np.zeros(stale.count, dtype=np.bool_)
            held = old[first - index : end - index]
            gone[first - stale.index : end - stale.index] = held != self.fmt.empty[table.height]
            if gone.any():
                self._split(stale, gone)

    def left(self, stale: Stale) -> None:
        """Nothing leads any more to the table of entries that stand: no CPU comes by them again."""
        self._split(stale, np.ones(stale.count, dtype=np.bool_))

    def _split(self, stale: Stale, gone: Bools) -> None:
        """Some of these entries, those that are `gone`, stand no longer."""
        parts: list[Stale] = []
        if gone.all():
            stale.stands = False
        else:
            cuts = [0, *(np.flatnonzero(np.diff(gone)) + 1).tolist(), stale.count]
            for start, end in pairwise(cuts):
                parts += [replace(part, stands=not gone[start]) for part in stale.part(start, end, stale.cpus)]
            at = next(nr for nr, one in enumerate(self.stale) if one is stale)
            self.stale[at : at + 1], self._reach = parts, Overlaps()
        self._standing = [one for one in (*self._standing, *parts) if one is not stale and one.stands]

    def flush(self, flush: Flush, span: Span, cpu: int) -> None:
        """A flush of the addresses in `span` (bytes) has completed."""
        if not self.stale:
            return
        reached = 1 << cpu if flush.local else self.all_cpus
        kept: list[Stale] = []
        for stale in self.stale:
            if stale.stands or (not stale.leaves and flush.last_level):
                kept.append(stale)
                continue
            step = self.fmt.levels[stale.table.height].size
            first = stale.table.va + stale.index * step
            inside = span.clip(Span(first, first + stale.count * step))
            if not inside:
                kept.append(stale)
                continue
            lo, hi, left = (inside.start - first) // step, -(-(inside.end - first) // step), stale.cpus & ~reached
            if not left and not lo and hi == stale.count:
                continue
            kept.extend(stale.part(0, lo, stale.cpus))
            kept.extend(stale.part(lo, hi, left))
            kept.extend(stale.part(hi, stale.count, stale.cpus))
        self.stale, self._reach = kept, Overlaps()
        if self.exposed:
            self.exposed = [e for e in self.exposed if self._leading_to(e.frames)] if kept else []
            self._exposures = Overlaps()

    def reaches(self, span: Span) -> bool:
        """Whether a CPU may still use an entry that stood for one of these addresses (bytes) and does no more."""
        for stale in self.stale:
            size = self.fmt.levels[stale.table.height].size
            first = stale.table.va + stale.index * size
            if first < span.end and span.start < first + stale.count * size:
                return True
        return False

    def _leading_to(self, frames: Span) -> Stale | None:
        """The latest stale entry through which some CPU may still reach one of these frames."""
        for stale in self.stale[len(self._reach) :]:
            self._reach.append(*stale.frames())
        latest = self._reach.last(frames)
        return None if latest is None else self.stale[latest]

    def leads_to(self, frame: int) -> bool:
        """Whether some CPU may still reach a frame through an entry that no longer stands."""
        return bool(self.stale) and self._leading_to(Span(frame, frame + 1)) is not None

    def give_back(self, frames: Span, where: str) -> Exposure | None:
        """Frames are being freed: the exposure that this makes, if any."""
        stale = self._leading_to(frames) if self.stale else None
        if stale is None:
            return None
        exposure = Exposure(frames, stale, where)
        self.exposed.append(exposure)
        self.exposed_frames += frames.size
        return exposure

    def reuse(self, frames: Span) -> Exposure | None:
        """Frames are being handed out: the exposure through which a CPU may still reach them, if any."""
        for exposure in self.exposed[len(self._exposures) :]:
            self._exposures.append(np.array([exposure.frames.start]), np.array([exposure.frames.end]))
        first = self._exposures.first(frames)
        return None if first is None else self.exposed[first]

    def exposed_set(self) -> SpanSet:
        """Every frame (PFNs) that is free or somebody else's and yet reachable."""
        return SpanSet(exposure.frames for exposure in self.exposed)
