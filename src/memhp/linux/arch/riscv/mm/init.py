"""riscv: the direct map at boot and for hot-added memory, and the struct pages of it: ``arch/riscv/mm/init.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from memhp.errors import KernelBug, KernelError, KernelPanic
from memhp.hw.ledger import Violation
from memhp.linux.arch.riscv.choices import riscv
from memhp.linux.arch.riscv.include.asm.pgtable_bits import PAGE_KERNEL, PAGE_TABLE, PRESENT
from memhp.linux.arch.riscv.mm.pgtable import arch_vmap_supported, pmd_free_pte_page, pud_free_pmd_page
from memhp.linux.arch.riscv.mm.tlbflush import flush_all, flush_kernel_range, flush_tlb_all, flush_tlb_kernel_range
from memhp.linux.areas import Area
from memhp.linux.choices import TableDtor
from memhp.linux.init_text import call_page_table_code
from memhp.linux.mm import access, pgd
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.dev_pagemap import DevPagemap
from memhp.linux.mm.memory_hotplug_pages import __add_pages, __remove_pages
from memhp.linux.mm.oom_kill import out_of_memory
from memhp.linux.mm.pgalloc import alloc_tables, free_memmap, free_tables
from memhp.linux.mm.pgtable_populate import Builder, populate
from memhp.linux.mm.pgtable_remove import Remover, gathered, unmap
from memhp.linux.mm.ptdesc import pagetable_ctor
from memhp.linux.mm.sparse_vmemmap import VmemmapBuilder, vmemmap_populate_basepages, vmemmap_populate_hugepages
from memhp.linux.mm.util import end_of_memory_grows, set_end_of_memory
from memhp.linux.place import LEVELS, Descent, by_height, here, kernel_function, of_file
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_down, align_up

KERNEL_FILE = "arch/riscv/mm/init.c"
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

CREATE = f"{KERNEL_FILE}:create_pgd_mapping"
REMOVE = f"{KERNEL_FILE}:remove_pgd_mapping"
CREATE_LEVELS = by_height(KERNEL_FILE, *(f"create_{level}_mapping" for level in LEVELS))
REMOVE_LEVELS = Descent(
    unmap=by_height(KERNEL_FILE, *(f"remove_{level}_mapping" for level in LEVELS)),
    free=by_height(KERNEL_FILE, "free_pte_table", "free_pmd_table", "free_pud_table"),
)
OOPS = access.Oops(
    "Unable to handle kernel paging request at virtual address {va:016x}", "arch/riscv/mm/fault.c:no_context"
)


# Boot --------------------------------------------------------------------------------------------------------


def paging_init(k: Kernel) -> None:
    """Map all boot memory: ``setup_vm_final()``."""
    k.pgd[pgd.INIT_MM] = pgd.alloc_root(k, pgd.INIT_MM, f"{KERNEL_FILE}:setup_vm_final")
    for memory in k.memblock.for_each_mem_range():
        create_linear_mapping_range(k, memory.start, memory.end, PAGE_KERNEL)


@kernel_function(f"{KERNEL_FILE}:preallocate_pgd_pages_range")
def mem_init(k: Kernel) -> None:
    """Fill the root entries of areas that processes copy: ``pgtable_cache_init()``, v1 ``prepare_memory_hotplug()``."""
    layout = k.layout
    areas: dict[str, Area | None] = {
        "vmalloc": layout.vmalloc,
        "modules": layout.modules._replace(name="bpf/modules"),
        "vmemmap": layout.vmemmap,
        "direct map": layout.direct_map,
        "kasan": layout.kasan,
    }
    for name in riscv(k.config).areas_filled_at_boot:
        area = areas[name]
        if area is not None:
            pgd.preallocate_pgd_pages_range(k, area, PAGE_TABLE, here())


@kernel_function("arch/riscv/include/asm/pgalloc.h:pgd_alloc")
def copy_pgd(k: Kernel, mm: str) -> None:
    """A new process: ``pgd_alloc()`` copies the kernel's half. Raises ENOMEM."""
    pgd.copy_kernel_half(k, mm, here())


@kernel_function("arch/riscv/mm/fault.c:handle_page_fault")
def kernel_access(k: Kernel, mm: str, va: int) -> access.Outcome:
    """Read a byte in the kernel, in the address space `mm`. Raises :class:`KernelBug` when that oopses."""
    return access.kernel_access(k, mm, va, OOPS)


# Direct map --------------------------------------------------------------------------------------------------


class Stretch(NamedTuple):
    """Part of a range that is mapped with leaves of one height: `leaves` of them, from physical byte `pa` on."""

    pa: int
    height: int
    leaves: int


def best_map_sizes(k: Kernel, start: int, end: int) -> Iterator[Stretch]:
    """The leaves that ``create_linear_mapping_range()`` maps ``[start, end)`` (physical bytes) with, in order."""
    levels = k.hw.fmt.levels
    by_pa = riscv(k.config).map_size == "physical"
    highest = k.hw.fmt.root_height - (0 if by_pa else 1)
    heights = [0] if k.config.direct_map_base_pages else range(highest + 1)
    skew = 0 if by_pa else k.layout.page_offset - k.layout.phys_offset
    fits = [h for h in heights if skew % levels[h].size == 0]
    pa = start
    while pa < end:
        height = max(h for h in fits if h == 0 or (pa % levels[h].size == 0 and end - pa >= levels[h].size))
        stop = align_down(end, levels[height].size)
        for larger in (levels[h].size for h in fits if h > height):
            boundary = align_up(pa, larger)
            if end - boundary >= larger:
                stop = min(stop, boundary)
        count = (stop - pa) >> levels[height].shift
        yield Stretch(pa, height, count)
        pa = stop


def create_linear_mapping_range(k: Kernel, start: int, end: int, prot: int) -> None:
    """Map ``[start, end)`` (physical bytes, whole pages) in the direct map; what is mapped already stays as it is."""
    fill = (*CREATE_LEVELS[: k.hw.fmt.root_height], CREATE)
    for stretch in best_map_sizes(k, start, end):
        level = k.hw.fmt.levels[stretch.height]
        how = Builder(
            leaves=frozenset((stretch.height,)),
            new_table=partial(_alloc_table, k),
            link="before-fill",
            occupied="keep",
            table_bits=PAGE_TABLE,
            names=Descent(leaf=CREATE_LEVELS, fill=fill),
            where=CREATE,
        )
        for at, n in k.hw.batches(0, stretch.leaves):
            pa = stretch.pa + at * level.size
            va = align_down(k.layout.phys_to_virt(pa), level.size)
            populate(k.hw, k.init_mm, va, va + n * level.size, pa >> k.config.page_shift, prot, how)
    _sync(k, Span(k.layout.phys_to_virt(start), k.layout.phys_to_virt(start) + end - start))


def _sync(k: Kernel, span: Span) -> None:
    """Bring new root entries to existing processes, in a kernel that does so: riscv ones have them from boot on."""
    if riscv(k.config).syncs_root_entries:
        pgd.sync_root_entries(k, span, CREATE)


def _alloc_table(k: Kernel, height: int, count: int) -> list[Span]:
    """``alloc_pte_late()`` and its kin; while booting the ``_fixmap`` ones."""
    name = f"arch/riscv/mm/init.c:alloc_{pgd.LEVEL_NAMES[height]}_{'late' if k.slab_is_available else 'fixmap'}"
    frames = alloc_tables(k, height, count, name)
    while not frames and k.slab_is_available and out_of_memory(k):
        frames = alloc_tables(k, height, count, name)
    if not frames:
        if not k.slab_is_available:
            raise KernelPanic("no memory for page tables", place=name)
        raise KernelBug("BUG_ON: no memory for a page table of the direct map", place=name)
    if k.slab_is_available and (height < 2 or riscv(k.config).table_ctor == "all"):
        pagetable_ctor(k, frames)
    return frames


def remove_linear_mapping(k: Kernel, start: int, size: int) -> None:
    """Take ``[start, start + size)`` (physical bytes) out of the direct map."""
    va = k.layout.phys_to_virt(start)
    remove_pgd_mapping(k, va, va + size, _remover(k, vmemmap=False), 1)


def _remover(k: Kernel, *, vmemmap: bool) -> Remover:
    """How leaves and tables go: storage behind its entry, tables before theirs, unless this kernel flushes first.

    A fence for an address leaves cached pointers to tables alone, so that a table takes a flush of everything.
    """
    record = riscv(k.config)
    each = record.leaf_flush == "each-range"
    return Remover(
        free_table=partial(_free_tables, k, vmemmap),
        storage="free-then-clear" if record.storage_freed == "before-clear" else "clear-then-free",
        leaf_flush=tuple(flush_kernel_range(k, level.size) for level in k.hw.fmt.levels) if each else (),
        table="clear-flush-free" if record.table_freed == "after-flush" else "free-then-clear",
        table_flush=flush_all(k) if each else None,
        present=PRESENT,
        names=REMOVE_LEVELS,
        where=REMOVE,
    )


def remove_pgd_mapping(k: Kernel, va: int, end: int, how: Remover, calls: int) -> None:
    """Unmap ``[va, end)`` and flush everything; `calls` of them were made for as many parts of the range."""
    record = riscv(k.config)
    once = record.leaf_flush == "none"
    how, free_gathered = gathered(
        k.hw,
        how,
        storage_late=once and record.storage_freed == "after-flush",
        tables_late=once and record.table_freed == "after-flush",
    )
    if record.folded_levels == "indexed" and k.hw.fmt.root_height < 4:
        entries = k.hw.fmt.levels[-1].entries
        text = f"entries beyond the {entries} of the root table are taken for those of {va:#x}-{end:#x}"
        k.hw.violations.append(Violation("page-tables", text, f"{KERNEL_FILE}:remove_p4d_mapping"))
    else:
        unmap(k.hw, k.init_mm, va, end, how)
    if record.end_flush == "all":
        flush_tlb_all(k, calls)
    free_gathered()


def _free_tables(k: Kernel, vmemmap: bool, spans: list[Span], height: int) -> None:
    """``free_pte_table()`` and its kin, which run the destructor by their level, and by whose table it is."""
    kind = riscv(k.config).table_dtor
    counted = {"none": (), "pte-pmd": (0, 1), "pte-own-pmd": (0,) if vmemmap else (0, 1)}
    dtor: TableDtor = "constructed" if kind == "constructed" else "all" if height in counted[kind] else "none"
    free_tables(k, spans, REMOVE_LEVELS.free[height], height, dtor)


# Hotplug -----------------------------------------------------------------------------------------------------


@of_file("include/linux/pgtable.h")
def pgprot_mhp(k: Kernel) -> int:
    """Attributes of hot-added memory in the direct map: ``pgprot_mhp(PAGE_KERNEL)``."""
    return PAGE_KERNEL


def page_kernel(k: Kernel) -> int:
    """Attributes of ordinary kernel memory, which a device's memory gets too: ``PAGE_KERNEL``."""
    return PAGE_KERNEL


@of_file("arch/riscv/include/asm/pgtable.h")
def pgprot_noncached(k: Kernel, prot: int) -> int:
    """The same attributes for memory that no cache may hold: ``_PAGE_IO`` of Svpbmt, which the CPU here lacks."""
    return prot


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
    """Give ``[start, start + size)`` (physical bytes) a direct map and struct pages; neither, if the latter fail."""
    call_page_table_code(k, f"{KERNEL_FILE}:create_linear_mapping_range")
    shift = k.config.page_shift
    create_linear_mapping_range(k, start, start + size, pgprot_mhp(k) if pgprot is None else pgprot)
    if riscv(k.config).add_flush == "before-add-pages":
        flush_tlb_all(k)
    try:
        add_pages(k, nid, start >> shift, size >> shift, altmap, pgmap)
        last = riscv(k.config).max_pfn == "last-added"
        (set_end_of_memory if last else end_of_memory_grows)(k, (start + size) >> shift)
    except KernelError:
        remove_linear_mapping(k, start, size)
        raise
    finally:
        if riscv(k.config).add_flush == "end":
            flush_tlb_all(k)


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
    remove_linear_mapping(k, start, size)
    if riscv(k.config).remove_extra_flush:
        flush_tlb_all(k)


def vmemmap_builder(k: Kernel) -> VmemmapBuilder:
    """What entries of the vmemmap look like."""
    any_pmd = riscv(k.config).vmemmap_check_pmd == "anything"
    return VmemmapBuilder(
        page_prot=PAGE_KERNEL,
        pmd_prot=PAGE_KERNEL,
        table_bits=PAGE_TABLE,
        check_pmd=lambda entry, _: any_pmd or bool(k.hw.fmt.is_leaf(entry, 1)),
    )


def vmemmap_populate(k: Kernel, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
    """Map the struct pages at ``[start, end)`` (addresses). Raises ENOMEM; what was mapped by then stays."""
    how = vmemmap_builder(k)
    if riscv(k.config).vmemmap_altmap == "none":
        altmap = None
    fill = vmemmap_populate_hugepages if k.config.vmemmap_huge else vmemmap_populate_basepages
    try:
        fill(k, start, end, nid, altmap, how)
    finally:
        _sync(k, Span(start, end))


def vmemmap_free(k: Kernel, start: int, end: int, altmap: VmemAltmap | None) -> None:
    """Unmap the struct pages at ``[start, end)`` (addresses) and give their storage back; a call for each section."""
    place = f"{KERNEL_FILE}:free_vmemmap_storage"
    how = replace(_remover(k, vmemmap=True), free_storage=lambda frames, _: free_memmap(k, frames, altmap, place))
    remove_pgd_mapping(k, start, end, how, -(-(end - start) // k.config.memmap_bytes_per_section))
