"""Fields of the kernel's records each access to which is a step (:func:`memhp.hw.shared.marked`).

What is in a container of such a field is read, and changed, in these steps: code that holds on to a container takes
them as well, and who goes through one goes through what was in it then. What is put into it is shared from then on, and
announces its own accesses.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from memhp.explore.doors.containers import BASES, AnnouncedDict, WatchedDict, WatchedList, WatchedSet
from memhp.explore.doors.read_only import ReadDict, ReadList, ReadSet, read_only
from memhp.hw.marked_map import MarkedMap
from memhp.spans import Span


class MarkedField:
    """Stands for such a field in the classes of a kernel under exploration."""

    __slots__ = ("_called", "_name")

    def __init__(self, name: str, called: Callable[[Any], str]) -> None:
        self._name = name
        self._called = called

    def __get__(self, holder: Any, owner: type) -> Any:
        """Read the field. What is in a container can be changed only if the step before said so."""
        if holder is None:
            return self
        kind = type(holder.__dict__.get(self._name))
        changes = self._step(holder, write=False, by_cpu=kind is SteppedDict, whole=kind not in READ_ONLY)
        try:
            value = holder.__dict__[self._name]
        except KeyError:
            raise AttributeError(self._name) from None
        make = None if changes else READ_ONLY.get(type(value))
        return value if make is None else read_only(make, value, value._to[-1])

    def __set__(self, holder: Any, value: object) -> None:
        """Write the field."""
        self._step(holder, write=True, whole=True)
        holder.__dict__[self._name] = value

    def _step(self, holder: Any, *, write: bool, by_cpu: bool = False, whole: bool = False) -> bool:
        """Take the step, if it was not the last one; whether the field may be changed now."""
        to = holder.__dict__.get("_announces_to")
        stepper = to[0].stepper if to is not None else None
        marked = getattr(stepper, "marked", None)
        return marked is None or marked(self._called(holder), write=write, by_cpu=by_cpu, whole=whole)


class _Stepped:
    """A container of such a field: each access is a step of the field's, if that was not the last one."""

    __slots__ = ()

    _to: tuple[Any, ...]
    """Behind what every container has: the name of the step."""

    def say(self, kind: str, start: int = 0, end: int = 0) -> None:
        """Take the step."""
        marked = getattr(self._to[0].stepper, "marked", None)
        if marked is not None:
            marked(self._to[-1], write=kind == "write")


class SteppedDict(_Stepped, WatchedDict):
    """A dictionary."""

    __slots__ = ()

    def say_at(self, kind: str, key: object) -> None:
        """Take the step, if the last one was not about this very key."""
        adds_own = getattr(self._to[0].stepper, "adds_own", None)
        if adds_own is None or not adds_own(self._to[-1], key):
            self.say(kind)

    def comes_last(self) -> None:
        """As of others; the step of the field says so."""

    def as_it_is(self) -> dict[Any, Any]:
        """What is gone through, read in one step."""
        self.say("read")
        return super().as_it_is()

    __iter__ = AnnouncedDict.__iter__
    keys = AnnouncedDict.keys
    values = AnnouncedDict.values
    items = AnnouncedDict.items


class SteppedList(_Stepped, WatchedList):
    """A list."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        self.say("read")
        return iter(list(list.__iter__(self)))


class SteppedSet(_Stepped, WatchedSet):
    """A set."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        self.say("read")
        return iter(list(self.items))


class SteppedMap(MarkedMap[Any]):
    """A map of spans."""

    __slots__ = ("taken_in",)

    taken_in: Callable[[object], Any]
    """How what is put in comes to stand there."""

    def set(self, start: int, end: int, value: object) -> None:
        """As :meth:`MarkedMap.set`."""
        super().set(start, end, self.taken_in(value))

    def set_each(self, spans: Sequence[Span], value: object) -> None:
        """As :meth:`MarkedMap.set_each`."""
        super().set_each(spans, self.taken_in(value))


STEPPED: dict[type, type] = {dict: SteppedDict, list: SteppedList, set: SteppedSet}
"""By sort of container: the one that takes its place in such a field."""
BASES |= {SteppedDict: dict, SteppedList: list, SteppedSet: object}
READ_ONLY: dict[type, Callable[[Any], Any]] = {
    SteppedDict: ReadDict, SteppedList: lambda value: ReadList(list.__iter__(value)),
    SteppedSet: lambda value: ReadSet(value.items),
}  # fmt: skip
"""By sort of container: what is given to those who only read it."""
