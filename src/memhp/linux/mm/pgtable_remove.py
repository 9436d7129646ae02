"""Taking kernel page tables down: the descent that riscv, arm64 and x86 share, with their differences as data.

``remove_pgd_mapping()`` of arch/riscv/mm/init.c and ``remove_pagetable()`` of arch/x86/mm/init_64.c unmap and free in
one descent; arch/arm64/mm/mmu.c unmaps in one (``unmap_hotplug_range()``) and frees emptied tables in a second
(``free_empty_tables()``). What matters for safety is the order of clearing an entry, flushing it and freeing what it
led to: a :class:`Remover` says which.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np

from memhp.hw.format import U64
from memhp.hw.machine import Machine, frame_spans
from memhp.hw.tlb import ALL_ADDRESSES, Flush, Table
from memhp.spans import Span

FreeFrames = Callable[[list[Span]], None]
ALL = Span(0, 1 << 64)


@dataclass(frozen=True)
class Remover:
    """How one architecture, in one kernel, unmaps a range and frees tables.

    `free_storage` gets the frames that removed leaves mapped (vmemmap; None for the direct map, whose frames are
    somebody else's), `free_table` the frames of emptied tables.
    """

    free_table: FreeFrames
    free_storage: FreeFrames | None = None
    storage: Literal["clear-then-free", "free-then-clear"] = "clear-then-free"
    leaf_flush: Flush | None = None
    """A flush for every leaf right after it is cleared."""
    table: Literal["free-then-clear", "clear-flush-free", "kept"] = "free-then-clear"
    """How an emptied table goes; `kept` when this descent frees none."""
    table_flush: Flush | None = None
    after_leaf_table: Flush | None = None
    """A flush of everything after each table of base-page leaves (x86 ``remove_pte_table``)."""
    keep_root_children: bool = True
    """Whether the tables that root entries point to stay for good (riscv, x86)."""
    part_leaf: Callable[[Table, int, Span], bool] | None = None
    """Asked when the range covers a leaf in part, with the part (bytes): whether the whole leaf may go."""
    lock: str = ""
    """The lock taken around each store, if any."""
    where: str = ""
    """``file:function`` for reports."""


def unmap(hw: Machine, root: Table, va: int, end: int, how: Remover) -> None:
    """Remove every leaf of ``[va, end)`` (bytes) under `root`, and the tables that this empties, as `how` says."""
    _unmap(hw, root, va, end, how, root.height)


def _unmap(hw: Machine, table: Table, va: int, end: int, how: Remover, top: int) -> None:
    height, level = table.height, hw.fmt.levels[table.height]
    first = (va - table.va) >> level.shift
    last = (end - table.va + level.size - 1) >> level.shift
    entries = hw.load_run(table, first, last - first)
    for lo, hi, kind in _kinds(hw, entries, height):
        at = first + lo
        while at < first + hi:
            start = table.va + at * level.size
            part = Span(max(va, start), min(end, start + level.size))
            if kind == "empty":
                break
            if part.size < level.size:
                count = 1
                if kind == "table":
                    _child(hw, table, at, int(entries[at - first]), part, how, top)
                elif how.part_leaf is None or how.part_leaf(table, at, part):
                    _leaves(hw, table, at, entries[at - first : at - first + 1], how)
            else:
                whole = (min(end, table.va + (first + hi) * level.size) - start) >> level.shift
                count = whole
                if kind == "table":
                    _children(hw, table, at, entries[at - first : at - first + whole], how, top)
                else:
                    _leaves(hw, table, at, entries[at - first : at - first + whole], how)
            at += count
    if height == 0 and how.after_leaf_table is not None:
        hw.flush(how.after_leaf_table, ALL_ADDRESSES)


def _kinds(hw: Machine, entries: U64, height: int) -> list[tuple[int, int, str]]:
    """Runs of entries of one kind: ``empty``, ``leaf`` or ``table``, as (start, end, kind)."""
    valid = (entries & np.uint64(hw.fmt.valid)) != 0
    kind = np.where(valid, np.where(np.asarray(hw.fmt.is_leaf(entries, height)), 1, 2), 0)
    cuts = [0, *(np.flatnonzero(np.diff(kind)) + 1).tolist(), len(kind)]
    return [(a, b, ("empty", "leaf", "table")[kind[a]]) for a, b in itertools.pairwise(cuts) if b > a]


def _leaves(hw: Machine, table: Table, index: int, entries: U64, how: Remover) -> None:
    """Clear a run of leaves and free what they mapped, in the kernel's order."""
    for at, n in hw.batches(index, index + len(entries)):
        run = entries[at - index : at - index + n]
        frames = leaf_frames(hw, run, table.height) if how.free_storage else []
        if how.free_storage and how.storage == "free-then-clear":
            how.free_storage(frames)
        with _lock(hw, how):
            hw.clear_run(table, at, n, how.where, how.leaf_flush)
        if how.free_storage and how.storage == "clear-then-free":
            how.free_storage(frames)


def leaf_frames(hw: Machine, leaves: U64, height: int) -> list[Span]:
    """The frames that a vector of leaves maps, as runs in order."""
    pages = hw.fmt.pages_at(height)
    pfns = hw.fmt.leaf_pfn(leaves, height)
    if pages == 1:
        return frame_spans(pfns)
    units = frame_spans(pfns // np.uint64(pages))
    return [Span(unit.start * pages, unit.end * pages) for unit in units]


def _child(hw: Machine, table: Table, index: int, entry: int, part: Span, how: Remover, top: int) -> None:
    """Unmap part of what one child table maps; free it if nothing is left in it."""
    child = hw.child(table, index, hw.fmt.table_pfn(entry))
    _unmap(hw, child, part.start, part.end, how, top)
    if how.table != "kept" and not (how.keep_root_children and table.height == top):
        entries = hw.fmt.levels[child.height].entries
        if not hw.load_run(child, 0, entries).any():
            _free_tables(hw, table, index, np.array([child.frame], dtype=np.uint64), how)


def _children(hw: Machine, table: Table, index: int, entries: U64, how: Remover, top: int) -> None:
    """Unmap all that a run of child tables maps: many at once when they hold nothing but leaves."""
    size = hw.fmt.levels[table.height].size
    height = table.height - 1
    for at, n in hw.batches(index, index + len(entries)):
        run = entries[at - index : at - index + n]
        frames = hw.fmt.table_pfn(run)
        if n == 1 or height > 1:
            content = None
        else:
            content = hw.load_children(table, at, frames)
            if np.any(hw.fmt.is_table(content, height)):
                content = None
        if content is None:
            for i in range(n):
                start = table.va + (at + i) * size
                _child(hw, table, at + i, int(run[i]), Span(start, start + size), how, top)
            continue
        if how.free_storage:
            present = content[(content & np.uint64(hw.fmt.valid)) != 0]
            if how.storage == "free-then-clear":
                how.free_storage(leaf_frames(hw, present, height))
        hw.clear_children(table, at, frames, how.where, how.leaf_flush)
        if how.free_storage and how.storage == "clear-then-free":
            how.free_storage(leaf_frames(hw, present, height))
        if height == 0 and how.after_leaf_table is not None:
            hw.flush(how.after_leaf_table, ALL_ADDRESSES, times=n)
        if how.table != "kept" and not (how.keep_root_children and table.height == top):
            _free_tables(hw, table, at, frames, how)


def _free_tables(hw: Machine, parent: Table, index: int, frames: U64, how: Remover) -> None:
    """Unlink and free emptied child tables, `parent`'s entries from `index` on, in the kernel's order."""
    spans = frame_spans(frames)
    hw.ledger.tables_freed[parent.height - 1] += len(frames)
    if how.table == "free-then-clear":
        how.free_table(spans)
    with _lock(hw, how):
        hw.clear_run(parent, index, len(frames), how.where)
    if how.table == "clear-flush-free":
        if how.table_flush is not None:
            size = hw.fmt.levels[parent.height].size
            start = parent.va + index * size
            hw.flush(how.table_flush, Span(start, start + len(frames) * size), times=len(frames))
        how.free_table(spans)


def free_empty_tables(hw: Machine, root: Table, va: int, end: int, limits: Span, how: Remover) -> None:
    """The second descent of arm64: free tables under ``[va, end)`` that are empty and map nothing outside `limits`.

    arch/arm64/mm/mmu.c:free_empty_tables with its floor and ceiling.
    """
    height, level = root.height, hw.fmt.levels[root.height]
    if height == 0:
        return
    first = (va - root.va) >> level.shift
    last = (end - root.va + level.size - 1) >> level.shift
    entries = hw.load_run(root, first, last - first)
    tables = np.asarray(hw.fmt.is_table(entries, height))
    for i in np.flatnonzero(tables).tolist() if height > 1 else ():
        child = hw.child(root, first + i, hw.fmt.table_pfn(int(entries[i])))
        free_empty_tables(hw, child, max(va, child.va), min(end, child.va + level.size), limits, how)
    lo = max(first, -(-(limits.start - root.va) // level.size))
    hi = min(last, (limits.end - root.va) >> level.shift)
    chosen = np.flatnonzero(tables[lo - first : max(lo, hi) - first]) + lo
    for span in frame_spans(chosen.astype(np.uint64)):
        for at, n in hw.batches(*span):
            frames = hw.fmt.table_pfn(entries[at - first : at - first + n])
            empty = ~hw.load_children(root, at, frames).any(axis=1)
            for run in frame_spans((np.flatnonzero(empty) + at).astype(np.uint64)):
                _free_tables(hw, root, run.start, frames[run.start - at : run.end - at], how)


def _lock(hw: Machine, how: Remover) -> AbstractContextManager[None]:
    return hw.locked(how.lock) if how.lock else nullcontext()
