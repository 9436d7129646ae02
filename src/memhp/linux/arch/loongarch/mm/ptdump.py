"""LoongArch: how memhp prints page tables; the kernel has no dump of them (``GENERIC_PTDUMP``)."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.format import sum_bits
from memhp.linux.arch.loongarch.format import HG, MAT, NR, NX, PLV, RPLV, D, G, H, M, P, V, W
from memhp.linux.mm.ptdump_style import Column, Style, flag

ABOVE_PTE, PTE = range(4), range(4, 5)

COLUMNS = (
    flag(V, "V", "."),
    flag(P, "P", "."),
    flag(W, "RW", "ro"),
    flag(D, "D", "."),
    flag(M, "M", "."),
    Column(PLV, {value << 2: f"PLV{value}" for value in range(4)}),
    Column(MAT, {0: "SUC", 1 << 4: "CC ", 2 << 4: "WUC", 3 << 4: "???"}),
    flag(G, "G ", "  ", PTE),
    flag(H, "H ", "  ", ABOVE_PTE),
    flag(HG, "HG", "  ", ABOVE_PTE),
    flag(NR, "NR", "  "),
    flag(NX, "NX", "x "),
    flag(RPLV, "RPLV", "    "),
)

STYLE = Style(
    arch="loongarch64",
    prot=sum_bits(column.mask for column in COLUMNS),
    columns=COLUMNS,
    separator=" ",
    units="KMGTPE",
    advance_first=1,
    advance_break=2,
)
