"""Taking kernel page tables down: the descent that riscv, arm64 and x86 share, with their differences as data.

``remove_pgd_mapping()`` of arch/riscv/mm/init.c and ``remove_pagetable()`` of arch/x86/mm/init_64.c unmap and free in
one descent; arch/arm64/mm/mmu.c unmaps in one (``unmap_hotplug_range()``) and frees emptied tables in a second
(``free_empty_tables()``). What matters for safety is the order of clearing an entry, flushing it and freeing what it
led to: a :class:`Remover` says which.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from memhp.hw.format import U64
from memhp.hw.machine import ALL_BITS, Machine
from memhp.hw.runs import Bools, empty_rows, entry_runs, frame_spans, leaf_frames
from memhp.hw.tlb import FlushPlan, Table
from memhp.linux.mm.pgtable_populate import RootLock, entry_lock
from memhp.linux.place import UNNAMED, Descent, kernel_function, part_of_descent
from memhp.spans import Span

FreeFrames = Callable[[list[Span], int], None]
"""``(frames, height)``: what leaves of a height mapped, or tables of a height, go back to where they came from."""
PartLeaf = Callable[[Table, int, Span], bool]
"""``(table, index, part)``: whether a leaf may go of which only `part` (bytes) is to go."""


@dataclass(frozen=True)
class Remover:
    """How one architecture, in one kernel, unmaps a range and frees tables.

    `free_storage` gets the frames that removed leaves mapped (vmemmap; None for the direct map, whose frames are
    somebody else's), `free_table` the frames of emptied tables.
    """

    free_table: FreeFrames
    free_storage: FreeFrames | None = None
    storage: Literal["clear-then-free", "free-then-clear"] = "clear-then-free"
    leaf_flush: tuple[FlushPlan, ...] = ()
    """By height: a flush for every leaf right after it is cleared, from its address on; empty for none."""
    table: Literal["free-then-clear", "clear-flush-free", "kept"] = "free-then-clear"
    """How an emptied table goes; `kept` when this descent frees none."""
    table_flush: FlushPlan | None = None
    after_leaf_table: Callable[[int], FlushPlan] | None = None
    """The flush, by the bytes of the range, after the base-page leaves of one table, whether there were any or not
    (x86 ``remove_pte_table``, arm64 V5)."""
    keep_root_children: bool = True
    """Whether the tables that root entries point to stay for good (riscv, x86)."""
    present: tuple[int, ...] = ()
    """By height: the bits of which an entry must have one to go: ``pte_present()`` and its kin (riscv, x86). Others
    stay, and the table with them. Without them, all goes that is not ``pte_none()`` (arm64)."""
    expected: int = 0
    """Bits of which an entry that goes is expected to have one: ``pte_present()`` (arm64)."""
    unexpected: Callable[[str], None] | None = None
    """Told the place (``file:function``) for every entry that goes and has none of them; None: nothing is expected."""
    part_leaf: PartLeaf | None = None
    """Asked when the range covers a leaf in part, with the part (bytes): whether the whole leaf may go. Without it,
    it goes unasked."""
    lock: str = ""
    """The lock taken around each store, if any."""
    root: RootLock | None = None
    names: Descent = UNNAMED
    """What its functions are called, for traces."""
    where: str = ""
    """``file:function`` for reports."""

    def goes(self, height: int) -> int:
        """Bits of an entry of which any makes it go."""
        return self.present[height] if self.present else ALL_BITS


def unmap(hw: Machine, root: Table, va: int, end: int, how: Remover) -> None:
    """Remove every leaf of ``[va, end)`` (bytes) under `root`, and the tables that this empties, as `how` says."""
    _unmap(hw, how, root, va, end, root.height)


def gathered(hw: Machine, how: Remover, *, storage_late: bool, tables_late: bool) -> tuple[Remover, Callable[[], None]]:
    """A removal as `how` says, and the call to be made behind the flush that ends it.

    What is to be freed late is kept until that call, for kernels that free only after a flush but make none for each
    leaf: ``struct mmu_gather`` does so for user mappings. Where steps are looked at, the frames of each leaf are a call
    of their own, however many leaves were cleared in one go.
    """
    late: list[Callable[[], None]] = []
    storage, table = how.free_storage, how.free_table

    def keep_storage(frames: list[Span], height: int) -> None:
        assert storage is not None
        pages = hw.fmt.pages_at(height)
        parts = _leaf_by_leaf(frames, pages) if hw.is_watched else [frames]
        late.extend(partial(storage, part, height) for part in parts)

    def keep_tables(frames: list[Span], height: int) -> None:
        late.append(partial(table, frames, height))

    def free() -> None:
        for call in late:
            call()

    if storage_late and storage is not None:
        how = replace(how, free_storage=keep_storage)
    if tables_late:
        how = replace(how, free_table=keep_tables)
    return how, free


def _leaf_by_leaf(frames: list[Span], pages: int) -> Iterator[list[Span]]:
    """The frames of each leaf by themselves, as a loop over leaves that is looked at step by step frees them."""
    return ([Span(first, first + pages)] for span in frames for first in range(span.start, span.end, pages))


@part_of_descent("unmap")
def _unmap(hw: Machine, how: Remover, table: Table, va: int, end: int, top: int) -> None:
    size = hw.fmt.levels[table.height].size
    for at, n in _in_turn(hw, how, table, va, end):
        entries = hw.load_run(table, at, n)
        for lo, hi, leaves in _kinds(hw, entries, table.height, how):
            start, stop = table.va + (at + lo) * size, table.va + (at + hi) * size
            whole = va <= start and stop <= end
            for i, j, part in ((0, hi - lo, None),) if whole else _pieces(Span(start, stop), Span(va, end), size):
                piece = entries[lo + i : lo + j]
                if part is None:
                    (_leaves if leaves else _children)(hw, how, table, at + lo + i, piece, top)
                elif not leaves:
                    _child(hw, how, table, at + lo + i, int(piece[0]), part, top)
                elif how.part_leaf is None or how.part_leaf(table, at + lo + i, part):
                    _leaves(hw, how, table, at + lo + i, piece, top)
    if table.height == 0:
        _flush_leaf_table(hw, how, va, end - va, 1)


def _in_turn(hw: Machine, how: Remover, table: Table, va: int, end: int) -> Iterator[tuple[int, int]]:
    """How a removal of ``[va, end)`` (bytes) goes through a table: (index, count). Entries of which it takes a part
    come alone, and all do that are to be cleared after what they lead to was freed.
    """
    size = hw.fmt.levels[table.height].size
    first, last = (va - table.va) // size, -(-(end - table.va) // size)
    start, stop = -(-(va - table.va) // size), (end - table.va) // size
    if hw.whole_tables or how.storage == "free-then-clear" or start >= stop:
        return hw.batches(first, last)
    return itertools.chain(hw.batches(first, start), hw.alike(table, start, stop), hw.batches(stop, last))


def _kinds(hw: Machine, entries: U64, height: int, how: Remover) -> Iterator[tuple[int, int, bool]]:
    """Runs of entries of one kind that go, as (start, end, whether leaves); what is no table counts as a leaf."""
    if len(entries) == 1:  # as a loop that is looked at step by step comes to them: no vectors for one
        only = int(entries[0])
        if not hw.fmt.is_none(only, height) and (not how.present or only & how.present[height]):
            yield 0, 1, not hw.fmt.is_table(only, height)
        return
    goes = ~np.asarray(hw.fmt.is_none(entries, height))
    if how.present:
        goes &= (entries & np.uint64(how.present[height])) != 0
    kind = np.where(goes, np.where(np.asarray(hw.fmt.is_table(entries, height)), 2, 1), 0)
    cuts = [0, *(np.flatnonzero(np.diff(kind)) + 1).tolist(), len(kind)]
    yield from ((a, b, bool(kind[a] == 1)) for a, b in itertools.pairwise(cuts) if b > a and kind[a])


def _pieces(run: Span, wanted: Span, size: int) -> Iterator[tuple[int, int, Span | None]]:
    """What of a run of entries (its bytes) is wanted, in entries from the run's first on: (start, end, part).

    `part` is None for entries that are wanted whole; one of which only some bytes are wanted comes alone, with them.
    """
    count = run.size // size
    head = wanted.start > run.start
    if head:
        yield 0, 1, Span(wanted.start, min(wanted.end, run.start + size))
    tail = wanted.end < run.end and not (head and count == 1)
    if head < count - tail:
        yield int(head), count - tail, None
    if tail:
        yield count - 1, count, Span(run.end - size, wanted.end)


@part_of_descent("unmap")
def _leaves(hw: Machine, how: Remover, table: Table, index: int, entries: U64, top: int) -> None:
    """Clear a run of leaves and free what they mapped, in the kernel's order."""
    frames: list[Span] = []
    _tell_unexpected(hw, how, entries, table.height)
    if how.free_storage is not None:
        frames = leaf_frames(hw.fmt, entries, table.height)
        if how.storage == "free-then-clear":
            hw.expect_clear(table, index, entries, how.where)
            how.free_storage(frames, table.height)
    with entry_lock(hw, how.lock, how.root if table.height == top else None, len(entries)):
        hw.clear_run(table, index, len(entries), how.where, _leaf_flush(how, table.height))
    if how.free_storage is not None and how.storage == "clear-then-free":
        how.free_storage(frames, table.height)


def _tell_unexpected(hw: Machine, how: Remover, entries: U64, height: int) -> None:
    all_have = int(entries[0]) if len(entries) == 1 else int(np.bitwise_and.reduce(entries))
    if how.unexpected is None or all_have & how.expected:
        return
    absent = (entries != np.uint64(hw.fmt.empty[height])) & ((entries & np.uint64(how.expected)) == 0)
    for _ in range(int(np.count_nonzero(absent))):
        how.unexpected(how.names.unmap[height])


def _leaf_flush(how: Remover, height: int) -> FlushPlan | None:
    return how.leaf_flush[height] if how.leaf_flush else None


def _flush_leaf_table(hw: Machine, how: Remover, va: int, size: int, count: int) -> None:
    """The flush after each of `count` tables of base-page leaves, of which `size` bytes from `va` on had to go."""
    if how.after_leaf_table is not None:
        hw.flush_each(how.after_leaf_table(size), va, size, count)


@part_of_descent("free")
def _child(hw: Machine, how: Remover, table: Table, index: int, entry: int, part: Span, top: int) -> None:
    """Unmap part of what one child table maps; free it if nothing is left in it."""
    child = hw.child(table, index, hw.fmt.table_pfn(entry))
    _unmap(hw, how, child, part.start, part.end, top)
    if _frees(how, table, top) and hw.is_empty(child):
        _free_tables(hw, how, table, index, np.array([entry], dtype=np.uint64), top)


@part_of_descent("unmap")
def _children(hw: Machine, how: Remover, table: Table, index: int, entries: U64, top: int) -> None:
    """Unmap all that a run of child tables maps: many at once when they hold nothing but leaves."""
    size = hw.fmt.levels[table.height].size
    height = table.height - 1
    emptied = _drain(hw, table, index, entries, how) if hw.whole_tables else None
    if emptied is None:
        for i, entry in enumerate(entries.tolist()):
            start = table.va + (index + i) * size
            _child(hw, how, table, index + i, entry, Span(start, start + size), top)
        return
    if height == 0:
        _flush_leaf_table(hw, how, table.va + index * size, size, len(entries))
    if _frees(how, table, top):
        for run in frame_spans(np.flatnonzero(emptied).astype(np.uint64)):
            _free_tables(hw, how, table, index + run.start, entries[run.start : run.end], top)


def _drain(hw: Machine, table: Table, index: int, entries: U64, how: Remover) -> Bools | None:
    """Clear whole child tables and free what their leaves mapped: which of them are empty now.

    None, and nothing done, if they hold tables too.
    """
    height = table.height - 1
    children = hw.fmt.table_pfn(entries)
    frames: list[Span] = []
    if height or how.free_storage is not None:
        for _, rows in hw.look_children(table, children):
            runs = entry_runs(hw.fmt, rows.reshape(-1), height)
            if not runs.leaf.all():
                return None
            frames += runs.frames(hw.fmt.pages_at(height))
    if how.unexpected is not None:
        for _, rows in hw.look_children(table, children):
            _tell_unexpected(hw, how, rows.reshape(-1), height)
    if how.free_storage is not None and how.storage == "free-then-clear":
        for place, rows in hw.look_children(table, children):
            child = hw.child(table, index + place, int(children[place]))
            hw.expect_clear(child, 0, rows.reshape(-1), how.where)
        how.free_storage(frames, height)
    with entry_lock(hw, how.lock):
        emptied = hw.clear_children(table, index, children, how.where, _leaf_flush(how, height), goes=how.goes(height))
    if how.free_storage is not None and how.storage == "clear-then-free":
        how.free_storage(frames, height)
    return emptied


def _frees(how: Remover, parent: Table, top: int) -> bool:
    """Whether emptied children of a table go in this descent."""
    return how.table != "kept" and not (how.keep_root_children and parent.height == top)


@part_of_descent("free", below=1)
def _free_tables(hw: Machine, how: Remover, parent: Table, index: int, entries: U64, top: int) -> None:
    """Unlink and free emptied child tables, `parent`'s entries from `index` on, in the kernel's order."""
    spans = frame_spans(hw.fmt.table_pfn(entries))
    size = hw.fmt.levels[parent.height].size
    hw.ledger.tables_freed[parent.height - 1] += len(entries)
    if how.table == "free-then-clear":
        hw.expect_clear(parent, index, entries, how.where)
        how.free_table(spans, parent.height - 1)
    with entry_lock(hw, how.lock, how.root if parent.height == top else None, len(entries)):
        hw.clear_run(parent, index, len(entries), how.where)
    if how.table != "free-then-clear":
        if how.table_flush is not None:
            hw.flush_each(how.table_flush, parent.va + index * size, size, len(entries))
        how.free_table(spans, parent.height - 1)


@kernel_function(None)
def free_empty_tables(hw: Machine, root: Table, va: int, end: int, limits: Span, how: Remover) -> None:
    """The second descent of arm64: free tables under ``[va, end)`` that are empty and map nothing outside `limits`.

    arch/arm64/mm/mmu.c:free_empty_tables with its floor and ceiling; `how` says in which order. Leaves in the range are
    passed over.
    """
    _free_empty(hw, how, root, va, end, limits, root.height)


@part_of_descent("free")
def _free_empty(hw: Machine, how: Remover, table: Table, va: int, end: int, limits: Span, top: int) -> None:
    if table.height == 0:
        return
    size = hw.fmt.levels[table.height].size
    first = (va - table.va) // size
    last = -(-(end - table.va) // size)
    for at, n in hw.alike(table, first, last):
        entries = hw.load_run(table, at, n)
        for lo, hi, leaves in _kinds(hw, entries, table.height, how):
            if leaves:
                continue
            if table.height == 1 and hw.whole_tables:
                _free_if_empty(hw, table, at + lo, entries[lo:hi], limits, how, top)
                continue
            for i, entry in enumerate(entries[lo:hi].tolist(), at + lo):
                start = table.va + i * size
                child = hw.child(table, i, hw.fmt.table_pfn(entry))
                _free_empty(hw, how, child, max(va, start), min(end, start + size), limits, top)
                if limits.covers(Span(start, start + size)) and hw.is_empty(child):
                    _free_tables(hw, how, table, i, entries[i - at : i - at + 1], top)


def _free_if_empty(hw: Machine, table: Table, index: int, entries: U64, limits: Span, how: Remover, top: int) -> None:
    """Free those of a run of leaf tables that are empty and inside `limits`."""
    size = hw.fmt.levels[table.height].size
    places = np.arange(index, index + len(entries))
    wanted = (places >= -((table.va - limits.start) // size)) & (places < (limits.end - table.va) // size)
    for place, rows in hw.look_children(table, hw.fmt.table_pfn(entries)):
        wanted[place : place + len(rows)] &= empty_rows(hw.fmt, rows, table.height - 1)
    for run in frame_spans(np.flatnonzero(wanted).astype(np.uint64)):
        _free_tables(hw, how, table, index + run.start, entries[run.start : run.end], top)
