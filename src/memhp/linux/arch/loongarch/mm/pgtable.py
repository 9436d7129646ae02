"""LoongArch: leaves of vmap, which this kernel makes of base pages only: it has no ``HAVE_ARCH_HUGE_VMAP``.

What happens below is what the generic headers leave to architectures that have it, for a kernel that chooses otherwise.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.tlb import Table
from memhp.linux.arch.loongarch.choices import loongarch
from memhp.linux.arch.loongarch.kernel.smp import flush_tlb_kernel_range
from memhp.linux.mm.pgalloc import free_tables
from memhp.linux.place import here, kernel_function, of_file
from memhp.linux.state import Kernel
from memhp.spans import Span


@kernel_function(None)
def arch_vmap_supported(k: Kernel, height: int) -> bool:
    """PMD leaves, if this kernel chose them."""
    return height == 1 and loongarch(k.config).huge_vmalloc


@of_file("include/linux/pgtable.h")
def pmd_free_pte_page(k: Kernel, table: Table, index: int) -> None:
    """Clear the entry, flush all that it translated, free the table."""
    hw = k.hw
    frame = hw.fmt.table_pfn(hw.load(table, index))
    size = hw.fmt.levels[table.height].size
    va = table.va + index * size
    hw.store(table, index, hw.fmt.empty[table.height], here())
    flush_tlb_kernel_range(k, Span(va, va + size))
    hw.ledger.tables_freed[table.height - 1] += 1
    free_tables(k, [Span(frame, frame + 1)], here())


@of_file("include/linux/pgtable.h")
def pud_free_pmd_page(k: Kernel, table: Table, index: int) -> bool:
    """It stays: no leaf is that large."""
    return False
