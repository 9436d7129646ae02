"""arm64: splitting live leaves of the direct map, on CPUs that can (BBML2): ``arch/arm64/mm/mmu.c``, 6.18."""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import ENOMEM

import numpy as np

from memhp.errors import KernelError
from memhp.hw.runs import leaf_run
from memhp.hw.tlb import Table
from memhp.linux.arch.arm64.choices import arm64
from memhp.linux.arch.arm64.format import CONTIGUOUS, TYPE, VALID
from memhp.linux.arch.arm64.include.asm.pgtable_prot import pte_present, table_bits
from memhp.linux.mm.pagewalk import expect_table
from memhp.linux.mm.pgalloc import alloc_tables
from memhp.linux.mm.ptdesc import pagetable_ctor
from memhp.linux.place import here
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_down, is_aligned

KERNEL_FILE = "arch/arm64/mm/mmu.c"
PGTABLE_SPLIT_LOCK = "pgtable_split_lock"


def split_kernel_leaf_mapping(k: Kernel, span: Span) -> None:
    """Make the ends of `span` (addresses) ends of leaves; on a CPU that cannot split, base pages are there already.

    Of a single page, the end that is aligned less is enough. Raises ENOMEM.
    """
    if not arm64(k.config).split_kernel_leaf or not k.config.bbml2:
        return
    with k.hw.locked(PGTABLE_SPLIT_LOCK):
        if span.size == k.config.page_size:
            _split_at(k, min(span, key=lambda end: end & -end))
        else:
            _split_at(k, span.start)
            _split_at(k, span.end)


def _split_at(k: Kernel, addr: int) -> None:
    """``split_kernel_leaf_mapping_locked()``: from the root down, as long as `addr` lies within what an entry maps."""
    hw, fmt, table = k.hw, k.hw.fmt, k.init_mm
    while True:
        level = fmt.levels[table.height]
        if is_aligned(addr, level.size * level.cont):
            return
        index = fmt.index(addr, table.height)
        entry = hw.load(table, index)
        if not pte_present(entry):
            return
        if fmt.is_leaf(entry | VALID, table.height):
            if entry & fmt.cont_mask:
                _split_contiguous(k, table, index)
            if is_aligned(addr, level.size) or table.height == 0:
                return
            _split_leaf(k, table, index, entry)
        table = expect_table(k, table, index, here())


def _split_contiguous(k: Kernel, table: Table, index: int) -> None:
    """``split_contpmd()``, ``split_contpte()``: take the hint from each leaf of the group."""
    group = k.hw.fmt.levels[table.height].cont
    first = align_down(index, group)
    for at, n in k.hw.batches(first, first + group):
        for place in range(at, at + n):
            k.hw.store(table, place, k.hw.load(table, place) & ~CONTIGUOUS, here())


def _split_leaf(k: Kernel, table: Table, index: int, entry: int) -> None:
    """``split_pud()``, ``split_pmd()``: a new table, filled with contiguous leaves, takes the place of the leaf.

    They are no more valid than it was.
    """
    hw, fmt = k.hw, k.hw.fmt
    frames = alloc_tables(k, table.height - 1, 1, here())
    if not frames:
        raise KernelError(ENOMEM, "no memory to split a leaf of the direct map", place=here(), advice="free memory")
    if arm64(k.config).table_ctor:
        pagetable_ctor(k, frames)
    leaves = np.empty((1, fmt.levels[table.height - 1].entries), np.uint64)
    prot = fmt.attributes(entry, table.height) & ~(VALID | TYPE) | CONTIGUOUS
    leaf_run(fmt, leaves[0], fmt.leaf_pfn(entry, table.height), table.height - 1, prot)
    hw.store_children(table, frames, leaves if entry & VALID else leaves & ~np.uint64(VALID))
    hw.ledger.tables_allocated[table.height - 1] += 1
    hw.store(table, index, fmt.encode_pfn(frames[0].start) | table_bits(k.config, of="direct map"), here())
