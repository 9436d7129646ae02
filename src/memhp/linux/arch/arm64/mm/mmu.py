"""arm64: the direct map at boot and for hot-added memory, and the struct pages of it: ``arch/arm64/mm/mmu.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import nullcontext
from dataclasses import replace
from errno import ENOMEM
from functools import partial

from memhp.errors import KernelBug, KernelError, KernelPanic
from memhp.hw.tlb import FlushPlan
from memhp.linux.arch.arm64.choices import arm64
from memhp.linux.arch.arm64.format import CONTIGUOUS, PRESENT_INVALID, VALID
from memhp.linux.arch.arm64.include.asm import pgtable_prot
from memhp.linux.arch.arm64.include.asm.pgtable_prot import page_kernel_ram, table_bits, vmemmap_block
from memhp.linux.arch.arm64.include.asm.tlbflush import (
    CLEAR_FIXMAP,
    FLUSH_TLB_KERNEL_PGTABLE,
    flush_kernel_range,
    flush_tlb_all,
    flush_tlb_kernel_range,
)
from memhp.linux.arch.arm64.mm.huge_vmap import arch_vmap_supported, pmd_free_pte_page, pud_free_pmd_page
from memhp.linux.arch.arm64.mm.memory_remove import prevent_memory_remove_init
from memhp.linux.init_text import call_page_table_code
from memhp.linux.kernel.panic import warn
from memhp.linux.mm import access, pgd
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.dev_pagemap import DevPagemap
from memhp.linux.mm.memblock import MEMBLOCK_NOMAP, memblock_setclr_flag
from memhp.linux.mm.memory_hotplug_pages import __add_pages, __remove_pages
from memhp.linux.mm.oom_kill import out_of_memory
from memhp.linux.mm.pgalloc import alloc_tables, by_reserved, free_memmap, free_tables
from memhp.linux.mm.pgtable_populate import Builder, FixmapSlot, RootLock, populate
from memhp.linux.mm.pgtable_remove import Remover, free_empty_tables, unmap
from memhp.linux.mm.ptdesc import pagetable_ctor
from memhp.linux.mm.sparse_vmemmap import VmemmapBuilder, vmemmap_populate_basepages, vmemmap_populate_hugepages
from memhp.linux.mm.util import end_of_memory_grows, set_end_of_memory
from memhp.linux.place import LEVELS, Descent, by_height, here, kernel_function, of_file
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_down

KERNEL_FILE = "arch/arm64/mm/mmu.c"
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

CREATE = f"{KERNEL_FILE}:__create_pgd_mapping"
UNMAP = f"{KERNEL_FILE}:unmap_hotplug_range"
FREE_TABLE = f"{KERNEL_FILE}:free_hotplug_pgtable_page"
FREE_EMPTY = f"{KERNEL_FILE}:free_empty_tables"
CREATE_LEVELS = Descent(
    leaf=by_height(KERNEL_FILE, "init_pte", "init_pmd", "alloc_init_pud"),
    fill=by_height(
        KERNEL_FILE, "init_pte", "alloc_init_cont_pte", "alloc_init_cont_pmd", "alloc_init_pud", "alloc_init_p4d"
    ),
)
UNMAP_LEVELS = Descent(
    unmap=by_height(KERNEL_FILE, *(f"unmap_hotplug_{level}_range" for level in LEVELS[:4]), "unmap_hotplug_range"),
    free=by_height(KERNEL_FILE, *(f"free_empty_{level}_table" for level in LEVELS[:4]), "free_empty_tables"),
)
EVERYWHERE = Span(0, 1 << 64)
OOPS = access.Oops(
    "Unable to handle kernel paging request at virtual address {va:016x}", "arch/arm64/mm/fault.c:die_kernel_fault"
)


# Boot --------------------------------------------------------------------------------------------------------


def paging_init(k: Kernel) -> None:
    """Map all boot memory: ``map_mem()``. The kernel image's alias is mapped like the rest."""
    k.pgd[pgd.INIT_MM] = pgd.alloc_root(k, pgd.INIT_MM, here())
    for memory in k.memblock.for_each_mem_range():
        create_pgd_mapping(k, memory.start, memory.end, page_kernel_ram(k.config))


@of_file("arch/arm64/mm/init.c")
def mem_init(k: Kernel) -> None:
    """Early initcalls: the notifier that keeps boot memory online, and the table that vmalloc and vmemmap share, if so
    chosen.
    """
    prevent_memory_remove_init(k)
    if arm64(k.config).shared_table == "at-boot":
        shared = k.layout.vmemmap._replace(end=k.layout.vmemmap.start + 1)
        pgd.preallocate_pgd_pages_range(k, shared, table_bits(k.config), here())


@kernel_function("arch/arm64/mm/pgd.c:pgd_alloc")
def copy_pgd(k: Kernel, mm: str) -> None:
    """A new process: TTBR1 stays what it is, the kernel's half is one table for all."""
    pgd.copy_kernel_half(k, mm, here())


@kernel_function("arch/arm64/mm/fault.c:do_translation_fault")
def kernel_access(k: Kernel, mm: str, va: int) -> access.Outcome:
    """Read a byte in the kernel, in the address space `mm`. Raises :class:`KernelBug` when that oopses."""
    return access.kernel_access(k, mm, va, OOPS)


# Direct map --------------------------------------------------------------------------------------------------


@kernel_function(f"{KERNEL_FILE}:__create_pgd_mapping")
def create_pgd_mapping(k: Kernel, start: int, end: int, prot: int) -> None:
    """Map ``[start, end)`` (physical bytes, whole pages) in the direct map: ``__create_pgd_mapping()``.

    With base pages only, or with blocks and the contiguous hint, as the configuration says. Raises ENOMEM if this
    kernel can fail here.
    """
    record = arm64(k.config)
    blocks = not k.config.direct_map_base_pages
    how = Builder(
        leaves=frozenset(h for h, level in enumerate(k.hw.fmt.levels) if h == 0 or (blocks and level.leaf)),
        new_table=partial(_pgtable_alloc, k),
        link="before-fill",
        occupied="bug-or-descend" if record.block_over_table == "descend" else "bug-or-keep",
        table_bits=table_bits(k.config, of="direct map"),
        contiguous=CONTIGUOUS if blocks else 0,
        root=_root_lock(k),
        slot=_slot(k),
        names=CREATE_LEVELS,
        where=here(),
    )
    va = k.layout.phys_to_virt(start)
    with k.hw.locked("fixmap_lock") if record.create_lock == "fixmap_lock" else nullcontext():
        populate(k.hw, k.init_mm, va, va + end - start, start >> k.config.page_shift, prot, how)


def _pgtable_alloc(k: Kernel, height: int, count: int) -> list[Span]:
    """``early_pgtable_alloc()``, ``__pgd_pgtable_alloc()``."""
    name = f"arch/arm64/mm/mmu.c:{'__pgd_pgtable_alloc' if k.slab_is_available else 'early_pgtable_alloc'}"
    frames = alloc_tables(k, height, count, name)
    while not frames and k.slab_is_available and out_of_memory(k):
        frames = alloc_tables(k, height, count, name)
    if not frames:
        if not k.slab_is_available:
            raise KernelPanic("Failed to allocate page table page", place=name)
        if not arm64(k.config).create_may_fail:
            raise KernelBug("BUG_ON: no memory for a page table of the direct map", place=name)
        raise KernelError(
            ENOMEM,
            "no memory for a page table of the direct map",
            place=CREATE,
            advice="free memory, or add less memory at a time",
        )
    if k.slab_is_available and arm64(k.config).table_ctor:
        pagetable_ctor(k, frames)
    return frames


def _slot(k: Kernel) -> FixmapSlot:
    return FixmapSlot(k.layout.fixmap.start, CLEAR_FIXMAP)


def _root_lock(k: Kernel) -> RootLock | None:
    """``set_swapper_pgd()``: the root table is read-only from ``mark_rodata_ro()`` on."""
    return RootLock("swapper_pgdir_lock", _slot(k)) if k.initmem_freed else None


# Removal -----------------------------------------------------------------------------------------------------


@kernel_function(f"{KERNEL_FILE}:__remove_pgd_mapping")
def remove_pgd_mapping(k: Kernel, start: int, size: int) -> None:
    """Take ``[start, start + size)`` (physical bytes) out of the direct map: ``__remove_pgd_mapping()``."""
    va = k.layout.phys_to_virt(start)
    span = Span(va, va + size)
    how = _remover(k, vmemmap=False)
    _unmap_hotplug_range(k, span, how)
    if arm64(k.config).end_flush == "direct-map-range":
        flush_tlb_kernel_range(k, span)
    _free_empty_tables(k, span, Span(k.layout.page_offset, k.layout.direct_map.end), how)


def _remover(k: Kernel, *, vmemmap: bool) -> Remover:
    """How leaves go, and tables in the same descent where there is but one."""
    record = arm64(k.config)
    return Remover(
        free_table=lambda frames, height: free_tables(k, frames, FREE_TABLE, height, record.table_dtor),
        leaf_flush=_leaf_flush(k, vmemmap=vmemmap),
        table="clear-flush-free" if record.remove_passes == 1 else "kept",
        table_flush=FLUSH_TLB_KERNEL_PGTABLE,
        after_leaf_table=partial(flush_kernel_range, k) if record.pte_table_flush == "range" else None,
        keep_root_children=False,
        expected=VALID | PRESENT_INVALID,
        unexpected=partial(warn, k),
        root=_root_lock(k),
        names=UNMAP_LEVELS,
        where=UNMAP,
    )


def _leaf_flush(k: Kernel, *, vmemmap: bool) -> tuple[FlushPlan, ...]:
    """The flush for each leaf that goes, by height. One page of a block is enough to invalidate it."""
    kind = arm64(k.config).leaf_flush
    if kind == "none" or (kind.endswith("of-vmemmap") and not vmemmap):
        return ()
    whole, page = kind.startswith("each-range"), k.config.page_size
    return tuple(flush_kernel_range(k, level.size if whole else page) for level in k.hw.fmt.levels)


def _unmap_hotplug_range(k: Kernel, span: Span, how: Remover) -> None:
    """Remove the leaves of the addresses in `span`."""
    with k.hw.locked(pgd.PAGE_TABLE_LOCK) if arm64(k.config).remove_lock == "whole-range" else nullcontext():
        unmap(k.hw, k.init_mm, span.start, span.end, how)


def _free_empty_tables(k: Kernel, span: Span, limits: Span, how: Remover) -> None:
    """The second descent: free tables that hold nothing and translate nothing outside `limits`, if that counts."""
    if arm64(k.config).remove_passes == 2:
        within = limits if arm64(k.config).free_empty_tables == "floor-ceiling" else EVERYWHERE
        tables = replace(how, table="clear-flush-free", where=FREE_EMPTY)
        free_empty_tables(k.hw, k.init_mm, span.start, span.end, within, tables)


# Hotplug -----------------------------------------------------------------------------------------------------


@kernel_function("arch/arm64/include/asm/pgtable.h:pgprot_tagged")
def pgprot_mhp(k: Kernel) -> int:
    """Attributes of hot-added memory in the direct map: ``pgprot_mhp(PAGE_KERNEL)``."""
    return page_kernel_ram(k.config)


def page_kernel(k: Kernel) -> int:
    """Attributes of ordinary kernel memory, which a device's memory gets too: ``PAGE_KERNEL``."""
    return pgtable_prot.page_kernel(k.config)


@kernel_function(None)
def pgprot_noncached(k: Kernel, prot: int) -> int:
    """The same attributes for memory that no cache may hold: Device-nGnRnE."""
    return pgtable_prot.pgprot_noncached(k.config, prot)


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
    """Give ``[start, start + size)`` (physical bytes) a direct map and struct pages; neither, if one of them fails."""
    call_page_table_code(k, CREATE)
    shift = k.config.page_shift
    try:
        create_pgd_mapping(k, start, start + size, pgprot_mhp(k) if pgprot is None else pgprot)
        memblock_setclr_flag(k.memblock.memory, start, size, MEMBLOCK_NOMAP, clear=True)
        add_pages(k, nid, start >> shift, size >> shift, altmap, pgmap)
    except KernelError:
        remove_pgd_mapping(k, start, size)
        raise
    last = arm64(k.config).max_pfn == "last-added"
    (set_end_of_memory if last else end_of_memory_grows)(k, (start + size) >> shift)


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
    """Take the struct pages and the direct map of ``[start, start + size)`` (physical bytes) away."""
    shift = k.config.page_shift
    __remove_pages(k, start >> shift, size >> shift, altmap)
    remove_pgd_mapping(k, start, size)


def vmemmap_builder(k: Kernel) -> VmemmapBuilder:
    """What entries of the vmemmap look like."""
    any_pmd = arm64(k.config).vmemmap_check_pmd == "anything"
    return VmemmapBuilder(
        page_prot=pgtable_prot.page_kernel(k.config),
        pmd_prot=vmemmap_block(k.config),
        table_bits=table_bits(k.config),
        root_bits=partial(_root_bits, k),
        check_pmd=lambda entry, _: any_pmd or bool(k.hw.fmt.is_leaf(entry, 1)),
        root=_root_lock(k),
    )


def _root_bits(k: Kernel, va: int) -> int:
    """What the root entry for an address carries: boot has made those of the image and of the fixmap by then.

    By ``map_range()`` (before 6.9 ``map_kernel()``) and ``early_fixmap_init()``.
    """
    size = k.hw.fmt.levels[-1].size
    entry = Span(align_down(va, size), align_down(va, size) + size)
    if k.layout.kernel.span.overlaps(entry):
        return table_bits(k.config, of="image")
    assert k.layout.fixmap is not None
    return table_bits(k.config, of="fixmap" if k.layout.fixmap.start in entry else "vmemmap")


def vmemmap_populate(k: Kernel, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
    """Map the struct pages at ``[start, end)`` (addresses). Raises ENOMEM; what was mapped by then stays."""
    record = arm64(k.config)
    how = vmemmap_builder(k)
    if record.vmemmap_altmap == "none":
        altmap = None
    if record.vmemmap_populate == "draft-consolidated":
        _consolidated_draft(k, Span(start, end), nid, how)
        return
    part = record.vmemmap_subsection == "base" and end - start < k.config.memmap_bytes_per_section
    fill = vmemmap_populate_hugepages if k.config.vmemmap_huge and not part else vmemmap_populate_basepages
    fill(k, start, end, nid, altmap, how)


def _consolidated_draft(k: Kernel, span: Span, nid: int, how: VmemmapBuilder) -> None:
    """``vmemmap_populate()`` as drafted in March 2020: it goes by PMD entries, and sets one leaf a call for each.

    Taken as meant where it steps from an uninitialised pointer to the PMD table.
    """
    if k.config.vmemmap_huge:
        vmemmap_populate_hugepages(k, span.start, span.end, nid, None, how)
        return
    sizes = (k.config.pmd_size, k.config.memmap_bytes_per_section)
    at = span.start
    while at < span.end:
        vmemmap_populate_basepages(k, at, at + k.config.page_size, nid, None, how)
        at = min((at // size + 1) * size for size in sizes)


def vmemmap_free(k: Kernel, start: int, end: int, altmap: VmemAltmap | None) -> None:
    """Unmap the struct pages at ``[start, end)`` (addresses) and give their storage back."""
    record = arm64(k.config)
    span = Span(start, end)
    own = None if record.vmemmap_altmap == "none" else altmap
    how = replace(
        _remover(k, vmemmap=True),
        free_storage=lambda frames, _: free_hotplug_page_range(k, frames, own),
        storage="free-then-clear" if record.storage_freed == "before-clear" else "clear-then-free",
    )
    _unmap_hotplug_range(k, span, how)
    kept = record.free_empty_tables == "never" or (
        record.free_empty_tables == "if-no-vmalloc-overlap" and k.layout.vmalloc_vmemmap_overlap
    )
    if not kept:
        _free_empty_tables(k, span, k.layout.vmemmap.span, how)


def free_hotplug_page_range(k: Kernel, frames: list[Span], altmap: VmemAltmap | None) -> None:
    """Give the frames (PFNs) of struct pages back; that boot reserved them is not expected."""
    place = here()
    if altmap is None and any(reserved for span in frames for _, reserved in by_reserved(k, span)):
        warn(k, place)
    free_memmap(k, frames, altmap, place)
