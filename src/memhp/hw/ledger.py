"""What passed the doors: counts, log lines, and laws broken on the spot."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from memhp.hw.tlb import Flush
from memhp.spans import SpanSet


class LogLine(NamedTuple):
    """A line of the kernel log: machine time in nanoseconds, ``pr_*`` level and text."""

    time: int
    level: str
    text: str


class Violation(NamedTuple):
    """A law broken at a door, at the moment it happened: which, how, and by which kernel function."""

    law: str
    text: str
    where: str


@dataclass
class TableCounts:
    """What constructors and destructors of page tables have left: marks on frames, and counts that nothing orders."""

    constructed: SpanSet = field(default_factory=SpanSet)
    """PFNs of frames that are marked as tables (``PGTY_table``)."""
    nr_page_table_pages: int = 0
    """``NR_PAGETABLE``, of these tables: what ``PageTables`` of /proc/meminfo has gained since boot, in pages."""
    never_constructed: Counter[str] = field(default_factory=Counter)
    """Tables that had a destructor run and no constructor, by the kernel function that freed them."""
    never_destroyed: Counter[str] = field(default_factory=Counter)
    """Tables that had a constructor run and no destructor."""


@dataclass
class Ledger:
    """Running counts of what passed the doors; a step's cost is the difference of two copies."""

    tables_allocated: Counter[int] = field(default_factory=Counter)
    """Page-table frames taken, by height."""
    tables_freed: Counter[int] = field(default_factory=Counter)
    flushes: Counter[Flush] = field(default_factory=Counter)
    """Invalidations made, by kind."""
    flushed_pages: Counter[Flush] = field(default_factory=Counter)
    """Base pages that the ranged flushes named, by kind."""
    stores: int = 0
    """Page-table entries written."""

    def copy(self) -> "Ledger":
        """The counts as they stand now."""
        return Ledger(
            self.tables_allocated.copy(),
            self.tables_freed.copy(),
            self.flushes.copy(),
            self.flushed_pages.copy(),
            self.stores,
        )

    def since(self, earlier: "Ledger") -> "Ledger":
        """What happened after the copy `earlier` was taken."""
        return Ledger(
            self.tables_allocated - earlier.tables_allocated,
            self.tables_freed - earlier.tables_freed,
            self.flushes - earlier.flushes,
            self.flushed_pages - earlier.flushed_pages,
            self.stores - earlier.stores,
        )
