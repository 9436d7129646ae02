"""Entries put in the place of others: what a CPU that holds the old one can reach that the new one does not lead to."""
# SPDX-License-Identifier: GPL-2.0-or-later

import numpy as np
import pytest

from memhp.hw.machine import Machine
from memhp.hw.memory import Owner, Use
from memhp.hw.replaced import gone, leads_on
from memhp.hw.tlb import Table
from memhp.linux.formats import FORMATS
from memhp.spans import Span

NAMES = ("riscv64-sv48", "x86_64-4level", "arm64-4k-va48-pa48")
PROT = {"riscv64-sv48": 0xE6, "x86_64-4level": 0x163, "arm64-4k-va48-pa48": 0x78_0000_0000_0700}
SOFTWARE = {"riscv64-sv48": 1 << 8, "x86_64-4level": 1 << 9, "arm64-4k-va48-pa48": 1 << 55}
"""Bits that no CPU looks at."""
TABLE, CHILD = 0x100, 0x101
PFN = 0x4_0000


def machine(name: str) -> Machine:
    """A machine with two tables, one of them to be put below the other."""
    hw = Machine(FORMATS[name])
    hw.plug(Span(0, 1 << 20), Owner(Use.FREE))
    hw.claim(Span(TABLE, TABLE + 2), Owner(Use.TABLE), "test")
    return hw


def split(hw: Machine, name: str, *, but: int | None = None) -> int:
    """The entry of the table that takes a large leaf's place; entry `but` of that leads elsewhere."""
    fmt = hw.fmt
    for at in range(fmt.levels[0].entries):
        hw.store(Table(CHILD, 0, 0), at, fmt.leaf_entry(PFN + at + (at == but), 0, PROT[name]))
    return fmt.table_entry(CHILD)


@pytest.mark.parametrize("name", NAMES)
def test_a_leaf_that_is_split_leads_where_it_led(name: str) -> None:
    hw = machine(name)
    fmt, top = hw.fmt, Table(TABLE, 1, 0)
    leaf = fmt.leaf_entry(PFN, 1, PROT[name])
    for but, stale in ((None, 0), (7, 1)):
        hw.store(top, 3, leaf)
        pointer = split(hw, name, but=but)
        assert leads_on(fmt, hw.memory.arena, 1, leaf, pointer) is (but is None)
        hw.tlb.stale.clear()
        hw.store(top, 3, pointer)
        assert len(hw.tlb.stale) == stale


@pytest.mark.parametrize("name", NAMES)
def test_a_leaf_with_other_attributes_leads_where_it_led_and_one_of_another_frame_does_not(name: str) -> None:
    hw = machine(name)
    fmt, arena = hw.fmt, hw.memory.arena
    accessed = fmt.leaf_entry(PFN, 0, PROT[name])
    other = accessed ^ SOFTWARE[name]
    assert leads_on(fmt, arena, 0, accessed, other)
    assert not leads_on(fmt, arena, 0, accessed, fmt.leaf_entry(PFN + 1, 0, PROT[name]))
    assert not leads_on(fmt, arena, 0, accessed, fmt.empty[0])


@pytest.mark.parametrize("name", NAMES)
def test_of_many_entries_each_is_looked_at(name: str) -> None:
    hw = machine(name)
    fmt, prot = hw.fmt, PROT[name]
    pointer, leaf = split(hw, name), fmt.leaf_entry(PFN, 1, prot)
    moved, none = fmt.leaf_entry(PFN + 512, 1, prot), fmt.empty[1]
    old = np.array([leaf, leaf, leaf, none, pointer, leaf], np.uint64)
    new = np.array([leaf, pointer, moved, leaf, leaf, none], np.uint64)
    assert gone(fmt, hw.memory.arena, 1, old, new).tolist() == [none, none, leaf, none, pointer, leaf]
    assert gone(fmt, hw.memory.arena, 1, old, np.full(6, none, np.uint64)).tolist() == old.tolist()
