"""Maps and sets of spans that are read without a lock: each access is a step, under the names of the parts it touches.

Code that has taken the step already (:meth:`memhp.hw.machine.Machine.reads`, ``writes``) does not take it twice.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from memhp.hw.shared import QUIET, Stepped
from memhp.hw.stepper import any_of, of_fields
from memhp.spans import Span, SpanMap, SpanSet

V = TypeVar("V")


class Parts:
    """What a map is made of at the doors: part `n`, the integers from ``n * unit`` on, is `called` so."""

    __slots__ = ("_called", "_machine", "unit")

    def __init__(self, called: Callable[[int], str], unit: int = 1) -> None:
        self._machine: Stepped = QUIET
        self._called = called
        self.unit = unit

    def belong(self, machine: Stepped) -> None:
        """From now on accesses are steps of `machine`."""
        self._machine = machine

    @property
    def are_heard(self) -> bool:
        """Whether accesses are steps of a machine."""
        return self._machine is not QUIET

    @property
    def are_stepped(self) -> bool:
        """Whether somebody steps in between accesses now."""
        return self._machine.stepper is not None

    def reads(self, start: int, end: int) -> None:
        """``[start, end)`` is read."""
        self._step(start, end, write=False)

    def reads_all(self) -> None:
        """Wherever something is, now or by the time that this is read, may be looked at."""
        self._step_at((any_of(self._called(0)),), write=False)

    def writes(self, start: int, end: int) -> None:
        """``[start, end)`` is changed."""
        self._step(start, end, write=True)

    def _step(self, start: int, end: int, *, write: bool) -> None:
        if self.are_stepped and start < end:
            self._step_at(map(self._called, range(start // self.unit, (end - 1) // self.unit + 1)), write=write)

    def _step_at(self, names: Iterable[str], *, write: bool) -> None:
        stepper: Any = self._machine.stepper
        if stepper is None or getattr(stepper, "is_looked_on", bool)():
            return
        if hasattr(stepper, "marked"):
            stepper.marked(*names, write=write)
        else:
            stepper.step(of_fields(*names, write=write))


class _InParts:
    """What a map and a set have in common that are read and changed in steps."""

    __slots__ = ()

    parts: Parts

    def belong(self, machine: Stepped, _: str) -> None:
        """From now on accesses are steps of `machine`."""
        self.parts.belong(machine)

    @property
    def is_heard(self) -> bool:
        """Whether accesses are steps of a machine."""
        return self.parts.are_heard

    def _all(self) -> None:
        self.parts.reads_all()


class MarkedMap(_InParts, SpanMap[V]):
    """A map of spans, read and changed in steps."""

    __slots__ = ("parts",)

    def __init__(self, called: Callable[[int], str], unit: int = 1) -> None:
        super().__init__()
        self.parts = Parts(called, unit)

    @property
    def end(self) -> int:
        """As :attr:`SpanMap.end`: all is looked at."""
        self._all()
        return super().end

    def note(self, at: int, value: V) -> None:
        """Write down what was there all along, which is no access: the kernel does nothing then."""
        super().set(at, at + 1, value)

    def take(self, start: int, end: int) -> list[V]:
        """What is noted there, which nobody comes to any more: it is gone from here, and that is no access."""
        found = [value for _, _, value in super().runs(start, end)]
        super().clear(start, end)
        return found

    def __len__(self) -> int:
        self._all()
        return super().__len__()

    def __bool__(self) -> bool:
        self._all()
        return super().__bool__()

    def __iter__(self) -> Iterator[tuple[int, int, V]]:
        self._all()
        return super().__iter__()

    def __eq__(self, other: object) -> bool:
        self._all()
        return super().__eq__(other)

    __hash__ = None

    def copy(self) -> SpanMap[V]:
        """As :meth:`SpanMap.copy`: nobody shares the copy."""
        self._all()
        return super().copy()

    def differences(self, other: SpanMap[V]) -> list[Span]:
        """As :meth:`SpanMap.differences`: all is looked at."""
        self._all()
        return super().differences(other)

    def get(self, at: int) -> V | None:
        """As :meth:`SpanMap.get`."""
        self.parts.reads(at, at + 1)
        return super().get(at)

    def run_at(self, at: int) -> tuple[int, int, V] | None:
        """As :meth:`SpanMap.run_at`, as it is now: how far it goes may have changed."""
        self._all()
        return super().run_at(at)

    def next_run(self, at: int) -> tuple[int, int, V] | None:
        """As :meth:`SpanMap.next_run`, as it is now: all behind may be looked at."""
        self._all()
        return super().next_run(at)

    def first_fit(self, size: int, start: int, end: int) -> Span | None:
        """As :meth:`SpanMap.first_fit`, as it is now."""
        self._all()
        return super().first_fit(size, start, end)

    def fits(self, size: int, start: int, end: int, most: int) -> list[Span]:
        """As :meth:`SpanMap.fits`, as it is now."""
        self._all()
        return super().fits(size, start, end, most)

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
        """As :meth:`SpanMap.set_each`; one after the other where somebody steps in between."""
        if not self.parts.are_stepped:
            super().set_each(spans, value)
            return
        for span in spans:
            self.set(*span, value)

    def clear_each(self, spans: Sequence[Span]) -> None:
        """As :meth:`SpanMap.clear_each`; one after the other where somebody steps in between."""
        if not self.parts.are_stepped:
            super().clear_each(spans)
            return
        for span in spans:
            self.clear(*span)


class MarkedSet(_InParts, SpanSet):
    """A set of spans, read and changed in steps."""

    __slots__ = ("parts",)

    def __init__(self, called: Callable[[int], str], unit: int = 1) -> None:
        super().__init__()
        self.parts = Parts(called, unit)

    @property
    def untold(self) -> SpanMap[bool]:
        """What is behind the steps, for code that has taken the one that this is about."""
        return self._map

    def __len__(self) -> int:
        self._all()
        return super().__len__()

    def __bool__(self) -> bool:
        self._all()
        return super().__bool__()

    def __iter__(self) -> Iterator[Span]:
        self._all()
        return super().__iter__()

    def copy(self) -> SpanSet:
        """As :meth:`SpanSet.copy`: nobody shares the copy."""
        self._all()
        return super().copy()

    @property
    def size(self) -> int:
        """How many integers the set holds: all of it is looked at."""
        self._all()
        return self._size

    def run_at(self, at: int) -> Span | None:
        """As :meth:`SpanSet.run_at`, as it is now: how far it goes may have changed."""
        self._all()
        return super().run_at(at)

    def first_fit(self, size: int, start: int, end: int) -> Span | None:
        """As :meth:`SpanSet.first_fit`, as it is now."""
        self._all()
        return super().first_fit(size, start, end)

    def fits(self, size: int, start: int, end: int, most: int) -> list[Span]:
        """As :meth:`SpanSet.fits`, as it is now."""
        self._all()
        return super().fits(size, start, end, most)

    def add_each(self, spans: Sequence[Span]) -> None:
        """As :meth:`SpanSet.add_each`; one after the other where somebody steps in between."""
        if not self.parts.are_stepped:
            super().add_each(spans)
            return
        for span in spans:
            self.add(*span)

    def remove_each(self, spans: Sequence[Span]) -> None:
        """As :meth:`SpanSet.remove_each`; one after the other where somebody steps in between."""
        if not self.parts.are_stepped:
            super().remove_each(spans)
            return
        for span in spans:
            self.remove(*span)

    def __eq__(self, other: object) -> bool:
        self._all()
        return super().__eq__(other)

    __hash__ = None

    def differences(self, other: SpanSet) -> list[Span]:
        """As :meth:`SpanSet.differences`: all is looked at."""
        self._all()
        return super().differences(other)

    def minus(self, other: SpanSet) -> list[Span]:
        """As :meth:`SpanSet.minus`, as it is now."""
        self._all()
        return super().minus(other)

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
