"""riscv: how the page-table dump prints: ``pte_bits`` and ``note_page()`` of ``arch/riscv/mm/ptdump.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.format import sum_bits
from memhp.linux.arch.riscv.format import PBMT, RSW, A, D, G, N, R, U, V, W, X
from memhp.linux.mm.ptdump_style import Column, Style, flag

COLUMNS = (
    flag(N, "N", "."),
    Column(PBMT, {0: "  ..  ", 1 << 61: "MT(NC)", 2 << 61: "MT(IO)", 3 << 61: "MT(??)"}),
    Column(RSW, {0: "  ..  ", **{value << 8: f"RSW({value})" for value in (1, 2, 3)}}),
    flag(D, "D", "."),
    flag(A, "A", "."),
    flag(G, "G", "."),
    flag(U, "U", "."),
    flag(X, "X", "."),
    flag(W, "W", "."),
    flag(R, "R", "."),
    flag(V, "V", "."),
)

STYLE = Style(
    arch="riscv64",
    prot=sum_bits(column.mask for column in COLUMNS),
    columns=COLUMNS,
    separator=" ",
    units="KMGTPE",
    physical=True,
    holes=False,
    advance_break=1 << 30,
)
