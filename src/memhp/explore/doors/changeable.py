"""What can change of the objects of a kernel: what was in each of them, told from what is, and put back in place."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from copy import deepcopy
from enum import Enum
from functools import cache, partial
from operator import attrgetter, is_
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any, Protocol

import numpy as np

from memhp.check.watch import Watch
from memhp.explore.doors.containers import AnnouncedDict
from memhp.explore.doors.kernel_image import is_filled, is_made_within
from memhp.hw.memory import Arena
from memhp.hw.unchanging import Unchanging

ATOMS = (int, str, bytes, float, range, Enum, np.generic, type(None))
"""What never changes, and leads to nothing that does."""
FIXED = (type, ModuleType, BuiltinFunctionType, Unchanging, tuple, frozenset, partial, MethodType, FunctionType)
"""What never changes itself, though some of it may lead to what does."""
MISSING: Any = object()
ALL = slice(None)


class Part(Protocol):
    """Something that can change of an object, and what it was."""

    def back(self) -> None:
        """Make it what it was."""

    def now(self) -> object:
        """What it is now; None: the same as it was."""

    def led_to(self) -> Iterable[object]:
        """What it led to."""


def parts_of(one: Any) -> list[Part]:
    """What can change of a thing itself. TypeError: of its sort that is not known."""
    if isinstance(one, FIXED):
        return []
    for sort, whole in WHOLE.items():
        if isinstance(one, sort):
            return [whole(one)]
    kind: type = type(one)
    found: list[Part] = [contents(one) for sort, contents in CONTENTS.items() if isinstance(one, sort)]
    if slots := _slots_of(kind):
        found.append(_Slots(one, slots))
    if hasattr(one, "__dict__"):
        found.append(_Fields(one))
    if not found:
        raise TypeError(f"how a {kind.__name__} is set back is not known")
    return found


def held_by(one: Any) -> Iterable[object]:
    """What a thing that never changes itself leads to."""
    if isinstance(one, tuple | frozenset):
        return one
    if isinstance(one, partial):
        return one.func, one.args, one.keywords
    if isinstance(one, MethodType):
        return (one.__self__,)
    if is_made_within(one):
        return one.__closure__, one.__defaults__, one.__kwdefaults__
    return ()


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one object, or equal ones that never change."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, ATOMS) and bool(one == other)


class _Fields:
    """The fields of an object."""

    __slots__ = ("fields", "then")

    def __init__(self, of: Any) -> None:
        self.fields: dict[str, Any] = vars(of)
        self.then = dict(self.fields)

    def back(self) -> None:
        self.fields.clear()
        self.fields.update(self.then)

    def now(self) -> object:
        fields, then = self.fields, self.then
        if len(fields) == len(then) and all(map(is_, fields.values(), then.values())) and fields.keys() == then.keys():
            return None
        new = [(name, one) for name, one in fields.items() if not _same(one, then.get(name, MISSING))]
        gone = sorted(then.keys() - fields.keys())
        return (sorted(new, key=_name), gone) if new or gone else None

    def led_to(self) -> Iterable[object]:
        return self.then.values()


def _name(field: tuple[str, Any]) -> str:
    return field[0]


@cache
def _slots_of(kind: type) -> tuple[str, ...]:
    """The names of the slots that objects of a class have values in, besides :class:`_Numbers`."""
    found: list[str] = []
    for each in kind.__mro__:
        slots = vars(each).get("__slots__", ())
        found += (slots,) if isinstance(slots, str) else slots
    told_elsewhere = ("__dict__", "__weakref__", *(("_numbers",) if issubclass(kind, AnnouncedDict) else ()))
    return tuple(name for name in found if name not in told_elsewhere)


class _Slots:
    """What is in the slots of an object; each has a value."""

    __slots__ = ("get", "names", "of", "then")

    def __init__(self, of: Any, names: tuple[str, ...]) -> None:
        self.of = of
        self.names = names
        self.get: Any = attrgetter(*names, "__class__", "__class__")  # so that it gives a tuple
        self.then: tuple[Any, ...] = self.get(of)

    def back(self) -> None:
        if not all(map(is_, self.get(self.of), self.then)):
            for name, value in zip(self.names, self.then, strict=False):
                object.__setattr__(self.of, name, value)

    def now(self) -> object:
        now = self.get(self.of)
        if all(map(is_, now, self.then)):
            return None
        return [(name, one) for name, one, then in zip(self.names, now, self.then, strict=False)
                if not _same(one, then)] or None  # fmt: skip

    def led_to(self) -> Iterable[object]:
        return self.then


class _Dict:
    """The keys of a dictionary and their values, in their order."""

    __slots__ = ("of", "then")

    def __init__(self, of: dict[Any, Any]) -> None:
        self.of = of
        self.then = dict(dict.items(of))

    def back(self) -> None:
        dict.clear(self.of)
        dict.update(self.of, self.then)

    def now(self) -> object:
        of, then = self.of, self.then
        if dict.__len__(of) == len(then):
            keys, values = dict.keys(of), dict.values(of)
            if all(map(is_, values, then.values())) and all(map(is_, keys, then)):
                return None
            if all(map(_same, values, then.values())) and all(map(_same, keys, then)):
                return None
        return list(dict.items(of))

    def led_to(self) -> Iterable[object]:
        return *self.then, *self.then.values()


class _Numbers:
    """Which keys of a dictionary were ever asked for: nothing that a kernel has, so it does not count."""

    __slots__ = ("of", "then")

    def __init__(self, of: AnnouncedDict) -> None:
        self.of = of
        self.then = dict(of._numbers)

    def back(self) -> None:
        self.of._numbers.clear()
        self.of._numbers.update(self.then)

    def now(self) -> object:
        return None

    def led_to(self) -> Iterable[object]:
        return self.then


class _List:
    """What is in a list."""

    __slots__ = ("of", "then")

    def __init__(self, of: list[Any]) -> None:
        self.of = of
        self.then = list(list.__iter__(of))

    def back(self) -> None:
        list.__setitem__(self.of, ALL, self.then)

    def now(self) -> object:
        of, then = self.of, self.then
        if list.__len__(of) == len(then) and (
            all(map(is_, list.__iter__(of), then)) or all(map(_same, list.__iter__(of), then))
        ):
            return None
        return list(list.__iter__(of))

    def led_to(self) -> Iterable[object]:
        return self.then


class _Set:
    """What is in a set."""

    __slots__ = ("of", "then")

    def __init__(self, of: set[Any]) -> None:
        self.of = of
        self.then = set(of)

    def back(self) -> None:
        self.of.clear()
        self.of.update(self.then)

    def now(self) -> object:
        return None if self.of == self.then else set(self.of)

    def led_to(self) -> Iterable[object]:
        return self.then


class _Array:
    """What is in an array, which leads to nothing."""

    __slots__ = ("of", "then")

    def __init__(self, of: np.ndarray[Any, Any]) -> None:
        self.of = of
        self.then = of.copy()

    def back(self) -> None:
        if self.now() is not None:
            self.of[...] = self.then

    def now(self) -> object:
        return None if np.array_equal(self.of, self.then) else self.of.tobytes()

    def led_to(self) -> Iterable[object]:
        return ()


class _Cell:
    """A variable that a function has from the one around it."""

    __slots__ = ("of", "then")

    def __init__(self, of: CellType) -> None:
        self.of = of
        self.then = self._value()

    def _value(self) -> Any:
        return self.of.cell_contents if is_filled(self.of) else MISSING

    def back(self) -> None:
        if self.then is not MISSING:
            self.of.cell_contents = self.then
        elif is_filled(self.of):
            del self.of.cell_contents

    def now(self) -> object:
        value = self._value()
        if _same(value, self.then):
            return None
        return () if value is MISSING else (value,)

    def led_to(self) -> Iterable[object]:
        return () if self.then is MISSING else (self.then,)


class _Tables:
    """Page tables. How they are now is told by frames (:meth:`memhp.hw.memory.Arena.differing`)."""

    __slots__ = ("of", "then")

    def __init__(self, of: Arena) -> None:
        self.of = of
        self.then = deepcopy(of)

    def back(self) -> None:
        vars(self.of).clear()
        vars(self.of).update(vars(deepcopy(self.then)))

    def now(self) -> object:
        return None

    def led_to(self) -> Iterable[object]:
        return ()


class _Watch:
    """What the laws go on from: the look of the watch that this one is a copy of."""

    __slots__ = ("arguments", "made", "of")

    def __init__(self, of: Watch) -> None:
        self.of = of
        self.made, self.arguments = of.__reduce__()
        assert self.arguments[0].watch is not of

    def back(self) -> None:
        vars(self.of).clear()
        vars(self.of).update(vars(self.made(*self.arguments)))

    def now(self) -> object:
        return None

    def led_to(self) -> Iterable[object]:
        return tuple(self.arguments)


WHOLE: dict[type, Any] = {np.ndarray: _Array, CellType: _Cell, Arena: _Tables, Watch: _Watch}
"""By class: all that can change of its objects."""
CONTENTS: dict[type, Any] = {dict: _Dict, AnnouncedDict: _Numbers, list: _List, set: _Set}
"""By class: what can change of its objects, besides fields and slots."""
