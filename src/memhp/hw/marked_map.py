"""Maps and sets of spans that are read without a lock: each access is a step, under the names of the parts it touches.

Code that has taken the step already (:meth:`memhp.hw.machine.Machine.reads`, ``writes``) does not take it twice.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from memhp.hw.shared import QUIET, Stepped
from memhp.hw.stepper import of_fields
from memhp.spans import Span, SpanMap, SpanSet

V = TypeVar("V")


class Parts:
    """What a map is made of at the doors: so many integers have one name."""

    __slots__ = ("_called", "_machine", "_unit")

    def __init__(self) -> None:
        self._machine: Stepped = QUIET
        self._called: Callable[[int], str] = str
        self._unit = 1

    def belong(self, machine: Stepped, called: Callable[[int], str], unit: int = 1) -> None:
        """From now on accesses are steps of `machine`: part `n`, the integers from ``n * unit`` on, is `called` so."""
        self._machine, self._called, self._unit = machine, called, unit

    def reads(self, start: int, end: int) -> None:
        """``[start, end)`` is read."""
        self._step(start, end, write=False)

    def writes(self, start: int, end: int) -> None:
        """``[start, end)`` is changed."""
        self._step(start, end, write=True)

    def _step(self, start: int, end: int, *, write: bool) -> None:
        stepper: Any = self._machine.stepper
        if stepper is None or start >= end:
            return
        names = tuple(map(self._called, range(start // self._unit, (end - 1) // self._unit + 1)))
        if hasattr(stepper, "marked"):
            stepper.marked(*names, write=write)
        else:
            stepper.step(of_fields(*names, write=write))


class MarkedMap(SpanMap[V]):
    """A map of spans, read and changed in steps."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        super().__init__()
        self.parts = Parts()

    def __iter__(self) -> Iterator[tuple[int, int, V]]:
        self.parts.reads(0, self.end)
        return super().__iter__()

    def get(self, at: int) -> V | None:
        """As :meth:`SpanMap.get`."""
        self.parts.reads(at, at + 1)
        return super().get(at)

    def runs(self, start: int, end: int) -> Iterator[tuple[int, int, V]]:
        """As :meth:`SpanMap.runs`, as it is now."""
        self.parts.reads(start, end)
        return super().runs(start, end)

    def set(self, start: int, end: int, value: V) -> None:
        """As :meth:`SpanMap.set`."""
        self.parts.writes(start, end)
        super().set(start, end, value)

    def clear(self, start: int, end: int) -> None:
        """As :meth:`SpanMap.clear`."""
        self.parts.writes(start, end)
        super().clear(start, end)

    def set_each(self, spans: Sequence[Span], value: V) -> None:
        """As :meth:`SpanMap.set_each`."""
        for span in spans:
            self.parts.writes(*span)
        super().set_each(spans, value)

    def clear_each(self, spans: Sequence[Span]) -> None:
        """As :meth:`SpanMap.clear_each`."""
        for span in spans:
            self.parts.writes(*span)
        super().clear_each(spans)


class MarkedSet(SpanSet):
    """A set of spans, read and changed in steps."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        super().__init__()
        self.parts = Parts()

    @property
    def untold(self) -> SpanMap[bool]:
        """What is behind the steps, for code that has taken the one that this is about."""
        return self._map

    def __iter__(self) -> Iterator[Span]:
        self.parts.reads(0, self._map.end)
        return super().__iter__()

    def __contains__(self, value: object) -> bool:
        if isinstance(value, int):
            self.parts.reads(value, value + 1)
        return super().__contains__(value)

    def add(self, start: int, end: int) -> None:
        """As :meth:`SpanSet.add`."""
        self.parts.writes(start, end)
        super().add(start, end)

    def remove(self, start: int, end: int) -> None:
        """As :meth:`SpanSet.remove`."""
        self.parts.writes(start, end)
        super().remove(start, end)

    def runs(self, start: int, end: int) -> Iterator[Span]:
        """As :meth:`SpanSet.runs`, as it is now."""
        self.parts.reads(start, end)
        return super().runs(start, end)

    def gaps(self, start: int, end: int) -> Iterator[Span]:
        """As :meth:`SpanSet.gaps`."""
        self.parts.reads(start, end)
        return super().gaps(start, end)

    def covers(self, start: int, end: int) -> bool:
        """As :meth:`SpanSet.covers`."""
        self.parts.reads(start, end)
        return super().covers(start, end)

    def covered(self, start: int, end: int) -> int:
        """As :meth:`SpanSet.covered`."""
        self.parts.reads(start, end)
        return super().covered(start, end)
