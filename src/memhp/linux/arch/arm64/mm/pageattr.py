"""arm64: attributes of pages of the direct map: ``arch/arm64/mm/pageattr.c``.

Nothing is locked but the splitting of leaves; who changes a page owns it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EINVAL

from memhp.errors import KernelError
from memhp.hw.tlb import Table
from memhp.linux.arch.arm64.choices import arm64
from memhp.linux.arch.arm64.format import AP_RDONLY, DBM, PRESENT_INVALID, VALID
from memhp.linux.arch.arm64.include.asm.tlbflush import flush_tlb_kernel_range
from memhp.linux.arch.arm64.mm.split_kernel_leaf import split_kernel_leaf_mapping
from memhp.linux.kernel.panic import warn
from memhp.linux.mm.pagewalk import walk_kernel_page_table_range
from memhp.linux.place import LEVELS, by_height, each_level
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "arch/arm64/mm/pageattr.c"
UPDATE = f"{KERNEL_FILE}:update_range_prot"


def set_direct_map_invalid_noflush(k: Kernel, pfn: int) -> None:
    """Take a page out of the direct map, where single pages may change. Raises ENOMEM, EINVAL."""
    if k.config.can_set_direct_map:
        _update_range_prot(k, pfn, 1, _mark(k), VALID)


def set_direct_map_default_noflush(k: Kernel, pfn: int) -> None:
    """Give a page its ordinary attributes in the direct map, where single pages may change. Raises ENOMEM, EINVAL."""
    if k.config.can_set_direct_map:
        _update_range_prot(k, pfn, 1, VALID | DBM, _mark(k) | AP_RDONLY)


def set_direct_map_valid_noflush(k: Kernel, pfn: int, nr: int, *, valid: bool) -> None:
    """Take `nr` pages out of the direct map, or put them back, where that may be. Raises ENOMEM, EINVAL.

    ``set_memory_valid()``: it flushes after all, but for entries that it knows were not valid before.
    """
    if not k.config.can_set_direct_map:
        return
    if valid and _mark(k):
        _update_range_prot(k, pfn, nr, VALID, _mark(k))
        return
    try:
        _update_range_prot(k, pfn, nr, *((VALID, 0) if valid else (_mark(k), VALID)))
    finally:
        va = k.layout.phys_to_virt(pfn << k.config.page_shift)
        flush_tlb_kernel_range(k, Span(va, va + nr * k.config.page_size))


def _mark(k: Kernel) -> int:
    """What an entry that is not valid gets, so that it is told from one that holds nothing."""
    return PRESENT_INVALID if arm64(k.config).present_invalid else 0


def _update_range_prot(k: Kernel, pfn: int, nr: int, set_mask: int, clear_mask: int) -> None:
    va = k.layout.phys_to_virt(pfn << k.config.page_shift)
    span = Span(va, va + nr * k.config.page_size)
    split_kernel_leaf_mapping(k, span)

    def _visit(table: Table, index: int, entry: int, part: Span) -> None:
        _change(k, table, index, entry, part, set_mask, clear_mask)

    walk_kernel_page_table_range(k, span, _visit)


@each_level(by_height(KERNEL_FILE, *(f"pageattr_{level}_entry" for level in LEVELS[:3])))
def _change(k: Kernel, table: Table, index: int, entry: int, part: Span, set_mask: int, clear_mask: int) -> None:
    if part.size != k.hw.fmt.levels[table.height].size:
        warn(k, UPDATE, once=True)
        raise KernelError(EINVAL, "the pages are part of a larger leaf, which cannot be split", place=UPDATE)
    k.hw.store(table, index, entry & ~clear_mask | set_mask, UPDATE)
