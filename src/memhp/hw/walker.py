"""The one page-table walker: one address, many addresses, or every table and leaf below a root.

It knows no architecture; the :class:`~memhp.hw.format.Format` says what an entry means. Whole trees are read level by
level from the root, in slabs of whole tables, so that each step is a few operations on an array and memory stays small
however many entries there are. All addresses and sizes are bytes, all frames are PFNs.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from memhp.errors import BadInput
from memhp.hw.format import U64, Format
from memhp.hw.reader import TableReader, read_tables
from memhp.hw.runs import empty_rows

ALL = 1 << 64
"""One past the last address."""

SLAB_ENTRIES = 1 << 15
"""Entries handled at a time: a quarter of a mebibyte, so that the working arrays stay in the processor's cache."""

MAX_TABLES = 1 << 24
"""More tables than this at one height is not a kernel's address space but tables that point at one another."""

Bools = npt.NDArray[np.bool_]
Heights = npt.NDArray[np.uint8]


class End(IntEnum):
    """How a walk ended."""

    MAPPED = 0
    HOLE = 1
    """The entry's valid bit is clear, whatever else stands in it."""
    RESERVED = 2
    """The entry's valid bit is set, but the hardware faults on the entry."""
    MISSING = 3
    """The reader does not have the table."""
    NON_CANONICAL = 4
    """This tree does not translate the address at all."""


@dataclass(frozen=True)
class Step:
    """One access of a walk: entry `index` of the table in `frame`, counted from the table's own first entry."""

    height: int
    frame: int
    index: int
    entry: int


@dataclass(frozen=True)
class Walk:
    """What the hardware does to translate one address.

    `pa` is the physical address when `end` is MAPPED, else None. `span` is then the size in bytes of the naturally
    aligned block around it that one TLB entry may serve: the leaf, or the run that Svnapot or the contiguous hint
    makes. `rights` are the format's ``rights_and`` and ``rights_or`` bits after all levels have been combined.
    `missing` is the frame that the reader lacks, when `end` is MISSING.
    """

    va: int
    end: End
    steps: tuple[Step, ...]
    pa: int | None = None
    span: int = 0
    rights: int = 0
    missing: int | None = None

    @property
    def leaf(self) -> Step:
        """The last step; for a mapped address the one that found the leaf."""
        return self.steps[-1]


class Translations(NamedTuple):
    """Many walks, an element an address: where `mapped`, `pa` is the physical address and `height` the leaf's height.

    Elsewhere `pa` is 0, `end` says what was found (:class:`End`) and `height` how far down.
    """

    pa: U64
    mapped: Bools
    end: Heights
    height: Heights


@dataclass(frozen=True)
class Slab:
    """Part of one level: `n` tables of a height, ascending by address; columns from entry `first` of each table on.

    `va` is the address of each table's first column, `rights` what the entries above leave of the format's rights.
    Where `present` is False the reader lacks the table and its row is zero.
    """

    height: int
    frames: U64
    va: U64
    entries: U64
    first: int
    rights: U64
    present: Bools


class Missing(NamedTuple):
    """Tables that an entry points to but the reader lacks: frame, height, first address translated."""

    frame: U64
    height: Heights
    va: U64


class Tables(NamedTuple):
    """Tables below a root, level by level from the root down, ascending by address within a level.

    `empty` says that no entry leads anywhere or is in any use; where `present` is False the reader lacks the table.
    """

    frame: U64
    height: Heights
    va: U64
    empty: Bools
    present: Bools


class Leaves(NamedTuple):
    """Every leaf, ascending by address: its entry as it stands in memory and the physical address of its first byte."""

    va: U64
    pa: U64
    height: Heights
    entry: U64
    missing: Missing


def walk(reader: TableReader, fmt: Format, root_pfn: int, va: int, *, root_index: int = 0) -> Walk:
    """Translate one address and show every access on the way.

    `root_index` is the root table's first entry within its frame (arm64 with 64K pages and a 52-bit kernel on a 48-bit
    CPU starts at entry 960: TTBR1_BADDR_4852_OFFSET).
    """
    if not fmt.is_canonical(va):
        return Walk(va, End.NON_CANONICAL, ())
    steps: list[Step] = []
    rights = fmt.rights_and
    frame = root_pfn
    for height in range(fmt.root_height, -1, -1):
        rows, present = read_tables(reader, fmt, height, np.array([frame], dtype=np.uint64))
        if not present[0]:
            return Walk(va, End.MISSING, tuple(steps), missing=frame)
        index = fmt.index(va, height)
        entry = int(rows[0, index + (root_index if height == fmt.root_height else 0)])
        steps.append(Step(height, frame, index, entry))
        rights = (rights & entry & fmt.rights_and) | ((rights | entry) & fmt.rights_or)
        if fmt.is_leaf(entry, height):
            pa = fmt.leaf_pa(entry, height, va)
            return Walk(va, End.MAPPED, tuple(steps), pa, fmt.leaf_span(entry, height), rights)
        if not fmt.is_table(entry, height):
            break
        frame = fmt.table_pfn(entry)
    return Walk(va, End.RESERVED if fmt.is_valid(entry, height) else End.HOLE, tuple(steps))


def translate(reader: TableReader, fmt: Format, root_pfn: int, vas: U64, *, root_index: int = 0) -> Translations:
    """Translate many addresses, in any order; each table that they share is read once a level."""
    end = np.full(vas.size, End.HOLE, dtype=np.uint8)
    heights = np.full(vas.size, fmt.root_height, dtype=np.uint8)
    pa = np.zeros(vas.size, dtype=np.uint64)
    end[~np.asarray(fmt.is_canonical(vas))] = End.NON_CANONICAL
    alive = np.flatnonzero(end == End.HOLE)
    frames = np.full(alive.size, root_pfn, dtype=np.uint64)
    for height in range(fmt.root_height, -1, -1):
        level = fmt.levels[height]
        heights[alive] = height
        index = (vas[alive] >> np.uint64(level.shift)) & np.uint64(level.entries - 1)
        if height == fmt.root_height:
            index += np.uint64(root_index)
        entries, present = _gather(reader, fmt, height, frames, index)
        leaf = np.asarray(fmt.is_leaf(entries, height))
        table = np.asarray(fmt.is_table(entries, height))
        end[alive[np.asarray(fmt.is_reserved(entries, height))]] = End.RESERVED
        end[alive[~present]] = End.MISSING
        end[alive[leaf]] = End.MAPPED
        pa[alive[leaf]] = fmt.leaf_pa(entries[leaf], height, vas[alive[leaf]])
        frames = fmt.table_pfn(entries[table])
        alive = alive[table]
    return Translations(pa, end == End.MAPPED, end, heights)


def _gather(reader: TableReader, fmt: Format, height: int, frames: U64, index: U64) -> tuple[U64, Bools]:
    """Entry ``index[i]`` of the table of a height in ``frames[i]``, and whether the reader has that table."""
    width = fmt.frame_entries * fmt.frames_at(height)
    unique, inverse = np.unique(frames, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    entries = np.zeros(frames.size, dtype=np.uint64)
    present = np.zeros(frames.size, dtype=np.bool_)
    count = max(1, SLAB_ENTRIES // width)
    for start in range(0, unique.size, count):
        rows, have = read_tables(reader, fmt, height, unique[start : start + count])
        lo, hi = np.searchsorted(inverse[order], (start, start + count))
        those = order[lo:hi]
        entries[those] = rows[inverse[those] - start, index[those]]
        present[those] = have[inverse[those] - start]
    return entries, present


def slabs(
    reader: TableReader,
    fmt: Format,
    root_pfn: int,
    *,
    va_start: int = 0,
    va_end: int = ALL,
    root_index: int = 0,
    clip: bool = True,
) -> Iterator[Slab]:
    """Every table below the root that translates some of ``[va_start, va_end)``, level by level from the root down.

    With `clip`, entries that lie wholly outside are left out. The two halves of a root that serves both halves of the
    address space come as two slabs. Raises BadInput when the tables are too many to be an address space.
    """
    last = min(va_end, ALL) - 1
    if va_start > last:
        return
    frames = np.array([root_pfn], dtype=np.uint64)
    va = np.zeros(1, dtype=np.uint64)
    rights = np.full(1, fmt.rights_and, dtype=np.uint64)
    for height in range(fmt.root_height, -1, -1):
        below: list[tuple[U64, U64, U64]] = []
        count = 0
        for rows, first, end in _cuts(fmt, height, va, va_start, last, clip):
            for slab in _read(reader, fmt, height, frames[rows], va[rows], rights[rows], (first, end, root_index)):
                if height:
                    below.append(_children(fmt, slab, va_start, last))
                    count += below[-1][0].size
                    if count > MAX_TABLES:
                        raise BadInput(f"the page tables refer to more than {MAX_TABLES} tables of one height")
                yield slab
        if not below:
            return
        frames, va, rights = (np.concatenate([part[i] for part in below]) for i in range(3))


def _cuts(fmt: Format, height: int, va: U64, start: int, last: int, clip: bool) -> Iterator[tuple[slice, int, int]]:
    """Which columns of which tables to read: (tables, first column, end column), ascending by address."""
    level = fmt.levels[height]
    halves = [(0, level.entries)]
    if height == fmt.root_height:
        if fmt.sign_extended:
            halves = [(0, level.entries // 2), (level.entries // 2, level.entries)]
        for lo, hi in halves:
            base = fmt.canonical(lo << level.shift)
            end = base + ((hi - lo) << level.shift) - 1
            if base <= last and end >= start:
                first = lo + (max(start - base, 0) >> level.shift) if clip else lo
                yield slice(0, 1), first, lo + (min(last - base, end - base) >> level.shift) + 1 if clip else hi
        return
    if not va.size:
        return
    lo = max(start - int(va[0]), 0) >> level.shift if clip else 0
    hi = min((last - int(va[-1]) >> level.shift) + 1, level.entries) if clip else level.entries
    if va.size == 1:
        yield slice(0, 1), lo, hi
        return
    whole = slice(1 if lo else 0, va.size - (hi < level.entries))
    if lo:
        yield slice(0, 1), lo, level.entries
    if whole.start < whole.stop:
        yield whole, 0, level.entries
    if hi < level.entries:
        yield slice(va.size - 1, va.size), 0, hi


def _read(
    reader: TableReader, fmt: Format, height: int, frames: U64, va: U64, rights: U64, columns: tuple[int, int, int]
) -> Iterator[Slab]:
    """The slabs of these tables; columns are (first, end, the root's place in its frame)."""
    first, end, shift = columns
    width = fmt.frame_entries * fmt.frames_at(height)
    at = shift if height == fmt.root_height else 0
    base = np.uint64(first << fmt.levels[height].shift)
    if height == fmt.root_height:
        va, base = np.array([fmt.canonical(first << fmt.levels[height].shift)], dtype=np.uint64), np.uint64(0)
    count = max(1, SLAB_ENTRIES // width)
    for i in range(0, frames.size, count):
        rows, present = read_tables(reader, fmt, height, frames[i : i + count])
        part = slice(i, i + count)
        entries = rows[:, at + first : at + end]
        yield Slab(height, frames[part], va[part] + base, entries, first, rights[part], present)


def _children(fmt: Format, slab: Slab, start: int, last: int) -> tuple[U64, U64, U64]:
    """Frame, first address and rights of every table that a slab points to and that translates some of the range."""
    rows, columns = np.nonzero(_in_use(fmt, slab))
    there = np.asarray(fmt.is_table(slab.entries[rows, columns], slab.height))
    rows, columns = rows[there], columns[there]
    size = fmt.levels[slab.height].size
    va = slab.va[rows] + columns.astype(np.uint64) * np.uint64(size)
    inside = (va <= np.uint64(last)) & (va + np.uint64(size - 1) >= np.uint64(start))
    entries = slab.entries[rows, columns]
    above = slab.rights[rows]
    rights = (above & entries & np.uint64(fmt.rights_and)) | ((above | entries) & np.uint64(fmt.rights_or))
    return fmt.table_pfn(entries[inside]), va[inside], rights[inside]


def _in_use(fmt: Format, slab: Slab) -> Bools:
    """Entries that may lead anywhere; of most tables that is a small part, and only that is looked at closely."""
    if fmt.pointer_mask:
        return np.asarray(slab.entries != np.uint64(fmt.empty[slab.height]))
    return np.asarray(fmt.is_marked(slab.entries, slab.height))


def leaves_of(fmt: Format, slab: Slab) -> Bools:
    """Which entries of a slab are leaves."""
    found = np.asarray(fmt.is_marked(slab.entries, slab.height))
    found[found] = fmt.is_leaf(slab.entries[found], slab.height)
    return found


def missing_of(found: list[Slab]) -> Missing:
    """The tables that the reader lacked, out of the slabs that have any."""
    return Missing(
        np.concatenate([np.zeros(0, dtype=np.uint64), *(slab.frames[~slab.present] for slab in found)]),
        np.concatenate([np.zeros(0, dtype=np.uint8), *(_heights(slab)[~slab.present] for slab in found)]),
        np.concatenate([np.zeros(0, dtype=np.uint64), *(slab.va[~slab.present] for slab in found)]),
    )


def _heights(slab: Slab) -> Heights:
    return np.full(slab.frames.size, slab.height, dtype=np.uint8)


class TableList:
    """The tables of the slabs of one walk."""

    def __init__(self, fmt: Format) -> None:
        self._fmt = fmt
        self._parts: list[Tables] = []

    def add(self, slab: Slab) -> None:
        """Note the tables of the next slab. The halves of a root that serves both are one table."""
        empty = empty_rows(self._fmt, slab.entries, slab.height) & slab.present
        if slab.height == self._fmt.root_height and self._parts:
            self._parts[0].empty[:] &= empty
        else:
            self._parts.append(Tables(slab.frames, _heights(slab), slab.va, empty, slab.present))

    def tables(self) -> Tables:
        """What was noted."""
        none = np.zeros(0, dtype=np.uint64)
        nothing = Tables(none, none.astype(np.uint8), none, none.astype(np.bool_), none.astype(np.bool_))
        return Tables(*(np.concatenate(columns) for columns in zip(nothing, *self._parts, strict=True)))


def tables(
    reader: TableReader, fmt: Format, root_pfn: int, *, va_start: int = 0, va_end: int = ALL, root_index: int = 0
) -> Tables:
    """Every table that translates some of ``[va_start, va_end)``, the root first."""
    found = TableList(fmt)
    for slab in slabs(reader, fmt, root_pfn, va_start=va_start, va_end=va_end, root_index=root_index, clip=False):
        found.add(slab)
    return found.tables()


def leaves(
    reader: TableReader, fmt: Format, root_pfn: int, *, va_start: int = 0, va_end: int = ALL, root_index: int = 0
) -> Leaves:
    """Every leaf that maps some of ``[va_start, va_end)``, 25 bytes each: for millions ask window by window, or for
    :func:`memhp.hw.ranges.ranges`.
    """
    none = np.zeros(0, dtype=np.uint64)
    parts: list[tuple[U64, U64, Heights, U64]] = [(none, none, none.astype(np.uint8), none)]
    lacking: list[Slab] = []
    for slab in slabs(reader, fmt, root_pfn, va_start=va_start, va_end=va_end, root_index=root_index):
        if not slab.present.all():
            lacking.append(slab)
        rows, columns = np.nonzero(leaves_of(fmt, slab))
        va = slab.va[rows] + columns.astype(np.uint64) * np.uint64(fmt.levels[slab.height].size)
        entries = slab.entries[rows, columns]
        height = np.full(va.size, slab.height, dtype=np.uint8)
        parts.append((va, fmt.leaf_pa(entries, slab.height, va), height, entries))
    va, pa, entries = (np.concatenate([part[i] for part in parts]) for i in (0, 1, 3))
    height = np.concatenate([part[2] for part in parts])
    order = np.argsort(va, kind="stable")
    return Leaves(va[order], pa[order], height[order], entries[order], missing_of(lacking))
