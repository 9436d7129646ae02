"""Page tables built by hand for tests: frames as plain rows, filled entry by entry."""
# SPDX-License-Identifier: GPL-2.0-or-later

import numpy as np

from memhp.hw.format import U64, Format
from memhp.hw.reader import ArrayReader, MissingTables
from memhp.linux.port import Root

ROOT_PFN = 0x80
FIRST_TABLE = 0x100


class Tree:
    """A root table and the tables that :meth:`map` and :meth:`table_at` make on the way; a TableReader."""

    def __init__(self, fmt: Format) -> None:
        self.fmt = fmt
        self.frames: dict[int, U64] = {ROOT_PFN: self._blank(fmt.root_height)}
        self.root = Root(fmt, ROOT_PFN)

    def _blank(self, height: int) -> U64:
        return np.full(self.fmt.page_size // 8, self.fmt.empty[height], dtype=np.uint64)

    def add_table(self, height: int) -> int:
        """The PFN of a new table of a height that holds nothing."""
        pfn = FIRST_TABLE + len(self.frames)
        self.frames[pfn] = self._blank(height)
        return pfn

    def table_at(self, va: int, height: int) -> int:
        """The PFN of the table at `height` that translates `va`, made if need be."""
        pfn = ROOT_PFN
        for above in range(self.fmt.root_height, height, -1):
            index = self.fmt.index(va, above)
            entry = int(self.frames[pfn][index])
            if self.fmt.is_none(entry, above):
                entry = self.fmt.table_entry(self.add_table(above - 1))
                self.frames[pfn][index] = entry
            pfn = self.fmt.table_pfn(entry)
        return pfn

    def put(self, va: int, height: int, entry: int) -> None:
        """Store one entry."""
        self.frames[self.table_at(va, height)][self.fmt.index(va, height)] = entry

    def map(self, va: int, end: int, height: int, pa: int, prot: int) -> None:
        """Leaves of one height for ``[va, end)``, to contiguous physical memory."""
        size = self.fmt.levels[height].size
        for at in range(va, end, size):
            self.put(at, height, self.fmt.leaf_entry((pa + at - va) >> self.fmt.page_shift, height, prot))

    def tables(self, pfns: U64) -> U64:
        missing = [pfn for pfn in pfns.tolist() if pfn not in self.frames]
        if missing:
            raise MissingTables(missing)
        return np.stack([self.frames[pfn] for pfn in pfns.tolist()])

    def array(self) -> ArrayReader:
        """The same tables in one array."""
        pfns = sorted(self.frames)
        return ArrayReader(np.array(pfns, dtype=np.uint64), np.stack([self.frames[pfn] for pfn in pfns]))
