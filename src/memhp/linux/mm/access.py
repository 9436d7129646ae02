"""A kernel access to a virtual address as the running process's tables translate it, or the fault if they do not."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import NamedTuple

from memhp.errors import KernelBug
from memhp.hw.tlb import Table
from memhp.linux.state import Kernel

Outcome = str
"""``ok``, or ``vmalloc_fault fixed`` when the fault handler supplied the missing root entry."""


class Oops(NamedTuple):
    """How an architecture reports a kernel access that nothing maps: the line (with the address in it), the place."""

    text: str
    place: str


def kernel_access(k: Kernel, mm: str, va: int, oops: Oops) -> Outcome:
    """Read a byte at `va` in the kernel, in address space `mm`.

    Raises :class:`KernelBug` when the tables of `mm` do not map it: for want of a root entry that init_mm has, say.
    """
    table = k.pgd[mm]
    outcome = "ok"
    index = k.hw.fmt.index(va, table.height)
    entry = k.hw.load(table, index)
    if not k.hw.fmt.is_valid(entry, table.height) and table.frame != k.init_mm.frame:
        reference = k.hw.load(k.init_mm, index)
        if k.hw.fmt.is_valid(reference, table.height):
            if not (k.config.choices.fixes_vmalloc_faults and va in k.layout.vmalloc):
                _die(k, va, oops, f"the root table of {mm} lacks entry {index}, which init_mm has")
            k.hw.store(table, index, reference, oops.place)
            entry, outcome = reference, "vmalloc_fault fixed"
    while not k.hw.fmt.is_leaf(entry, table.height):
        if not k.hw.fmt.is_table(entry, table.height):
            _die(k, va, oops, "nothing is mapped there")
        table, entry = _down(k, table, index, entry, va)
        index = k.hw.fmt.index(va, table.height)
    return outcome


def _down(k: Kernel, table: Table, index: int, entry: int, va: int) -> tuple[Table, int]:
    child = k.hw.child(table, index, k.hw.fmt.table_pfn(entry))
    return child, k.hw.load(child, k.hw.fmt.index(va, child.height))


def _die(k: Kernel, va: int, oops: Oops, why: str) -> None:
    text = oops.text.format(va=va)
    k.hw.log(text, "alert")
    raise KernelBug(f"{text}: {why}", place=oops.place)
