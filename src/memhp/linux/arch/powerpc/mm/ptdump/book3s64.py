"""powerpc: how the kernel prints its page tables, arch/powerpc/mm/ptdump/book3s64.c and ptdump.c.

The columns are the same from 6.1 to 7.2; the level's name stands there since 7.2.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.format import sum_bits
from memhp.linux.arch.powerpc.format import (
    ACCESSED,
    DIRTY,
    EXEC,
    LEAF,
    NON_IDEMPOTENT,
    PKEY_0,
    PKEY_4,
    PRIVILEGED,
    READ,
    RESERVED_1,
    SPECIAL,
    SW0,
    TOLERANT,
    WRITE,
    V,
)
from memhp.linux.mm.ptdump_style import EVERY, Column, Style, flag

GIX = 7
GIX_SHIFT = 53
"""``H_PAGE_F_GIX``: of the hash MMU's, printed for the radix MMU as well."""

COLUMNS = (
    flag(PRIVILEGED, "    ", "user"),
    flag(READ, "r", " "),
    flag(WRITE, "w", " "),
    flag(EXEC, " X ", "   "),
    flag(LEAF, "pte", "   "),
    flag(V, "valid", "     "),
    Column(V | SW0, {0: " " * 7}, "present"),
    flag(PKEY_4, "hpte", "    "),
    flag(DIRTY, "dirty", "     "),
    flag(ACCESSED, "accessed", " " * 8),
    flag(NON_IDEMPOTENT, "non-idempotent", " " * 14),
    Column(TOLERANT, {TOLERANT: "tolerant"}, " " * 8),
    flag(RESERVED_1, "busy", ""),
    Column(GIX << GIX_SHIFT, {value << GIX_SHIFT: f"f_gix:{value}" for value in range(GIX + 1)}),
    flag(PKEY_0, "f_second", ""),
    flag(SPECIAL, "special", ""),
)
"""Of a kernel with 4K pages. One with 64K pages has the hash MMU's columns elsewhere, where physical addresses of more
than 53 bits lie, and prints no value: see `COLUMNS_64K`."""

HASHPTE_64K = 1 << 55
COMBO, ONE_4K = 1 << 12, 1 << 13
COLUMNS_64K = (
    *COLUMNS[:7],
    flag(HASHPTE_64K, "hpte", "    "),
    *COLUMNS[8:13],
    flag(COMBO, "combo", ""),
    flag(ONE_4K, "4K_pfn", ""),
    flag(SPECIAL, "special", ""),
)


def _style(columns: tuple[Column, ...]) -> Style:
    return Style(
        arch="ppc64",
        prot=sum_bits(column.mask for column in columns),
        columns=columns,
        separator="  ",
        units=" KMGTPE",
        gap=" ",
        last_byte=True,
        after_name=" ",
        physical=True,
        holes=False,
        leaf_bit=LEAF,
        advance_first=EVERY,
        advance_break=EVERY,
    )


STYLE, STYLE_64K = _style(COLUMNS), _style(COLUMNS_64K)
