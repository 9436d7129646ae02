"""arm64: tables that make way for huge leaves of vmap: ``pmd_free_pte_page()`` of ``arch/arm64/mm/mmu.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.tlb import Table
from memhp.linux.arch.arm64.choices import arm64
from memhp.linux.arch.arm64.include.asm.tlbflush import FLUSH_TLB_KERNEL_PGTABLE
from memhp.linux.mm.memory import root_locked
from memhp.linux.mm.pgalloc import free_tables
from memhp.linux.place import here
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import KiB

KERNEL_FILE = "arch/arm64/mm/mmu.c"
FREE_PTE = f"{KERNEL_FILE}:pmd_free_pte_page"


def arch_vmap_supported(k: Kernel, height: int) -> bool:
    """Blocks, PUD-sized ones with 4K pages only; none as long as ptdump, which every kernel here has, forbids it."""
    return arm64(k.config).vmap_huge_with_ptdump and (height == 1 or (height == 2 and k.config.page_size == 4 * KiB))


def pmd_free_pte_page(k: Kernel, table: Table, index: int) -> None:
    """Clear the entry, invalidate the cached pointer, free the table."""
    _free(k, table, index, here())


def pud_free_pmd_page(k: Kernel, table: Table, index: int) -> bool:
    """One PTE table after the other, then the PMD table in the same way."""
    hw = k.hw
    if hw.fmt.is_table(hw.load(table, index), table.height):
        child = hw.child(table, index, hw.fmt.table_pfn(hw.load(table, index)))
        for at, n in hw.batches(0, hw.fmt.levels[child.height].entries):
            for place in range(at, at + n):
                if hw.load(child, place) & hw.fmt.valid:
                    _free(k, child, place, FREE_PTE)
        _free(k, table, index, here())
    return True


def _free(k: Kernel, table: Table, index: int, where: str) -> None:
    hw = k.hw
    if not hw.fmt.is_table(hw.load(table, index), table.height):
        return
    frame = hw.fmt.table_pfn(hw.load(table, index))
    with root_locked(k, table):
        hw.store(table, index, 0, where)
    hw.flush_plan(FLUSH_TLB_KERNEL_PGTABLE, table.va + index * hw.fmt.levels[table.height].size)
    hw.ledger.tables_freed[table.height - 1] += 1
    free_tables(k, [Span(frame, frame + 1)], where)
