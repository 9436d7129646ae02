"""x86-64: TLB flushes of kernel addresses: ``arch/x86/mm/tlb.c``. Each CPU flushes itself when it gets an IPI."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.tlb import Flush, FlushPlan
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "arch/x86/mm/tlb.c"
TLB_SINGLE_PAGE_FLUSH_CEILING = 33
"""``tlb_single_page_flush_ceiling``: pages up to which a range is flushed page by page."""

FLUSH_TLB_ALL = Flush("flush_tlb_all", "IPI, __flush_tlb_all")
"""Global entries and cached table pointers included."""


def flush_tlb_all(k: Kernel, times: int = 1) -> None:
    """Invalidate every translation and cached table pointer on every CPU."""
    k.hw.flush(FLUSH_TLB_ALL, times=times)


def flush_kernel_range(k: Kernel, size: int) -> FlushPlan:
    """What ``flush_tlb_kernel_range()`` of `size` bytes comes to: an IPI, for an INVLPG each page or a full flush."""
    pages = -(-size // k.config.page_size)
    if pages > TLB_SINGLE_PAGE_FLUSH_CEILING:
        return FlushPlan(Flush("flush_tlb_kernel_range", "IPI, __flush_tlb_all"))
    return FlushPlan(Flush("flush_tlb_kernel_range", "IPI, invlpg"), 1, pages)


def flush_tlb_kernel_range(k: Kernel, span: Span) -> None:
    """Invalidate the translations of addresses in `span` on every CPU."""
    k.hw.flush_plan(flush_kernel_range(k, span.size), span.start)
