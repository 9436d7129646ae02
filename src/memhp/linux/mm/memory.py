"""Tables made on the way down, where another CPU may make the same one: ``mm/memory.c``.

The entry is read without a lock. Where it is empty, a table is allocated, and only then is ``init_mm.page_table_lock``
taken and the entry looked at again: it gets the table, or the table goes back because another CPU was faster. Whoever
goes on from there reads the entry once more (``pmd_offset()``), again without a lock. Nothing in this keeps a table
that is there from being taken away.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import AbstractContextManager
from errno import ENOMEM

from memhp.errors import KernelError
from memhp.hw.tlb import Table
from memhp.linux.mm.pgalloc import alloc_tables, free_tables
from memhp.linux.mm.pgd import PAGE_TABLE_LOCK
from memhp.linux.mm.pgtable_populate import entry_lock
from memhp.linux.place import by_height, each_level, here
from memhp.linux.state import Kernel

KERNEL_FILE = "mm/memory.c"
ALLOC = by_height(KERNEL_FILE, "__pte_alloc_kernel", "__pte_alloc_kernel", "__pmd_alloc", "__pud_alloc", "__p4d_alloc")
"""What allocates a table, by the height of the one with the entry that is to point to it."""


@each_level(ALLOC)
def table_alloc(k: Kernel, parent: Table, index: int) -> tuple[Table, bool]:
    """The table below an entry, allocated if there is none, and whether there was none when this CPU looked.

    ``p4d_alloc_track()``, ``pud_alloc_track()``, ``pmd_alloc_track()``, ``pte_alloc_kernel_track()``: an entry that
    another CPU fills in the meantime counts as modified by this one too. Raises ENOMEM.
    """
    modified = bool(k.hw.fmt.is_none(k.hw.load(parent, index), parent.height))
    if modified:
        install(k, parent, index)
    return k.hw.child(parent, index, k.hw.fmt.table_pfn(k.hw.load(parent, index))), modified


def root_locked(k: Kernel, table: Table) -> AbstractContextManager[None]:
    """What a store to an entry happens under in any case: on arm64 the ceremony for the root, ``set_swapper_pgd()``."""
    return entry_lock(k.hw, "", k.port.vmemmap_builder(k).root if table.height == k.init_mm.height else None)


def _table_bits(k: Kernel, parent: Table, index: int) -> int:
    """What an entry for a new table carries."""
    how = k.port.vmemmap_builder(k)
    if how.root_bits is None or parent.height < k.init_mm.height:
        return how.table_bits
    return how.root_bits(parent.va + index * k.hw.fmt.levels[parent.height].size)


@each_level(ALLOC)
def install(k: Kernel, parent: Table, index: int) -> None:
    """Allocate a table for an entry that was empty; it goes back if the entry no longer is: ``__pmd_alloc()``."""
    hw = k.hw
    where = here()
    frames = alloc_tables(k, parent.height - 1, 1, where)
    if not frames:
        raise KernelError(ENOMEM, "no memory for a page table", place=where, advice="free memory")
    hw.lock(PAGE_TABLE_LOCK)
    looks = k.config.profile.table_recheck == "under-lock"
    linked = not looks or bool(hw.fmt.is_none(hw.load(parent, index), parent.height))
    if linked:
        entry = hw.fmt.encode_pfn(frames[0].start) | _table_bits(k, parent, index)
        with root_locked(k, parent):
            hw.store(parent, index, entry, where)
        hw.ledger.tables_allocated[parent.height - 1] += 1
    elif parent.height > 1:
        free_tables(k, frames, where)
    hw.unlock(PAGE_TABLE_LOCK)
    if not linked and parent.height == 1:
        free_tables(k, frames, where)
