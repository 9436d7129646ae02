"""Building kernel page tables: the descent that riscv, arm64 and x86 share, with their differences as data.

The kernel has three copies of it, ``create_pgd_mapping()`` of arch/riscv/mm/init.c, ``__create_pgd_mapping()`` of
arch/arm64/mm/mmu.c and ``kernel_physical_mapping_init()`` of arch/x86/mm/init_64.c. They differ in which leaves they
try, whether a new table is linked before or after it is filled, what they do with what is there already, and under
which lock. A :class:`Builder` says which.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from memhp.errors import KernelBug
from memhp.hw.format import U64
from memhp.hw.machine import Machine
from memhp.hw.tlb import FlushPlan, Table
from memhp.linux.place import UNNAMED, Descent, part_of_descent
from memhp.spans import Span

TableAllocator = Callable[[int, int], list[Span]]
"""``(height, n)``: at most n frames for tables of that height, at least one; raises what the kernel would."""


class FixmapSlot(NamedTuple):
    """A fixmap entry through which a table is reached: its address, and the flush that clearing it costs (arm64)."""

    va: int
    clear: FlushPlan


class RootLock(NamedTuple):
    """How entries of the root table are written: arm64's ``set_swapper_pgd()`` maps the root for it."""

    name: str
    slot: FixmapSlot


@dataclass(frozen=True)
class Builder:
    """How one architecture, in one kernel, maps a range of physical memory.

    `leaves` are the heights at which leaves may be made, `new_table` where table frames come from, `table_bits` what
    an entry that points to a table carries besides the frame number.
    """

    leaves: frozenset[int]
    new_table: TableAllocator
    link: Literal["before-fill", "after-fill"]
    occupied: Literal["descend", "keep", "bug-or-keep", "bug-or-descend"]
    """A leaf is wanted where a table stands: map within it (x86, arm64 since 6.18) or leave it alone (riscv, arm64
    before). A leaf stands where another one or a table is wanted: leave it alone, or BUG (arm64)."""
    table_bits: int
    contiguous: int = 0
    """The entry's contiguous-hint bit, where the builder sets it (arm64 without NO_CONT_MAPPINGS); 0 where not."""
    lock: str = ""
    """The lock around each store (x86): base-page leaves are written under it only in a table that was there before,
    and then in one go."""
    root: RootLock | None = None
    root_linked: Callable[[int], None] | None = None
    """Told the address for which a root entry was just written, by :func:`ensure_table`: ``pgd_populate_kernel()``."""
    root_bits: Callable[[int], int] | None = None
    """What the root entry that translates an address carries in place of `table_bits`, where boot made some otherwise
    (arm64): asked by :func:`ensure_table`."""
    replaced: Callable[[], None] | None = None
    """Where smaller leaves are wanted than the one that stands there, with a height that `leaves` lacks: a table with
    them takes its place, and this is told (x86). None: the leaf stays."""
    slot: FixmapSlot | None = None
    """Through what it reaches the tables below the root, when not through the direct map (arm64)."""
    names: Descent = UNNAMED
    """What its functions are called, for traces."""
    where: str = ""
    """``file:function`` for reports."""

    @property
    def descends(self) -> bool:
        """Whether a wanted leaf is mapped within a table that stands there."""
        return self.occupied in ("descend", "bug-or-descend")

    @property
    def bugs(self) -> bool:
        """Whether a leaf in the way is a BUG."""
        return self.occupied.startswith("bug")


def populate(hw: Machine, root: Table, va: int, end: int, pfn: int, prot: int, how: Builder) -> None:
    """Map ``[va, end)`` (bytes) to the frames from `pfn` on, with attribute bits `prot`, under `root`."""
    _populate(hw, how, root, va, end, pfn, prot, root.height)


@part_of_descent("fill")
def _populate(hw: Machine, how: Builder, table: Table, va: int, end: int, pfn: int, prot: int, top: int) -> None:
    height = table.height
    level = hw.fmt.levels[height]
    pages = hw.fmt.pages_at(height)
    while va < end:
        index = hw.fmt.index(va, height)
        whole = min((end - va) >> level.shift, level.entries - index) if va & (level.size - 1) == 0 else 0
        if whole and height in how.leaves and pfn & (pages - 1) == 0:
            _leaves(hw, how, table, index, whole, va, pfn, prot, top)
        elif whole and hw.whole_tables and _holds_leaves(hw, height - 1, pfn, how):
            _full_children(hw, table, index, whole, va, pfn, prot, how, top)
        else:
            stop = min(end, (va | (level.size - 1)) + 1)
            _one_child(hw, how, table, index, va, stop, pfn, prot, top)
            pfn += (stop - va) >> hw.fmt.page_shift
            va = stop
            continue
        va += whole << level.shift
        pfn += whole * pages


def _holds_leaves(hw: Machine, height: int, pfn: int, how: Builder) -> bool:
    """Whether tables of `height` that are filled whole hold nothing but leaves."""
    return height in how.leaves and pfn & (hw.fmt.pages_at(height) - 1) == 0


@part_of_descent("leaf")
def _leaves(
    hw: Machine, how: Builder, table: Table, index: int, count: int, va: int, pfn: int, prot: int, top: int
) -> None:
    """Put `count` leaves into one table."""
    level = hw.fmt.levels[table.height]
    pages = hw.fmt.pages_at(table.height)
    for first, size, hint in _hinted(hw, table.height, index, count, pfn, how):
        for at, n in hw.batches(first, first + size, table):
            old = hw.load_run(table, at, n)
            for lo, hi, empty in _runs(np.asarray(hw.fmt.is_none(old, table.height))):
                start = pfn + (at - index + lo) * pages
                if empty:
                    with _locked(hw, how, table.height, top, hi - lo) if table.height else nullcontext():
                        hw.store_leaves(table, at + lo, hi - lo, start, prot | hint, how.where)
                    continue
                for i in range(lo, hi):
                    address = va + (at - index + i) * level.size
                    _occupied(hw, table, at + i, int(old[i]), address, start + (i - lo) * pages, prot, how, top)


def _occupied(
    hw: Machine, table: Table, index: int, old: int, va: int, pfn: int, prot: int, how: Builder, top: int
) -> None:
    """A leaf is wanted where something stands already."""
    if hw.fmt.is_table(old, table.height):
        if how.descends:
            size = hw.fmt.levels[table.height].size
            _existing_child(hw, how, table, index, old, va, va + size, pfn, prot, top)
    elif how.bugs and table.height == 0 and hw.fmt.leaf_pfn(old, 0) != pfn:
        raise KernelBug(f"the entry for {va:#x} maps another frame already", place=how.where)


def _full_children(
    hw: Machine, table: Table, index: int, count: int, va: int, pfn: int, prot: int, how: Builder, top: int
) -> None:
    """Map `count` entries' worth of memory through child tables that are filled whole."""
    level = hw.fmt.levels[table.height]
    pages = hw.fmt.pages_at(table.height)
    old = hw.load_run(table, index, count)
    for lo, hi, empty in _runs(np.asarray(hw.fmt.is_none(old, table.height))):
        at = lo
        while empty and at < hi:
            frames = how.new_table(table.height - 1, hi - at)
            got = sum(span.size for span in frames)
            hw.ledger.tables_allocated[table.height - 1] += got
            first = pfn + at * pages
            bits = prot | _whole_table_hint(hw, table.height - 1, first, how)
            if how.link == "before-fill":
                _link(hw, how, table, index + at, frames, top)
            hw.fill_children(table, frames, first, bits)
            if how.link == "after-fill":
                _link(hw, how, table, index + at, frames, top)
            _clear_slot(hw, how.slot, got)
            at += got
        for i in range(at, hi):
            start = va + i * level.size
            _one_child(hw, how, table, index + i, start, start + level.size, pfn + i * pages, prot, top)


@part_of_descent("fill")
def _one_child(
    hw: Machine, how: Builder, table: Table, index: int, va: int, end: int, pfn: int, prot: int, top: int
) -> None:
    """Map ``[va, end)``, which lies under one entry of `table`, in the child table of that entry."""
    old = hw.load(table, index)
    if not hw.fmt.is_none(old, table.height):
        if hw.fmt.is_table(old, table.height):
            _existing_child(hw, how, table, index, old, va, end, pfn, prot, top)
            return
        if how.bugs:
            raise KernelBug(f"a leaf stands where a table for {va:#x} is wanted", place=how.where)
        if how.replaced is None or table.height in how.leaves or not hw.fmt.is_leaf(old, table.height):
            return
        prot = int(hw.fmt.attributes(old, table.height)) & ~hw.fmt.leaf_bits[table.height] | hw.fmt.leaf_bits[0]
        how.replaced()
    frames = how.new_table(table.height - 1, 1)
    hw.ledger.tables_allocated[table.height - 1] += 1
    child = hw.child(table, index, frames[0].start)
    if how.link == "before-fill":
        _link(hw, how, table, index, frames, top)
    _populate(hw, how, child, va, end, pfn, prot, top)
    if how.link == "after-fill":
        _link(hw, how, table, index, frames, top)
    _clear_slot(hw, how.slot, 1)


@part_of_descent("fill")
def _existing_child(
    hw: Machine, how: Builder, table: Table, index: int, entry: int, va: int, end: int, pfn: int, prot: int, top: int
) -> None:
    """Map ``[va, end)`` in the table that `entry` points to."""
    child = hw.child(table, index, hw.fmt.table_pfn(entry))
    with entry_lock(hw, how.lock) if child.height == 0 else nullcontext():
        _populate(hw, how, child, va, end, pfn, prot, top)
    _clear_slot(hw, how.slot, 1)


def ensure_table(hw: Machine, root: Table, va: int, height: int, how: Builder) -> Table | None:
    """The table of `height` that translates `va`, with every table on the way to it made if it is missing.

    None when a leaf stands in the way. ``pud_alloc()``, ``vmemmap_pmd_populate()`` and their kin.
    """
    table: Table | None = root
    while table is not None and table.height > height:
        table = _ensure_child(hw, how, table, va, root.height)
    return table


@part_of_descent("fill")
def _ensure_child(hw: Machine, how: Builder, table: Table, va: int, top: int) -> Table | None:
    """One level of that: the table below, None where a leaf stands."""
    index = hw.fmt.index(va, table.height)
    entry = hw.load(table, index)
    if hw.fmt.is_none(entry, table.height):
        frames = how.new_table(table.height - 1, 1)
        hw.ledger.tables_allocated[table.height - 1] += 1
        at_root = how.root_bits if table.height == top else None
        linking = how if at_root is None else replace(how, table_bits=at_root(va))
        _link(hw, linking, table, index, frames, top)
        if how.root_linked is not None and table.height == top:
            how.root_linked(va)
        return hw.child(table, index, frames[0].start)
    if hw.fmt.is_leaf(entry, table.height):
        return None
    return hw.child(table, index, hw.fmt.table_pfn(entry))


@part_of_descent("fill")
def _link(hw: Machine, how: Builder, table: Table, index: int, frames: list[Span], top: int) -> None:
    pfns: U64 = np.concatenate([np.arange(*span, dtype=np.uint64) for span in frames])
    with _locked(hw, how, table.height, top, len(pfns)):
        hw.store_run(table, index, hw.fmt.encode_pfn(pfns) | np.uint64(how.table_bits), how.where)


def _clear_slot(hw: Machine, slot: FixmapSlot | None, times: int) -> None:
    """``pte_clear_fixmap()`` and its kin, as often as tables were worked on."""
    if slot is not None:
        hw.flush_each(slot.clear, slot.va, 0, times)


def _locked(hw: Machine, how: Builder, height: int, top: int, count: int) -> AbstractContextManager[None]:
    return entry_lock(hw, how.lock, how.root if height == top else None, count)


def entry_lock(hw: Machine, lock: str, root: RootLock | None = None, count: int = 1) -> AbstractContextManager[None]:
    """What stores to `count` table entries happen under: nothing, a lock, or the ceremony for the root table."""
    if root is not None:
        return _root_locked(hw, root, count)
    return hw.locked(lock) if lock else nullcontext()


@contextmanager
def _root_locked(hw: Machine, root: RootLock, count: int) -> Iterator[None]:
    with hw.locked(root.name):
        yield
        _clear_slot(hw, root.slot, count)


def _runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int, bool]]:
    """The runs of equal values in a boolean vector, as (start, end, value)."""
    if flags.all():
        return [(0, len(flags), True)]
    cuts = [0, *(np.flatnonzero(np.diff(flags)) + 1).tolist(), len(flags)]
    return [(a, b, bool(flags[a])) for a, b in itertools.pairwise(cuts)]


def _hinted(hw: Machine, height: int, index: int, count: int, pfn: int, how: Builder) -> list[tuple[int, int, int]]:
    """A run of new leaves cut where the contiguous hint starts and ends: (index, count, hint bits)."""
    group = hw.fmt.levels[height].cont
    if not how.contiguous or group == 1 or (pfn // hw.fmt.pages_at(height) - index) % group:
        return [(index, count, 0)]
    lo = min(-(-index // group) * group, index + count)
    hi = max(lo, (index + count) // group * group)
    parts = [(index, lo - index, 0), (lo, hi - lo, how.contiguous), (hi, index + count - hi, 0)]
    return [part for part in parts if part[1]]


def _whole_table_hint(hw: Machine, height: int, pfn: int, how: Builder) -> int:
    """The contiguous hint for a whole table of leaves from `pfn` on: all of it or nothing."""
    group = hw.fmt.levels[height].cont
    return how.contiguous if group > 1 and pfn % (group * hw.fmt.pages_at(height)) == 0 else 0
