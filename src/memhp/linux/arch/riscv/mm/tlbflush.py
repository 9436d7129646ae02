"""riscv: TLB flushes of kernel addresses: ``arch/riscv/mm/tlbflush.c``.

A hart flushes only itself with ``sfence.vma``; others are asked through the SBI.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.tlb import Flush, FlushPlan
from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "arch/riscv/mm/tlbflush.c"
TLB_FLUSH_ALL_THRESHOLD = 64
"""``tlb_flush_all_threshold``: pages up to which a range is flushed page by page on the own hart."""

LOCAL = "sfence.vma"
REMOTE = "sbi_remote_sfence_vma_asid"


@kernel_function(f"{KERNEL_FILE}:flush_tlb_all")
def flush_all(k: Kernel) -> FlushPlan:
    """What ``flush_tlb_all()`` comes to."""
    local = k.hw.nr_cpus < 2
    return FlushPlan(Flush("flush_tlb_all", LOCAL if local else REMOTE, local=local))


def flush_tlb_all(k: Kernel, times: int = 1) -> None:
    """Invalidate every translation and cached table pointer on every hart."""
    k.hw.flush(flush_all(k).flush, times=times)


@kernel_function(f"{KERNEL_FILE}:flush_tlb_kernel_range")
def flush_kernel_range(k: Kernel, size: int) -> FlushPlan:
    """What ``flush_tlb_kernel_range()`` of `size` bytes comes to: one call of the SBI, or fences of the only hart."""
    pages = -(-size // k.config.page_size)
    if k.hw.nr_cpus > 1:
        return FlushPlan(Flush("flush_tlb_kernel_range", REMOTE), 1, pages)
    if pages > TLB_FLUSH_ALL_THRESHOLD:
        return FlushPlan(Flush("flush_tlb_kernel_range", LOCAL, local=True))
    return FlushPlan(Flush("flush_tlb_kernel_range", LOCAL, local=True), pages, pages)


def flush_tlb_kernel_range(k: Kernel, span: Span) -> None:
    """Invalidate the translations of addresses in `span` on every hart."""
    k.hw.flush_plan(flush_kernel_range(k, span.size), span.start)
