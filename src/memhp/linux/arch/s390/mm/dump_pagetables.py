"""s390: how the kernel prints its page tables; what is the same from 6.1 to 7.2."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.arch.s390.format import FC, IEP, PAGE_INVALID, P
from memhp.linux.mm.ptdump_style import EVERY, Style, flag

STYLE = Style(
    arch="s390x",
    prot=P | IEP,
    columns=(flag(P, "RO", "RW"), flag(IEP, "NX", "X")),
    separator=" ",
    units="KMGTPE",
    level_names=("ASCE", "PGD", "PUD", "PMD", "PTE"),
    gap=" ",
    hole=PAGE_INVALID,
    hole_text="I",
    root_is_pgd=False,
    ends_with_span=True,
    leaf_bit=FC,
    advance_first=EVERY,
    advance_break=EVERY,
)
