"""arm64: the VMSAv8-64 stage 1 tables behind TTBR1, for every granule and address size that the kernel offers.

Sources: Arm Architecture Reference Manual for A-profile (DDI 0487), chapter D8 "The AArch64 Virtual Memory System
Architecture": translation granules and sizes (D8.2), descriptor formats and the output address with FEAT_LPA and
FEAT_LPA2 (D8.3.1), the Contiguous bit (D8.7); arch/arm64/Kconfig and arch/arm64/include/asm/pgtable-hwdef.h for what
the kernel offers and how it names things. Blocks that the architecture allows but the kernel never makes (level 1 with
16K and 64K pages, level 0 with FEAT_LPA2) are not leaves here.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.attribute_text import Word, flag
from memhp.hw.format import HEIGHT_NAMES, Field, Format, Level, PfnPiece, Reserved

VALID = 1 << 0
TYPE = 1 << 1
ATTRINDX = 7 << 2
AP_USER = 1 << 6
AP_RDONLY = 1 << 7
SH = 3 << 8
AF = 1 << 10
NG = 1 << 11
PRESENT_INVALID = NG
"""``PTE_PRESENT_INVALID``: what nG means in an entry that is not valid."""
GP = 1 << 50
DBM = 1 << 51
CONTIGUOUS = 1 << 52
PXN = 1 << 53
UXN = 1 << 54

KiB = 1 << 10
CONT_PTES = {4 * KiB: 16, 16 * KiB: 128, 64 * KiB: 32}
"""How many level 3 descriptors the Contiguous bit joins, by granule (CONFIG_ARM64_CONT_PTE_SHIFT)."""
CONT_PMDS = {4 * KiB: 16, 16 * KiB: 32, 64 * KiB: 32}
"""How many level 2 descriptors the Contiguous bit joins, by granule (CONFIG_ARM64_CONT_PMD_SHIFT)."""

WORDS = (
    flag(AP_RDONLY, "ro", "RW"),
    flag(AP_USER, "USR"),
    flag(PXN, "NX", "x"),
    flag(CONTIGUOUS, "CON"),
    flag(UXN, "UXN"),
    flag(GP, "GP"),
    flag(AF, "AF"),
    flag(NG, "NG"),
    Word(ATTRINDX, {index << 2: f"attr{index}" for index in range(8)}),
    flag(DBM, "DBM"),
)
"""What its attribute bits are called in reports."""

CONFIGURATIONS = (
    (4 * KiB, 39, 48),
    (4 * KiB, 48, 48),
    (4 * KiB, 52, 52),
    (16 * KiB, 36, 48),
    (16 * KiB, 47, 48),
    (16 * KiB, 48, 48),
    (16 * KiB, 52, 52),
    (64 * KiB, 42, 48),
    (64 * KiB, 42, 52),
    (64 * KiB, 48, 48),
    (64 * KiB, 48, 52),
    (64 * KiB, 52, 52),
    (64 * KiB, 52, 48),
)
"""Granule, VA bits, PA bits, the usual ones first (arch/arm64/Kconfig: ARM64_VA_BITS_*, ARM64_PA_BITS_*)."""


def _fields(page_shift: int, pa_bits: int) -> tuple[Field, ...]:
    """The fields of a block or page descriptor; where output address bits took the place of SH, SH is not there."""
    lpa2 = pa_bits == 52 and page_shift < 16
    return (
        Field("valid", 0),
        Field("type", 1),
        Field("AttrIndx", 2, 3),
        Field("NS", 5),
        Field("AP", 6, 2),
        Field("OA_51_50", 8, 2) if lpa2 else Field("SH", 8, 2),
        Field("AF", 10),
        Field("nG", 11),
        *((Field("OA_51_48", 12, 4),) if pa_bits == 52 and not lpa2 else ()),
        Field("OA", page_shift, (50 if lpa2 else 48) - page_shift),
        Field("GP", 50),
        Field("DBM", 51),
        Field("Contig", 52),
        Field("PXN", 53),
        Field("UXN", 54),
        Field("SW", 55, 4),
        Field("PBHA", 59, 4),
        Field("SW_63", 63),
    )


def _pfn_pieces(page_shift: int, pa_bits: int) -> tuple[PfnPiece, ...]:
    if pa_bits == 48:
        return (PfnPiece(page_shift, 48 - page_shift, 0),)
    if page_shift == 16:
        return (PfnPiece(16, 32, 0), PfnPiece(12, 4, 32))
    return (PfnPiece(page_shift, 50 - page_shift, 0), PfnPiece(8, 2, 50 - page_shift))


def _format(granule: int, va_bits: int, pa_bits: int) -> Format:
    page_shift = granule.bit_length() - 1
    table_bits = page_shift - 3
    count = -(-(va_bits - page_shift) // table_bits)
    leaf = tuple(h <= (2 if granule == 4 * KiB else 1) for h in range(count))
    levels = tuple(
        Level(
            name=HEIGHT_NAMES[h],
            shift=page_shift + table_bits * h,
            entries=1 << min(table_bits, va_bits - page_shift - table_bits * h),
            leaf=leaf[h],
            cont=(CONT_PTES[granule], CONT_PMDS[granule])[h] if h < 2 else 1,
        )
        for h in range(count)
    )
    block = (VALID | TYPE, VALID, VALID)
    return Format(
        name=f"arm64-{granule // KiB}k-va{va_bits}-pa{pa_bits}",
        arch="arm64",
        page_shift=page_shift,
        va_bits=va_bits,
        pa_bits=pa_bits,
        levels=levels,
        words=WORDS,
        fields=_fields(page_shift, pa_bits),
        pfn_pieces=_pfn_pieces(page_shift, pa_bits),
        valid=VALID,
        leaf_mask=TYPE,
        leaf_if_set=False,
        leaf_bits=(VALID | TYPE, *(VALID,) * (count - 1)),
        table_bits=VALID | TYPE,
        leaf_ignored_bits=tuple((1 << level.shift) - (1 << page_shift) for level in levels),
        reserved=(
            (Reserved("a level 3 descriptor of type 0 is reserved", *block),),
            *(() if leaf[h] else (Reserved("no block descriptor at this level", *block),) for h in range(1, count)),
        ),
        sign_extended=False,
        cont_mask=CONTIGUOUS,
    )


FORMATS = tuple(_format(*configuration) for configuration in CONFIGURATIONS)
