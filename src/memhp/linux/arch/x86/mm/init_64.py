"""x86-64: direct map and struct pages, at boot and for hot-added memory: ``arch/x86/mm/init_64.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from errno import ENOMEM, ERANGE
from functools import partial

from memhp.errors import KernelBug, KernelError, KernelPanic
from memhp.hw.tlb import FlushPlan, Table
from memhp.linux.arch.x86.choices import x86
from memhp.linux.arch.x86.include.asm.pgtable_types import PAGE_KERNEL, PAGE_TABLE, PCD, PRESENT
from memhp.linux.arch.x86.mm.init import MapRange, init_mem_mapping, init_memory_mapping
from memhp.linux.arch.x86.mm.pgtable import arch_vmap_supported, pmd_free_pte_page, pud_free_pmd_page
from memhp.linux.arch.x86.mm.tlb import flush_all, flush_kernel_range, flush_tlb_all, flush_tlb_kernel_range
from memhp.linux.arch.x86.mm.vmemmap_sub_pmd import (
    parts_of_leaves,
    vmemmap_pmd_is_unused,
    vmemmap_use_new_sub_pmds,
    vmemmap_use_sub_pmd,
)
from memhp.linux.init_text import call_page_table_code
from memhp.linux.kernel.panic import warn
from memhp.linux.mm import access, pgd
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.dev_pagemap import DevPagemap
from memhp.linux.mm.memory_hotplug_pages import __add_pages, __remove_pages
from memhp.linux.mm.pgalloc import alloc_tables, free_memmap, free_tables
from memhp.linux.mm.pgtable_populate import Builder, populate
from memhp.linux.mm.pgtable_remove import Remover, gathered, unmap
from memhp.linux.mm.sparse_vmemmap import (
    VmemmapBuilder,
    VmemmapPopulateError,
    vmemmap_populate_basepages,
    vmemmap_populate_hugepages,
)
from memhp.linux.mm.util import end_of_memory_grows
from memhp.linux.place import LEVELS, Descent, by_height, here, kernel_function, of_file
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "arch/x86/mm/init_64.c"
__all__ = [
    "add_pages",
    "arch_add_memory",
    "arch_get_mappable_range",
    "arch_remove_memory",
    "arch_vmap_supported",
    "copy_pgd",
    "flush_tlb_all",
    "flush_tlb_kernel_range",
    "kernel_access",
    "mem_init",
    "page_kernel",
    "paging_init",
    "pgprot_mhp",
    "pgprot_noncached",
    "pmd_free_pte_page",
    "pud_free_pmd_page",
    "vmemmap_builder",
    "vmemmap_free",
    "vmemmap_populate",
]

MAPPING = f"{KERNEL_FILE}:kernel_physical_mapping_init"
REMOVE = f"{KERNEL_FILE}:remove_pagetable"
FREE_TABLE = f"{KERNEL_FILE}:free_pagetable"
SAFE = "arch/x86/include/asm/pgalloc.h:pud_populate_safe"
INIT_LEVELS = by_height(KERNEL_FILE, *(f"phys_{level}_init" for level in LEVELS[:4]), "__kernel_physical_mapping_init")
REMOVE_LEVELS = Descent(
    unmap=by_height(KERNEL_FILE, *(f"remove_{level}_table" for level in LEVELS[:4]), "remove_pagetable"),
    free=by_height(KERNEL_FILE, "free_pte_table", "free_pmd_table", "free_pud_table"),
)
NO_CPU_SUPPORT = "vmemmap_populate: no cpu support for altmap allocations"
OOPS = access.Oops("BUG: unable to handle page fault for address: {va:016x}", "arch/x86/mm/fault.c:show_fault_oops")


# Boot --------------------------------------------------------------------------------------------------------


def paging_init(k: Kernel) -> None:
    """Map all boot memory: ``init_mem_mapping()``. The kernel image's alias is mapped like the rest."""
    k.pgd[pgd.INIT_MM] = pgd.alloc_root(k, pgd.INIT_MM, "arch/x86/mm/init.c:init_mem_mapping")
    init_mem_mapping(k, lambda piece: kernel_physical_mapping_init(k, piece, PAGE_KERNEL))


@kernel_function(f"{KERNEL_FILE}:preallocate_vmalloc_pages")
def mem_init(k: Kernel) -> None:
    """Fill the root entries of the vmalloc area: ``preallocate_vmalloc_pages()``."""
    if "vmalloc" in x86(k.config).areas_filled_at_boot:
        where = here()
        pgd.preallocate_pgd_pages_range(k, k.layout.vmalloc, PAGE_TABLE, where)


@kernel_function("arch/x86/mm/pgtable.c:pgd_alloc")
def copy_pgd(k: Kernel, mm: str) -> None:
    """A new process: ``pgd_alloc()`` copies the kernel's half and lists the table. Raises ENOMEM."""
    pgd.copy_kernel_half(k, mm, here())


@kernel_function("arch/x86/mm/fault.c:do_kern_addr_fault")
def kernel_access(k: Kernel, mm: str, va: int) -> access.Outcome:
    """Read a byte in the kernel, in the address space `mm`. Raises :class:`KernelBug` when that oopses."""
    return access.kernel_access(k, mm, va, OOPS)


# Direct map --------------------------------------------------------------------------------------------------


def kernel_physical_mapping_init(k: Kernel, piece: MapRange, prot: int) -> None:
    """Map a piece in the direct map, with large leaves where they fit and base pages elsewhere.

    A piece that may have large leaves has them even where it covers them only in part. A leaf larger than the piece may
    have, which an earlier addition left, makes way for a table of smaller ones, with a warning; what of it lies outside
    the piece is mapped no more.
    """
    made: set[int] = set()

    def new_table(height: int, count: int) -> list[Span]:
        frames = _alloc_low_page(k, height, count)
        made.add(height)
        return frames

    size = k.hw.fmt.levels[max(piece.large, default=0)].size
    start, end = piece.start // size * size, -(-piece.end // size) * size
    how = Builder(
        leaves=piece.large | {0},
        new_table=new_table,
        link="before-fill" if x86(k.config).low_page_failure == "returned" else "after-fill",
        occupied="descend",
        table_bits=PAGE_TABLE,
        lock=pgd.PAGE_TABLE_LOCK if x86(k.config).populate_lock == "each-entry" else "",
        replaced=lambda: warn(k, SAFE, once=True),
        names=Descent(leaf=INIT_LEVELS, fill=(*INIT_LEVELS[: k.hw.fmt.root_height], INIT_LEVELS[-1])),
        where=here(),
    )
    va = k.layout.phys_to_virt(start)
    populate(k.hw, k.init_mm, va, va + end - start, start >> k.config.page_shift, prot, how)
    if k.hw.fmt.root_height - 1 in made:
        sync_global_pgds(k, Span(va, va + end - start))


def _alloc_low_page(k: Kernel, height: int, count: int) -> list[Span]:
    """``alloc_low_page()``, whose failure after boot nobody looks for."""
    name = "arch/x86/mm/init.c:alloc_low_pages"
    frames = alloc_tables(k, height, count, name)
    if not frames:
        if not k.slab_is_available:
            raise KernelPanic("alloc_low_pages: can not alloc memory", place=name)
        if x86(k.config).low_page_failure == "returned":
            raise KernelError(ENOMEM, "no memory for a page table of the direct map", place=name)
        raise KernelBug("BUG: kernel NULL pointer dereference: no memory for a page table", place=MAPPING)
    return frames


def sync_global_pgds(k: Kernel, span: Span) -> None:
    """Bring the root entries for the addresses in `span` to every process."""
    if x86(k.config).syncs_root_entries:
        pgd.sync_root_entries(k, span, here())


def arch_sync_kernel_mappings(k: Kernel, va: int) -> None:
    """Bring the root entry for an address to every process, as soon as it stands in init_mm."""
    sync_global_pgds(k, Span(va, va + 1))


# Removal -----------------------------------------------------------------------------------------------------


def remove_pagetable(k: Kernel, span: Span, how: Remover, calls: int = 1) -> None:
    """Unmap the addresses in `span` and flush everything; `calls` of them were made for as many parts of it."""
    record = x86(k.config)
    once = record.leaf_flush == "none"
    how, free_gathered = gathered(
        k.hw,
        how,
        storage_late=once and record.storage_freed == "after-flush",
        tables_late=once and record.table_freed == "after-flush",
    )
    unmap(k.hw, k.init_mm, span.start, span.end, how)
    if record.end_flush == "all":
        flush_tlb_all(k, calls)
    free_gathered()


def direct_map_remover(k: Kernel) -> Remover:
    """How leaves and tables of the direct map go: the tables that root entries point to stay.

    What an entry leads to is freed before the entry is cleared, unless this kernel flushes first.
    """
    record = x86(k.config)
    each = record.leaf_flush == "each-range"
    return Remover(
        free_table=lambda frames, height: free_tables(k, frames, FREE_TABLE, height, record.table_dtor),
        storage="free-then-clear" if record.storage_freed == "before-clear" else "clear-then-free",
        leaf_flush=tuple(flush_kernel_range(k, level.size) for level in k.hw.fmt.levels) if each else (),
        table="clear-flush-free" if record.table_freed == "after-flush" else "free-then-clear",
        table_flush=FlushPlan(flush_all(k.config)) if each else None,
        after_leaf_table=(lambda _: FlushPlan(flush_all(k.config))) if record.pte_table_flush == "all" else None,
        keep_root_children=True,
        present=PRESENT,
        part_leaf=_part_of_direct_map,
        lock=pgd.PAGE_TABLE_LOCK if record.remove_lock == "each-entry" else "",
        names=REMOVE_LEVELS,
        where=REMOVE,
    )


def _part_of_direct_map(table: Table, index: int, part: Span) -> bool:
    """Less than a leaf is to go: a PMD leaf stays, and ``remove_pud_table()`` takes a PUD leaf for a table."""
    if table.height > 1:
        raise KernelBug(
            f"the leaf for {part.start:#x} is to go in part, and is walked as if it pointed to a table",
            place=f"{KERNEL_FILE}:remove_pud_table",
        )
    return False


# Hotplug -----------------------------------------------------------------------------------------------------


@of_file("include/linux/pgtable.h")
def pgprot_mhp(k: Kernel) -> int:
    """Attributes of hot-added memory in the direct map: ``pgprot_mhp(PAGE_KERNEL)``."""
    return PAGE_KERNEL


def page_kernel(k: Kernel) -> int:
    """Attributes of ordinary kernel memory, which a device's memory gets too: ``PAGE_KERNEL``."""
    return PAGE_KERNEL


@kernel_function(None)
def pgprot_noncached(k: Kernel, prot: int) -> int:
    """The same attributes for memory that no cache may hold: UC-, which is PCD alone."""
    return prot | PCD


@of_file("mm/memory_hotplug.c")
def arch_get_mappable_range(k: Kernel) -> Span:
    """Physical bytes that the direct map can hold."""
    return k.layout.mappable_range()


def arch_add_memory(
    k: Kernel,
    nid: int,
    start: int,
    size: int,
    altmap: VmemAltmap | None = None,
    pgprot: int | None = None,
    pgmap: DevPagemap | None = None,
) -> None:
    """Give ``[start, start + size)`` (physical bytes) a direct map and struct pages.

    When either fails, what there is of the direct map stays, in every kernel.
    """
    call_page_table_code(k, MAPPING)
    prot = pgprot_mhp(k) if pgprot is None else pgprot
    try:
        init_memory_mapping(k, start, start + size, lambda piece: kernel_physical_mapping_init(k, piece, prot))
        add_pages(k, nid, start >> k.config.page_shift, size >> k.config.page_shift, altmap, pgmap)
    except KernelError:
        if k.config.profile.failed_add == "taken-back":
            _remove_direct_map(k, start, size)
        raise


def add_pages(
    k: Kernel,
    nid: int,
    start_pfn: int,
    nr_pages: int,
    altmap: VmemAltmap | None = None,
    pgmap: DevPagemap | None = None,
) -> None:
    """``__add_pages()``, of which no error is expected. Raises ERANGE too, in kernels that know where they can map."""
    knows = k.config.profile.pluggable_end == "PHYSMEM_END"
    if knows and (start_pfn + nr_pages) << k.config.page_shift > k.layout.physmem_end + 1:
        warn(k, here(), once=True)
        raise KernelError(ERANGE, "the range ends beyond what the direct map can hold", place=here())
    try:
        __add_pages(k, nid, start_pfn, nr_pages, altmap, pgmap)
    except KernelError:
        warn(k, here(), once=True)
        raise
    if pgmap is None or x86(k.config).max_pfn == "always":
        end_of_memory_grows(k, start_pfn + nr_pages)


def arch_remove_memory(k: Kernel, start: int, size: int, altmap: VmemAltmap | None = None) -> None:
    """Take the struct pages and the direct map of ``[start, start + size)`` (physical bytes) away."""
    shift = k.config.page_shift
    __remove_pages(k, start >> shift, size >> shift, altmap)
    _remove_direct_map(k, start, size)


def _remove_direct_map(k: Kernel, start: int, size: int) -> None:
    """``kernel_physical_mapping_remove()``."""
    va = k.layout.phys_to_virt(start)
    remove_pagetable(k, Span(va, va + size), direct_map_remover(k))


def vmemmap_builder(k: Kernel) -> VmemmapBuilder:
    """What entries of the vmemmap look like."""
    return VmemmapBuilder(
        page_prot=PAGE_KERNEL,
        pmd_prot=PAGE_KERNEL,
        table_bits=PAGE_TABLE,
        check_pmd=partial(_vmemmap_check_pmd, k),
        set_pmd=partial(_vmemmap_set_pmds, k),
        root_linked=partial(arch_sync_kernel_mappings, k)
        if x86(k.config).vmemmap_root_entries == "each-entry"
        else None,
    )


def vmemmap_populate(k: Kernel, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
    """Map the struct pages at ``[start, end)`` (addresses). Raises ENOMEM; what was mapped by then stays.

    Root entries reach every process section by section, after each that could be populated.
    """
    how = vmemmap_builder(k)
    whole = end - start >= k.config.memmap_bytes_per_section
    try:
        if whole and k.config.vmemmap_huge:
            vmemmap_populate_hugepages(k, start, end, nid, altmap, how)
        elif whole and altmap is not None:
            if k.warn_once(NO_CPU_SUPPORT):
                k.hw.log(NO_CPU_SUPPORT, "err")
            raise VmemmapPopulateError(start, "struct pages", here())
        else:
            vmemmap_populate_basepages(k, start, end, nid, None, how)
    except VmemmapPopulateError as error:
        section = k.config.memmap_bytes_per_section
        done = Span(start, start + max(0, error.address - start) // section * section)
        if done:
            sync_global_pgds(k, done)
        raise
    sync_global_pgds(k, Span(start, end))


def _vmemmap_set_pmds(k: Kernel, wanted: Span) -> None:
    """``vmemmap_set_pmd()``: of leaves that are wanted in part only, a struct page is written at once.

    By whichever process runs: an oops, if it may be one that lacks the root entry.
    """
    if x86(k.config).vmemmap_partial_pmd:
        for part in parts_of_leaves(k, wanted):
            for mm in list(k.pgd):
                kernel_access(k, mm, part.start)
    vmemmap_use_new_sub_pmds(k, wanted)


def _vmemmap_check_pmd(k: Kernel, entry: int, part: Span) -> bool:
    """``vmemmap_check_pmd()``: a leaf that is there will do, and more of it is in use from now on."""
    leaf = bool(k.hw.fmt.is_leaf(entry, 1))
    if leaf:
        vmemmap_use_sub_pmd(k, part)
    return leaf


def vmemmap_free(k: Kernel, start: int, end: int, altmap: VmemAltmap | None) -> None:
    """Unmap the struct pages at ``[start, end)`` (addresses) and give their storage back; a call for each section.

    Base pages are never an altmap's.
    """
    place = f"{KERNEL_FILE}:free_vmemmap_pages"
    how = replace(
        direct_map_remover(k),
        free_storage=lambda frames, height: free_memmap(k, frames, altmap if height else None, place),
        part_leaf=lambda _table, _index, part: vmemmap_pmd_is_unused(k, part),
    )
    remove_pagetable(k, Span(start, end), how, -(-(end - start) // k.config.memmap_bytes_per_section))
