"""Power: the radix trees of the kernel's quadrant, four levels with pages of 4K or 64K.

Sources: Power ISA 3.0B, Book III, chapter "Radix Tree Translation", and the format of its page directory and page table
entries; the kernel's names, software bits and the size of each table from arch/powerpc/include/asm/book3s/64/pgtable.h,
radix.h, radix-4k.h and radix-64k.h. Entries are big-endian whichever order the kernel runs in. An entry says how many
bits of the address the next table takes (NLS); kernels take the same throughout.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.attribute_text import Word, flag
from memhp.hw.format import Field, Format, Level, PfnPiece, Reserved

V, LEAF = 1 << 63, 1 << 62
"""``_PAGE_PRESENT`` and ``_PAGE_PTE``."""
SW0 = 1 << 61
"""``_PAGE_INVALID``: an entry that is being changed."""
NLS = 0x1F
EXEC, WRITE, READ, PRIVILEGED = 1 << 0, 1 << 1, 1 << 2, 1 << 3
ATT = 3 << 4
NON_IDEMPOTENT, TOLERANT = 1 << 5, 3 << 4
RESERVED_1 = 1 << 6
DIRTY, ACCESSED = 1 << 7, 1 << 8
SPECIAL = 1 << 10
PKEY_0, PKEY_4 = 1 << 56, 1 << 60

KERNEL_QUADRANT = 0xC << 60
"""Addresses whose two highest bits are ones: ``PAGE_OFFSET`` is the first."""
PA_BITS = 53
"""``_PAGE_PA_MAX``."""
TABLE_ORIGIN = 8
"""A table is aligned to its size, 256 bytes at least."""
LARGEST_LEAF = 2


def _tables(page_shift: int, pte_bits: int) -> Format:
    bits = (pte_bits, 9, 9, 13)
    shifts = [page_shift + sum(bits[:height]) for height in range(len(bits))]
    names = ("PTE", "PMD", "PUD", "PGD")
    unit = TABLE_ORIGIN if pte_bits < 9 else page_shift
    return Format(
        name=f"ppc64-radix-{1 << page_shift - 10}k",
        arch="ppc64",
        page_shift=page_shift,
        va_bits=page_shift + sum(bits),
        pa_bits=PA_BITS,
        levels=tuple(Level(names[h], shifts[h], 1 << bits[h], leaf=h <= LARGEST_LEAF) for h in range(len(bits))),
        fields=(
            Field("EAA_EXEC", 0),
            Field("EAA_WRITE", 1),
            Field("EAA_READ", 2),
            Field("EAA_PRIV", 3),
            Field("ATT", 4, 2),
            Field("C", 7),
            Field("R", 8),
            Field("RPN", page_shift, PA_BITS - page_shift),
            Field("L", 62),
            Field("V", 63),
        ),
        pfn_pieces=(PfnPiece(page_shift, PA_BITS - page_shift, 0),),
        frame_shift=unit,
        table_piece=PfnPiece(unit, PA_BITS - unit, 0),
        byte_order="big",
        valid=V,
        leaf_mask=LEAF,
        leaf_if_set=True,
        leaf_bits=(V | LEAF,) * len(bits),
        table_bits=V,
        reserved=tuple(_reserved(bits, h) for h in range(len(bits))),
        sign_extended=False,
        high=KERNEL_QUADRANT,
        words=(
            flag(READ, "R", "-"),
            flag(WRITE, "W", "-", glued=True),
            flag(EXEC, "X", "-", glued=True),
            flag(PRIVILEGED, "", "user"),
            Word(ATT, {1 << 4: "SAO", NON_IDEMPOTENT: "non-idempotent", TOLERANT: "tolerant"}),
        ),
    )


def _reserved(index_bits: tuple[int, ...], height: int) -> tuple[Reserved, ...]:
    """Leaves where hardware has none, and an entry that points to a table of another size than the kernel's."""
    if not height:
        return (Reserved("an entry of a page table that is no leaf", V | LEAF, V, 0),)
    size = index_bits[height - 1]
    others = tuple(
        Reserved(f"points to a table of {1 << bits} entries", V | LEAF | NLS, V | bits, 0)
        for bits in range(NLS + 1)
        if bits != size
    )
    return others if height <= LARGEST_LEAF else (*others, Reserved("a leaf of a root table", V | LEAF, V | LEAF, 0))


PAGES_4K, PAGES_64K = _tables(12, 9), _tables(16, 5)
FORMATS = (PAGES_4K, PAGES_64K)
"""``RADIX_PTE_INDEX_SIZE`` and its kin: the page size sets that of the page tables."""
