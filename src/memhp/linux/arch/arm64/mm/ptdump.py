"""arm64: how the page-table dump prints: ``pte_bits`` and ``note_page()`` of ``arch/arm64/mm/ptdump.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.format import sum_bits
from memhp.linux.arch.arm64.format import (
    AF,
    AP_RDONLY,
    AP_USER,
    ATTRINDX,
    CONTIGUOUS,
    GP,
    NG,
    PXN,
    SH,
    TYPE,
    UXN,
    VALID,
)
from memhp.linux.mm.ptdump_style import Column, Style, flag

_MEMORY_TYPES = ("MEM/NORMAL", "MEM/NORMAL-TAGGED", "MEM/NORMAL-NC", "DEVICE/nGnRnE", "DEVICE/nGnRE")
"""By MAIR index: ``MT_*`` of arch/arm64/include/asm/memory.h."""

COLUMNS = (
    flag(VALID, " ", "F"),
    flag(AP_USER, "USR", "   "),
    flag(AP_RDONLY, "ro", "RW"),
    flag(PXN, "NX", "x "),
    Column(SH, {SH: "SHD", 0: "   "}, otherwise="   "),
    flag(AF, "AF", "  "),
    flag(NG, "NG", "  "),
    flag(CONTIGUOUS, "CON", "   "),
    Column(VALID | TYPE, {3: "   ", 1: "BLK"}, otherwise="   "),
    flag(UXN, "UXN", "   "),
    flag(GP, "GP", "  "),
    Column(ATTRINDX, {index << 2: text for index, text in enumerate(_MEMORY_TYPES)}),
)

STYLE = Style(
    arch="arm64",
    prot=sum_bits(column.mask for column in COLUMNS),
    columns=COLUMNS,
    separator=" ",
    units="KMGTPE",
    advance_first=1,
    advance_break=2,
)
