"""Building kernel page tables: the descent that riscv, arm64 and x86 share, with their differences as data.

The kernel has three copies of it, ``create_pgd_mapping()`` of arch/riscv/mm/init.c, ``__create_pgd_mapping()`` of
arch/arm64/mm/mmu.c and ``kernel_physical_mapping_init()`` of arch/x86/mm/init_64.c. They differ in which leaves they
try, whether a new table is linked before or after it is filled, what they do with what is there already, and under
which lock. A :class:`Builder` says which.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np

from memhp.errors import KernelBug
from memhp.hw.format import U64
from memhp.hw.machine import Machine
from memhp.hw.tlb import Table
from memhp.spans import Span

TableAllocator = Callable[[int, int], list[Span]]
"""``(height, n)``: at most n frames for tables of that height, at least one; raises what the kernel would."""


@dataclass(frozen=True)
class Builder:
    """How one architecture, in one kernel, maps a range of physical memory.

    `leaves` are the heights at which leaves may be made, `new_table` where table frames come from, `table_bits` what
    an entry that points to a table carries besides the frame number.
    """

    leaves: frozenset[int]
    new_table: TableAllocator
    link: Literal["before-fill", "after-fill"]
    occupied: Literal["descend", "keep", "bug"]
    """What a wanted leaf does where a table stands: map within it (x86, arm64) or leave it alone (riscv). A leaf in
    the way of a table is kept (x86, riscv) or a bug (arm64: `bug`, which descends into tables)."""
    table_bits: int
    contiguous: int = 0
    """The entry's contiguous-hint bit, where the builder sets it (arm64 without NO_CONT_MAPPINGS); 0 where not."""
    lock: str = ""
    """The lock taken around each store, if any."""
    where: str = ""
    """``file:function`` for reports."""


def populate(hw: Machine, root: Table, va: int, end: int, pfn: int, prot: int, how: Builder) -> None:
    """Map ``[va, end)`` (bytes) to the frames from `pfn` on, with attribute bits `prot`, under `root`."""
    height = root.height
    level = hw.fmt.levels[height]
    below = 1 << (level.shift - hw.fmt.page_shift)
    while va < end:
        index = hw.fmt.index(va, height)
        room = level.entries - index
        whole = min((end - va) >> level.shift, room) if va & (level.size - 1) == 0 else 0
        if whole and height in how.leaves and pfn & (below - 1) == 0:
            _leaves(hw, root, index, whole, va, pfn, prot, how)
        elif whole and _bulk(hw, height, pfn, how):
            _full_children(hw, root, index, whole, va, pfn, prot, how)
        else:
            whole = 0
            stop = min(end, (va | (level.size - 1)) + 1)
            _one_child(hw, root, index, va, stop, pfn, prot, how)
            pfn += (stop - va) >> hw.fmt.page_shift
            va = stop
        va += whole << level.shift
        pfn += whole * below


def _bulk(hw: Machine, height: int, pfn: int, how: Builder) -> bool:
    """Whether children of `height` that are covered whole hold nothing but leaves."""
    return height > 0 and height - 1 in how.leaves and pfn & (hw.fmt.pages_at(height - 1) - 1) == 0


def _leaves(hw: Machine, table: Table, index: int, count: int, va: int, pfn: int, prot: int, how: Builder) -> None:
    level = hw.fmt.levels[table.height]
    pages = hw.fmt.pages_at(table.height)
    for at, n in hw.batches(index, index + count):
        old = hw.load_run(table, at, n)
        for lo, hi, empty in _runs(old == 0):
            first = pfn + (at - index + lo) * pages
            if empty:
                for start, size, bits in _hinted(hw, table.height, at + lo, hi - lo, first, how):
                    with _lock(hw, how):
                        hw.store_leaves(table, start, size, first + (start - at - lo) * pages, prot | bits, how.where)
                continue
            for i in range(lo, hi):
                _occupied_leaf(
                    hw,
                    table,
                    at + i,
                    int(old[i]),
                    va + (at - index + i) * level.size,
                    pfn + (at - index + i) * pages,
                    prot,
                    how,
                )


def _occupied_leaf(hw: Machine, table: Table, index: int, old: int, va: int, pfn: int, prot: int, how: Builder) -> None:
    """A leaf is wanted where something stands already."""
    if hw.fmt.is_leaf(old, table.height):
        same = hw.fmt.leaf_pfn(old, table.height) == pfn
        if how.occupied == "bug" and not same:
            raise KernelBug(f"leaf for {va:#x} maps another frame already", place=how.where)
    elif how.occupied != "keep":
        size = hw.fmt.levels[table.height].size
        populate(hw, hw.child(table, index, hw.fmt.table_pfn(old)), va, va + size, pfn, prot, how)


def _full_children(
    hw: Machine, table: Table, index: int, count: int, va: int, pfn: int, prot: int, how: Builder
) -> None:
    """Map `count` entries' worth of memory through child tables that are filled whole."""
    level = hw.fmt.levels[table.height]
    pages = hw.fmt.pages_at(table.height)
    for at, n in hw.batches(index, index + count):
        old = hw.load_run(table, at, n)
        for lo, hi, empty in _runs(old == 0):
            i = lo
            while empty and i < hi:
                frames = how.new_table(table.height - 1, hi - i)
                got = sum(span.size for span in frames)
                hw.ledger.tables_allocated[table.height - 1] += got
                first = pfn + (at - index + i) * pages
                bits = _whole_table_hint(hw, table.height - 1, first, how)
                if how.link == "before-fill":
                    _link(hw, table, at + i, frames, how)
                hw.fill_children(table, at + i, frames, first, prot | bits, how.where)
                if how.link == "after-fill":
                    _link(hw, table, at + i, frames, how)
                i += got
            for each in range(i, hi):
                start = va + (at - index + each) * level.size
                _one_child(hw, table, at + each, start, start + level.size, pfn + (at - index + each) * pages, prot, how)


def _one_child(hw: Machine, table: Table, index: int, va: int, end: int, pfn: int, prot: int, how: Builder) -> None:
    """Map ``[va, end)``, which lies under one entry of `table`, in the child table of that entry."""
    old = hw.load(table, index)
    if old & hw.fmt.valid:
        if hw.fmt.is_leaf(old, table.height):
            if how.occupied == "bug":
                raise KernelBug(f"a leaf stands where a table for {va:#x} is wanted", place=how.where)
            return
        populate(hw, hw.child(table, index, hw.fmt.table_pfn(old)), va, end, pfn, prot, how)
        return
    frames = how.new_table(table.height - 1, 1)
    hw.ledger.tables_allocated[table.height - 1] += 1
    if how.link == "before-fill":
        _link(hw, table, index, frames, how)
    populate(hw, hw.child(table, index, frames[0].start), va, end, pfn, prot, how)
    if how.link == "after-fill":
        _link(hw, table, index, frames, how)


def ensure_table(hw: Machine, root: Table, va: int, height: int, how: Builder) -> Table | None:
    """The table of `height` that translates `va`, with every table on the way to it made if it is missing.

    None when a leaf stands in the way. ``pud_alloc()``, ``vmemmap_pmd_populate()`` and their kin.
    """
    table = root
    while table.height > height:
        index = hw.fmt.index(va, table.height)
        entry = hw.load(table, index)
        if entry == 0:
            frames = how.new_table(table.height - 1, 1)
            hw.ledger.tables_allocated[table.height - 1] += 1
            _link(hw, table, index, frames, how)
            table = hw.child(table, index, frames[0].start)
        elif hw.fmt.is_leaf(entry, table.height):
            return None
        else:
            table = hw.child(table, index, hw.fmt.table_pfn(entry))
    return table


def _link(hw: Machine, table: Table, index: int, frames: list[Span], how: Builder) -> None:
    pfns: U64 = np.concatenate([np.arange(*span, dtype=np.uint64) for span in frames])
    with _lock(hw, how):
        hw.store_run(table, index, hw.fmt.encode_pfn(pfns) | np.uint64(how.table_bits), how.where)


def _lock(hw: Machine, how: Builder) -> AbstractContextManager[None]:
    return hw.locked(how.lock) if how.lock else nullcontext()


def _runs(flags: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]") -> list[tuple[int, int, bool]]:
    """The runs of equal values in a boolean vector, as (start, end, value)."""
    if not len(flags):
        return []
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
