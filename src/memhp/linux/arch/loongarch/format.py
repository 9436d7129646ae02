"""LoongArch: the page tables that software walks on a TLB refill, with 4K and 16K pages.

Sources: LoongArch Reference Manual, volume 1: Basic Architecture, section 5.4 "Page-table mapping address translation",
"Multi-level page table structure supported by page walking"; arch/loongarch/include/asm/pgtable-bits.h for the kernel's
names, and bits 7 to 11 and 60, which are the kernel's own. Pointers to tables are addresses in the window DMW1, and an
entry that leads nowhere points to a table that all share: ``pud_none()``, ``pmd_none()`` of pgtable.h compare with it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.attribute_text import Word, flag
from memhp.hw.format import HEIGHT_NAMES, Field, Format, Level, PfnPiece

CACHE_BASE = 0x9000 << 48
"""``CSR_DMW1_BASE``: the window through which the kernel reaches memory with caches; less this it is physical."""
PA_BITS = 48
"""``DMW_PABITS``."""
VMLINUX_LOAD_ADDRESS = CACHE_BASE + (2 << 20)

V, D = 1 << 0, 1 << 1
PLV, MAT = 3 << 2, 3 << 4
G = H = 1 << 6
"""Global in an entry of a PTE table; in one above it says that the entry is a leaf."""
P, W, M = 1 << 7, 1 << 8, 1 << 9
HG = 1 << 12
"""Global in a leaf above the PTE level."""
NR, NX, RPLV = 1 << 61, 1 << 62, 1 << 63

HUGE_LEAF = 1
"""The highest leaf that kernels make is that of a PMD."""


def shared_tables(page_shift: int, heights: int, first: int = VMLINUX_LOAD_ADDRESS) -> tuple[int, ...]:
    """By height, what an entry holds that leads nowhere: of a PTE table ``_PAGE_GLOBAL``, above that the address of
    ``invalid_pte_table``, ``invalid_pmd_table`` and ``invalid_pud_table``, here one after the other from `first` on.

    They belong to the kernel image; where in it differs from build to build.
    """
    return (G, *(first + (height << page_shift) for height in range(heights - 1)))


def _fields(page_shift: int) -> tuple[Field, ...]:
    return (
        Field("V", 0),
        Field("D", 1),
        Field("PLV", 2, 2),
        Field("MAT", 4, 2),
        Field("G", 6),
        Field("P", 7),
        Field("W", 8),
        Field("M", 9),
        Field("PROTNONE", 10),
        Field("SPECIAL", 11),
        Field("HG", 12),
        Field("PFN", page_shift, PA_BITS - page_shift),
        Field("PRESENT_INVALID", 60),
        Field("NR", 61),
        Field("NX", 62),
        Field("RPLV", 63),
    )


WORDS = (
    flag(W, "RW", "ro"),
    flag(D, "D"),
    flag(M, "M"),
    Word(PLV, {value << 2: f"PLV{value}" for value in range(4)}),
    Word(MAT, {value << 4: f"MAT{value}" for value in range(4)}),
    flag(G, "G", small=True),
    flag(H, "HUGE", large=True),
    flag(HG, "HG", large=True),
    flag(NR, "NR"),
    flag(NX, "NX", "x"),
    flag(RPLV, "RPLV"),
)
"""What its attribute bits are called in reports; MAT 0 is strongly ordered uncached, 1 coherent cached memory."""


def _tables(page_shift: int, count: int) -> Format:
    per_level = page_shift - 3
    heights = range(count)
    return Format(
        name=f"loongarch64-{1 << page_shift - 10}k-{count}level",
        arch="loongarch64",
        page_shift=page_shift,
        va_bits=page_shift + per_level * count,
        pa_bits=PA_BITS,
        levels=tuple(
            Level(HEIGHT_NAMES[h], page_shift + per_level * h, 1 << per_level, leaf=h <= HUGE_LEAF) for h in heights
        ),
        words=WORDS,
        fields=_fields(page_shift),
        pfn_pieces=(PfnPiece(page_shift, PA_BITS - page_shift, 0),),
        valid=V,
        leaf_mask=H,
        leaf_if_set=True,
        leaf_bits=tuple(V | H if h else V for h in heights),
        table_bits=CACHE_BASE,
        leaf_ignored_bits=tuple((1 << page_shift + per_level * h) - (1 << page_shift) for h in heights),
        sign_extended=False,
        none=shared_tables(page_shift, count),
        pointer_mask=0xFFFF << 48 | H | V,
        pointer=CACHE_BASE,
    )


PAGES_4K, PAGES_16K = _tables(12, 4), _tables(14, 3)
FORMATS = (PAGES_4K, PAGES_16K)
"""4K pages with 48-bit and 16K pages with 47-bit addresses, Debian's build. Builds of fewer levels have less room for
addresses than the vmemmap of a CPU with 48-bit physical addresses takes."""
