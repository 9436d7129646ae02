"""x86-64: tables that make way for huge leaves of vmap: ``arch/x86/mm/pgtable.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.memory import Owner, Use
from memhp.hw.tlb import Table
from memhp.linux.arch.x86.choices import x86
from memhp.linux.arch.x86.mm.tlb import flush_kernel_range
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.mm.pgalloc import free_tables
from memhp.linux.place import here
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "arch/x86/mm/pgtable.c"
PUD = 2


def arch_vmap_supported(k: Kernel, height: int) -> bool:
    """What the CPU has: 2 MiB pages, 1 GiB pages."""
    return (height == 1 and k.config.pse) or (height == 2 and k.config.gbpages)


def pmd_free_pte_page(k: Kernel, table: Table, index: int) -> None:
    """Clear the entry, flush, free the table."""
    frame = k.hw.fmt.table_pfn(k.hw.load(table, index))
    _detach(k, table, index, here())
    _free(k, frame, 0, here())


def pud_free_pmd_page(k: Kernel, table: Table, index: int) -> bool:
    """Unlink the PMD table and flush; then free the tables that it points to, and itself.

    6.12 first copies its entries to a page and clears them; without a page for that there is no huge leaf.
    """
    hw = k.hw
    child = hw.child(table, index, hw.fmt.table_pfn(hw.load(table, index)))
    scratch: list[Span] = []
    if x86(k.config).pud_free == "clear-below-first":
        scratch = alloc_pages(k, 0, min(k.nodes, default=0), owner=Owner(Use.KERNEL), where=here())
        if not scratch:
            return False
        tables = _tables(k, child)
        for place, _ in tables:
            hw.store(child, place, 0, here())
        _detach(k, table, index, here())
    else:
        if _keeps_pointers(k):
            entries = hw.fmt.levels[child.height].entries
            hw.leaves_behind(child, 0, hw.load_run(child, 0, entries), here())
        _detach(k, table, index, here())
        tables = _tables(k, child)
    for _, frame in tables:
        _free(k, frame, 0, here())
    free_pages(k, scratch, here())
    _free(k, child.frame, 1, here())
    return True


def _tables(k: Kernel, table: Table) -> list[tuple[int, int]]:
    """Tables that a table points to: the places of their entries, and their frames."""
    hw = k.hw
    found = []
    for at, n in hw.batches(0, hw.fmt.levels[table.height].entries):
        entries = hw.load_run(table, at, n).tolist()
        found += [(place, hw.fmt.table_pfn(entry)) for place, entry in enumerate(entries, at) if entry]
    return found


def _detach(k: Kernel, table: Table, index: int, where: str) -> None:
    """Clear the entry and flush.

    The kernel flushes one page: INVLPG drops every entry of the paging-structure caches, whatever address it is for
    (Intel SDM volume 3, "Operations that Invalidate TLBs and Paging-Structure Caches"). Here the flush names all that
    the entry translated, as flushes reach no further than what they name. Under EFER.TCE it reaches no further either.
    """
    size = k.hw.fmt.levels[table.height].size
    va = table.va + index * size
    k.hw.store(table, index, 0, where)
    told = size if table.height == PUD and x86(k.config).pud_free_flush == "range" else k.config.page_size
    reach = told if _keeps_pointers(k) else size
    k.hw.flush(flush_kernel_range(k, told).flush, Span(va, va + reach))


def _keeps_pointers(k: Kernel) -> bool:
    """Whether an INVLPG drops no more cached pointers to tables than those on the way to its address: EFER.TCE."""
    return k.config.tce and x86(k.config).translation_cache_extension


def _free(k: Kernel, frame: int, height: int, where: str) -> None:
    k.hw.ledger.tables_freed[height] += 1
    free_tables(k, [Span(frame, frame + 1)], where)
