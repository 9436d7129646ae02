"""Page tables as the kernel counts them: constructors, destructors and ``NR_PAGETABLE``, of include/linux/mm.h.

A constructor marks the page as a table and counts it, a destructor takes both back. Which tables have one run for them
is up to who makes and who frees them, and they need not agree. Looked at are the tables that hotplug frees: of direct
map and vmemmap. Those of vmalloc and of processes are made and freed in pairs by generic code, and do not count here.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter

from memhp.hw.ledger import Violation
from memhp.linux.choices import TableDtor
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "include/linux/mm.h"


def pagetable_ctor(k: Kernel, spans: list[Span]) -> None:
    """Mark and count tables (PFNs): ``__pagetable_ctor()``."""
    tables = k.hw.table_counts
    for span in spans:
        tables.constructed.add(*span)
        tables.nr_page_table_pages += span.size


def pagetable_dtor(k: Kernel, spans: list[Span], height: int, which: TableDtor, where: str) -> None:
    """Run the destructor for tables (PFNs) that are about to be freed, or not, and note where that is amiss.

    The page allocator drops the mark of those that still have it (``free_pages_prepare()``); nothing mends the count.
    """
    tables = k.hw.table_counts
    for span in spans:
        made = sum(part.size for part in tables.constructed.runs(*span))
        unmade = span.size - made
        if made:
            tables.constructed.remove(*span)
        if which == "none":
            _note(tables.never_destroyed, where, made)
            continue
        tables.nr_page_table_pages -= made
        if which == "all" and unmade:
            tables.nr_page_table_pages -= unmade
            _note(tables.never_constructed, where, unmade)
            if height == 1 and k.config.profile.pmd_dtor == "asserts":
                text = f"a PMD table's destructor takes on trust what no constructor set, in {unmade} tables"
                k.hw.violations.append(Violation("table-counts", text, where))


def _note(counter: Counter[str], where: str, count: int) -> None:
    if count:
        counter[where] += count
