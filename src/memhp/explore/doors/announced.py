"""A kernel under exploration announces every access to what its global variables lead to; none can be forgotten.

From the kernel on, everything that can change is put into a form that announces accesses to the machine's stepper:
objects get a class of the same name, dictionaries, lists, sets and maps of spans are replaced. What is put into one of
them later is treated the same then. A value of a sort that is not known here is refused. The kernel as it is ordinarily
run has none of this, so there it costs nothing.

Writes are always announced. Reads are where they are *watched*: they can only race with a write, and most state is
written by no actor, so a search begins with no reads watched. A write of a sort of state (a field of a class, a map)
whose reads are not is told to the stepper (:meth:`memhp.explore.doors.stepper.Doors.wrote`), and counts as something
shared that was not known to be: the search begins again with these reads watched (:mod:`memhp.explore.engine.fusion`).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from functools import cache, partial
from typing import Any

from memhp.explore.doors.names import IMMUTABLE, name_of, names_in, parts_named
from memhp.hw.machine import Machine
from memhp.hw.shared import EVERYTHING, SharedDict, SharedMap, SharedSet
from memhp.linux.state import Kernel, Shared
from memhp.spans import SpanMap, SpanSet

SETTLED = frozenset({
    ("Kernel", "hw"), ("Kernel", "config"), ("Kernel", "layout"), ("Kernel", "port"), ("Kernel", "_statics"),
    ("Kernel", "memory_block_size"), ("Node", "machine"),
})  # fmt: skip
"""(class, field) that boot has set for good, or that is none of the kernel's: not announced."""
TOLERATED = frozenset({
    ("Kernel", "warned"), ("Zone", "lowmem_reserve"), ("Zone", "watermark_min"), ("Zone", "watermark_low"),
    ("Zone", "watermark_high"), ("Zone", "watermark_promo"),
})  # fmt: skip
"""(class, field) on which the kernel takes a race, unmarked as it is: what ``printk_once()`` looks at, and marks that
``zone_watermark_fast()`` reads without ``zone->lock`` while ``setup_per_zone_wmarks()`` writes them."""
Watched = frozenset[str] | None
"""Sorts of state whose reads are announced; None: all."""
HARDWARE = "memhp.hw."
"""Where the classes are of what is not the kernel's: devices, and state that announces itself."""


class Field:
    """A field of an object whose reads are watched."""

    __slots__ = ("_name", "_suffix")

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, holder: Any, owner: type) -> Any:
        """Read the field."""
        if holder is None:
            return self
        state = holder.__dict__
        try:
            value = state[self._name]
        except KeyError:
            raise AttributeError(self._name) from None
        to = state.get("_announces_to")
        if to is not None:
            stepper = to[0].stepper
            if stepper is not None and stepper.listens:
                stepper.data(_field_name(to[1], self._name, value), 0, 1, write=False)
        return value

    def __set__(self, holder: Any, value: object) -> None:
        """Write the field, of which :func:`announcing` has told."""
        holder.__dict__[self._name] = value


def _field_name(prefix: str, field: str, value: Any) -> str:
    """What a field goes by; that which announces its own accesses goes by it too, so the field is another thing."""
    return f"{prefix}{field} itself" if isinstance(value, ANNOUNCES_ITSELF) else prefix + field


@cache
def announcing(kind: type, watched: frozenset[str]) -> type:
    """A class like `kind`, a dataclass, that announces writes of its fields, and reads of those in `watched`."""
    named = _fields(kind)
    put: Any = kind.__setattr__

    def set_field(self: Any, name: str, value: object) -> None:
        to = self.__dict__.get("_announces_to")
        if to is None or name not in named:
            put(self, name, value)
            return
        machine, prefix = to
        key = f"{kind.__name__}.{name}"
        stepper = machine.stepper
        value = taken_in(value, machine, prefix + name, key)
        if stepper is not None and stepper.listens:
            stepper.data(_field_name(prefix, name, value), 0, 1, write=True)
            stepper.wrote(key)
        put(self, name, value)

    members: dict[str, object] = {name: Field(name) for name in watched}
    members |= {"__setattr__": set_field, "__module__": kind.__module__, "_announced_for": kind}
    if kind is Kernel:
        members["_announce"] = _announce_record
    return type(kind.__name__, (kind,), members)


def announced_for(kind: type) -> type:
    """The class that one which announces stands for, whatever of it is watched; others stand for themselves."""
    for_: type = kind.__dict__.get("_announced_for", kind)
    return for_


@cache
def _fields(kind: type) -> frozenset[str]:
    """The fields of a class that are announced: those that are not behind doors (:data:`memhp.hw.shared.MARKED`)."""
    return frozenset(
        one.name
        for one in fields(kind)
        if not one.metadata.get("marked") and (kind.__name__, one.name) not in SETTLED | TOLERATED
    )


def _announce_record(k: Kernel, record: Any) -> None:
    """The variables of one file of the kernel, which are asked for for the first time."""
    Kernel._announce(k, record)
    stepper: Any = k.hw.stepper
    _object(record, k.hw, stepper.watched if stepper is not None else None, "")


class QuietMap(SharedMap[Any]):
    """A shared map whose reads are not watched."""

    __slots__ = ("sort",)

    sort: str
    """The sort of state."""

    _announced_for = SharedMap

    def _announce(self, kind: str, start: int, end: int) -> None:
        if kind == "write":
            super()._announce(kind, start, end)
            stepper: Any = self._machine.stepper
            if stepper is not None and stepper.listens:
                stepper.wrote(self.sort)


class Container:
    """A dictionary, list or set that announces what changes it; its reads are as fast as others'."""

    __slots__ = ()

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

    def put(self, value: Any, at: object) -> Any:
        """A value that is put in, as it is to stand there."""
        machine, name, key = self._to
        return taken_in(value, machine, f"{name}[{name_of(at)}]", f"{key}[]")


ANNOUNCES_ITSELF = (Container, SharedMap, SharedSet, SharedDict)
"""What announces accesses to what is in it."""


class AnnouncedDict(dict[Any, Any], Container):
    """A dictionary, by key."""

    __slots__ = ("_numbers", "_to")

    _numbers: dict[object, int]
    """By key that was ever asked for: a number, which stands for it in announcements."""

    def say_at(self, kind: str, key: object) -> None:
        """Announce an access to one key."""
        at = self._numbers.setdefault(key, len(self._numbers))
        self.say(kind, at, at + 1)

    def __setitem__(self, key: Any, value: Any) -> None:
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


class AnnouncedList(list[Any], Container):
    """A list."""

    __slots__ = ("_to",)

    def __setitem__(self, at: Any, value: Any) -> None:
        self.say("write")
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
        for value in values:
            self.append(value)

    def __iadd__(self, values: Iterable[Any]) -> Any:  # type: ignore[misc]
        self.extend(values)
        return self


class AnnouncedSet(set[Any], Container):
    """A set of values that do not change."""

    __slots__ = ("_to",)


def _told(kind: str, method: str, base: Any) -> Callable[..., Any]:
    """A method of a built-in container that first announces an access to all of it."""
    plain = getattr(base, method)

    def told(self: Container, *args: Any, **how: Any) -> Any:
        self.say(kind)
        return plain(self, *args, **how)

    return told


def _snapshot(method: str, base: Any) -> Callable[..., Any]:
    """A method that goes through a container: announced, and through what is in it then."""
    plain = getattr(base, method)

    def told(self: Any) -> Any:
        self.say("read")
        return iter(list(plain(self))) if method == "__iter__" else plain(base(list(dict.items(self))))

    return told


class WatchedList(AnnouncedList):
    """A list whose reads are announced too."""

    __slots__ = ()

    _announced_for = AnnouncedList


class WatchedSet(AnnouncedSet):
    """A set whose reads are announced too."""

    __slots__ = ()

    _announced_for = AnnouncedSet


COMPARED = ("__len__", "__eq__", "__ne__", "copy")
COMBINED = ("__or__", "__ror__", "__and__", "__rand__", "__sub__", "__rsub__", "__xor__", "__rxor__",
            "__le__", "__lt__", "__ge__", "__gt__",
            "union", "intersection", "difference", "issubset", "issuperset", "isdisjoint")  # fmt: skip
WRITES: tuple[tuple[type, type, tuple[str, ...]], ...] = (
    (AnnouncedDict, dict, ("clear", "popitem")),
    (AnnouncedList, list, ("__delitem__", "remove", "pop", "clear", "sort", "reverse")),
    (AnnouncedSet, set, ("add", "discard", "remove", "pop", "clear", "update", "difference_update",
                         "intersection_update", "__ior__", "__isub__", "__iand__")),
)  # fmt: skip
READS: tuple[tuple[type, type, tuple[str, ...]], ...] = (
    (WatchedDict, dict, COMPARED),
    (WatchedList, list, (*COMPARED, "__getitem__", "__contains__", "__add__", "__reversed__", "index", "count")),
    (WatchedSet, set, (*COMPARED, *COMBINED, "__contains__")),
)
GONE_THROUGH: tuple[tuple[type, type, tuple[str, ...]], ...] = (
    (WatchedDict, dict, ("__iter__", "keys", "values", "items")),
    (WatchedList, list, ("__iter__",)),
    (WatchedSet, set, ("__iter__",)),
)
for _kind, _base, _methods in WRITES:
    for _method in _methods:
        setattr(_kind, _method, _told("write", _method, _base))
for _kind, _base, _methods in READS:
    for _method in _methods:
        setattr(_kind, _method, _told("read", _method, _base))
for _kind, _base, _methods in GONE_THROUGH:
    for _method in _methods:
        setattr(_kind, _method, _snapshot(_method, _base))


def _container(value: Any, machine: Machine, watched: Watched, name: str, key: str) -> Any:
    """A dictionary, list or set in the form that announces accesses to it."""
    told = watched is None or key in watched
    made: Any
    if isinstance(value, dict):
        made = (WatchedDict if told else AnnouncedDict)()
        made._numbers = {}
        for named, (at, one) in zip(names_in(name, value), value.items(), strict=True):
            dict.__setitem__(made, at, announced(one, machine, watched, named, f"{key}[]"))
    elif isinstance(value, list):
        made = (WatchedList if told else AnnouncedList)()
        for named, one in zip(names_in(name, value), value, strict=True):
            list.append(made, announced(one, machine, watched, named, f"{key}[]"))
    else:
        made = (WatchedSet if told else AnnouncedSet)()
        set.update(made, value)
    made._to = (machine, name, key)
    return made


def announce(k: Kernel, watched: Watched) -> None:
    """From now on all that `k` leads to announces accesses to the stepper of its machine.

    `watched`: the sorts of state whose reads are announced (``Zone.present_pages``); None: all.
    """
    for root in (k, *k._statics.values()):
        _object(root, k.hw, watched, "")


def announced(value: Any, machine: Machine, watched: Watched, name: str, key: str) -> Any:
    """A value in the form that announces accesses to it, under `name`. TypeError: it is of a sort that has none."""
    if isinstance(value, IMMUTABLE):
        return value
    if isinstance(value, dict | list | set):
        return value if isinstance(value, ANNOUNCES_ITSELF) else _container(value, machine, watched, name, key)
    if isinstance(value, Shared) and not is_dataclass(value):
        return value
    if type(value) is SpanMap:
        return _shared_map(value, machine, watched, name, key)
    if type(value) is SpanSet:
        spans = SharedSet()
        spans._map, spans._size = _shared_map(value._map, machine, watched, name, key), value._size
        return spans
    if isinstance(value, partial):
        for named, part in parts_named(name, value):
            announced(part, machine, watched, named, key)
        return value
    if type(value).__module__.startswith(HARDWARE):
        return value
    if _is_record(value) and value.__dataclass_params__.frozen:
        return value
    return _object(value, machine, watched, f"{name}.")


def taken_in(value: Any, machine: Machine, name: str, key: str) -> Any:
    """As :func:`announced`, of a value that comes to what has a name already, from whoever runs now.

    What comes later to where something was is another thing: so it goes by who has brought it, and how often that was.
    """
    if isinstance(value, IMMUTABLE):
        return value
    stepper: Any = machine.stepper
    if stepper is None:
        return announced(value, machine, None, name, key)
    if not isinstance(value, ANNOUNCES_ITSELF) and "_announces_to" not in getattr(value, "__dict__", ()):
        name = stepper.takes_in(name)
    return announced(value, machine, stepper.watched, name, key)


def _shared_map(value: SpanMap[Any], machine: Machine, watched: Watched, name: str, key: str) -> SharedMap[Any]:
    shared: SharedMap[Any]
    if watched is None or key in watched:
        shared = SharedMap()
    else:
        shared = quiet = QuietMap()
        quiet.sort = key
    for slot in SpanMap.__slots__:
        setattr(shared, slot, getattr(value, slot))
    shared.belong(machine, name)
    return shared


def _is_record(value: object) -> bool:
    return is_dataclass(value) and hasattr(value, "__dict__")


def _object(value: Any, machine: Machine, watched: Watched, name: str) -> Any:
    if not _is_record(value):
        raise TypeError(
            f"{name.rstrip('.')} is a {type(value).__name__}: how accesses to it are announced is not known"
        )
    state: dict[str, Any] = vars(value)
    if "_announces_to" in state:
        return value
    kind: Any = type(value)
    named = _fields(kind)
    state["_announces_to"] = (machine, name)
    for field in named:
        if field in state:
            key = f"{kind.__name__}.{field}"
            state[field] = announced(state[field], machine, watched, f"{name}{field}", key)
    told = named if watched is None else frozenset(one for one in named if f"{kind.__name__}.{one}" in watched)
    value.__class__ = announcing(kind, told)
    return value
