"""LoongArch: what the laws know of its page tables: what a leaf for kernel data says, which tables stay."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.port import WRITABLE, LeafRule

KERNEL_DATA = (
    LeafRule("not present", "P", (1,)),
    LeafRule("not readable", "NR", (0,)),
    LeafRule(WRITABLE, "W", (1,)),
    LeafRule("write-protected in the TLB", "D", (1,)),
    LeafRule("open to user space", "PLV", (0,)),
    LeafRule("not coherent cached memory", "MAT", (1,)),
)
"""Executable it is: ``PAGE_KERNEL`` has no NX, and vmemmap leaves carry it as it is."""
