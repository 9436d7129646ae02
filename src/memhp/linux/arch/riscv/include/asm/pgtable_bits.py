"""riscv: the attribute bits of the kernel's entries (arch/riscv/include/asm/pgtable-bits.h and pgtable.h)."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.arch.riscv.format import SV39

PAGE_KERNEL = SV39.bits(V=1, R=1, W=1, G=1, A=1, D=1)
"""Direct map and struct pages alike; the same bits in every paging mode."""
PAGE_TABLE = SV39.bits(V=1)
"""What an entry that points to a table carries."""
