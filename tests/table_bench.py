"""A machine with a root table and frames for more, and no kernel: for tests of what builds and removes tables."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from memhp.hw.format import Format
from memhp.hw.machine import Machine
from memhp.hw.memory import Owner, Use
from memhp.hw.tlb import Flush, FlushPlan, Table
from memhp.hw.walker import tables
from memhp.linux.formats import FORMATS
from memhp.linux.mm.pgtable_populate import Builder
from memhp.linux.mm.pgtable_remove import Remover
from memhp.spans import Span
from steppers import Recorder

FRAMES = Span(0x100, 0x100 + (1 << 18))
STORAGE = Span(1 << 30, 1 << 35)
"""What the leaves of the tests map."""
PROT = {"riscv64": 0xE6, "arm64": 0x60_0000_0000_0400, "x86_64": 0x163, "loongarch64": 0x1D3}
FLUSH = Flush("flush_tlb_kernel_range", "leaves", last_level=True)
EVERYTHING = FlushPlan(Flush("flush_tlb_all", "all"))
WINDOW = 0x900 << 52
"""The top bits of every virtual address in a window of all memory."""
POINTERS = replace(
    FORMATS["x86_64-4level"],
    name="virtual-pointers",
    none=(0x100, *(WINDOW | frame << 12 for frame in (0x51, 0x52, 0x53))),
    pointer_mask=0xFFF << 52,
    pointer=WINDOW,
    table_bits=WINDOW,
    rights_and=0,
    rights_or=0,
)
"""Pointers to tables are virtual addresses without a valid bit, and empty entries are not zero: above the lowest level
they point to tables that all share, as on LoongArch."""
FORMS = {**FORMATS, POINTERS.name: POINTERS}


class Bench:
    """A machine with a root table and frames for more, handed out in order."""

    def __init__(self, fmt: Format, *, stepped: bool = False) -> None:
        self.fmt = fmt
        self.hw = Machine(fmt, nr_cpus=2)
        self.hw.plug(FRAMES, Owner(Use.FREE))
        self.hw.plug(STORAGE, Owner(Use.MEMMAP))
        self.next = FRAMES.start
        self.root = Table(self.take(fmt.root_height, 1)[0].start, fmt.root_height, (1 << 64) - (1 << fmt.va_bits))
        self.stored: Counter[int] = Counter()
        if stepped:
            self.hw.stepper = Recorder()

    def take(self, height: int, count: int) -> list[Span]:
        span = Span(self.next, self.next + count)
        self.next = span.end
        self.hw.claim(span, Owner(Use.TABLE), "test")
        self.hw.blank_tables([span], height)
        return [span]

    def give(self, spans: list[Span], _: int) -> None:
        for span in spans:
            self.hw.release(span, Owner(Use.FREE), "test")

    def put_away(self, spans: list[Span], height: int) -> None:
        for span in spans:
            self.stored[height] += span.size
            self.hw.tlb.give_back(span, "test")

    def builder(self, heights: list[int], **options: Any) -> Builder:
        base = Builder(frozenset(heights), self.take, "before-fill", "descend", self.fmt.table_bits, where="test")
        return replace(base, **options)

    def remover(self, **options: Any) -> Remover:
        return replace(Remover(free_table=self.give, where="test"), **options)

    def window(self, unit: int) -> int:
        """An address from which on a few tables full of units cross a root entry's edge, if one can."""
        root = self.fmt.levels[-1]
        edge = self.root.va + max(root.entries - 8, root.entries // 2) * root.size
        return edge - 700 * unit if 700 * unit < root.size else edge

    def contents(self) -> dict[int, bytes]:
        """Every table."""
        frames = [frame for span in self.hw.memory.arena.frames() for frame in range(*span)]
        rows = self.hw.memory.tables(np.array(frames, dtype=np.uint64))
        return {frame: row.tobytes() for frame, row in zip(frames, rows, strict=True)}

    def tables(self) -> Counter[int]:
        """Tables that the root leads to, itself included, by height."""
        found = tables(self.hw.memory, self.fmt, self.root.frame)
        return Counter(found.height.tolist())
