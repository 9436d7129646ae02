"""LoongArch: boot, hot-added memory and its struct pages: ``arch/loongarch/mm/init.c``.

There is no direct map to build or to take down. Struct pages are mapped, and never unmapped: see :func:`vmemmap_free`.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import KernelError
from memhp.hw.tlb import FlushPlan, Table
from memhp.linux.arch.loongarch.choices import loongarch
from memhp.linux.arch.loongarch.include.asm.pgtable_bits import PAGE_KERNEL, PAGE_KERNEL_HUGE, PAGE_TABLE
from memhp.linux.arch.loongarch.kernel.smp import FLUSH_TLB_ALL, flush_tlb_all
from memhp.linux.mm import access, pgd
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.dev_pagemap import DevPagemap
from memhp.linux.mm.memory_hotplug_pages import __add_pages, __remove_pages
from memhp.linux.mm.pgalloc import free_memmap, free_tables
from memhp.linux.mm.pgtable_remove import Remover, gathered, unmap
from memhp.linux.mm.sparse_vmemmap import VmemmapBuilder, vmemmap_populate_basepages, vmemmap_populate_hugepages
from memhp.linux.place import here, kernel_function, of_file
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_down, align_up

KERNEL_FILE = "arch/loongarch/mm/init.c"
FREE = f"{KERNEL_FILE}:vmemmap_free"
OOPS = access.Oops(
    "Unable to handle kernel paging request at virtual address {va:016x}", "arch/loongarch/mm/fault.c:no_context"
)


# Boot --------------------------------------------------------------------------------------------------------


@kernel_function("arch/loongarch/mm/pgtable.c:pagetable_init")
def paging_init(k: Kernel) -> None:
    """The kernel's root table, all of whose entries lead to tables of nothing: ``pagetable_init()``."""
    k.pgd[pgd.INIT_MM] = pgd.alloc_root(k, pgd.INIT_MM, here())


def mem_init(k: Kernel) -> None:
    """Nothing: all address spaces have the kernel's root table, and none of its entries is filled in advance."""


@kernel_function("arch/loongarch/mm/pgtable.c:pgd_alloc")
def copy_pgd(k: Kernel, mm: str) -> None:
    """A new process: its own root table is that of the lower half, which is user space's."""
    pgd.copy_kernel_half(k, mm, here())


@kernel_function("arch/loongarch/mm/fault.c:do_page_fault")
def kernel_access(k: Kernel, mm: str, va: int) -> access.Outcome:
    """Read a byte in the kernel, in the address space `mm`. Raises :class:`KernelBug` when that oopses.

    The window that shows physical memory takes no page tables, and so no fault: whatever is there, or is not, answers.
    """
    return "ok" if va in k.layout.direct_map else access.kernel_access(k, mm, va, OOPS)


# Hotplug -----------------------------------------------------------------------------------------------------


def page_kernel(k: Kernel) -> int:
    """Attributes of ordinary kernel memory: ``PAGE_KERNEL``."""
    return PAGE_KERNEL


def arch_add_memory(
    k: Kernel,
    nid: int,
    start: int,
    size: int,
    altmap: VmemAltmap | None = None,
    pgprot: int | None = None,
    pgmap: DevPagemap | None = None,
) -> None:
    """Struct pages for ``[start, start + size)`` (physical bytes); what the window shows is there at once.

    Sections that were added before one that failed stay.
    """
    shift = k.config.page_shift
    try:
        add_pages(k, nid, start >> shift, size >> shift, altmap, pgmap)
    except KernelError as error:
        k.hw.log(f"arch_add_memory: Problem encountered in __add_pages() as ret=-{error.errno}", "warn")
        raise


@of_file("include/linux/memory_hotplug.h")
def add_pages(
    k: Kernel,
    nid: int,
    start_pfn: int,
    nr_pages: int,
    altmap: VmemAltmap | None = None,
    pgmap: DevPagemap | None = None,
) -> None:
    """Struct pages alone: generic ``__add_pages()``."""
    __add_pages(k, nid, start_pfn, nr_pages, altmap, pgmap)


def arch_remove_memory(k: Kernel, start: int, size: int, altmap: VmemAltmap | None = None) -> None:
    """Take the sections of ``[start, start + size)`` (physical bytes) away; nothing is flushed."""
    shift = k.config.page_shift
    __remove_pages(k, start >> shift, size >> shift, altmap)


# Struct pages ------------------------------------------------------------------------------------------------


def vmemmap_builder(k: Kernel) -> VmemmapBuilder:
    """What entries of the vmemmap look like; each PMD leaf costs a flush of everything: ``set_pmd_at()``."""
    size = k.config.pmd_size

    def vmemmap_set_pmd(span: Span) -> None:
        flush_tlb_all(k, -(-span.end // size) - span.start // size)

    return VmemmapBuilder(
        page_prot=PAGE_KERNEL,
        pmd_prot=PAGE_KERNEL_HUGE,
        table_bits=PAGE_TABLE,
        check_pmd=lambda entry, _: bool(k.hw.fmt.is_leaf(entry, 1)),
        set_pmd=vmemmap_set_pmd,
    )


def vmemmap_populate(k: Kernel, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
    """Map the struct pages at ``[start, end)`` (addresses). Raises ENOMEM; what was mapped by then stays.

    A PMD leaf is taken whole for a section that needs a part of it; later sections find it there.
    """
    if loongarch(k.config).vmemmap_altmap == "none":
        altmap = None
    fill = vmemmap_populate_hugepages if k.config.vmemmap_huge else vmemmap_populate_basepages
    fill(k, start, end, nid, altmap, vmemmap_builder(k))


def vmemmap_free(k: Kernel, start: int, end: int, altmap: VmemAltmap | None) -> None:
    """Nothing: leaves, their storage and the tables stay. Memory added again at the same place finds them.

    Or, in a kernel that chooses so, take away the leaves that struct pages of no section are on any more.
    """
    if loongarch(k.config).vmemmap_free == "nothing":
        return
    page = k.config.page_size
    low, high = align_down(start, page), align_up(end, page)
    edges = Span(low, low + page), Span(high - page, high)
    span = Span(low + (page if _in_use(k, edges[0]) else 0), high - (page if _in_use(k, edges[1]) else 0))
    if not span:
        return
    how = Remover(
        free_table=lambda frames, _: free_tables(k, frames, FREE),
        free_storage=lambda frames, _: free_memmap(k, frames, altmap, FREE),
        part_leaf=lambda table, index, _: not _in_use(k, _addresses(k, table, index)),
        table="clear-flush-free",
        table_flush=FlushPlan(FLUSH_TLB_ALL),
        where=FREE,
    )
    how, free_gathered = gathered(k.hw, how, storage_late=True, tables_late=False)
    unmap(k.hw, k.init_mm, span.start, span.end, how)
    flush_tlb_all(k)
    free_gathered()


def _addresses(k: Kernel, table: Table, index: int) -> Span:
    size = k.hw.fmt.levels[table.height].size
    return Span(table.va + index * size, table.va + (index + 1) * size)


def _in_use(k: Kernel, vas: Span) -> bool:
    """Whether struct pages lie at some of these addresses whose sections have them."""
    vas = vas.clip(k.layout.vmemmap.span)
    per = k.config.pages_per_section
    first, last = k.layout.page_to_pfn(vas.start), k.layout.page_to_pfn(vas.end - 1)
    sections = k.mem_section.runs(first // per, last // per + 1)
    return any(section.early for _, _, section in sections) or k.subsection_map.covered(first, last + 1) > 0
