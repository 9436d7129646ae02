"""Page-table entries as runs: neighbours of one kind that lead to neighbouring frames.

What a stretch of entries leads to is asked again and again while memory goes: which frames to free, which a CPU may
still reach. Entries written in one go are one run, and finding that out costs one pass over them.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from memhp.hw.format import U64, Format
from memhp.spans import Span

I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class EntryRuns(NamedTuple):
    """Runs of valid entries, ascending: the place of each run's first entry, how many, the first frame, the kind."""

    at: I64
    length: I64
    pfn: U64
    leaf: Bools

    def frames(self, pages: int) -> list[Span]:
        """The frames (PFNs) behind the runs, in order, when each entry leads to `pages` of them."""
        runs = zip(self.pfn.tolist(), self.length.tolist(), strict=True)
        return [Span(first, first + count * pages) for first, count in runs]

    def by_kind(self) -> list[tuple[bool, "EntryRuns"]]:
        """The leaves among them, as True, and the pointers to tables, as False; no kind of which there is none."""
        if len(self.at) == 1:
            return [(bool(self.leaf[0]), self)]
        kinds = [(True, self.chosen(self.leaf)), (False, self.chosen(~self.leaf))]
        return [(leaves, runs) for leaves, runs in kinds if len(runs.at)]

    def chosen(self, which: Bools) -> "EntryRuns":
        """Some of the runs."""
        return EntryRuns(self.at[which], self.length[which], self.pfn[which], self.leaf[which])

    def clipped(self, start: int, end: int, pages: int) -> "EntryRuns":
        """What of the runs lies in entries ``[start, end)``, each of which leads to `pages` frames."""
        first = np.maximum(self.at, start)
        last = np.minimum(self.at + self.length, end)
        skipped = (first - self.at).astype(np.uint64) * np.uint64(pages)
        return EntryRuns(first, last - first, self.pfn + skipped, self.leaf).chosen(last > first)


def _constant(value: int | bool) -> Any:
    """An array of one number that nobody changes."""
    array = np.array([value], np.bool_ if isinstance(value, bool) else np.int64)
    array.flags.writeable = False
    return array


_FIRST, _SINGLE, _KIND = _constant(0), _constant(1), {False: _constant(False), True: _constant(True)}
NO_RUNS = EntryRuns(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.bool_))


def entry_runs(fmt: Format, entries: U64, height: int) -> EntryRuns:
    """The runs in a vector of entries of one height, shape [n]. What is neither leaf nor table is left out."""
    if not len(entries):
        return NO_RUNS
    first = int(entries[0])
    leaf = bool(fmt.is_leaf(first, height))
    if leaf or fmt.is_table(first, height):
        pages = fmt.pages_at(height) if leaf else 1
        if len(entries) == 1 or (np.diff(entries) == np.uint64(pages << fmt.pfn_pieces[0].lo)).all():
            pfn = fmt.leaf_pfn(first, height) if leaf else fmt.table_pfn(first)
            length = _SINGLE if len(entries) == 1 else np.array([len(entries)], np.int64)
            return EntryRuns(_FIRST, length, np.array([pfn], np.uint64), _KIND[leaf])
    if len(entries) == 1 or not np.any(fmt.is_valid(entries, height)):
        return NO_RUNS
    leaves = np.asarray(fmt.is_leaf(entries, height))
    tables = np.asarray(fmt.is_table(entries, height))
    pages = fmt.pages_at(height)
    pfns = np.where(leaves, fmt.leaf_pfn(entries, height), fmt.table_pfn(entries))
    step = np.where(leaves, np.uint64(pages), np.uint64(1))
    kind = leaves + 2 * tables
    joined = (pfns[1:] - pfns[:-1] == step[:-1]) & (kind[1:] == kind[:-1])
    at = np.concatenate([[0], np.flatnonzero(~joined) + 1]).astype(np.int64)
    count = np.diff(np.append(at, len(entries)))
    runs = EntryRuns(at, count, pfns[at], leaves[at])
    return runs.chosen((leaves | tables)[at])


def leaf_frames(fmt: Format, entries: U64, height: int) -> list[Span]:
    """The frames (PFNs) behind a vector of leaves of one height, shape [n], neighbours in one span."""
    pages = fmt.pages_at(height)
    if len(entries) == 1 and fmt.is_leaf(only := int(entries[0]), height):
        first = fmt.leaf_pfn(only, height)
        return [Span(first, first + pages)]
    return entry_runs(fmt, entries, height).frames(pages)


def empty_rows(fmt: Format, rows: U64, height: int) -> Bools:
    """Which tables of a height, one a row, shape [n, entries], hold nothing."""
    none = fmt.empty[height]
    full: Bools = np.any(rows != np.uint64(none) if none else rows, axis=1)
    return ~full


CHUNK = 1 << 16
"""Entries written at a time: half a mebibyte, which stays in a core's cache."""


def leaf_run(fmt: Format, out: U64, pfn: int, height: int, prot: int) -> None:
    """Write into `out`, shape [n], the leaves of one height that map the frames from `pfn` on."""
    pages = fmt.pages_at(height)
    for start in range(0, len(out), CHUNK):
        part = out[start : start + CHUNK]
        at = pfn + start * pages
        step = pages << fmt.pfn_pieces[0].lo
        first = fmt.leaf_entry(at, height, prot)
        last = fmt.leaf_entry(at + (len(part) - 1) * pages, height, prot)
        if last - first == (len(part) - 1) * step:
            np.add(_ramp(step)[: len(part)], np.uint64(first), out=part)
        else:
            pfns = np.arange(len(part), dtype=np.uint64) * np.uint64(pages) + np.uint64(at)
            part[:] = fmt.leaf_entry(pfns, height, prot)


@cache
def _ramp(step: int) -> U64:
    """``[0, step, 2 * step, …]``, CHUNK long, kept from call to call: the hot path of a bulk mapping."""
    return np.arange(CHUNK, dtype=np.uint64) * np.uint64(step)


def frame_spans(frames: U64) -> list[Span]:
    """A vector of PFNs as runs of neighbours, in the order given."""
    if not len(frames):
        return []
    cuts = np.flatnonzero(np.diff(frames) != 1) + 1
    starts = [0, *cuts.tolist()]
    ends = [*cuts.tolist(), len(frames)]
    return [Span(int(frames[a]), int(frames[b - 1]) + 1) for a, b in zip(starts, ends, strict=True)]
