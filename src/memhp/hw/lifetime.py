"""What a CPU reads besides tables: memory behind a mapping, objects of the slab allocator. Either may be gone by then.

These are doors as well: under the explorer each is one step. A CPU's table walker reads all levels at once as far as
software can tell, since a flush waits for walks that are under way.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from memhp.hw.ledger import Violation
from memhp.hw.machine import Machine
from memhp.hw.memory import Use
from memhp.hw.shared import marked
from memhp.hw.stepper import Access
from memhp.hw.tlb import Table
from memhp.spans import Span

RCU = "rcu"
"""The read-side sections of read-copy-update."""


@dataclass(eq=False)
class SlabObject:
    """Something that ``kmalloc()`` gave and ``kfree()`` takes."""

    name: str
    freed_by: str = field(default="", metadata=marked(lambda thing: thing.name))
    """Who freed it: ``file:function``."""
    spares: frozenset[int] = field(default=frozenset(), metadata=marked(lambda thing: thing.name))
    """Read-side sections that it outlives, being freed after a grace period."""


class Hop(NamedTuple):
    """One entry that a walk goes through. `frame` is where its leaf leads, None of a table entry or one not valid."""

    table: Table
    entry: int
    frame: int | None
    lost: bool = False
    """Whether the table's frame holds no table any more."""


def walk(hw: Machine, root: Table, va: int) -> Iterator[Hop]:
    """The entries that translate `va` (bytes) now, from `root` down to a leaf or to where it ends."""
    fmt = hw.fmt
    table = root
    while True:
        row = hw.memory.arena.row(table.frame)
        index = fmt.index(va, table.height)
        entry = 0 if row is None else int(row[index])
        if fmt.is_leaf(entry, table.height):
            yield Hop(table, index, int(fmt.leaf_pa(entry, table.height, va)) // fmt.page_size)
            return
        yield Hop(table, index, None, row is None)
        if not fmt.is_table(entry, table.height):
            return
        table = hw.child(table, index, int(fmt.table_pfn(entry)))


def read_memory(hw: Machine, root: Table, addresses: Span, use: Use, where: str) -> bool:
    """A CPU reads `addresses` (bytes, within a page), memory of that use, through the tables below `root`: False if it
    faults.

    Breaks the law ``use-after-free`` when another use has the frame by now, or none, and ``freed-table`` when a table
    on the way is none any more.
    """
    if hw.stepper is not None:
        hw.stepper.step(Access("touch", addresses, root.frame))
    va = addresses.start
    last = list(walk(hw, root, va))[-1]
    if last.lost:
        text = f"the walk for {va:#x} goes through frame {last.table.frame:#x}, which holds no table any more"
        hw.violations.append(Violation("freed-table", text, where))
    if last.frame is None:
        return False
    owner = hw.memory.owners.get(last.frame)
    if owner is None or owner.use is not use:
        now = "no memory" if owner is None else owner
        text = f"{va:#x} is read as {use}, but PFN {last.frame:#x} behind it is {now} by now"
        hw.violations.append(Violation("use-after-free", text, where))
    return True


def use_object(hw: Machine, thing: SlabObject, where: str, *fields: str, change: bool = False) -> None:
    """Read an object, and these shared fields of it in the same step, or with `change` change it in one go. Breaks
    ``use-after-free`` once it was freed.
    """
    if change:
        hw.atomic(thing.name)
    else:
        hw.reads(thing.name, *fields)
    now = vars(thing)  # in the step just taken
    freed_by = now["freed_by"]
    if freed_by and hw.outermost(RCU) not in now["spares"]:
        hw.violations.append(Violation("use-after-free", f"{thing.name} is used, but {freed_by} freed it", where))


def kfree(hw: Machine, thing: SlabObject, where: str, spares: frozenset[int] = frozenset()) -> None:
    """Free an object, at once but for these read-side sections. Breaks ``use-after-free`` when it was freed before."""
    hw.writes(thing.name)
    thing.spares = spares
    if thing.freed_by:
        hw.violations.append(
            Violation("use-after-free", f"{thing.name} is freed, but {thing.freed_by} freed it", where)
        )
    thing.freed_by = where
