"""x86-64: what the laws know of its page tables: what a leaf for kernel data says, in the manual's fields."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.port import WRITABLE, LeafRule

KERNEL_DATA = (
    LeafRule(WRITABLE, "RW", (1,)),
    LeafRule("open to user space", "US", (0,)),
    LeafRule("executable", "XD", (1,)),
    LeafRule("not cached", "PCD", (0,), memory_type=True),
    LeafRule("written through", "PWT", (0,)),
)
"""Readable, writable for the kernel alone, never executable, ordinary cacheable memory."""
