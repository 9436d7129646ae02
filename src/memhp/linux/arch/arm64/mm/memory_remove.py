"""arm64: what may not go offline: boot memory, and ranges that end within a leaf. From ``arch/arm64/mm/mmu.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable

from memhp.linux.arch.arm64.choices import arm64
from memhp.linux.arch.arm64.format import VALID
from memhp.linux.arch.arm64.include.asm.pgtable_prot import pte_present
from memhp.linux.arch.arm64.mm.split_kernel_leaf import PGTABLE_SPLIT_LOCK
from memhp.linux.drivers.base.notify import register_memory_notifier
from memhp.linux.mm.boot_memory import ACTIONS, prevent_bootmem_remove_notifier
from memhp.linux.state import Kernel
from memhp.units import align_down, align_up, is_aligned

KERNEL_FILE = "arch/arm64/mm/mmu.c"


def prevent_memory_remove_init(k: Kernel) -> None:
    """Register the notifier: ``prevent_bootmem_remove_init()``, since 7.1 ``prevent_memory_remove_init()``."""
    if arm64(k.config).bootmem_remove != "unchecked":
        register_memory_notifier(k, prevent_memory_remove_notifier)


def prevent_memory_remove_notifier(k: Kernel, action: str, start_pfn: int, nr_pages: int) -> str:
    """Why the pages may not go offline, or nothing: boot memory's, and since 7.1 those of ranges whose edges split a
    leaf, which would have to be split on removal.
    """
    refused = prevent_bootmem_remove_notifier(k, action, start_pfn, nr_pages)
    if refused or action not in ACTIONS or arm64(k.config).bootmem_remove != "notifier-and-split-check":
        return refused
    end_pfn = start_pfn + nr_pages
    if arm64(k.config).can_unmap_range == "block":
        start_pfn = align_down(start_pfn, k.pages_per_block)
        end_pfn = align_up(end_pfn, k.pages_per_block)
    return can_unmap_without_split(k, start_pfn, end_pfn - start_pfn)


def can_unmap_without_split(k: Kernel, pfn: int, nr_pages: int) -> str:
    """What stands against unmapping the pages and their struct pages leaf by leaf; nothing, if both can be done."""
    shift = k.config.page_shift
    start, end = pfn << shift, (pfn + nr_pages) << shift
    for edges, area in (
        ((k.layout.phys_to_virt(start), k.layout.phys_to_virt(end)), "linear map"),
        ((k.layout.pfn_to_page(pfn), k.layout.pfn_to_page(pfn + nr_pages)), "vmemmap"),
    ):
        if _any_splits(k, edges):
            text = f"[{start:x} {end:x}] splits a leaf entry in {area}"
            k.hw.log(text, "warn")
            return text
    return ""


def _any_splits(k: Kernel, edges: Iterable[int]) -> bool:
    if arm64(k.config).can_unmap_lock == "none":
        return any(addr_splits_kernel_leaf(k, edge) for edge in edges)
    with k.hw.locked(PGTABLE_SPLIT_LOCK):
        return any(addr_splits_kernel_leaf(k, edge) for edge in edges)


def addr_splits_kernel_leaf(k: Kernel, addr: int) -> bool:
    """Whether an address lies within a leaf, or within a contiguous run of leaves, rather than at the start of one."""
    fmt, table = k.hw.fmt, k.init_mm
    while True:
        level = fmt.levels[table.height]
        if is_aligned(addr, level.size * level.cont):
            return False
        entry = k.hw.load(table, fmt.index(addr, table.height))
        if not pte_present(entry):
            return False
        leaf = bool(fmt.is_leaf(entry | VALID, table.height))
        if leaf and entry & fmt.cont_mask:
            return True
        if is_aligned(addr, level.size):
            return False
        if leaf:
            return True
        table = k.hw.child(table, fmt.index(addr, table.height), fmt.table_pfn(entry))
