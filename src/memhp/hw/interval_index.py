"""Which of many things reach into a range: the index behind questions about stale translations.

Things come one after the other, each with runs of frames. They are kept in trees of twos, of which every node knows the
runs of all below it, sorted, and how far those up to each one reach: whether anything there overlaps a range is one
binary search. Trees of one size are joined as they come about, so that adding costs little more than sorting once.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from memhp.hw.runs import I64
from memhp.spans import Span


class Node(NamedTuple):
    """Neighbouring things: the first one's number, how many, their runs by start, and how far runs reach so far."""

    first: int
    size: int
    starts: I64
    ends: I64
    reach: I64
    children: tuple[Node, Node] | None

    def overlaps(self, span: Span) -> bool:
        """Whether a run of these things has a frame in a range."""
        before = int(self.starts.searchsorted(span.end))
        return before > 0 and int(self.reach[before - 1]) > span.start


def _node(first: int, size: int, starts: I64, ends: I64, children: tuple[Node, Node] | None) -> Node:
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], ends[order]
    return Node(first, size, starts, ends, np.maximum.accumulate(ends), children)


def _joined(left: Node, right: Node) -> Node:
    starts, ends = np.concatenate([left.starts, right.starts]), np.concatenate([left.ends, right.ends])
    return _node(left.first, left.size + right.size, starts, ends, (left, right))


@dataclass
class Overlaps:
    """Things, numbered from 0 in the order in which they came, and the runs of frames (PFNs) of each."""

    _trees: list[Node] = field(default_factory=list)
    _count: int = 0

    def __len__(self) -> int:
        """How many things there are."""
        return self._count

    def append(self, starts: I64, ends: I64) -> None:
        """One more thing, with runs ``[starts[i], ends[i])``."""
        node = _node(self._count, 1, starts, ends, None)
        self._count += 1
        while self._trees and self._trees[-1].size == node.size:
            node = _joined(self._trees.pop(), node)
        self._trees.append(node)

    def first(self, span: Span) -> int | None:
        """The number of the first thing that has a frame in a range; None when there is none."""
        found = next((tree for tree in self._trees if tree.overlaps(span)), None)
        while found is not None and found.children is not None:
            left, right = found.children
            found = left if left.overlaps(span) else right
        return None if found is None else found.first

    def last(self, span: Span) -> int | None:
        """The number of the last thing that has a frame in a range; None when there is none."""
        found = next((tree for tree in reversed(self._trees) if tree.overlaps(span)), None)
        while found is not None and found.children is not None:
            left, right = found.children
            found = right if right.overlaps(span) else left
        return None if found is None else found.first
