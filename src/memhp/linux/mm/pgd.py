"""The kernel's half of root tables: filled at boot, copied into new processes, brought to existing ones.

A root entry that init_mm gets after a process has copied it is not in that process's own table. Architectures either
fill the entries of an area before the first process is there, or write each new one into every table
(``ArchProfile.pgd_policy``), or have one table for all (``ArchProfile.pgd_shared``).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from contextlib import nullcontext
from errno import ENOMEM

import numpy as np

from memhp.errors import KernelBug, KernelError, KernelPanic
from memhp.hw.format import U64, Format
from memhp.hw.tlb import Table
from memhp.linux.areas import Area
from memhp.linux.choices import OwnRootTables
from memhp.linux.mm.pgalloc import alloc_tables
from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span

INIT_MM = "init_mm"
PAGE_TABLE_LOCK = "init_mm.page_table_lock"
PGD_LOCK = "pgd_lock"
PGD_LIST = "pgd_list"
LEVEL_NAMES = ("pte", "pmd", "pud", "p4d")


def root_va(fmt: Format) -> int:
    """The address that entry 0 of the kernel's root table would translate, counted so that its kernel half fits."""
    return (1 << 64) - (1 << fmt.va_bits)


def alloc_root(k: Kernel, mm: str, where: str) -> Table:
    """A root table of nothing for an address space; it is not yet in ``Kernel.pgd``. Raises ENOMEM."""
    frames = alloc_tables(k, k.hw.fmt.root_height, 1, where)
    if not frames:
        raise KernelError(ENOMEM, "no memory for a root table", place=where)
    return Table(frames[0].start, k.hw.fmt.root_height, root_va(k.hw.fmt), mm)


def root_entries(k: Kernel, span: Span) -> Span:
    """The indices of root entries that translate addresses in `span` (bytes)."""
    size = k.hw.fmt.levels[-1].size
    base = root_va(k.hw.fmt)
    return Span((span.start - base) // size, -(-(span.end - base) // size))


@kernel_function(None)
def preallocate_pgd_pages_range(k: Kernel, area: Area, table_bits: int, where: str) -> None:
    """Give every root entry of an area a table: ``preallocate_pgd_pages_range()``, ``preallocate_vmalloc_pages()``.

    Only the level that processes copy; it stays for good. A failure is a panic.
    """
    hw, root = k.hw, k.init_mm
    for at, n in hw.batches(*root_entries(k, area.span)):
        empty = np.flatnonzero(hw.fmt.is_none(hw.load_run(root, at, n), root.height)) + at
        while len(empty):
            frames = alloc_tables(k, root.height - 1, len(empty), where)
            if not frames:
                level = LEVEL_NAMES[root.height - 1]
                raise KernelPanic(f"Failed to pre-allocate {level} pages for {area.name} area", place=where)
            pfns: U64 = np.concatenate([np.arange(*span, dtype=np.uint64) for span in frames])
            hw.ledger.tables_allocated[root.height - 1] += len(pfns)
            with hw.locked(PAGE_TABLE_LOCK):
                for entries, tables in _together(empty[: len(pfns)], pfns):
                    hw.store_run(root, entries, hw.fmt.encode_pfn(tables) | np.uint64(table_bits), where)
            empty = empty[len(pfns) :]


def _together(places: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]", values: U64) -> list[tuple[int, U64]]:
    """Values for places, cut into runs of neighbouring places: (first place, values)."""
    cuts = np.flatnonzero(np.diff(places) != 1) + 1
    starts = places[np.concatenate([[0], cuts])].tolist()
    return list(zip(starts, np.split(values, cuts), strict=True))


def sync_root_entries(k: Kernel, span: Span, where: str) -> None:
    """Copy root entries of `span` (bytes) from init_mm into every table that lacks them: ``sync_global_pgds()``.

    A BUG where a process has another table there.
    """
    for at, n in k.hw.batches(*root_entries(k, span)):
        wanted = k.hw.load_run(k.init_mm, at, n)
        there = ~np.asarray(k.hw.fmt.is_none(wanted, k.init_mm.height))
        if not there.any():
            continue
        with k.hw.locked(PGD_LOCK):
            for root in _listed(k):
                own = k.hw.load_run(root, at, n)
                lacks = np.asarray(k.hw.fmt.is_none(own, root.height))
                if (~lacks & there & (k.hw.fmt.table_pfn(own) != k.hw.fmt.table_pfn(wanted))).any():
                    raise KernelBug(f"{root.mm} has another table than init_mm in a kernel entry", place=where)
                for place in np.flatnonzero(lacks & there).tolist():
                    k.hw.store(root, at + place, int(wanted[place]), where)


def _listed(k: Kernel) -> list[Table]:
    """``pgd_list``: the root tables of processes that a synchronisation finds."""
    record = k.config.choices
    if isinstance(record, OwnRootTables) and record.pgd_list != "one-lock":
        k.hw.reads(PGD_LIST)
    return [root for mm, root in k.pgd.items() if mm != INIT_MM and root.frame != k.init_mm.frame]


def copy_kernel_half(k: Kernel, mm: str, where: str) -> None:
    """A new address space: ``pgd_alloc()``. Raises ENOMEM.

    Its root table gets the kernel's half of init_mm's; or it is the same table, where that is one for all.
    """
    if k.config.choices.pgd_shared:
        k.pgd[mm] = k.init_mm._replace(mm=mm)
        return
    root = alloc_root(k, mm, where)
    half = k.hw.fmt.levels[-1].entries // 2
    pgd_ctor(k, root, k.hw.batches(half, 2 * half), where)


@kernel_function(None)
def pgd_ctor(k: Kernel, root: Table, parts: Iterable[tuple[int, int]], where: str) -> None:
    """Copy entries of init_mm's root table, in `parts` (index, count), to a new one, and enter that in the list.

    ``ArchProfile.pgd_list`` says in which order, and under which lock.
    """
    record = k.config.choices
    assert isinstance(record, OwnRootTables)
    choice = record.pgd_list
    if choice == "before-copy":
        k.hw.writes(PGD_LIST)
        k.pgd[root.mm] = root
        for at, n in parts:
            k.hw.store_run(root, at, k.hw.load_run(k.init_mm, at, n), where)
        return
    together = choice == "one-lock"
    with k.hw.locked(PGD_LOCK) if together else nullcontext():
        for at, n in parts:
            k.hw.fill_run(root, at, k.hw.load_run(k.init_mm, at, n), where)
        if not together:
            k.hw.writes(PGD_LIST)
        k.pgd[root.mm] = root
