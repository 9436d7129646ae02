"""Walking the kernel's own page tables entry by entry: ``mm/pagewalk.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable

from memhp.errors import KernelBug
from memhp.hw.tlb import Table
from memhp.linux.place import LEVELS, by_height, each_level, kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "mm/pagewalk.c"
PAGEWALK = by_height(KERNEL_FILE, *(f"walk_{level}_range" for level in LEVELS))

Visit = Callable[[Table, int, int, Span], None]
"""``(table, index, entry, part)``: an entry that maps memory or, of a PTE table, any entry; `part` are the addresses
that are wanted of what it translates."""


def walk_kernel_page_table_range(k: Kernel, span: Span, visit: Visit) -> None:
    """Visit what maps the addresses in `span`; entries above the PTE level that hold nothing are left out."""
    _walk(k, k.init_mm, span, visit)


@each_level(PAGEWALK)
def _walk(k: Kernel, table: Table, span: Span, visit: Visit) -> None:
    fmt = k.hw.fmt
    size = fmt.levels[table.height].size
    for at, n in k.hw.batches((span.start - table.va) // size, -(-(span.end - table.va) // size)):
        for index in range(at, at + n):
            start = table.va + index * size
            part = span.clip(Span(start, start + size))
            entry = k.hw.load(table, index)
            if table.height == 0:
                visit(table, index, entry, part)
            elif fmt.is_table(entry, table.height):
                _walk(k, k.hw.child(table, index, fmt.table_pfn(entry)), part, visit)
            elif not fmt.is_none(entry, table.height):
                visit(table, index, entry, part)


@kernel_function(None)
def expect_table(k: Kernel, table: Table, index: int, where: str) -> Table:
    """The table that an entry points to, for code that does not look whether it does: KernelBug where it does not."""
    entry = k.hw.load(table, index)
    if not k.hw.fmt.is_table(entry, table.height):
        va = table.va + index * k.hw.fmt.levels[table.height].size
        raise KernelBug(f"the entry for {va:#x}, {entry:#x}, is followed as if it pointed to a table", place=where)
    return k.hw.child(table, index, k.hw.fmt.table_pfn(entry))
