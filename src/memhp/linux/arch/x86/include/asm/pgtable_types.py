"""x86-64: the attribute bits of the kernel's entries (arch/x86/include/asm/pgtable_types.h).

Without memory encryption and without page-table isolation, under which kernel leaves are not global.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.arch.x86.format import LEVEL4

PAGE_KERNEL = LEVEL4.bits(P=1, RW=1, A=1, D=1, G=1, XD=1)
"""``__PAGE_KERNEL``; a large leaf has PS besides (``PAGE_KERNEL_LARGE``), which its level adds."""
PRESENT = (LEVEL4.bits(P=1, G=1), LEVEL4.bits(P=1, G=1, PS=1), *(LEVEL4.bits(P=1),) * 3)
"""By height, what ``pte_present()``, ``pmd_present()`` and their kin look for: P; PROTNONE, which is G's bit; of a PMD
PS as well."""
PCD = LEVEL4.bits(PCD=1)
"""``_PAGE_CACHE_MODE_UC_MINUS`` in the kernel's PAT."""
PAGE_TABLE = LEVEL4.bits(P=1, RW=1, US=1, A=1, D=1)
"""``_PAGE_TABLE``, which kernel tables carry too: what an entry that points to a table carries."""
