"""Merged ranges of a tree: neighbouring entries of one height that say the same, as one range.

The cost is a handful of array operations an entry, whatever the entries say; everything that must look at an entry
more closely (is it a leaf, what does it map, what are its attributes) looks at the first of each run.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from memhp.hw.format import U64, Format
from memhp.hw.reader import TableReader
from memhp.hw.walker import ALL, Bools, Heights, Missing, Slab, leaves_of, missing_of, slabs

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Ranges:
    """Disjoint ranges of addresses, ascending, and what was read to find them.

    `va`, `size` and `pa` are bytes; `bits` are the entry bits that were asked for, `entry` is the range's first entry
    as it stands in memory, `rights` the format's rights with all levels combined, the entry's included (0 for an entry
    that is zero). Where `mapped` is False the entries are invalid or reserved and `pa` is 0. `entries` and `tables`
    count what was scanned.
    """

    fmt: Format
    va: U64
    size: U64
    pa: U64
    height: Heights
    bits: U64
    entry: U64
    rights: U64
    mapped: Bools
    missing: Missing
    entries: int
    tables: int

    def __len__(self) -> int:
        return self.va.size

    @property
    def leaves(self) -> int:
        """How many leaves the mapped ranges hold."""
        shifts = np.array([level.shift for level in self.fmt.levels], dtype=np.uint64)
        return int((self.size >> shifts[self.height])[self.mapped].sum())


class _Runs(NamedTuple):
    """Runs of entries in one slab, or many concatenated."""

    va: U64
    size: U64
    pa: U64
    height: Heights
    bits: U64
    entry: U64
    rights: U64
    mapped: Bools


def ranges(
    reader: TableReader,
    fmt: Format,
    root_pfn: int,
    *,
    va_start: int = 0,
    va_end: int = ALL,
    root_index: int = 0,
    bits: Sequence[int] | None = None,
    contiguous: bool = True,
    holes: bool = False,
    effective: bool = False,
    see: Callable[[Slab], None] = lambda _: None,
) -> Ranges:
    """Consecutive entries of equal height and equal `bits`, merged, for all that maps some of ``[va_start, va_end)``.

    `bits` by height says which entry bits tell ranges apart; by default all attribute bits. With `contiguous` the
    physical addresses must follow on as well; without, only the addresses, as in the kernel's ptdump. With `holes`,
    entries that are neither leaf nor table make ranges too. With `effective`, the rights that the levels above leave
    tell ranges apart as well. `see` is shown every slab on the way, for what else is wanted of the same walk.
    """
    masks = tuple(bits) if bits is not None else tuple(fmt.attribute_mask(h) for h in range(len(fmt.levels)))
    found: list[_Runs] = []
    lacking: list[Slab] = []
    entries = count = 0
    root_seen = False
    for slab in slabs(reader, fmt, root_pfn, va_start=va_start, va_end=va_end, root_index=root_index):
        see(slab)
        entries += slab.entries.size
        if slab.height < fmt.root_height or not root_seen:
            count += int(slab.present.sum())
        root_seen = True
        if not slab.present.all():
            lacking.append(slab)
        found.append(_runs_of(fmt, slab, masks[slab.height], contiguous, holes))
    runs = _merge(_concatenate(found), contiguous, effective)
    return Ranges(fmt, *runs, missing_of(lacking), entries, count)


def coarser(found: Ranges, bits: Sequence[int]) -> Ranges:
    """What :func:`ranges` finds that goes by fewer `bits` and passes over what maps nothing, out of what it found."""
    rows = found.mapped
    mask = np.array(bits, dtype=np.uint64)[found.height[rows]]
    runs = _Runs(*(getattr(found, name)[rows] for name in _Runs._fields))
    merged = _merge(runs._replace(bits=runs.bits & mask), contiguous=True, effective=False)
    return Ranges(found.fmt, *merged, found.missing, found.entries, found.tables)


def _runs_of(fmt: Format, slab: Slab, mask: int, contiguous: bool, holes: bool) -> _Runs:
    """The runs of one slab. Finer than asked for where an entry's structure differs: merging comes later."""
    height = slab.height
    words, live = _comparable(fmt, slab, mask, contiguous, holes)
    kind = np.asarray(fmt.is_leaf(slab.entries, height)) if holes else live
    step = 0
    if contiguous:
        step = fmt.pages_at(height) << fmt.pfn_pieces[0].lo
    starts, ends = _edges(words, live, kind, step)
    if contiguous:
        starts, ends = _split_wraps(fmt, words.ravel(), starts, ends, step)
    row, column = np.divmod(starts, slab.entries.shape[1])
    first = slab.entries[row, column]
    mapped = np.asarray(fmt.is_leaf(first, height))
    if not holes and not mapped.all():
        row, column, first, starts, ends = (x[mapped] for x in (row, column, first, starts, ends))
        mapped = mapped[mapped]
    size = np.uint64(fmt.levels[height].size)
    va = slab.va[row] + column.astype(np.uint64) * size
    above = slab.rights[row]
    rights = (above & first & np.uint64(fmt.rights_and)) | ((above | first) & np.uint64(fmt.rights_or))
    return _Runs(
        va=va,
        size=(ends - starts).astype(np.uint64) * size,
        pa=np.where(mapped, fmt.leaf_pa(first, height, va), np.uint64(0)),
        height=np.full(va.size, height, dtype=np.uint8),
        bits=first & np.uint64(mask),
        entry=first,
        rights=np.where(first != 0, rights, np.uint64(0)),
        mapped=mapped,
    )


def _comparable(fmt: Format, slab: Slab, mask: int, contiguous: bool, holes: bool) -> tuple[U64, Bools]:
    """The slab's entries reduced to what tells runs apart, and which of them belong to a run at all."""
    height, entries = slab.height, slab.entries
    keep = np.uint64(mask | fmt.structure[height] | (fmt.pfn_mask if contiguous else 0))
    words: U64 = entries & keep if int(keep) != ALL - 1 else entries
    if holes:
        live = ~np.asarray(fmt.is_table(entries, height)) if height else np.ones(entries.shape, dtype=np.bool_)
        live &= slab.present[:, None]
    elif height:
        live = leaves_of(fmt, slab)
    else:
        live = np.asarray(fmt.is_marked(words, height))
        if fmt.napot_mask:
            # The frame number, by which the entries of a run differ, decides whether such a leaf is one.
            several = live & ((entries & np.uint64(fmt.napot_mask)) != 0)
            live[several] = fmt.is_leaf(entries[several], height)
    return words, live


def _edges(words: U64, live: Bools, kind: Bools, step: int) -> tuple[Indices, Indices]:
    """Flat indices where runs start and end. Entries of a run are equal, or leaves that are `step` apart if that is
    given.

    They are of one kind as well: a leaf with a reserved bit set maps nothing, though all else in it is as beside it.
    """
    rows, columns = words.shape
    edge = np.ones((rows, columns + 1), dtype=np.bool_)
    inner = edge[:, 1:-1]
    apart: U64 | np.uint64 = np.uint64(step)
    if step and kind is not live:
        apart = np.where(kind[:, 1:], apart, np.uint64(0))
    np.not_equal(words[:, 1:] - words[:, :-1], apart, out=inner)
    inner |= live[:, 1:] != live[:, :-1]
    if kind is not live:
        inner |= kind[:, 1:] != kind[:, :-1]
    return np.flatnonzero(edge[:, :-1] & live), np.flatnonzero(edge[:, 1:] & live) + 1


def _split_wraps(fmt: Format, words: U64, starts: Indices, ends: Indices, step: int) -> tuple[Indices, Indices]:
    """Cut runs at the place where counting up overflowed the frame number into other bits of the entry."""
    piece = fmt.pfn_pieces[0]
    field = np.uint64(((1 << piece.width) - 1) << piece.lo)
    wrapped = np.flatnonzero((words[ends - 1] & field) < (words[starts] & field))
    if not wrapped.size:
        return starts, ends
    left = (np.uint64(1 << (piece.lo + piece.width)) - (words[starts[wrapped]] & field)) // np.uint64(step)
    cut = starts[wrapped] + left.astype(starts.dtype)
    return np.sort(np.concatenate([starts, cut])), np.sort(np.concatenate([ends, cut]))


def _concatenate(found: list[_Runs]) -> _Runs:
    """All runs, ascending by address. Each height's come in order, so the sort merges a few sorted lists."""
    none = np.zeros(0, dtype=np.uint64)
    low = none.astype(np.uint8)
    parts = found or [_Runs(none, none, none, low, none, none, none, none.astype(np.bool_))]
    joined = [np.concatenate([part[i] for part in parts]) for i in range(len(_Runs._fields))]
    order = np.argsort(joined[0], kind="stable")
    return _Runs(*(column[order] for column in joined))


def _merge(runs: _Runs, contiguous: bool, effective: bool) -> _Runs:
    """Join runs that turn out to continue one another across tables and slabs."""
    if not runs.va.size:
        return runs
    same = runs.va[:-1] + runs.size[:-1] == runs.va[1:]
    for column in (runs.height, runs.bits, runs.mapped, *((runs.rights,) if effective else ())):
        same &= column[:-1] == column[1:]
    if contiguous:
        same &= ~runs.mapped[1:] | (runs.pa[:-1] + runs.size[:-1] == runs.pa[1:])
    heads = np.concatenate([[0], np.flatnonzero(~same) + 1])
    sizes: U64 = np.add.reduceat(runs.size, heads)
    return _Runs(*(column[heads] for column in runs))._replace(size=sizes)
