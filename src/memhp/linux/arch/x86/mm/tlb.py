"""x86-64: TLB flushes of kernel addresses: ``arch/x86/mm/tlb.c``.

Each CPU flushes itself when it gets an IPI; or one that has INVLPGB flushes all, where the kernel uses that.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.tlb import Flush, FlushPlan
from memhp.linux.arch.x86.choices import x86
from memhp.linux.config import Config
from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "arch/x86/mm/tlb.c"
TLB_SINGLE_PAGE_FLUSH_CEILING = 33
"""``tlb_single_page_flush_ceiling``: pages up to which a range is flushed page by page."""

BY_IPI = ("IPI, __flush_tlb_all", "IPI, invlpg")
BY_BROADCAST = ("invlpgb, tlbsync", "invlpgb of a range, tlbsync")
"""How everything is flushed, and how a range is."""


def _operations(config: Config) -> tuple[str, str]:
    return BY_BROADCAST if config.invlpgb and x86(config).broadcast_flush else BY_IPI


@kernel_function(f"{KERNEL_FILE}:flush_tlb_all")
def flush_all(config: Config) -> Flush:
    """What ``flush_tlb_all()`` is: global entries and cached table pointers included."""
    return Flush("flush_tlb_all", _operations(config)[0])


def flush_tlb_all(k: Kernel, times: int = 1) -> None:
    """Invalidate every translation and cached table pointer on every CPU."""
    k.hw.flush(flush_all(k.config), times=times)


@kernel_function(f"{KERNEL_FILE}:flush_tlb_kernel_range")
def flush_kernel_range(k: Kernel, size: int) -> FlushPlan:
    """What ``flush_tlb_kernel_range()`` of `size` bytes comes to: an operation for each page, or a full flush."""
    pages = -(-size // k.config.page_size)
    everything, each = _operations(k.config)
    if pages > TLB_SINGLE_PAGE_FLUSH_CEILING:
        return FlushPlan(Flush("flush_tlb_kernel_range", everything))
    return FlushPlan(Flush("flush_tlb_kernel_range", each), 1, pages)


def flush_tlb_kernel_range(k: Kernel, span: Span) -> None:
    """Invalidate the translations of addresses in `span` on every CPU."""
    k.hw.flush_plan(flush_kernel_range(k, span.size), span.start)
