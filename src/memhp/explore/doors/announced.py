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

from copy import deepcopy
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, partial
from operator import is_
from typing import Any

from memhp.explore.doors.containers import (
    AnnouncedDict,
    AnnouncedList,
    AnnouncedSet,
    Container,
    WatchedDict,
    WatchedList,
    WatchedSet,
    empty,
)
from memhp.explore.doors.marked_field import STEPPED, MarkedField, SteppedMap
from memhp.explore.doors.names import names_in, parts_named
from memhp.explore.doors.put_in import built, copy_of, note
from memhp.explore.doors.sorts import is_plain, is_record
from memhp.hw.machine import Machine
from memhp.hw.marked_map import MarkedSet
from memhp.hw.shared import EVERYTHING, SharedDict, SharedMap, SharedSet
from memhp.hw.unchanging import Unchanging
from memhp.linux.state import Kernel, Shared, is_shared, prefix_of
from memhp.spans import SpanMap, SpanSet

ASIDE = frozenset({
    ("Arrival", "search_from"),  # saves searches, and changes nothing but time
    ("Resource", "written"),  # what checks of whole runs have logged; no kernel function reads it
})  # fmt: skip
"""(class, field) that no kernel has: not announced."""
SETTLED = ASIDE | {
    ("Kernel", "hw"), ("Kernel", "config"), ("Kernel", "layout"), ("Kernel", "port"), ("Kernel", "_statics"),
    ("Kernel", "memory_block_size"), ("Node", "machine"), ("SlabObject", "name"),
}  # fmt: skip
"""(class, field) that boot has set for good, and those: not announced."""
Watched = frozenset[str] | None
"""Sorts of state whose reads are announced; None: all."""
COPIED = ("__reduce_ex__", "__reduce__", "__getstate__", "__setstate__")
"""What a class may have to be copied in its own way, by which fields could be lost."""


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
        value = state.get(self._name, MISSING)
        to = state.get("_announces_to")
        if to is not None:
            stepper = to[0].stepper
            if stepper is not None and stepper.listens:
                stepper.data(_field_name(to[1], self._name, value), 0, 1, write=False)
        if value is MISSING:
            raise AttributeError(self._name)
        return value

    def __set__(self, holder: Any, value: object) -> None:
        """Write the field, of which :func:`announcing` has told."""
        holder.__dict__[self._name] = value


def _field_name(prefix: str, field: str, value: Any) -> str:
    """What a field goes by; that which announces its own accesses goes by it too, so the field is another thing."""
    return f"{prefix}{field} itself" if isinstance(value, ANNOUNCES_ITSELF) else prefix + field


def _tell_write(stepper: Any, prefix: str, field: str, old: Any, new: Any) -> None:
    """A field is written, by what both values make of its name: others may come to either."""
    for name in dict.fromkeys(_field_name(prefix, field, value) for value in (old, new)):
        stepper.data(name, 0, 1, write=True)


@cache
def announcing(kind: type, watched: frozenset[str]) -> type:
    """A class like `kind`, a dataclass, that announces writes of its fields, and reads of those in `watched`."""
    named = _fields(kind)
    marked = {one.name: one.metadata["marked"] for one in fields(kind) if "marked" in one.metadata}
    known = _known(kind)
    put: Any = kind.__setattr__
    drop: Any = kind.__delattr__

    def set_field(self: Any, name: str, value: object) -> None:
        to = self.__dict__.get("_announces_to")
        if to is None or name not in named:
            if to is not None and name not in known:
                raise TypeError(f"{to[1]}{name}: a {kind.__name__} has no such field, so nobody would be told of it")
            if to is not None and to[0].stepper is not None and (kind.__name__, name) in SETTLED:
                raise TypeError(f"{to[1]}{name} is set at boot for good, and nobody is told when it changes")
            if to is not None and name in marked:
                value = _stepped_in(value, to[0], to[1] + name, f"{kind.__name__}.{name}", marked[name](self))
            put(self, name, value)
            return
        machine, prefix = to
        key = f"{kind.__name__}.{name}"
        stepper = machine.stepper
        value = taken_in(value, machine, prefix + name, key)
        if stepper is not None and stepper.listens:
            _tell_write(stepper, prefix, name, self.__dict__.get(name), value)
            stepper.wrote(key)
        put(self, name, value)

    def delete_field(self: Any, name: str) -> None:
        to = self.__dict__.get("_announces_to")
        if to is None or name not in named:
            drop(self, name)
            return
        machine, prefix = to
        stepper = machine.stepper
        if stepper is not None and stepper.listens:
            _tell_write(stepper, prefix, name, self.__dict__.get(name), None)
            stepper.wrote(f"{kind.__name__}.{name}")
        if self.__dict__.pop(name, self) is self:
            raise AttributeError(name)

    members: dict[str, object] = {name: Field(name) for name in watched}
    members |= {name: MarkedField(name, called) for name, called in marked.items()}
    members |= _copied_and_compared(kind)
    members |= {"__setattr__": set_field, "__delattr__": delete_field}
    members |= {"__module__": kind.__module__, "_announced_for": kind}
    if kind is Kernel:
        members["_announce"] = _announce_record
    return type(kind.__name__, (kind,), members)


def _copied_and_compared(kind: type) -> dict[str, object]:
    """What makes copies of the objects of a class, and compares them: by fields, which are read as everybody does.

    A copy is nobody's, so it is of the class itself.
    """

    def read(self: Any) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dict__ if name != "_announces_to"}

    def copy(self: Any) -> Any:
        made = new(kind)
        vars(made).update(read(self))
        return made

    def deep_copy(self: Any, memo: dict[int, object]) -> Any:
        made = memo[id(self)] = new(kind)
        vars(made).update(deepcopy(read(self), memo))
        return made

    def equal(self: Any, other: Any) -> Any:
        if announced_for(type(other)) is not kind:
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in compared)

    new: Any = kind.__new__
    members: dict[str, object] = {}
    if kind is not Kernel and not hasattr(kind, "__copy__"):
        members["__copy__"] = copy
    if kind is not Kernel and not hasattr(kind, "__deepcopy__"):
        members["__deepcopy__"] = deep_copy
    own: Any = vars(kind).get("__eq__")
    if own is not None and own.__code__.co_filename == "<string>":  # as dataclasses makes it: of one class only
        compared = tuple(one.name for one in fields(kind) if one.compare)
        members |= {"__eq__": equal, "__hash__": kind.__hash__}
    return members


def announced_for(kind: type) -> type:
    """The class that one which announces stands for, whatever of it is watched; others stand for themselves."""
    for_: type = kind.__dict__.get("_announced_for", kind)
    return for_


@cache
def _fields(kind: type) -> frozenset[str]:
    """The fields of a class that are announced as plain: not those that are marked (:func:`memhp.hw.shared.marked`)."""
    return frozenset(
        one.name
        for one in fields(kind)
        if "marked" not in one.metadata and (kind.__name__, one.name) not in SETTLED
    )


@cache
def _known(kind: type) -> frozenset[str]:
    """The names that objects of a class may have: its fields, and what the class itself has."""
    return frozenset({*dir(kind), *(one.name for one in fields(kind))})


def _announce_record(k: Kernel, record: Any) -> None:
    """The variables of one file of the kernel, which are asked for for the first time."""
    Kernel._announce(k, record)
    stepper: Any = k.hw.stepper
    _object(record, k.hw, stepper.watched if stepper is not None else None, prefix_of(type(record)))


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


WATCHED, UNWATCHED = (WatchedDict, WatchedList, WatchedSet), (AnnouncedDict, AnnouncedList, AnnouncedSet)
"""What dictionaries, lists and sets become that are not marked, by whether reads of them are watched."""
UNMARKED = WATCHED + UNWATCHED
ANNOUNCES_ITSELF = (Container, SharedMap, SharedSet, SharedDict)
"""What announces accesses to what is in it."""


def _container(value: Any, kind: Any, machine: Machine, watched: Watched, name: str, key: str) -> Any:
    """A dictionary, list or set as a container of this kind, which announces accesses to it."""
    known = copy_of(machine, value)
    if type(known) in UNMARKED and kind in UNMARKED:
        return known
    made, part = empty(kind), f"{key}[]"
    if isinstance(value, dict):
        made._numbers = {}
        for named, (at, one) in zip(names_in(name, value), value.items(), strict=True):
            if not is_plain(at):
                announced(at, machine, watched, f"{named} as a key", part)
            dict.__setitem__(made, at, announced(one, machine, watched, named, part))
    elif isinstance(value, list):
        for named, one in zip(names_in(name, value), value, strict=True):
            list.append(made, announced(one, machine, watched, named, part))
    else:
        named_parts = zip(names_in(name, value), value, strict=True)
        made.items = {announced(one, machine, watched, named, part) for named, one in named_parts}
    made._to = (machine, name, key)
    note(machine, value, made, name)
    return made


def announce(k: Kernel, watched: Watched) -> None:
    """From now on all that `k` leads to announces accesses to the stepper of its machine.

    `watched`: the sorts of state whose reads are announced (``Zone.present_pages``); None: all.
    """
    with built():
        for root in (k, *k._statics.values()):
            _object(root, k.hw, watched, prefix_of(type(root)))


def announced(value: Any, machine: Machine, watched: Watched, name: str, key: str) -> Any:
    """A value in the form that announces accesses to it, under `name`. TypeError: it is of a sort that has none."""
    if is_plain(value):
        return value
    if isinstance(value, Container):
        _must_be_of(machine, value._to[0], name)
        return value
    if type(value) in (dict, list, set):
        told = watched is None or key in watched
        kind = (WATCHED if told else UNWATCHED)[(dict, list, set).index(type(value))]
        return _container(value, kind, machine, watched, name, key)
    if is_shared(value) and not is_dataclass(value):
        return _heard(value, name)
    if type(value) is SpanMap:
        return _shared_map(value, machine, watched, name, key)
    if type(value) is SpanSet:
        spans = SharedSet()
        spans._map, spans._size = _shared_map(value._map, machine, watched, name, key), value._size
        return spans
    if isinstance(value, tuple | frozenset) and not hasattr(value, "__dict__"):
        return _held(value, machine, watched, name, key)
    if isinstance(value, partial):
        for named, part in parts_named(name, value):
            if announced(part, machine, watched, named, key) is not part:
                raise TypeError(f"{named}: what a function is bound to cannot announce accesses, an object could")
        return value
    if isinstance(value, Machine):
        _must_be_of(machine, value, name)
        return value
    if is_record(value) and value.__dataclass_params__.frozen:
        return _frozen(value, machine, watched, name)
    return _object(value, machine, watched, f"{name}.")


def _heard(value: Shared, name: str) -> Any:
    """What announces accesses by itself. TypeError: nobody has said to whom."""
    if not value.is_heard:
        raise TypeError(f"{name} is a {type(value).__name__} that belongs to no machine, so nobody would be told")
    return value


def stepped(value: Any, machine: Machine, watched: Watched, name: str, key: str, step: str) -> Any:
    """As :func:`announced`, of the value of a marked field each access to which is this step, to containers as well."""
    kind = STEPPED.get(type(value))
    if kind is not None:
        made = _container(value, kind, machine, watched, name, key)
        made._to = (*made._to, step)
        return made
    called = partial(_one_name, step)
    if type(value) is SpanMap:
        spans = SteppedMap(called, EVERYTHING)
        spans._starts, spans._ends = list(value._starts), list(value._ends)
        spans._values = [announced(one, machine, watched, f"{name}[{at:#x}]", f"{key}[]")
                         for at, one in zip(value._starts, value._values, strict=True)]  # fmt: skip
        spans.taken_in = partial(_taken_in_map, machine, name, f"{key}[]")
        spans.belong(machine, name)
        note(machine, value, spans, name)
        return spans
    if type(value) is SpanSet:
        members = MarkedSet(called, EVERYTHING)
        members._map, members._size = value._map.copy(), value._size
        members.belong(machine, name)
        note(machine, value._map, members, name)
        return members
    return announced(value, machine, watched, name, key)


def _one_name(name: str, _: int) -> str:
    return name


def _taken_in_map(machine: Machine, name: str, key: str, value: Any) -> Any:
    return taken_in(value, machine, name, key)


def _stepped_in(value: Any, machine: Machine, name: str, key: str, step: str) -> Any:
    """As :func:`taken_in`, of the value of a marked field."""
    if type(value) not in STEPPED and type(value) not in (SpanMap, SpanSet):
        return taken_in(value, machine, name, key)
    stepper: Any = machine.stepper
    named = name if stepper is None else stepper.takes_in(name)
    return stepped(value, machine, None if stepper is None else stepper.watched, named, key, step)


def _must_be_of(machine: Machine, other: Machine, name: str) -> None:
    """TypeError: what is put here is of another execution, whose kernel has it too."""
    if other is not machine:
        text = "it was there in another execution: what build makes comes in k, and an actor makes its own"
        raise TypeError(f"{name.rstrip('.')}: {text}")


def _held(value: Any, machine: Machine, watched: Watched, name: str, key: str) -> Any:
    """A tuple or frozen set of what announces accesses: the same one, if all in it stay the objects that they are."""
    old = list(value)
    new = [announced(one, machine, watched, f"{name}[{at}]", f"{key}[]") for at, one in enumerate(old)]
    if all(map(is_, new, old)):
        return value
    kind: Any = type(value)
    return kind._make(new) if hasattr(kind, "_make") else kind(new)


def _frozen(value: Any, machine: Machine, watched: Watched, name: str) -> Any:
    """A record that stays as it was made, and leads to what may not."""
    if isinstance(value, Unchanging):
        return value
    state: dict[str, Any] = vars(value)
    for one in fields(value):
        if one.name in state:
            key = f"{type(value).__name__}.{one.name}"
            state[one.name] = announced(state[one.name], machine, watched, f"{name}.{one.name}", key)
    return value


def taken_in(value: Any, machine: Machine, name: str, key: str) -> Any:
    """As :func:`announced`, of a value that comes to what has a name already, from whoever runs now.

    What comes later to where something was is another thing: so it goes by who has brought it, and how often that was.
    """
    if is_plain(value):
        return value
    stepper: Any = machine.stepper
    if stepper is None:
        return announced(value, machine, None, name, key)
    if not isinstance(value, ANNOUNCES_ITSELF) and "_announces_to" not in getattr(value, "__dict__", ()):
        name = stepper.takes_in(name)
    return announced(value, machine, stepper.watched, name, key)


Container.taken_in = staticmethod(taken_in)


def _shared_map(value: SpanMap[Any], machine: Machine, watched: Watched, name: str, key: str) -> SharedMap[Any]:
    shared: SharedMap[Any]
    if watched is None or key in watched:
        shared = SharedMap()
    else:
        shared = quiet = QuietMap()
        quiet.sort = key
    for slot in SpanMap.__slots__:
        setattr(shared, slot, list(getattr(value, slot)))
    shared.belong(machine, name)
    note(machine, value, shared, name)
    return shared


def _object(value: Any, machine: Machine, watched: Watched, name: str) -> Any:
    if not is_record(value):
        raise TypeError(
            f"{name.rstrip('.')} is a {type(value).__name__}: how accesses to it are announced is not known"
        )
    state: dict[str, Any] = vars(value)
    if "_announces_to" in state:
        _must_be_of(machine, state["_announces_to"][0], name)
        return value
    kind: Any = announced_for(type(value))
    named = _fields(kind)
    own = [way for way in COPIED if getattr(kind, way, None) is not getattr(object, way, None)]
    if own:
        raise TypeError(f"{name.rstrip('.')} is a {kind.__name__}, whose {own[0]}() makes other copies than of fields")
    for field, held in state.items():
        if field not in _known(kind) and not is_plain(held):
            raise TypeError(f"{name}{field}: a {kind.__name__} has no such field, so nobody would be told of it")
    state["_announces_to"] = (machine, name)
    for one in fields(kind):
        field = one.name
        if field in named and field in state:
            key = f"{kind.__name__}.{field}"
            state[field] = announced(state[field], machine, watched, f"{name}{field}", key)
        elif "marked" in one.metadata and field in state:
            step = one.metadata["marked"](value)
            state[field] = stepped(state[field], machine, watched, f"{name}{field}", f"{kind.__name__}.{field}", step)
    told = named if watched is None else frozenset(one for one in named if f"{kind.__name__}.{one}" in watched)
    value.__class__ = announcing(kind, told)
    return value
