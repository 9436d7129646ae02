"""riscv: the attribute bits of the kernel's entries (arch/riscv/include/asm/pgtable-bits.h and pgtable.h)."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.arch.riscv.format import SV39

PAGE_KERNEL = SV39.bits(V=1, R=1, W=1, G=1, A=1, D=1)
"""Direct map and struct pages alike; the same bits in every paging mode."""
PAGE_TABLE = SV39.bits(V=1)
"""What an entry that points to a table carries."""

PRESENT = (SV39.bits(V=1, G=1), SV39.bits(V=1, G=1, R=1, W=1, X=1), *(SV39.bits(V=1),) * 3)
"""By height, what ``pte_present()``, ``pmd_present()`` and their kin look for: ``_PAGE_PRESENT``; ``_PAGE_PROT_NONE``,
which is G's bit, so that a page of the direct map made invalid is still present; of a PMD leaf its rights as well."""
