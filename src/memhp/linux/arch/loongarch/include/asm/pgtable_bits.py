"""LoongArch: the attribute bits of the kernel's entries: ``arch/loongarch/include/asm/pgtable-bits.h``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.arch.loongarch.format import HG, MAT, PAGES_16K, H
from memhp.linux.state import Kernel

KERNEL_FILE = "arch/loongarch/include/asm/pgtable-bits.h"
PAGE_KERNEL = PAGES_16K.bits(P=1, V=1, D=1, W=1, G=1, MAT=1)
"""Present, readable, writable, global, coherent cached; executable too, as NX is not among them."""

PAGE_KERNEL_HUGE = PAGE_KERNEL | H | HG
"""What ``vmemmap_set_pmd()`` makes of it: in a PMD the global bit stands elsewhere, and its place says huge."""

PAGE_TABLE = PAGES_16K.table_bits
"""What an entry that points to a table carries besides the frame: the window's part of the table's address."""


def pgprot_noncached(k: Kernel, prot: int) -> int:
    """The same attributes for strongly ordered uncached memory: MAT 0."""
    return prot & ~MAT
