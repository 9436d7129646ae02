"""A digest of the shared state of a machine: equal where everything that CPUs can find there is equal.

It is made of what the kernel's variables hold and what they lead to, of page tables, of who has each frame, of locks
held, and of translations that CPUs may still use. Objects count by what is in them and by who shares them, never by
identity; sets and maps count without the order in which they were filled. Left out is what no CPU reads again: the log,
counts of what passed the doors, the order in which locks were ever taken.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache, partial
from hashlib import blake2b
from types import FunctionType, MethodType
from typing import Any

import numpy as np

from memhp.explore.doors.announced import SETTLED
from memhp.hw.machine import Machine
from memhp.hw.shared import SharedDict
from memhp.hw.tlb import Stale
from memhp.linux.state import Kernel
from memhp.spans import SpanMap, SpanSet

NUMBERS = frozenset({
    ("SlabObject", "spares"), ("Device", "config"), ("Arrival", "search_from"), ("LastRun", "lines"),
})  # fmt: skip
"""(class, field) that hold numbers given out in the order of steps, the length of the log, or a hint that changes
nothing but time."""


MOST = frozenset({int, str, bool, type(None)})
PLAIN = (int, str, bytes, bytearray, float, range, Enum)
"""What is written as it prints itself."""


@cache
def _kept(kind: type) -> tuple[str, ...]:
    """The fields of a record that count."""
    return tuple(one.name for one in fields(kind) if (kind.__name__, one.name) not in SETTLED | NUMBERS)


class Written:
    """Values written down one after the other, objects by the number of their first mention."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._numbers: dict[int, int] = {}
        self._kept: list[object] = []
        """Everything that has a number: the number is by identity, so it must stay."""

    def text(self) -> str:
        """All that was written."""
        return "".join(self._parts)

    def each(self, values: Iterable[object]) -> None:
        """Several values, in their order."""
        self._parts.append("(")
        for value in values:
            self.value(value)
        self._parts.append(")")

    def value(self, value: Any) -> None:
        """One value. TypeError: it is of a sort of which it is not known what makes two of them equal."""
        kind = type(value)
        if kind in MOST or isinstance(value, PLAIN):
            self._parts.append(f"{value!r},")
        elif kind is tuple or isinstance(value, tuple):
            self.each(value)
        elif isinstance(value, Set):
            self.each(sorted(value, key=repr))
        elif isinstance(value, FunctionType | type):
            self._parts.append(f"{value.__module__}.{value.__qualname__},")
        elif isinstance(value, MethodType):
            self._parts.append(f"{value.__func__.__qualname__} of ")
            self.value(value.__self__)
        elif isinstance(value, np.ndarray):
            self._parts.append(f"{value.tolist()},")
        elif isinstance(value, Machine):
            self._parts.append("the machine,")
        elif id(value) in self._numbers:
            self._parts.append(f"#{self._numbers[id(value)]},")
        else:
            self._numbers[id(value)] = len(self._numbers)
            self._kept.append(value)
            self.contents(value)

    def contents(self, value: Any) -> None:
        """What is in a thing that is met for the first time."""
        if isinstance(value, dict | SharedDict):
            items = dict(value.items()) if isinstance(value, SharedDict) else dict(dict.items(value))
            self.each((key, items[key]) for key in sorted(items, key=repr))
        elif isinstance(value, list):
            self.each(list.__iter__(value))
        elif isinstance(value, SpanSet):
            self.value(value._map)
        elif isinstance(value, SpanMap):
            self.each(zip(value._starts, value._ends, value._values, strict=True))
        elif isinstance(value, partial):
            self.each((value.func, value.args, tuple(sorted(value.keywords.items()))))
        elif is_dataclass(value):
            self.record(value)
        elif isinstance(value, BaseException):
            self.each((type(value).__name__, str(value)))
        else:
            raise TypeError(f"what makes two {type(value).__name__} equal is not known")

    def record(self, value: Any) -> None:
        """The fields of a record."""
        kind: type = type(value)
        state = vars(value)
        self._parts.append(f"({kind.__name__!r},")
        for field in _kept(kind):
            self._parts.append(f"{field!r},")
            self.value(state.get(field))
        self._parts.append(")")


def digest(k: Kernel) -> str:
    """The digest of a kernel and its machine, as they are now."""
    written = Written()
    describe(written, k)
    return blake2b(written.text().encode(), digest_size=16).hexdigest()


def describe(written: Written, k: Kernel) -> None:
    """Write down a kernel and its machine; a record of variables that holds what a new one does is as none."""
    written.value(k)
    for kind in sorted(k._statics, key=lambda kind: (kind.__module__, kind.__qualname__)):
        record = k._statics[kind]
        if _alone(record) != _new(kind):
            written.each((kind, record))
    _machine(written, k.hw)


@cache
def _new(kind: type) -> str:
    """What a record holds that nobody has used."""
    return _alone(kind())


def _alone(record: object) -> str:
    written = Written()
    written.value(record)
    return written.text()


def _machine(written: Written, hw: Machine) -> None:
    written.each((hw.now, len(hw.callbacks)))
    written.each((hw.memory.owners, sorted((lock.name, lock.writer, sorted(lock.readers.items()),
                  sorted(lock.queue)) for lock in hw.locks.values() if lock.writer is not None or lock.readers
                  or lock.queue)))  # fmt: skip
    for table in hw.memory.arena.frames():
        for view in hw.memory.arena.views(table):
            written.each((table, blake2b(view.tobytes(), digest_size=16).hexdigest()))
    written.each(sorted(map(_stale, hw.tlb.stale)))
    written.each(sorted((one.frames, one.where) for one in hw.tlb.exposed))
    written.each(sorted(hw.violations))


def _stale(stale: Stale) -> tuple[object, ...]:
    runs = tuple(column.tolist() for column in stale.runs)
    return stale.table, stale.index, stale.count, runs, stale.cpus, stale.where, stale.leaves, stale.pages, stale.stands
