"""Physical memory: who uses each frame, and what stands in the frames that hold page tables.

Only table frames have contents here. They live as rows of one array (the arena), in the order in which they were
handed out, so that a run of entries in many neighbouring tables is one vector operation. What every other frame
is used for is a run in an interval map, whose cost grows with runs, never with pages.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import contextlib
import mmap
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from memhp.hw.before_images import BeforeImages
from memhp.hw.format import U64
from memhp.limits import TABLE_MEMORY
from memhp.spans import Span, SpanMap, SpanSet

MAP_NORESERVE = 0x4000
"""mmap(2) flag of Linux: reserve addresses without promising memory behind them."""

LARGE_PAGE = 1 << 21
"""Bytes of a large page of the host."""

SMALL_COPY = 1 << 23
"""Bytes of tables up to which a copy takes memory that the process has already: addresses of its own cost more."""
ROOM = 32
"""Tables for which such a copy has room at first."""

MOST_VIEWS = 1 << 12
"""Rows that are kept as views."""

RESERVATION = 1 << 36
"""Bytes of address space asked for at first for the arena; halved until the host grants it."""

SMALLEST = 1 << 24
"""Bytes of an arena where address space is short, at most; it grows by copies of itself."""

SHORT_PART = 64
"""An arena begins with this part of the addresses that the host grants, where that is no whole reservation."""


class Use(StrEnum):
    """What a frame is used for."""

    DEVICE = "device"
    """Plugged memory that the kernel has not taken into use: offline, or a device's own."""
    FREE = "free"
    BOOT = "boot"
    """Kernel image, initramfs, firmware and memblock allocations: reserved for good."""
    TABLE = "table"
    MEMMAP = "memmap"
    """Storage of ``struct page``."""
    KERNEL = "kernel"
    """Unmovable kernel memory: slab, stacks, vmalloc pages."""
    SLAB = "slab"
    """Unmovable kernel memory in compound pages."""
    RECLAIMABLE = "reclaimable"
    MOVABLE = "movable"
    PINNED = "pinned"
    """Movable by kind, but held by an outside reference (long-term DMA pin)."""
    SECRETMEM = "secretmem"
    """Of ``memfd_secret()``: on an LRU list, and never moved."""
    GUEST_MEMFD = "guest-memfd"
    """Private memory of a confidential VM: the same."""
    HUGETLB = "hugetlb"
    HUGETLB_FREE = "hugetlb-free"
    GIGANTIC = "gigantic"
    """Huge pages of hugetlbfs that are larger than the buddy's largest block."""
    GIGANTIC_FREE = "gigantic-free"
    FROZEN = "frozen"
    """A page that nobody holds, on its way to the buddy: of a huge page, or in a list of a CPU."""
    BALLOON = "balloon"
    """``PageOffline`` as well, but of a balloon whose pages migrate."""
    BALLOON_FIXED = "balloon-fixed"
    """The same, of a balloon whose pages do not."""
    OFFLINE = "logically-offline"
    """``PageOffline``: kept from the buddy by a balloon or virtio-mem driver."""
    HWPOISON = "hwpoison"


class Owner(NamedTuple):
    """The use of a frame and, where one is needed, whose it is (a scenario's allocation, a device)."""

    use: Use
    tag: str = ""

    def __str__(self) -> str:
        return f"{self.use}:{self.tag}" if self.tag else str(self.use)


class Arena:
    """The contents of table frames: rows of ``entries`` 64-bit words, and which row stands for which frame."""

    def __init__(self, entries: int, rows: U64 | None = None) -> None:
        """Without tables; `rows` is where they are put at first, shape [n, entries]: by default, addresses are reserved
        for as many as there may be.
        """
        self.entries = entries
        self._area, self._rows = _reserve(entries) if rows is None else (None, rows)
        self._next = 0
        self._wiped = True
        """Whether all rows are zeroed that no table was ever put in; if not, they are when one is."""
        self._row_of: SpanMap[int] = SpanMap()
        """PFN span → (row - PFN), the same for a whole run of neighbours."""
        self._spare = SpanSet()
        """Rows given back; their old contents are wiped when they are taken again."""
        self._index: tuple[U64, U64, U64] | None = None
        self._views: dict[int, U64] = {}
        """By PFN: rows that were asked for last, for as long as they are there."""
        self.before_images: BeforeImages | None = None
        """Where tables are kept as they were before they are touched; None: nowhere."""

    def __deepcopy__(self, memo: dict[int, object]) -> "Arena":
        """A copy with the same contents, which costs what the tables take and not what is reserved for more."""
        rows = None
        if self._next * self.entries * 8 <= SMALL_COPY:
            rows = np.empty((self._next + ROOM, self.entries), dtype=np.uint64)
        copy = Arena(self.entries, rows)
        copy._wiped = rows is None
        copy._grow(self._next)
        copy._next = self._next
        copy._use_large_pages()
        copy._rows[: self._next] = self._rows[: self._next]
        copy._row_of = self._row_of.copy()
        copy._spare = self._spare.copy()
        return copy

    def __contains__(self, pfn: object) -> bool:
        return isinstance(pfn, int) and self._row_of.get(pfn) is not None

    def __len__(self) -> int:
        """How many frames hold tables."""
        return sum(end - start for start, end, _ in self._row_of)

    def frames(self) -> Iterator[Span]:
        """The spans of frames that hold tables, ascending."""
        merged: SpanSet = SpanSet((start, end) for start, end, _ in self._row_of)
        return iter(merged)

    def add(self, pfns: Span) -> None:
        """Give frames that have no contents yet some: zeroes."""
        for gap in self._row_of.gaps(*pfns):
            if self.before_images is not None:
                self.before_images.fresh(gap)
            at = gap.start
            for row, count in self._take_rows(gap.size):
                self._row_of.set(at, at + count, row - at)
                at += count
        self._index = None

    def drop(self, pfns: Span) -> None:
        """Forget the contents of frames."""
        for start, end, delta in self._row_of.runs(*pfns):
            if self.before_images is not None:
                self.before_images.keep(Span(start, end), self._rows[start + delta : end + delta])
            self._spare.add(start + delta, end + delta)
        self._row_of.clear(*pfns)
        self._index = None
        self._views.clear()

    def row(self, pfn: int) -> U64 | None:
        """The words of one table frame as a writable view, or None when the frame holds no table."""
        view = self._views.get(pfn)
        if view is not None and self.before_images is None:
            return view
        delta = self._row_of.get(pfn)
        if delta is None:
            return None
        if self.before_images is not None and pfn not in self.before_images:
            self.before_images.keep(Span(pfn, pfn + 1), self._rows[pfn + delta : pfn + delta + 1])
        if len(self._views) >= MOST_VIEWS:
            self._views.clear()
        row: U64 = self._views.setdefault(pfn, self._rows[pfn + delta])
        return row

    def views(self, pfns: Span) -> Iterator[U64]:
        """Writable views, shape [n, entries], that together cover a span of frames. KeyError for a frame without."""
        at = pfns.start
        for start, end, delta in self._row_of.runs(*pfns):
            if start != at:
                break
            if self.before_images is not None:
                self.before_images.keep(Span(start, end), self._rows[start + delta : end + delta])
            yield self._rows[start + delta : end + delta]
            at = end
        if at != pfns.end:
            raise KeyError(at)

    def differing(self, other: "Arena") -> Iterator[tuple[int, bytes]]:
        """The frames with another table than in `other`, or with one where that has none: PFN and contents."""
        for start, end, delta in self._row_of:
            differs = np.ones(end - start, dtype=np.bool_)
            for lo, hi, there in other._row_of.runs(start, end):
                unlike = self._rows[lo + delta : hi + delta] != other._rows[lo + there : hi + there]
                differs[lo - start : hi - start] = unlike.any(axis=1)
            for pfn in (np.flatnonzero(differs) + start).tolist():
                yield pfn, self._rows[pfn + delta].tobytes()

    def tables(self, pfns: U64) -> U64:
        """The contents of many table frames, shape [n, entries]: a copy. KeyError names a frame that has none."""
        if self._index is None:
            runs = list(self._row_of)
            columns = [np.array([run[i] for run in runs], dtype=np.int64) for i in range(3)]
            self._index = (columns[0].astype(np.uint64), columns[1].astype(np.uint64), columns[2].view(np.uint64))
        starts, ends, deltas = self._index
        at = np.searchsorted(starts, pfns, side="right") - 1
        bad = at < 0
        if starts.size:
            bad |= pfns >= ends[at]
        if bad.any():
            raise KeyError(int(pfns[bad][0]))
        rows = pfns + deltas[at]
        if rows.size > 1 and int(rows[-1]) - int(rows[0]) == rows.size - 1 and (np.diff(rows) == 1).all():
            return self._rows[int(rows[0]) : int(rows[-1]) + 1].copy()
        chosen: U64 = self._rows[rows]
        return chosen

    def _take_rows(self, count: int) -> Iterator[tuple[int, int]]:
        """Zeroed rows for `count` new tables, as (first row, how many): given-back ones first, then fresh ones.

        Raises :class:`~memhp.errors.BadInput` for more than a modelled machine may have.
        """
        taken: list[Span] = []
        for spare in self._spare:
            if not count:
                break
            taken.append(Span(spare.start, min(spare.end, spare.start + count)))
            count -= taken[-1].size
        if (self._next + count) * self.entries * 8 > TABLE_MEMORY.most:
            raise TABLE_MEMORY.refusal("memory", fix="write less")
        for rows in taken:
            self._spare.remove(*rows)
            self._rows[rows.start : rows.end] = 0
        if count:
            self._grow(self._next + count)
            if not self._wiped:
                self._rows[self._next : self._next + count] = 0
            taken.append(Span(self._next, self._next + count))
            self._next += count
            self._use_large_pages()
        return iter([(part.start, part.size) for part in taken])

    def _use_large_pages(self) -> None:
        """Ask for large pages as soon as tables fill more than one: to zero one takes long where few are needed."""
        if self._area is None or self._next * self.entries * 8 <= LARGE_PAGE:
            return
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):
                self._area.madvise(mmap.MADV_HUGEPAGE)
        self._area = None

    def _grow(self, rows: int) -> None:
        if rows <= len(self._rows):
            return
        bigger = np.zeros((max(rows, 2 * len(self._rows)), self.entries), dtype=np.uint64)
        bigger[: self._next] = self._rows[: self._next]
        self._rows = bigger
        self._views.clear()


def _reserve(entries: int) -> tuple[mmap.mmap | None, U64]:
    """A zeroed array of table rows that costs memory only where it is written, and the memory if it is a mapping.

    Where addresses are short (``ulimit -v``) it takes a small part of what there is: other machines want some too.
    """
    size = RESERVATION
    while size > SMALLEST:
        try:
            area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
        except (OSError, ValueError):
            size >>= 1
            continue
        if size == RESERVATION:
            return area, np.frombuffer(area, dtype=np.uint64).reshape(-1, entries)
        area.close()
        break
    small = max(size // SHORT_PART, LARGE_PAGE)
    return None, np.zeros((min(small, SMALLEST) // (8 * entries), entries), dtype=np.uint64)


class PhysicalMemory:
    """Which frames exist, what each is used for (PFN spans), and the tables in them."""

    def __init__(self, entries_per_frame: int) -> None:
        self.owners: SpanMap[Owner] = SpanMap()
        self.arena = Arena(entries_per_frame)

    def use_of(self, pfn: int) -> Use | None:
        """What one frame is used for; None where there is no memory."""
        owner = self.owners.get(pfn)
        return owner.use if owner else None

    def used(self, use: Use, start: int = 0, end: int = 1 << 52) -> int:
        """How many frames of ``[start, end)`` (PFNs) have this use."""
        return sum(e - s for s, e, owner in self.owners.runs(start, end) if owner.use == use)

    def tables(self, pfns: U64) -> U64:
        """The contents of table frames, shape [n, entries]; what the walker reads."""
        return self.arena.tables(pfns)
