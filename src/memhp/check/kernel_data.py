"""What a leaf for kernel data must say, by its architecture: readable, writable for the kernel alone, never executable,
ordinary cacheable memory. In the manuals' fields, so that it holds whatever else a kernel puts into its entries.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable

import numpy as np

from memhp.check.machine_view import Leaves
from memhp.hw.format import Format
from memhp.hw.walker import Bools
from memhp.linux.port import LeafRule


def broken_rules(fmt: Format, rules: Iterable[LeafRule], leaves: Leaves) -> list[tuple[LeafRule, Bools]]:
    """The rules that some runs of leaves break, each with which; fields that a format has no room for are passed over
    (arm64 with LPA2: SH).
    """
    names = {field.name for field in fmt.fields}
    found = []
    for rule in rules:
        if rule.field not in names:
            continue
        field = fmt.field(rule.field)
        value = (leaves.bits >> np.uint64(field.lo)) & np.uint64((1 << field.width) - 1)
        wrong = np.ones(value.shape, dtype=np.bool_)
        for right in rule.values:
            wrong &= value != np.uint64(right)
        if wrong.any():
            found.append((rule, wrong))
    return found
