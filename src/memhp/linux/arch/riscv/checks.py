"""riscv: what the laws know of its page tables: what a leaf for kernel data says, in the manual's fields."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.port import WRITABLE, LeafRule

KERNEL_DATA = (
    LeafRule("not readable", "R", (1,)),
    LeafRule(WRITABLE, "W", (1,)),
    LeafRule("executable", "X", (0,)),
    LeafRule("open to user space", "U", (0,)),
    LeafRule("without accessed bit", "A", (1,)),
    LeafRule("not ordinary memory", "PBMT", (0,), memory_type=True),
)
"""Readable, writable for the kernel alone, never executable, ordinary cacheable memory."""
