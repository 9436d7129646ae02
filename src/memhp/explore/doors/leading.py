"""Where the entries of page tables lead: to tables, to the struct pages that vmemmap maps, and to pages of vmalloc.

Whoever gives frames back asks which entries lead to them. Of the tables that a kernel had before the first step that is
found out once; every execution looks it up there.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from memhp.hw.format import U64, Format
from memhp.hw.memory import Arena
from memhp.hw.runs import Bools
from memhp.hw.tlb import Table
from memhp.hw.unchanging import Unchanging
from memhp.linux.state import Kernel
from memhp.spans import Span


class Lead(NamedTuple):
    """An entry of a table that leads somewhere, and what it held."""

    table: Table
    entry: int
    value: int
    frames: Span
    """What it leads to (PFNs)."""
    to_table: bool


class Life(NamedTuple):
    """A frame as a table: what it was first used as, and whether an entry that pointed to it was cleared."""

    table: Table
    unlinked: str = ""
    """Who cleared that entry."""


class _Column(NamedTuple):
    """Entries of a kind that lead to equally many frames each, ascending by the first of these."""

    pages: int
    to_tables: bool
    firsts: Sequence[int]
    tables: Sequence[Table]
    """Those that the numbers of `at` stand for."""
    at: Sequence[int]
    indexes: Sequence[int]
    values: Sequence[int]

    def to(self, frames: Span | None) -> Iterator[Lead]:
        """The entries that lead to any of these frames (PFNs); None: all."""
        one = 0 if frames is None else bisect_left(self.firsts, frames.start - self.pages + 1)
        while one < len(self.firsts) and (frames is None or self.firsts[one] < frames.end):
            there = Span(self.firsts[one], self.firsts[one] + self.pages)
            yield Lead(self.tables[self.at[one]], self.indexes[one], self.values[one], there, self.to_tables)
            one += 1


class Leading(Unchanging):
    """Where the entries of some tables led when they were looked at, and of leaves those in `areas` (bytes)."""

    __slots__ = ("_columns", "lives", "roots", "tables")

    def __init__(self, fmt: Format, arena: Arena, tables: Sequence[Table], areas: Sequence[Span]) -> None:
        self.tables = {table.frame: table for table in tables}
        """By frame."""
        self.lives = {table.frame: Life(table) for table in tables}
        """The same, as they begin."""
        self.roots = [table for table in tables if table.height == fmt.root_height]
        self._columns: list[_Column] = []
        for height in range(len(fmt.levels)):
            here = [table for table in tables if table.height == height and (height or _meets(fmt, table, areas))]
            if here:
                self._columns += _columns(fmt, arena, here, areas)

    def to(self, frames: Span) -> list[Lead]:
        """The entries that led to any of these frames (PFNs)."""
        return [lead for column in self._columns for lead in column.to(frames)]

    def all(self) -> Iterator[Lead]:
        """The entries that led anywhere."""
        return (lead for column in self._columns for lead in column.to(None))


def mapping_areas(k: Kernel) -> tuple[Span, Span]:
    """The areas (bytes) whose leaves lead to pages that are not to be freed before these are cleared: vmemmap's struct
    pages, vmalloc's pages. The direct map keeps its leaves.
    """
    return k.layout.vmemmap.span, k.layout.vmalloc.span


def leading_of(k: Kernel) -> Leading:
    """Where all tables of a kernel and its processes lead."""
    arena = k.hw.memory.arena
    tables: dict[int, Table] = {}
    level = [k.init_mm, *k.pgd.values()]
    while level:
        new: dict[int, Table] = {}
        for table in level:
            if table.frame not in tables and table.frame in arena:
                new.setdefault(table.frame, table)
        tables |= new
        level = [child for table in new.values() if table.height for child in _children(k, table)]
    return Leading(k.hw.fmt, arena, list(tables.values()), mapping_areas(k))


def _children(k: Kernel, table: Table) -> Iterator[Table]:
    """The tables that a table leads to."""
    fmt = k.hw.fmt
    row = k.hw.memory.tables(np.array([table.frame], dtype=np.uint64))[0]
    for entry in np.flatnonzero(fmt.is_table(row, table.height)).tolist():
        yield k.hw.child(table, entry, fmt.table_pfn(int(row[entry])))


def _meets(fmt: Format, table: Table, areas: Sequence[Span]) -> bool:
    """Whether a table translates some of these addresses (bytes)."""
    level = fmt.levels[table.height]
    own = Span(table.va, table.va + (level.entries << level.shift))
    return any(area.overlaps(own) for area in areas)


def _columns(fmt: Format, arena: Arena, tables: Sequence[Table], areas: Sequence[Span]) -> Iterator[_Column]:
    """Of tables of one height: entries that lead to tables, and leaves in these areas (bytes)."""
    height, size = tables[0].height, fmt.levels[tables[0].height].size
    rows = arena.tables(np.array([table.frame for table in tables], dtype=np.uint64))
    index = np.arange(rows.shape[1])
    inside = np.zeros(rows.shape, dtype=np.bool_)
    for area in areas:
        bounds = (area.start, area.end + size - 1)
        first, end = (np.array([[(bound - table.va) // size] for table in tables]) for bound in bounds)
        inside |= (index >= first) & (index < end)
    leaf = np.asarray(fmt.is_leaf(rows, height)) & inside

    def column(which: Bools, pages: int, *, to_tables: bool) -> _Column:
        at, indexes = np.nonzero(which)
        values: U64 = rows[at, indexes]
        firsts = fmt.table_pfn(values) if to_tables else fmt.leaf_pfn(values, height)
        order = np.argsort(firsts, kind="stable")
        of_entries = (one[order].tolist() for one in (at, indexes, values))
        return _Column(pages, to_tables, firsts[order].tolist(), tables, *of_entries)

    yield column(np.asarray(fmt.is_table(rows, height)), 1, to_tables=True)
    yield column(leaf, fmt.pages_at(height), to_tables=False)
