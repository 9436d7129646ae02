"""Dictionaries, lists and sets that announce every access, by whatever method, operator or built-in it is made.

A dictionary or list is still one, as built-ins go through a subclass by its own methods. They do not with sets, so an
announcing set holds a set, and is none: it is a :class:`collections.abc.MutableSet` with all the methods of sets.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import operator
from collections.abc import Callable, Iterable, Iterator, MutableSet, Set
from functools import partial
from typing import Any, ClassVar

from memhp.explore.doors.names import name_of
from memhp.explore.doors.views import Items, Keys, Values
from memhp.hw.shared import EVERYTHING
from memhp.hw.stepper import Access


class Container:
    """A dictionary, list or set that announces what changes it; its reads are as fast as others'."""

    __slots__ = ()

    taken_in: ClassVar[Callable[..., Any]]
    """:func:`memhp.explore.doors.announced.taken_in`."""
    _to: tuple[Any, str, str]
    """The machine; the name, and the sort of state."""

    def say(self, kind: str, start: int = 0, end: int = EVERYTHING) -> None:
        """Announce an access to a part, or to all of it."""
        machine, name, key = self._to
        stepper = machine.stepper
        if stepper is not None and stepper.listens:
            stepper.data(name, start, end, write=kind == "write")
            if kind == "write":
                stepper.wrote(key)

    def _go_through(self, parts: Iterable[Any], here: Callable[[Any], bool], size: Callable[[], int]) -> Iterator[Any]:
        """Those of the parts that are here when it is their turn, and what others put in or take away meanwhile is no
        error. RuntimeError: whoever goes through them has changed the size himself.
        """
        for part in parts:
            self.say("read")
            if here(part):
                before = size(), self._switches()
                yield part
                if size() != before[0] and self._switches() == before[1]:
                    raise RuntimeError("what is gone through has changed its size meanwhile")
        self.say("read")

    def _switches(self) -> int:
        """How often another actor went on than the one before."""
        return getattr(self._to[0].stepper, "switches", 0)

    def put(self, value: Any, at: object) -> Any:
        """A value that is put in, as it is to stand there."""
        machine, name, key = self._to[:3]
        return self.taken_in(value, machine, f"{name}[{name_of(at)}]", f"{key}[]")

    def copy(self) -> Any:
        """The same in a container that nobody shares."""
        raise NotImplementedError

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        copied = self.copy()
        return type(copied), (copied,)


class AnnouncedDict(dict[Any, Any], Container):
    """A dictionary, by key."""

    __slots__ = ("__weakref__", "_numbers", "_to")

    _numbers: dict[object, int]
    """By key that was ever asked for: a number, which stands for it in announcements."""

    def __new__(cls, *others: Any, **named: Any) -> Any:
        """One that nobody shares, as a copy is."""
        return dict(*others, **named)

    def __init__(self, *others: Any, **named: Any) -> None:
        self.update(*others, **named)

    def say_at(self, kind: str, key: object) -> None:
        """Announce an access to one key."""
        at = self._numbers.setdefault(key, len(self._numbers))
        self.say(kind, at, at + 1)

    def comes_last(self) -> None:
        """Take a step: a new key comes behind all others, which whoever goes through them sees."""
        machine, name, _ = self._to
        if machine.stepper is not None:
            machine.stepper.step(Access("atomic", f"order of {name}"))

    def __setitem__(self, key: Any, value: Any) -> None:
        if not dict.__contains__(self, key):
            self.comes_last()
        self.say_at("write", key)
        dict.__setitem__(self, key, self.put(value, key))

    def __delitem__(self, key: Any) -> None:
        self.say_at("write", key)
        dict.__delitem__(self, key)

    def pop(self, key: Any, *default: Any) -> Any:
        """As of a dictionary."""
        self.say_at("write", key)
        return dict.pop(self, key, *default)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """As of a dictionary."""
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *others: Any, **named: Any) -> None:
        """As of a dictionary."""
        for key, value in dict(*others, **named).items():
            self[key] = value

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]
        self.update(other)
        return self

    def copy(self) -> dict[Any, Any]:
        """As of a dictionary."""
        return dict(self)

    @classmethod
    def fromkeys(cls, keys: Any, value: Any = None) -> dict[Any, Any]:
        """As of a dictionary: one that nobody shares."""
        return dict.fromkeys(keys, value)

    def as_it_is(self) -> dict[Any, Any]:
        """What is gone through: where it changes meanwhile, its reads come to be announced."""
        return dict(dict.items(self))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.as_it_is())

    def keys(self) -> Any:
        """As of a dictionary."""
        return self.as_it_is().keys()

    def values(self) -> Any:
        """As of a dictionary."""
        return self.as_it_is().values()

    def items(self) -> Any:
        """As of a dictionary."""
        return self.as_it_is().items()


class WatchedDict(AnnouncedDict):
    """A dictionary whose reads are announced too."""

    __slots__ = ()

    _announced_for = AnnouncedDict

    def __getitem__(self, key: Any) -> Any:
        self.say_at("read", key)
        return dict.__getitem__(self, key)

    def get(self, key: Any, default: Any = None) -> Any:
        """As of a dictionary."""
        self.say_at("read", key)
        return dict.get(self, key, default)

    def __contains__(self, key: object) -> bool:
        self.say_at("read", key)
        return dict.__contains__(self, key)

    def __iter__(self) -> Iterator[Any]:
        return self._go_through(list(dict.keys(self)), partial(dict.__contains__, self), partial(dict.__len__, self))

    def keys(self) -> Any:
        """As of a dictionary."""
        return Keys(self)

    def values(self) -> Any:
        """As of a dictionary."""
        return Values(self)

    def items(self) -> Any:
        """As of a dictionary."""
        return Items(self)

    def __reversed__(self) -> Iterator[Any]:
        return iter(list(self)[::-1])


class AnnouncedList(list[Any], Container):
    """A list."""

    __slots__ = ("__weakref__", "_to")

    def __new__(cls, values: Iterable[Any] = ()) -> Any:
        """One that nobody shares, as a copy is."""
        return list(values)

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self[:] = values

    def say_at(self, kind: str, at: Any) -> None:
        """Announce an access to one element, or to all of it where that is several."""
        if isinstance(at, slice):
            self.say(kind)
            return
        index = operator.index(at)
        index += list.__len__(self) if index < 0 else 0
        self.say(kind, index, index + 1)

    def __setitem__(self, at: Any, value: Any) -> None:
        self.say_at("write", at)
        several = isinstance(at, slice)
        list.__setitem__(self, at, [self.put(one, one) for one in value] if several else self.put(value, value))

    def append(self, value: Any) -> None:
        """As of a list."""
        self.insert(list.__len__(self), value)

    def insert(self, index: Any, value: Any) -> None:
        """As of a list."""
        self.say("write")
        list.insert(self, index, self.put(value, value))

    def extend(self, values: Iterable[Any]) -> None:
        """As of a list."""
        for value in list(values):
            self.append(value)

    def __iadd__(self, values: Iterable[Any]) -> Any:  # type: ignore[misc]
        self.extend(values)
        return self

    def copy(self) -> list[Any]:
        """As of a list."""
        return list(self)


class WatchedList(AnnouncedList):
    """A list whose reads are announced too."""

    __slots__ = ()

    _announced_for = AnnouncedList

    def __radd__(self, other: Any) -> Any:
        if not isinstance(other, list):
            return NotImplemented
        return [*other, *self]

    def __getitem__(self, at: Any) -> Any:
        self.say_at("read", at)
        return list.__getitem__(self, at)

    def __iter__(self) -> Iterator[Any]:
        self.say("read")
        at = 0
        while at < list.__len__(self):
            yield list.__getitem__(self, at)
            at += 1
            self.say("read")

    def __reversed__(self) -> Iterator[Any]:
        return iter(list(self)[::-1])


class AnnouncedSet(Container, MutableSet[Any]):
    """A set."""

    __slots__ = ("__weakref__", "_to", "items")

    items: set[Any]

    def __new__(cls, values: Iterable[Any] = ()) -> Any:
        """One that nobody shares, as a copy is."""
        return set(values)

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self.clear()
        self.update(values)

    def __contains__(self, value: object) -> bool:
        return value in self.items

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self.items))

    def __len__(self) -> int:
        return len(self.items)

    def add(self, value: Any) -> None:
        """As of a set."""
        self.say("write")
        self.items.add(self.put(value, value))

    def discard(self, value: Any) -> None:
        """As of a set."""
        self.say("write")
        self.items.discard(value)

    def update(self, *others: Iterable[Any]) -> None:
        """As of a set."""
        for other in others:
            for value in list(other):
                self.add(value)

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]
        if not isinstance(other, Set):
            return NotImplemented
        self.update(other)
        return self


class WatchedSet(AnnouncedSet):
    """A set whose reads are announced too."""

    __slots__ = ()

    _announced_for = AnnouncedSet

    def __contains__(self, value: object) -> bool:
        self.say("read")
        return value in self.items

    def __iter__(self) -> Iterator[Any]:
        return self._go_through(list(self.items), self.items.__contains__, self.items.__len__)

    def __len__(self) -> int:
        self.say("read")
        return len(self.items)


BASES: dict[Any, Any] = {
    AnnouncedDict: dict, WatchedDict: dict, AnnouncedList: list, WatchedList: list,
    AnnouncedSet: object, WatchedSet: object,
}  # fmt: skip
"""By sort of container: what makes an empty one."""


def empty(kind: Any) -> Any:
    """A container of one of these sorts, of which it is not said yet where it belongs, and what is in it."""
    return BASES[kind].__new__(kind)


def _told(kind: str, method: str, base: Any) -> Callable[..., Any]:
    """A method of a built-in container that first announces an access to all of it."""
    plain = getattr(base, method)

    def told(self: Container, *args: Any, **how: Any) -> Any:
        self.say(kind)
        return plain(self, *args, **how)

    return told


def _of_set(method: str, kind: str) -> Callable[..., Any]:
    """A method of sets that is done to the set that is held; `kind`: how it is announced, "" where that is done."""
    plain = getattr(set, method)
    as_sets = Set if method.startswith("__") else AnnouncedSet

    def told(self: AnnouncedSet, *args: Any) -> Any:
        if kind:
            self.say(kind)
        given = (set(one) if isinstance(one, as_sets) else one for one in args)
        said = plain(self.items, *given)
        return self if said is self.items else said

    return told


COMPARED = ("__len__", "__eq__", "__ne__", "__repr__")
ORDERED = ("__lt__", "__le__", "__gt__", "__ge__")
WRITES: tuple[tuple[type, type, tuple[str, ...]], ...] = (
    (AnnouncedDict, dict, ("clear", "popitem")),
    (AnnouncedList, list, ("__delitem__", "__imul__", "remove", "pop", "clear", "sort", "reverse")),
)
READS: tuple[tuple[type, type, tuple[str, ...]], ...] = (
    (WatchedDict, dict, (*COMPARED, "__or__", "__ror__")),
    (WatchedList, list, (*COMPARED, *ORDERED, "__contains__", "__add__", "__mul__", "__rmul__",
                         "index", "count")),
)  # fmt: skip
WRITES_OF_SETS = ("remove", "pop", "clear", "difference_update", "intersection_update", "symmetric_difference_update",
                  "__isub__", "__iand__", "__ixor__")  # fmt: skip
READS_OF_SETS = ("__eq__", "__ne__", "__repr__", *ORDERED, "__or__", "__ror__", "__and__", "__rand__", "__sub__",
                 "__rsub__", "__xor__", "__rxor__", "union", "intersection", "difference", "symmetric_difference",
                 "issubset", "issuperset", "isdisjoint", "copy")  # fmt: skip
for _kind, _base, _methods in WRITES:
    for _method in _methods:
        setattr(_kind, _method, _told("write", _method, _base))
for _kind, _base, _methods in READS:
    for _method in _methods:
        setattr(_kind, _method, _told("read", _method, _base))
for _method in WRITES_OF_SETS:
    setattr(AnnouncedSet, _method, _of_set(_method, "write"))
for _method in READS_OF_SETS:
    setattr(AnnouncedSet, _method, _of_set(_method, ""))
    setattr(WatchedSet, _method, _of_set(_method, "read"))
