"""Which page-table entries were written since somebody last asked: what a check after a step has to read again."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from memhp.hw.format import Format
from memhp.hw.tlb import Table
from memhp.spans import Span, SpanSet


class Changes(NamedTuple):
    """The addresses (bytes) that written entries translate; the frames (PFNs) that came to hold tables or ceased to."""

    addresses: SpanSet
    frames: SpanSet


@dataclass
class Written:
    """A log of writes to page tables, kept by the doors while a machine has one."""

    fmt: Format
    _entries: dict[tuple[int, int], list[tuple[int, int]]] = field(default_factory=dict)
    """Height and first address of a table → runs of entries written, in the order in which they were: first, end."""
    _frames: list[Span] = field(default_factory=list)

    def entries(self, table: Table, index: int, count: int) -> None:
        """Entries ``[index, index + count)`` of a table are written."""
        runs = self._entries.setdefault((table.height, table.va), [])
        if runs and runs[-1][0] <= index <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(runs[-1][1], index + count))
        else:
            runs.append((index, index + count))

    def tables(self, frames: Span) -> None:
        """Frames come to hold tables, or cease to."""
        self._frames.append(frames)

    def take(self) -> Changes:
        """What was written since the last call."""
        addresses = sorted(self._addresses())
        changes = Changes(SpanSet.joined(addresses), SpanSet.joined(sorted(self._frames)))
        self._entries.clear()
        self._frames.clear()
        return changes

    def _addresses(self) -> Iterator[tuple[int, int]]:
        """What the entries translate, run by run."""
        fmt = self.fmt
        for (height, va), runs in self._entries.items():
            level = fmt.levels[height]
            parted = height == fmt.root_height and fmt.sign_extended
            for first, end in runs:
                middle = min(max(first, level.entries // 2), end) if parted else end
                for low, high in ((first, middle), (middle, end)):
                    if low < high:
                        start = fmt.canonical(va + (low << level.shift))
                        yield start, start + (high - low << level.shift)
