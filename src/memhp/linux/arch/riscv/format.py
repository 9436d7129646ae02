"""riscv: Sv39, Sv48 and Sv57, with Svnapot and Svpbmt.

Sources: The RISC-V Instruction Set Manual, Volume II (Privileged), chapter "Supervisor-Level ISA": the sections on the
Sv39, Sv48 and Sv57 page-based virtual-memory systems and the virtual address translation process, and the chapters on
the Svnapot, Svpbmt and Svrsw60t59b extensions; arch/riscv/include/asm/pgtable-{bits,64}.h for the kernel's names.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.attribute_text import Word, flag
from memhp.hw.format import HEIGHT_NAMES, Field, Format, Level, PfnPiece, Reserved

V, R, W, X, U, G, A, D = (1 << bit for bit in range(8))
RSW = 3 << 8
PBMT = 3 << 61
N = 1 << 63
PPN_LO = 10
TABLE_BITS_PER_LEVEL = 9
PAGE_SHIFT = 12
NAPOT_ORDER = 4
"""Svnapot knows one size, ``ppn[3:0] = 1000``: 16 pages (Svnapot, table of page-table-entry encodings)."""

FIELDS = (
    Field("V", 0),
    Field("R", 1),
    Field("W", 2),
    Field("X", 3),
    Field("U", 4),
    Field("G", 5),
    Field("A", 6),
    Field("D", 7),
    Field("RSW", 8, 2),
    Field("PPN", PPN_LO, 44),
    Field("reserved", 54, 5),
    Field("RSW60t59b", 59, 2),
    Field("PBMT", 61, 2),
    Field("N", 63),
)
"""Bits 60:59 are for software where Svrsw60t59b is implemented and reserved elsewhere; kernels use them only there."""

WORDS = (
    flag(D, "D", "."),
    flag(A, "A", ".", glued=True),
    flag(G, "G", ".", glued=True),
    flag(U, "U", ".", glued=True),
    flag(X, "X", ".", glued=True),
    flag(W, "W", ".", glued=True),
    flag(R, "R", ".", glued=True),
    flag(N, "NAPOT"),
    Word(PBMT, {value << 61: f"PBMT{value}" for value in (1, 2, 3)}),
)
"""What its attribute bits are called in reports."""

_ANY_HEIGHT = (
    Reserved("W=1 with R=0 is reserved", V | R | W, V | W, V),
    Reserved("bits 58:54 are reserved", V, V, 0x1F << 54),
    Reserved("PBMT=3 is reserved", V | PBMT, V | PBMT, V),
)


def _reserved(height: int) -> tuple[Reserved, ...]:
    """The faults of the translation process, steps 3 to 5, for entries at one height."""
    if height == 0:
        return (
            *_ANY_HEIGHT,
            Reserved("a pointer at level 0 leads nowhere", V | R | W | X, V, V),
            *(
                Reserved("N=1 with ppn[3:0] other than 1000 is reserved", V | N | bit, V | N | value, V)
                for bit, value in ((8 << PPN_LO, 0), (1 << PPN_LO,) * 2, (2 << PPN_LO,) * 2, (4 << PPN_LO,) * 2)
            ),
        )
    misaligned = ((1 << TABLE_BITS_PER_LEVEL * height) - 1) << PPN_LO
    return (
        *_ANY_HEIGHT,
        Reserved("D, A, U, PBMT and N of a pointer are reserved", V | R | W | X, V, D | A | U | PBMT | N),
        Reserved("misaligned superpage", V | R, V | R, misaligned),
        Reserved("misaligned superpage", V | X, V | X, misaligned),
        Reserved("N=1 above level 0 is reserved", V | N, V | N, R | X),
    )


def _sv(va_bits: int) -> Format:
    heights = range((va_bits - PAGE_SHIFT) // TABLE_BITS_PER_LEVEL)
    return Format(
        name=f"riscv64-sv{va_bits}",
        arch="riscv64",
        page_shift=PAGE_SHIFT,
        va_bits=va_bits,
        pa_bits=56,
        levels=tuple(
            Level(HEIGHT_NAMES[h], PAGE_SHIFT + TABLE_BITS_PER_LEVEL * h, 1 << TABLE_BITS_PER_LEVEL, leaf=True)
            for h in heights
        ),
        words=WORDS,
        fields=FIELDS,
        pfn_pieces=(PfnPiece(PPN_LO, 44, 0),),
        valid=V,
        leaf_mask=R | W | X,
        leaf_if_set=True,
        leaf_bits=(V,) * len(heights),
        table_bits=V,
        reserved=tuple(_reserved(h) for h in heights),
        napot_mask=N,
        napot_order=NAPOT_ORDER,
    )


SV39, SV48, SV57 = (_sv(va_bits) for va_bits in (39, 48, 57))
FORMATS = (SV39, SV48, SV57)
