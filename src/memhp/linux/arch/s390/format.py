"""IBM Z: region, segment and page tables, three or four levels of them, as the kernel's own address space has.

Sources: z/Architecture Principles of Operation (SA22-7832), chapter "Dynamic Address Translation"; the kernel's names
and software bits from arch/s390/include/asm/pgtable.h. Entries are big-endian and have no valid bit: I makes them
invalid. A table of regions or segments takes 16 KiB and a page table 2 KiB, two of which share a page. All of a table's
entries are looked at, as kernels give every table its full length (TL 3, TF 0).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.attribute_text import flag
from memhp.hw.format import HEIGHT_NAMES, Field, Format, Level, PfnPiece, Reserved

PRESENT = 1 << 0
TT, TL = 3 << 2, 3
"""A region or segment table entry's type, which is that of its table, and the length of the table that it points to."""
IEP, P = 1 << 8, 1 << 9
"""Instruction-execution protection, and DAT protection: ``_PAGE_NOEXEC``, ``_PAGE_PROTECT``."""
PAGE_INVALID, INVALID = 1 << 10, 1 << 5
"""I, in an entry of a page table and in one above."""
FC = 1 << 10
"""Format control: a segment or a third region is a leaf."""
PAGE_ZERO = 1 << 11
"""Must be zero in an entry of a page table."""

PAGE_SHIFT, TABLE_SHIFT = 12, 11
ENTRIES, PAGE_ENTRIES = 2048, 256
"""``_CRST_ENTRIES`` and ``_PAGE_ENTRIES``."""
LARGEST_LEAF = 2
_HARD = "translation-specification exception"


def shift_of(height: int) -> int:
    """``PAGE_SHIFT``, ``_SEGMENT_SHIFT``, ``_REGION3_SHIFT``, ``_REGION2_SHIFT``: what an entry at a height maps."""
    return PAGE_SHIFT if not height else 20 + 11 * (height - 1)


def type_of(height: int) -> int:
    """TT of the entries of a table above the page tables: 0 in a segment table, 1 in a region-third table …"""
    return (height - 1) << 2


def _reserved(height: int) -> tuple[Reserved, ...]:
    """Entries of another table's type, and what must be zero."""
    if not height:
        return (Reserved(_HARD, PAGE_INVALID, 0, PAGE_ZERO),)
    wrong = tuple(Reserved(_HARD, INVALID | TT, kind, 0) for kind in range(0, TT + 1, 4) if kind != type_of(height))
    return wrong if height <= LARGEST_LEAF else (*wrong, Reserved(_HARD, INVALID, 0, FC))


def _tables(count: int) -> Format:
    heights = range(count)
    shifts = [shift_of(height) for height in heights]
    return Format(
        name=f"s390x-{count}level",
        arch="s390x",
        page_shift=PAGE_SHIFT,
        va_bits=shift_of(count),
        pa_bits=64,
        levels=tuple(
            Level(HEIGHT_NAMES[h], shifts[h], ENTRIES if h else PAGE_ENTRIES, leaf=h <= LARGEST_LEAF) for h in heights
        ),
        fields=(
            Field("PRESENT", 0),
            Field("YOUNG", 2),
            Field("DIRTY", 3),
            Field("READ", 4),
            Field("WRITE", 5),
            Field("SPECIAL", 6),
            Field("IEP", 8),
            Field("P", 9),
            Field("I", 10),
            Field("PFRA", PAGE_SHIFT, 52),
        ),
        pfn_pieces=(PfnPiece(PAGE_SHIFT, 52, 0),),
        frame_shift=TABLE_SHIFT,
        table_piece=PfnPiece(TABLE_SHIFT, 53, 0),
        byte_order="big",
        valid=0,
        invalid=tuple(INVALID if h else PAGE_INVALID for h in heights),
        leaf_mask=FC,
        leaf_if_set=True,
        leaf_bits=tuple(type_of(h) | FC | PRESENT if h else PRESENT for h in heights),
        table_bits=PRESENT,
        leaf_ignored_bits=tuple((1 << shift) - (1 << PAGE_SHIFT) for shift in shifts),
        reserved=tuple(_reserved(h) for h in heights),
        rights_or=P,
        none=tuple(INVALID | type_of(h) if h else PAGE_INVALID for h in heights),
        sign_extended=False,
        high=0,
        words=(flag(P, "RO", "RW"), flag(IEP, "NX", "X")),
    )


FORMATS = (_tables(3), _tables(4))
"""Three levels, 4 TiB, and four, 8 PiB: arch/s390/boot/startup.c:setup_kernel_memory_layout chooses."""
