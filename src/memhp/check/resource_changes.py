"""What is not as it was in the tree of resources: the children of each resource beside a copy of what they were.

Copies are compared column by column, and the first and last places that differ are found by halving, so that the many
resources that are as they were cost next to nothing.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from operator import attrgetter
from typing import Any, NamedTuple

from memhp.linux.kernel.resource import Resource
from memhp.spans import Span

Columns = list[list[Any]]
"""Of the children of a resource what laws read: a list for each of start, end (bytes, included), flags, parent."""

_READ = tuple(map(attrgetter, ("start", "end", "flags", "parent")))
_children = attrgetter("children")


class Siblings(NamedTuple):
    """The children ``[first, last)`` of a resource: those that changed, and the one on either side."""

    parent: Resource
    first: int
    last: int


class ResourceChanges:
    """What changes in a tree between two looks at it."""

    def __init__(self) -> None:
        self._seen: dict[Resource, Columns] = {}

    def look(self, root: Resource) -> tuple[list[Span], list[Siblings]]:
        """What changed since the last look, the first time everything: the bytes concerned, and where in the tree."""
        changed: set[tuple[Any, ...]] = set()
        places: list[Siblings] = []
        now: dict[Resource, Columns] = {}
        parents = [root]
        for parent in parents:
            now[parent] = columns = [[*map(read, parent.children)] for read in _READ]
            old = self._seen.pop(parent, [[] for _ in _READ])
            parents += filter(_children, parent.children)
            if columns != old:
                first = min(map(_alike, columns, old))
                columns, old = _behind(first, columns), _behind(first, old)
                alike = min(_alike(mine[::-1], before[::-1]) for mine, before in zip(columns, old, strict=True))
                changed |= {*_rows(columns, alike)} ^ {*_rows(old, alike)}
                places.append(Siblings(parent, max(first - 1, 0), first + len(columns[0]) - alike + 1))
        changed.update(row for gone in self._seen.values() for row in _rows(gone, 0))
        self._seen = now
        return [Span(start, end + 1) for start, end, *_ in changed], places


def _alike(these: list[Any], those: list[Any]) -> int:
    """How many items two lists begin with that are the same in both."""
    least, most = 0, min(len(these), len(those))
    while least < most:
        middle = (least + most + 1) // 2
        if these[least:middle] == those[least:middle]:
            least = middle
        else:
            most = middle - 1
    return least


def _behind(first: int, columns: Columns) -> Columns:
    return [column[first:] for column in columns]


def _rows(columns: Columns, without: int) -> Iterator[tuple[Any, ...]]:
    """One tuple a resource, the last ones left out."""
    return zip(*(column[: len(column) - without] for column in columns), strict=True)
