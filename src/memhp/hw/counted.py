"""Counters that are read and changed atomically: of the members of a set, and of those of them that lie somewhere.

Readers need no lock, and meet changes in an order that matters; each access is a step. The set itself is shared state
like any other (:mod:`memhp.hw.shared`).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from memhp.hw.shared import SharedMap, SharedSet, Stepped
from memhp.hw.stepper import Access, Level
from memhp.spans import Span, SpanMap

V = TypeVar("V")


class CountedSet(SharedSet):
    """A shared set whose size is a counter of its own, changed and read atomically, by readers without a lock as well.

    ``NR_FREE_PAGES`` is one. A reader that compares it with a mark meets only changes that go past the mark.
    """

    __slots__ = ("part",)

    def __init__(self) -> None:
        super().__init__()
        self.part: CountedPart[Any] | None = None
        """What counts a part of the set, if anything does: it changes with it."""

    def belong(self, machine: Stepped, name: str) -> None:
        """From now on accesses are announced to the stepper of `machine`, under `name`."""
        super().belong(machine, name)
        machine.levels[name] = self

    @property
    def size(self) -> int:
        """How many integers the set holds, as an atomic read of the counter says."""
        stepper = self._map._machine.stepper
        if stepper is not None:
            stepper.step(Access("read", Level(self._map.name, None)))
        return self._size

    @property
    def count(self) -> int:
        """The counter as it is, without anybody being told."""
        return self._size

    def spare(self, kept: int, order: int, most: int) -> int:
        """How many blocks of ``1 << order``, at most `most`, there are beyond `kept`, as one read of the counter says.

        ``zone_watermark_fast()``.
        """
        stepper = self._map._machine.stepper
        if stepper is not None:
            stepper.step(Access("read", Level(self._map.name, kept + (1 << order) if most == 1 else None)))
        return min(most, max(0, self._size - kept) >> order)

    def add(self, start: int, end: int) -> None:
        """Put ``[start, end)`` in."""
        if self._map._machine.stepper is not None and start < end:
            self._changes(end - start - self._map.covered(start, end))
            if self.part is not None:
                self.part.changes(list(SpanMap.gaps(self._map, start, end)), 1)
        super().add(start, end)

    def remove(self, start: int, end: int) -> None:
        """Take ``[start, end)`` out."""
        if self._map._machine.stepper is not None and start < end:
            self._changes(-self._map.covered(start, end))
            if self.part is not None:
                self.part.changes([Span(lo, hi) for lo, hi, _ in SpanMap.runs(self._map, start, end)], -1)
        super().remove(start, end)

    def _changes(self, by: int) -> None:
        stepper = self._map._machine.stepper
        if by and stepper is not None:
            stepper.step(Access("atomic", Level(self._map.name, by)))


class CountedPart(Generic[V]):
    """How much of a counted set lies where a map has a value, a counter of its own: ``NR_FREE_CMA_PAGES`` is one.

    That only sums up what is kept anyway: it is no place where anything is stored.
    """

    __slots__ = ("_machine", "_map", "_name", "_of", "_value")

    def __init__(self, of: CountedSet, where: SharedMap[V], value: V, machine: Stepped, name: str) -> None:
        self._of, self._map, self._value = of, where, value
        self._machine, self._name = machine, name
        machine.levels[name] = self

    @property
    def count(self) -> int:
        """The counter as it is, without anybody being told."""
        there = (run[:2] for run in SpanMap.__iter__(self._map) if run[2] == self._value)
        return sum(hi - lo for place in there for lo, hi, _ in SpanMap.runs(self._of._map, *place))

    @property
    def size(self) -> int:
        """How much that is, as an atomic read of the counter says."""
        stepper = self._machine.stepper
        if stepper is not None:
            stepper.step(Access("read", Level(self._name, None)))
        return self.count

    def changes(self, spans: Iterable[Span], sign: int) -> None:
        """These spans are about to come into the set (1) or to leave it (-1)."""
        runs = (run for span in spans for run in SpanMap.runs(self._map, *span))
        by = sum(hi - lo for lo, hi, value in runs if value == self._value)
        stepper = self._machine.stepper
        if by and stepper is not None:
            stepper.step(Access("atomic", Level(self._name, sign * by)))
