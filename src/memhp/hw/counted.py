"""Sets whose members are counted: the counter is read and changed atomically, and so is one of those in some places.

Readers need no lock, and meet changes in an order that matters; each access is a step. The set itself is shared state
like any other (:mod:`memhp.hw.shared`).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import TypeVar

from memhp.hw.shared import SharedMap, SharedSet, Stepped
from memhp.hw.stepper import Access, Level
from memhp.spans import SpanMap

V = TypeVar("V")


class CountedSet(SharedSet):
    """A shared set whose size is a counter of its own, changed and read atomically, by readers without a lock as well.

    ``NR_FREE_PAGES`` is one. A reader that compares it with a mark meets only changes that go past the mark.
    """

    __slots__ = ()

    def belong(self, machine: Stepped, name: str) -> None:
        """From now on accesses are announced to the stepper of `machine`, under `name`."""
        super().belong(machine, name)
        machine.levels[name] = self

    @property
    def size(self) -> int:
        """How many integers the set holds, as an atomic read of the counter says."""
        self._is_read(None)
        return self._size

    @property
    def count(self) -> int:
        """The counter as it is, without anybody being told."""
        return self._size

    def spare(self, kept: int, order: int, most: int) -> int:
        """How many blocks of ``1 << order``, at most `most`, there are beyond `kept`, as one read of the counter says.

        ``zone_watermark_fast()``.
        """
        self._is_read(kept + (1 << order) if most == 1 else None)
        return min(most, max(0, self._size - kept) >> order)

    def inside(self, where: SharedMap[V], value: V) -> int:
        """How many members lie where a map has a value, as one read of a counter says that changes with the set's own.

        ``NR_FREE_CMA_PAGES`` is such a counter. Where the map has the value, nobody is told that it was looked at.
        """
        self._is_read(None)
        there = (run[:2] for run in SpanMap.__iter__(where) if run[2] == value)
        return sum(hi - lo for place in there for lo, hi, _ in SpanMap.runs(self._map, *place))

    def add(self, start: int, end: int) -> None:
        """Put ``[start, end)`` in."""
        if self._map._machine.stepper is not None and start < end:
            self._changes(end - start - self._map.covered(start, end))
        super().add(start, end)

    def remove(self, start: int, end: int) -> None:
        """Take ``[start, end)`` out."""
        if self._map._machine.stepper is not None and start < end:
            self._changes(-self._map.covered(start, end))
        super().remove(start, end)

    def _is_read(self, mark: int | None) -> None:
        """The counter is read, to be compared with a mark, or for what it is."""
        stepper = self._map._machine.stepper
        if stepper is not None:
            stepper.step(Access("read", Level(self._map.name, mark)))

    def _changes(self, by: int) -> None:
        stepper = self._map._machine.stepper
        if by and stepper is not None:
            stepper.step(Access("atomic", Level(self._map.name, by)))
