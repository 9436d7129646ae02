"""What a leaf for kernel data must say, by architecture: readable, writable for the kernel alone, never executable,
ordinary cacheable memory. In the manuals' fields, so that it holds whatever else a kernel puts into its entries.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import NamedTuple

import numpy as np

from memhp.check.look import Leaves
from memhp.hw.walker import Bools
from memhp.linux.arch.arm64.include.asm.pgtable_prot import MT_NORMAL, MT_NORMAL_TAGGED
from memhp.linux.config import Config


class Rule(NamedTuple):
    """A field and the values that it may have; `what` says what other values mean."""

    what: str
    field: str
    values: tuple[int, ...]


WRITABLE = "not writable"

RULES: dict[str, tuple[Rule, ...]] = {
    "riscv64": (
        Rule("not readable", "R", (1,)),
        Rule(WRITABLE, "W", (1,)),
        Rule("executable", "X", (0,)),
        Rule("open to user space", "U", (0,)),
        Rule("without accessed bit", "A", (1,)),
        Rule("not ordinary memory", "PBMT", (0,)),
    ),
    "arm64": (
        Rule(WRITABLE, "AP", (0, 1)),
        Rule("open to user space", "AP", (0, 2)),
        Rule("executable", "PXN", (1,)),
        Rule("executable by user space", "UXN", (1,)),
        Rule("without access flag", "AF", (1,)),
        Rule("not inner shareable", "SH", (3,)),
    ),
    "x86_64": (
        Rule(WRITABLE, "RW", (1,)),
        Rule("open to user space", "US", (0,)),
        Rule("executable", "XD", (1,)),
        Rule("not cached", "PCD", (0,)),
        Rule("written through", "PWT", (0,)),
    ),
}
"""arm64's AP forbids the kernel to write in its upper bit, AP[2], and lets user space in with its lower, AP[1]."""


def rules_of(config: Config) -> tuple[Rule, ...]:
    """The rules for a kernel; which number Normal memory has in arm64's MAIR_EL1 depends on the version."""
    if config.arch != "arm64":
        return RULES[config.arch]
    version = config.arm64.kernel_prot
    normal = (MT_NORMAL[version],) if version == "5.2" else (MT_NORMAL[version], MT_NORMAL_TAGGED)
    return (*RULES["arm64"], Rule("not Normal memory", "AttrIndx", normal))


def broken_rules(config: Config, leaves: Leaves) -> list[tuple[Rule, Bools]]:
    """The rules that some runs of leaves break, each with which; fields that a format has no room for are passed over
    (arm64 with LPA2: SH).
    """
    fmt = config.format
    names = {field.name for field in fmt.fields}
    found = []
    for rule in rules_of(config):
        if rule.field not in names:
            continue
        field = fmt.field(rule.field)
        value = (leaves.bits >> np.uint64(field.lo)) & np.uint64((1 << field.width) - 1)
        wrong = ~np.isin(value, np.array(rule.values, dtype=np.uint64))
        if wrong.any():
            found.append((rule, wrong))
    return found
