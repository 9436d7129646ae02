"""riscv: attributes of single pages of the direct map, and splitting its leaves: ``arch/riscv/mm/pageattr.c``.

What changes them holds init_mm's mmap lock alone; hot-add and hot-remove do not take it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import ENOMEM

from memhp.errors import KernelError
from memhp.hw.tlb import Table
from memhp.linux.arch.riscv.format import V, X
from memhp.linux.arch.riscv.include.asm.pgtable_bits import PAGE_KERNEL, PAGE_TABLE
from memhp.linux.arch.riscv.mm.tlbflush import flush_tlb_all
from memhp.linux.mm.pagewalk import expect_table, walk_kernel_page_table_range
from memhp.linux.mm.pgalloc import alloc_tables
from memhp.linux.mm.vmap import MMAP_LOCK
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import is_aligned

KERNEL_FILE = "arch/riscv/mm/pageattr.c"
SPLIT = f"{KERNEL_FILE}:__split_linear_mapping"
SET = f"{KERNEL_FILE}:__set_memory"


def set_direct_map_invalid_noflush(k: Kernel, pfn: int) -> None:
    """Take a page out of the direct map. Raises ENOMEM."""
    _set_memory(k, pfn, 0, V)


def set_direct_map_default_noflush(k: Kernel, pfn: int) -> None:
    """Give a page its ordinary attributes in the direct map. Raises ENOMEM."""
    _set_memory(k, pfn, PAGE_KERNEL, X)


def _set_memory(k: Kernel, pfn: int, set_mask: int, clear_mask: int) -> None:
    """``__set_memory()`` for a page of the direct map; it flushes everything, as a leaf may have been split."""
    va = k.layout.phys_to_virt(pfn << k.config.page_shift)
    page = Span(va, va + k.config.page_size)
    try:
        with k.hw.locked(MMAP_LOCK):
            split_linear_mapping(k, page)
            # Once for the direct map as the page's alias, once for the address itself, which is the same.
            for _ in range(2):
                walk_kernel_page_table_range(
                    k,
                    page,
                    lambda table, index, entry, _: k.hw.store(table, index, entry & ~clear_mask | set_mask, SET),
                )
    finally:
        flush_tlb_all(k)


def split_linear_mapping(k: Kernel, span: Span) -> None:
    """Split every leaf of which `span` (addresses) wants only a part. Raises ENOMEM."""
    _split(k, k.init_mm, span)


def _split(k: Kernel, table: Table, span: Span) -> None:
    fmt = k.hw.fmt
    size = fmt.levels[table.height].size
    for at, n in k.hw.batches((span.start - table.va) // size, -(-(span.end - table.va) // size)):
        for index in range(at, at + n):
            start = table.va + index * size
            part = span.clip(Span(start, start + size))
            if part.size == size and is_aligned(part.start, size):
                continue
            if table.height < fmt.root_height and fmt.is_leaf(k.hw.load(table, index), table.height):
                _split_leaf(k, table, index)
            if table.height > 1:
                _split(k, expect_table(k, table, index, SPLIT), part)


def _split_leaf(k: Kernel, table: Table, index: int) -> None:
    """Fill a new table with leaves that map the same, then write the entry that points to it over the leaf."""
    hw, fmt = k.hw, k.hw.fmt
    entry = hw.load(table, index)
    frames = alloc_tables(k, table.height - 1, 1, SPLIT)
    if not frames:
        raise KernelError(ENOMEM, "no memory to split a leaf of the direct map", place=SPLIT, advice="free memory")
    pfn, prot = fmt.leaf_pfn(entry, table.height), fmt.attributes(entry, table.height)
    hw.fill_children(table, frames, pfn, prot)
    hw.ledger.tables_allocated[table.height - 1] += 1
    hw.store(table, index, fmt.encode_pfn(frames[0].start) | PAGE_TABLE, SPLIT)
