"""LoongArch: TLB flushes of kernel addresses: ``arch/loongarch/kernel/smp.c``, and on each CPU ``mm/tlb.c``.

Every CPU invalidates its own TLB, when it gets an IPI. Nothing caches pointers to tables: software walks them.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.tlb import Flush, FlushPlan
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_down, align_up

KERNEL_FILE = "arch/loongarch/kernel/smp.c"
TLB_SIZE = 64 + 2048
"""``tlbsize`` of an LA464: MTLB and STLB."""
PAIRS_AT_MOST = TLB_SIZE // 8
"""Pairs of pages up to which a range is invalidated pair by pair, on a CPU with a set-associative TLB."""

FLUSH_TLB_ALL = Flush("flush_tlb_all", "IPI, invtlb")


def flush_tlb_all(k: Kernel, times: int = 1) -> None:
    """Invalidate every translation on every CPU."""
    k.hw.flush(FLUSH_TLB_ALL, times=times)


def flush_tlb_kernel_range(k: Kernel, span: Span) -> None:
    """Invalidate the translations of the addresses in `span` on every CPU, or all of the kernel if they are many.

    An entry of the TLB serves an even page and the odd one behind it.
    """
    pair = 2 * k.config.page_size
    pages = -(-span.size // k.config.page_size)
    if (pages + 1) // 2 > PAIRS_AT_MOST:
        k.hw.flush_plan(FlushPlan(Flush("flush_tlb_kernel_range", "IPI, invtlb")), span.start)
        return
    start, end = align_down(span.start, pair), align_up(span.end, pair)
    plan = FlushPlan(Flush("flush_tlb_kernel_range", "IPI, invtlb each pair"), 1, (end - start) // k.config.page_size)
    k.hw.flush_plan(plan, start)
