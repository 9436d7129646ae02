"""What the explorer knows of page tables beyond their contents: which frame is a table where, and which was unlinked.

A CPU that has read a pointer to a table goes on with it whatever others do in the meantime. Two things can go wrong
besides a table that is no table any more: it writes an entry into a table that nothing points to by then, so that what
it wrote is lost; or the frame was freed and is a table again, in another place of the tree. And what an
entry leads to may be freed while it still does: a table, or the storage of struct pages.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from memhp.explore.engine.op import ALONE
from memhp.hw.format import U64, Format
from memhp.hw.ledger import Violation
from memhp.hw.machine import Machine
from memhp.hw.memory import Use
from memhp.hw.stepper import Access
from memhp.hw.tlb import Table
from memhp.spans import Span

INIT_MM = "init_mm"
"""The tree that counts: a process's own root entry may go while the kernel's stays."""

Place = Callable[[object], str]
"""Where in the kernel an access is made, given what it is about; asked where that matters."""

WRITES, LINKS = 1, 2
"""Modes of a place in the tree: entries written in the table there, the entry that leads to it changed."""


class _Life(NamedTuple):
    """A frame as a table: what it was first used as, and whether an entry that pointed to it was cleared."""

    table: Table
    unlinked: str = ""
    """Who cleared that entry."""


class _Leads(NamedTuple):
    """Where the entries of a table led when it was looked at; those that have changed since were cleared."""

    row: U64
    found: tuple[tuple[list[int], list[int], int], ...]
    """Of entries that lead to tables, and of those that map struct pages: the first frames that they lead to,
    ascending, the entries' indexes in that order, and how many frames each leads to.
    """

    @classmethod
    def of(cls, fmt: Format, table: Table, row: U64, vmemmap: Span) -> "_Leads":
        """Of a table with these entries, struct pages being mapped in `vmemmap` (bytes)."""
        size = fmt.levels[table.height].size
        inside = slice(max((vmemmap.start - table.va) // size, 0), max(-(-(vmemmap.end - table.va) // size), 0))
        tables = np.flatnonzero(fmt.is_table(row, table.height))
        leaves = np.flatnonzero(fmt.is_leaf(row[inside], table.height)) + inside.start
        found = ((fmt.table_pfn(row[tables]), tables, 1),
                 (fmt.leaf_pfn(row[leaves], table.height), leaves, fmt.pages_at(table.height)))  # fmt: skip
        return cls(row.copy(), tuple(_ascending(*one) for one in found if len(one[1])))

    def to(self, frames: Span, row: U64) -> list[int]:
        """The indexes, ascending, of the entries that lead to any of these frames and stand in the table still."""
        here: list[int] = []
        for firsts, indexes, pages in self.found:
            first = bisect_left(firsts, frames.start - pages + 1)
            if first < len(firsts) and firsts[first] < frames.end:
                those = indexes[first : bisect_left(firsts, frames.end, first)]
                here += [index for index in those if row[index] == self.row[index]]
        return sorted(here)


def _ascending(firsts: U64, indexes: npt.NDArray[np.intp], pages: int) -> tuple[list[int], list[int], int]:
    order = np.argsort(firsts, kind="stable")
    return firsts[order].tolist(), indexes[order].tolist(), pages


class Ghost:
    """Watches accesses at the doors, each just before it happens."""

    def __init__(self, hw: Machine, vmemmap: Span) -> None:
        self._fmt = hw.fmt
        self._vmemmap = vmemmap
        self._lives: dict[int, _Life] = {}
        self._leads: dict[int, _Leads] = {}
        """By frame of a table. A table is filled before anything leads to it, or by stores, which are seen."""

    def look(self, hw: Machine, access: Access, place: Place) -> None:
        """Judge an access, and remember what it does. Breaks go to ``hw.violations``; `place` tells where."""
        target = access.target
        if isinstance(target, Table):
            self._entry(hw, access, target, place)
        elif isinstance(target, Span) and access.kind in ("claim", "release"):
            if access.kind == "release" and self._is_watched(hw, target):
                self._freed(hw, target, place)
            for frame in [frame for frame in self._lives if frame in target]:
                del self._lives[frame]
                self._leads.pop(frame, None)

    def _is_watched(self, hw: Machine, frames: Span) -> bool:
        """Whether one of these frames is a table, or holds struct pages."""
        return any(owner.use in (Use.TABLE, Use.MEMMAP) for _, _, owner in hw.memory.owners.runs(*frames))

    def _freed(self, hw: Machine, frames: Span, place: Place) -> None:
        """Tables or struct pages are freed. Where an entry that somebody came to leads to them still, CPUs may reach
        them until that is cleared and flushed, whether or not the code says that it is about to. A table that nothing
        points to any more leads nowhere once nobody has the entry that pointed to it.
        """
        reached = (one for one in self._lives.values() if not one.unlinked or hw.tlb.leads_to(one.table.frame))
        for table in [life.table for life in reached]:
            row = hw.memory.arena.row(table.frame)
            if row is None:
                continue
            for index in self._leading(table, row).to(frames, row):
                hw.expect_clear(table, index, row[index : index + 1], place(table))

    def _leading(self, table: Table, row: U64) -> _Leads:
        """Where the entries of a table lead."""
        seen = self._leads.get(table.frame)
        if seen is None:
            seen = self._leads[table.frame] = _Leads.of(self._fmt, table, row, self._vmemmap)
        return seen

    def _entry(self, hw: Machine, access: Access, table: Table, place: Place) -> None:
        if hw.memory.arena.row(table.frame) is None:
            return
        life = self._lives.setdefault(table.frame, _Life(table))
        if (life.table.height, life.table.va) != (table.height, table.va):
            text = (
                f"frame {table.frame:#x} is used as the table at {table.va:#x}, "
                f"but was freed and is the table at {life.table.va:#x}"
            )
            hw.violations.append(Violation("freed-table", text, place(table)))
        if access.kind != "store":
            return
        if access.value != self._fmt.empty[table.height]:
            self._leads.pop(table.frame, None)
        if access.value and life.unlinked:
            text = f"entry {access.entry} of the table at {table.va:#x} is written, but {life.unlinked} unlinked it"
            hw.violations.append(Violation("lost-write", text, place(table)))
        self._link(hw, access, table, place)

    def _link(self, hw: Machine, access: Access, table: Table, place: Place) -> None:
        """The entry may have pointed to a table, and may point to one from now on."""
        row = hw.memory.arena.row(table.frame)
        assert row is not None
        old = int(row[access.entry])
        if old != access.value and table.mm == INIT_MM and self._fmt.is_table(old, table.height):
            child = hw.child(table, access.entry, self._fmt.table_pfn(old))
            life = self._lives.get(child.frame, _Life(child))
            if (life.table.height, life.table.va) == (child.height, child.va):
                self._lives[child.frame] = life._replace(unlinked=place(table))
        if self._fmt.is_table(access.value, table.height):
            child = hw.child(table, access.entry, self._fmt.table_pfn(access.value))
            self._lives[child.frame] = _Life(child)


def links_touched(fmt: Format, access: Access, table: Table) -> Iterator[tuple[Hashable, int]]:
    """What a store touches besides its entry, for what the ghost makes of it depends on the order.

    A write into a table meets whatever changes the entry that leads there; linking a frame meets every access to it.
    """
    if access.value:
        yield ("place", table.height, table.va), WRITES
    if table.height and table.mm == INIT_MM:
        size = fmt.levels[table.height].size
        yield ("place", table.height - 1, table.va + access.entry * size), LINKS
    if fmt.is_table(access.value, table.height):
        yield ("frame", fmt.table_pfn(access.value)), ALONE
