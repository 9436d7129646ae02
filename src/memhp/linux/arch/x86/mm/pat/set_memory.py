"""x86-64: attributes of single pages of the direct map, and the splitting of leaves: ``arch/x86/mm/pat/set_memory.c``.

``cpa_lock`` keeps those who change attributes apart, ``pgd_lock`` is held while a table takes the place of a leaf.
Hot-add and hot-remove take neither, but ``init_mm.page_table_lock``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from errno import ENOMEM
from typing import NamedTuple

import numpy as np

from memhp.errors import KernelError
from memhp.hw.tlb import Table
from memhp.hw.walker import slabs
from memhp.linux.arch.x86.choices import x86
from memhp.linux.arch.x86.format import PS, RW, D, G, P
from memhp.linux.arch.x86.include.asm.pgtable_types import PAGE_TABLE
from memhp.linux.arch.x86.mm.tlb import flush_tlb_all
from memhp.linux.mm.pgalloc import alloc_tables, free_tables
from memhp.linux.mm.pgd import PGD_LOCK
from memhp.linux.mm.ptdesc import pagetable_ctor
from memhp.linux.state import Kernel
from memhp.units import KiB

KERNEL_FILE = "arch/x86/mm/pat/set_memory.c"
CPA_LOCK = "cpa_lock"
CHANGE = f"{KERNEL_FILE}:__change_page_attr"
SPLIT = f"{KERNEL_FILE}:__split_large_page"


class Place(NamedTuple):
    """Where an entry stands: the answer of ``lookup_address()``."""

    table: Table
    entry: int


def set_direct_map_invalid_noflush(k: Kernel, pfn: int) -> None:
    """Take a page out of the direct map. Raises ENOMEM."""
    _change_page_attr(k, pfn, 0, P | RW | D)


def set_direct_map_default_noflush(k: Kernel, pfn: int) -> None:
    """Give a page its ordinary attributes in the direct map, as far as they make it present. Raises ENOMEM."""
    _change_page_attr(k, pfn, P | RW, 0)


def _change_page_attr(k: Kernel, pfn: int, set_mask: int, clear_mask: int) -> None:
    """``__change_page_attr_set_clr()`` for a page: leaves above it are split one level at a time, then it is changed.

    A page that nothing maps is left alone (``__cpa_process_fault()``). What is not present loses G, which would mean
    PROTNONE there, and does not get it back (``pgprot_clear_protnone_bits()``).
    """
    va = k.layout.phys_to_virt(pfn << k.config.page_shift)
    with _cpa_locked(k):
        while True:
            place = lookup_address(k, va)
            entry = k.hw.load(*place)
            if not entry:
                return
            if place.table.height == 0:
                changed = entry & ~clear_mask | set_mask
                if not changed & P:
                    changed &= ~G
                if changed != entry:
                    k.hw.store(*place, changed, CHANGE)
                return
            with k.hw.locked(PGD_LOCK):  # __should_split_large_page(): nothing less will do for one page
                lookup_address(k, va)
            _split_large_page(k, place, va)


def _takes_cpa_lock(k: Kernel) -> bool:
    return not k.config.debug_pagealloc or x86(k.config).cpa_lock == "always"


def _cpa_locked(k: Kernel) -> AbstractContextManager[None]:
    return k.hw.locked(CPA_LOCK) if _takes_cpa_lock(k) else nullcontext()


def lookup_address(k: Kernel, va: int) -> Place:
    """The entry that maps an address, or that would have to point further down: ``_lookup_address_cpa()``."""
    fmt, table = k.hw.fmt, k.init_mm
    while True:
        index = fmt.index(va, table.height)
        if table.height == 0:
            return Place(table, index)
        entry = k.hw.load(table, index)
        if not fmt.is_table(entry, table.height):
            return Place(table, index)
        table = k.hw.child(table, index, fmt.table_pfn(entry))


def _split_large_page(k: Kernel, place: Place, va: int) -> None:
    """A new table takes the place of a leaf, unless another CPU was faster; everything is flushed before the lock goes.

    ``cpa_lock`` is let go while the page for it is allocated.
    """
    hw, fmt = k.hw, k.hw.fmt
    table, index = place
    if _takes_cpa_lock(k):
        hw.unlock(CPA_LOCK)
    frames = alloc_tables(k, table.height - 1, 1, SPLIT)
    if _takes_cpa_lock(k):
        hw.lock(CPA_LOCK)
    if not frames:
        raise KernelError(ENOMEM, "no memory to split a leaf of the direct map", place=SPLIT, advice="free memory")
    if x86(k.config).split_ctor:
        pagetable_ctor(k, frames)
    with hw.locked(PGD_LOCK):
        same = lookup_address(k, va) == place
        if same:
            entry = hw.load(table, index)
            pfn = fmt.leaf_pfn(entry, table.height)
            hw.fill_children(table, frames, pfn, fmt.attributes(entry, table.height) & ~PS)
            hw.ledger.tables_allocated[table.height - 1] += 1
            hw.store(table, index, fmt.encode_pfn(frames[0].start) | PAGE_TABLE, SPLIT)
            flush_tlb_all(k)
    if not same:
        free_tables(k, frames, SPLIT, table.height - 1, "constructed")


def arch_report_meminfo(k: Kernel) -> dict[str, int]:
    """How much of the direct map leaves of each size map, in kB; 1 GiB only where the CPU has such."""
    fmt, span = k.hw.fmt, k.layout.direct_map.span
    counts = Counter[int]()
    for slab in slabs(k.hw.memory, fmt, k.init_mm.frame, va_start=span.start, va_end=span.end):
        counts[slab.height] += int(np.count_nonzero(fmt.is_leaf(slab.entries, slab.height)))
    sizes = ("DirectMap4k", "DirectMap2M", "DirectMap1G")[: 3 if k.config.gbpages else 2]
    return {name: counts[height] * fmt.levels[height].size // KiB for height, name in enumerate(sizes)}
