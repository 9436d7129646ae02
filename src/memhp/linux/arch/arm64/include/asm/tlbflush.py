"""arm64: TLB invalidation of kernel addresses: arch/arm64/include/asm/tlbflush.h.

All of it is broadcast to the inner shareable domain. The ``vaale1is`` kind drops leaves only, and leaves cached table
pointers alone; that is what ``__flush_tlb_kernel_pgtable()`` is for.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.tlb import Flush, FlushPlan
from memhp.linux.arch.arm64.choices import arm64
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import KiB

KERNEL_FILE = "arch/arm64/include/asm/tlbflush.h"
EVERYTHING = "tlbi vmalle1is"
LEAF = "tlbi vaale1is"
LEAF_RANGE = "tlbi rvaale1is"
RANGE_SCALES = (3, 2, 1, 0)
MAX_TLBI_RANGE_PAGES = 32 << (5 * RANGE_SCALES[0] + 1)
"""Pages that one range operation can name."""

FLUSH_TLB_ALL = Flush("flush_tlb_all", EVERYTHING)
FLUSH_TLB_KERNEL_PGTABLE = FlushPlan(Flush("__flush_tlb_kernel_pgtable", "tlbi vaae1is"), 1, 1)
"""``__flush_tlb_kernel_pgtable()``: table pointers too, for one address."""
CLEAR_FIXMAP = FlushPlan(Flush("clear_fixmap", LEAF, last_level=True), 1, 1)


def flush_tlb_all(k: Kernel, times: int = 1) -> None:
    """Invalidate every translation and cached table pointer on every CPU."""
    k.hw.flush(FLUSH_TLB_ALL, times=times)


def flush_kernel_range(k: Kernel, size: int, va: int = 0) -> FlushPlan:
    """What ``flush_tlb_kernel_range()`` of `size` bytes from `va` on comes to: an operation a page up to a limit, or
    as few range operations as do, or everything.
    """
    name = "flush_tlb_kernel_range"
    pages = -(-size // k.config.page_size)
    max_dvm_ops = k.config.entries_per_table
    if arm64(k.config).range_flush == "by-page":
        whole = pages > max_dvm_ops
    elif k.config.tlb_range:
        if pages <= MAX_TLBI_RANGE_PAGES:
            return FlushPlan(Flush(name, LEAF_RANGE, last_level=True), _range_operations(k, pages, va), pages)
        whole = True
    else:
        whole = pages >= max_dvm_ops
    return FlushPlan(Flush(name, EVERYTHING)) if whole else FlushPlan(Flush(name, LEAF, last_level=True), pages, pages)


def _range_operations(k: Kernel, pages: int, va: int) -> int:
    """How many operations ``__flush_tlb_range_op()`` makes: ranges of even size, the largest first, and single pages.

    With LPA2 a range starts at a multiple of 64 KiB.
    """
    lpa2 = k.config.format.pa_bits == 52 and k.config.page_size < 64 * KiB
    operations = 0
    if lpa2 and pages > 1:
        operations = min(pages, (-va % (64 * KiB)) // k.config.page_size)
        pages -= operations
    for scale in RANGE_SCALES:
        unit = 2 << (5 * scale)
        if pages >= unit:
            operations += 1
            pages %= unit
    return operations + pages


def flush_tlb_kernel_range(k: Kernel, span: Span) -> None:
    """Invalidate the translations, not the table pointers, of the addresses in `span` on every CPU."""
    k.hw.flush_plan(flush_kernel_range(k, span.size, span.start), span.start)
