"""Counts of page tables: a constructor for each that counts, and its destructor when it goes.

``PageTables`` of /proc/meminfo drifts where makers and freers of tables do not agree, as those of every port do: of
that the law tells, and lets it pass, for nothing but a figure is wrong. In 6.12 and before, a PMD table's
destructor without its constructor is worse: it asserts what only the constructor sees to.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from memhp.check.law import Breach, Law, Note
from memhp.check.machine_view import MachineView, minus, pfn_text
from memhp.check.snapshot import Snapshot
from memhp.hw.memory import Use

NAME = "table-counts"


def find(look: MachineView, before: Snapshot | None) -> Iterator[Breach]:
    """Pages that are marked as tables and are none."""
    for span in minus(look.k.hw.table_counts.constructed, look.frames[Use.TABLE]):
        yield Breach(NAME, f"{pfn_text(span)} is marked as a page table, and is none", pfns=span)


def find_notes(look: MachineView, before: Snapshot | None) -> Iterator[Note]:
    """Which tables the count is off by."""
    tables = look.k.hw.table_counts
    for where, count in tables.never_constructed.items():
        text = f"PageTables of /proc/meminfo lacks tables that {where} takes off it and that were never put on it"
        yield Note(NAME, text, count)
    for where, count in tables.never_destroyed.items():
        text = f"PageTables of /proc/meminfo goes on counting tables that {where} has freed"
        yield Note(NAME, text, count)


LAW = Law(
    NAME,
    "A page table that had its constructor run has its destructor run when it goes, and no other has",
    find,
    doors=("table-counts",),
    find_notes=find_notes,
)
