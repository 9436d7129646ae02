"""riscv: tables that make way for huge leaves of vmap: ``arch/riscv/mm/pgtable.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.tlb import Table
from memhp.linux.arch.riscv.mm.tlbflush import flush_tlb_kernel_range
from memhp.linux.mm.pgalloc import free_tables
from memhp.linux.place import here
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "arch/riscv/mm/pgtable.c"


def arch_vmap_supported(k: Kernel, height: int) -> bool:
    """PMD leaves always, PUD leaves where that is not the root."""
    return height == 1 or (height == 2 and k.hw.fmt.root_height > 2)


def pmd_free_pte_page(k: Kernel, table: Table, index: int) -> None:
    """Clear the entry, flush all that it translated, free the table."""
    _unlink(k, table, index, here())


def pud_free_pmd_page(k: Kernel, table: Table, index: int) -> bool:
    """Unlink the PMD table and flush; then free the tables that it points to, and itself."""
    hw = k.hw
    child = hw.child(table, index, hw.fmt.table_pfn(hw.load(table, index)))
    _detach(k, table, index, here())
    for at, n in hw.batches(0, hw.fmt.levels[child.height].entries):
        for entry in hw.load_run(child, at, n).tolist():
            if entry:
                _free(k, hw.fmt.table_pfn(entry), 0, here())
    _free(k, child.frame, child.height, here())
    return True


def _unlink(k: Kernel, table: Table, index: int, where: str) -> None:
    frame = k.hw.fmt.table_pfn(k.hw.load(table, index))
    _detach(k, table, index, where)
    _free(k, frame, table.height - 1, where)


def _detach(k: Kernel, table: Table, index: int, where: str) -> None:
    size = k.hw.fmt.levels[table.height].size
    va = table.va + index * size
    k.hw.store(table, index, 0, where)
    flush_tlb_kernel_range(k, Span(va, va + size))


def _free(k: Kernel, frame: int, height: int, where: str) -> None:
    k.hw.ledger.tables_freed[height] += 1
    free_tables(k, [Span(frame, frame + 1)], where)
