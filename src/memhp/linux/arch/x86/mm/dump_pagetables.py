"""x86-64: how the page-table dump prints: ``arch/x86/mm/dump_pagetables.c`` (``printk_prot()``, ``note_page()``)."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.arch.x86.format import PCD, PS, PWT, RW, US, XD, G, P
from memhp.linux.mm.ptdump_style import Style, flag

COLUMNS = (
    flag(US, "USR ", "    "),
    flag(RW, "RW ", "ro "),
    flag(PWT, "PWT ", "    "),
    flag(PCD, "PCD ", "    "),
    flag(PS, "PSE ", "    ", levels=range(4)),
    flag(PS, "PAT ", "    ", levels=range(4, 5)),
    flag(G, "GLB ", "    "),
    flag(XD, "NX ", "x  "),
)

STYLE = Style(
    arch="x86_64",
    prot=~(((1 << 52) - 1) & ~0xFFF) & 0xFFFF_FFFF_FFFF_FFFF,
    columns=COLUMNS,
    separator="",
    units="BKMGTPE",
    level_names=("pgd", "p4d", "pud", "pmd", "pte"),
    name_last=True,
    effective=True,
    blank_without=P,
    leaf_bit=PS,
    section_limits={"ESPfix Area": 16},
)
"""Every bit outside ``PTE_PFN_MASK`` tells ranges apart, though few are printed; so do the rights of the levels above.
PAT of a large page lies inside that mask, so the dump never shows it.
"""
