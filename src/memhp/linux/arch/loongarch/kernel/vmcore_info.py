"""LoongArch: what a dump tells of the kernel's page tables; the kernel notes nothing of its own in VMCOREINFO."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import numpy as np

from memhp.errors import BadInput
from memhp.hw.ranges import Ranges
from memhp.hw.reader import TableReader
from memhp.linux.arch.loongarch.format import CACHE_BASE, FORMATS, PA_BITS, G
from memhp.linux.config import Bases
from memhp.linux.port import NotedLayout, Root, VmCoreNotes

WINDOW = CACHE_BASE >> PA_BITS


def vmcoreinfo_is_ours(notes: VmCoreNotes) -> bool:
    """The kernel's symbols lie in the window DMW1."""
    return notes.has("swapper_pg_dir", "SYMBOL") and notes.symbol("swapper_pg_dir") >> PA_BITS == WINDOW


def vmcoreinfo_root(info: VmCoreNotes) -> Root:
    """``swapper_pg_dir`` through the window; the levels are those that builds for its page size have."""
    fmt = next(each for each in FORMATS if each.page_size == info.page_size)
    return Root(fmt, (info.symbol("swapper_pg_dir") - CACHE_BASE) >> fmt.page_shift)


def vmcoreinfo_layout(info: VmCoreNotes, root: Root, found: Ranges) -> NotedLayout:
    """Nothing is drawn at random but the place of the image in the window."""
    return NotedLayout(root.fmt.va_bits, 0, Bases())


def shared_tables_of(root: Root, reader: TableReader) -> Root:
    """The same root with the addresses of the tables that this build shares among entries that lead nowhere.

    Most entries of the root are such; the shared table of each level holds nothing but pointers to the next one's.
    Raises BadInput when the tables are not so, :class:`~memhp.hw.reader.MissingTables` when they are not in the dump.
    """
    fmt = root.fmt
    none = [G] * len(fmt.levels)
    row = reader.tables(np.array([root.pfn], dtype=np.uint64))[0]
    values, counts = np.unique(row, return_counts=True)
    none[fmt.root_height] = int(values[counts.argmax()])
    for height in range(fmt.root_height, 1, -1):
        shared = np.array([fmt.table_pfn(none[height])], dtype=np.uint64)
        row = reader.tables(shared)[0]
        if (row != row[0]).any():
            raise BadInput(f"the table at PFN {int(shared[0]):#x} is no table of nothing", where="page tables")
        none[height - 1] = int(row[0])
    return Root(replace(fmt, none=tuple(none)), root.pfn, root.index)
