"""What the frames of each memory block are used for, as runs of blocks that are alike: cost grows with runs of use."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Iterator

from memhp.hw.memory import Owner, Use
from memhp.linux.state import Kernel
from memhp.scenario.result import BlockUse
from memhp.spans import Span, SpanMap, SpanSet

Mix = tuple[tuple[Use, int], ...]
"""Frames of one block by their use."""


class BlockUses:
    """The use of every memory block, kept up to date: a change costs what it touches."""

    def __init__(self, k: Kernel) -> None:
        self._k = k
        self._mixes: SpanMap[Mix] = SpanMap()
        """Block numbers."""
        self._stale = SpanSet()
        self._told: list[BlockUse] = []

    def changed(self, frames: Span) -> None:
        """Frames (PFNs) may be used for something else now."""
        per = self._k.pages_per_block
        self._stale.add(frames.start // per, -(-frames.end // per))

    def changed_blocks(self, blocks: Span) -> None:
        """Blocks may have come or gone."""
        self._stale.add(*blocks)

    def read(self) -> list[BlockUse]:
        """The use of each block that there is, ascending, neighbours that are alike as one."""
        if not self._stale:
            return self._told
        k = self._k
        for span in self._stale:
            self._mixes.clear(*span)
            for first, end, _ in k.memory_blocks.runs(*span):
                self._mixes.set(first, end, ())
                for start, stop, mix in _mixes(k.hw.memory.owners, Span(first, end), k.pages_per_block):
                    self._mixes.set(start, stop, mix)
        self._stale = SpanSet()
        size = k.config.page_size
        self._told = [
            BlockUse(first=first, last=end - 1, use={str(use): frames * size for use, frames in mix})
            for first, end, mix in self._mixes
        ]
        return self._told


def _mixes(owners: SpanMap[Owner], blocks: Span, per: int) -> Iterator[tuple[int, int, Mix]]:
    """Blocks of `per` frames and their use: those within one run of use together, those with several each alone."""
    mixed: dict[int, Counter[Use]] = {}
    for start, end, owner in owners.runs(blocks.start * per, blocks.end * per):
        first, last = -(-start // per), end // per
        if first < last:
            yield first, last, ((owner.use, per),)
        edges = [Span(start, min(end, first * per)), Span(max(start, last * per), end)]
        for part in edges if first <= last else [Span(start, end)]:
            if part:
                mixed.setdefault(part.start // per, Counter())[owner.use] += part.size
    for block, counts in mixed.items():
        yield block, block + 1, tuple(sorted(counts.items()))
