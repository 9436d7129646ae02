"""x86-64: 4-level and 5-level paging.

Sources: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3A, sections 4.5 "4-level paging and
5-level paging" (tables of the paging-structure entries), 4.6 "Access rights" and 4.7 "Page-fault exceptions" (reserved
bits); arch/x86/include/asm/pgtable_types.h for the kernel's names. The PAT bit of a large leaf stands at bit 12, where
a table entry has the lowest bit of its frame number.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.attribute_text import flag
from memhp.hw.format import HEIGHT_NAMES, Field, Format, Level, PfnPiece, Reserved

P, RW, US, PWT, PCD, A, D, PS, G = (1 << bit for bit in range(9))
PAT_LARGE = 1 << 12
XD = 1 << 63
PAGE_SHIFT = 12
TABLE_BITS_PER_LEVEL = 9
LARGEST_LEAF = 2
"""A leaf may stand at PTE, PMD (2 MiB) or PUD (1 GiB)."""

FIELDS = (
    Field("P", 0),
    Field("RW", 1),
    Field("US", 2),
    Field("PWT", 3),
    Field("PCD", 4),
    Field("A", 5),
    Field("D", 6),
    Field("PS", 7),
    Field("G", 8),
    Field("SW", 9, 3),
    Field("PAT_LARGE", 12),
    Field("PFN", 12, 40),
    Field("SW_HI", 52, 7),
    Field("PK", 59, 4),
    Field("XD", 63),
)
"""PS is PAT in an entry at height 0; PAT_LARGE overlaps the lowest PFN bit and holds only for larger leaves."""


WORDS = (
    flag(RW, "RW", "ro"),
    flag(US, "USR"),
    flag(PWT, "PWT"),
    flag(PCD, "PCD"),
    flag(PS, "PSE", large=True),
    flag(G, "GLB"),
    flag(XD, "NX", "x"),
)
"""What its attribute bits are called in reports."""


def _reserved(height: int) -> tuple[Reserved, ...]:
    """Reserved bits that raise a page fault at one height."""
    if height == 0:
        return ()
    if height > LARGEST_LEAF:
        return (Reserved("PS of a PML4E or PML5E is reserved", P | PS, P | PS, P),)
    low = (1 << PAGE_SHIFT + TABLE_BITS_PER_LEVEL * height) - (PAT_LARGE << 1)
    return (Reserved("the address of a large leaf must be aligned", P | PS, P | PS, low),)


def _paging(count: int) -> Format:
    heights = range(count)
    return Format(
        name=f"x86_64-{count}level",
        arch="x86_64",
        page_shift=PAGE_SHIFT,
        va_bits=PAGE_SHIFT + TABLE_BITS_PER_LEVEL * count,
        pa_bits=52,
        levels=tuple(
            Level(
                HEIGHT_NAMES[h],
                PAGE_SHIFT + TABLE_BITS_PER_LEVEL * h,
                1 << TABLE_BITS_PER_LEVEL,
                leaf=h <= LARGEST_LEAF,
            )
            for h in heights
        ),
        words=WORDS,
        fields=FIELDS,
        pfn_pieces=(PfnPiece(12, 40, 0),),
        valid=P,
        leaf_mask=PS,
        leaf_if_set=True,
        leaf_bits=tuple(P | PS if h else P for h in heights),
        table_bits=P | RW | US | A | D,
        leaf_ignored_bits=tuple(PAT_LARGE if h else 0 for h in heights),
        reserved=tuple(_reserved(h) for h in heights),
        rights_and=RW | US,
        rights_or=XD,
    )


LEVEL4, LEVEL5 = (_paging(count) for count in (4, 5))
FORMATS = (LEVEL4, LEVEL5)
