"""Kernel state that CPUs share, in maps and sets that announce every access with the range it touches.

Code that uses them cannot forget to say so. While no stepper is in place an access costs one look at the machine. Two
sorts are told apart, as the kernel's memory model has them. *Plain* accesses are not steps of their own: they belong
to the step that they follow, and whoever watches checks that locks and other steps put conflicting ones in order
(:meth:`memhp.hw.stepper.Stepper.data`). *Marked* ones (``READ_ONCE()``, ``WRITE_ONCE()``, atomics) are meant to meet
others without a lock: each is a step.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from enum import IntFlag
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from memhp.hw.stepper import Access, Part, Stepper
from memhp.spans import Span, SpanMap, SpanSet

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
F = TypeVar("F", bound=IntFlag)

EVERYTHING = 1 << 64
"""Above every byte address and PFN: the end of a range that goes on for ever."""


def marked(name: str | Callable[[Any], str]) -> Mapping[str, object]:
    """``field(metadata=marked(...))``: a field of a record each access to which is a step, under a name or the one that
    is made of the record.

    So are atomics, completions, and what is found under RCU. Code that has more to say (an atomic change; several
    fields in one go) takes the step first, at :meth:`memhp.hw.machine.Machine.reads`, ``writes``, ``atomic``, ``adds``
    or ``wait``; other accesses take it by themselves. Getting a container is reading it: code that changes what is in
    it says so first.
    """
    return MappingProxyType({"marked": (lambda _: name) if isinstance(name, str) else name})


class Stepped(Protocol):
    """A machine, as shared state knows it."""

    stepper: Stepper | None
    levels: dict[str, "Counted"]
    """Counts that are compared with marks without a lock, by name."""


class _Quiet:
    """No machine: shared state that belongs to none, such as a copy, or one that is being made."""

    stepper: Stepper | None = None
    levels: dict[str, "Counted"] = {}  # noqa: RUF012 - nothing is ever put in


QUIET = _Quiet()


class SharedMap(SpanMap[V]):
    """A map of spans that CPUs share; every access is announced as plain, with its range."""

    __slots__ = ("_machine", "name")

    def __init__(self) -> None:
        super().__init__()
        self._machine: Stepped = QUIET
        self.name = ""

    def belong(self, machine: Stepped, name: str) -> None:
        """From now on accesses are announced to the stepper of `machine`, under `name`."""
        self._machine, self.name = machine, name

    def _announce(self, kind: str, start: int, end: int) -> None:
        stepper = self._machine.stepper
        if stepper is not None and stepper.listens:
            stepper.data(self.name, start, end, write=kind == "write")

    def _marked(self, kind: str, start: int, end: int) -> None:
        """An access that is a step, for those that have such ones."""
        stepper = self._machine.stepper
        if stepper is not None:
            stepper.step(Access(kind, Part(self.name, start, end)))

    def __len__(self) -> int:
        self._announce("read", 0, EVERYTHING)
        return len(self._starts)

    def __bool__(self) -> bool:
        self._announce("read", 0, EVERYTHING)
        return bool(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int, V]]:
        self._announce("read", 0, EVERYTHING)
        return super().__iter__() if self._machine.stepper is None else iter(list(super().__iter__()))

    def __eq__(self, other: object) -> bool:
        self._announce("read", 0, EVERYTHING)
        return super().__eq__(other)

    __hash__ = None

    @property
    def end(self) -> int:
        """As :attr:`SpanMap.end`: all is looked at."""
        self._announce("read", 0, EVERYTHING)
        return self._ends[-1] if self._ends else 0

    @property
    def is_heard(self) -> bool:
        """Whether a machine's stepper is told of accesses."""
        return self._machine is not QUIET

    def differences(self, other: SpanMap[V]) -> list[Span]:
        """As :meth:`SpanMap.differences`: all is looked at."""
        self._announce("read", 0, EVERYTHING)
        return super().differences(other)

    def copy(self) -> SpanMap[V]:
        """As :meth:`SpanMap.copy`: nobody shares the copy."""
        self._announce("read", 0, EVERYTHING)
        return super().copy()

    def get(self, at: int) -> V | None:
        """As :meth:`SpanMap.get`."""
        if self._machine.stepper is not None:
            self._announce("read", at, at + 1)
        return SpanMap.get(self, at)

    def _steady(self, look: Callable[[], T], told: Callable[[T], tuple[int, int]]) -> T:
        """What is found, once it is what it was when that was announced: others may have come first."""
        found = look()
        while self._machine.stepper is not None:
            self._announce("read", *told(found))
            before, found = found, look()
            if found == before:
                break
        return found

    def run_at(self, at: int) -> tuple[int, int, V] | None:
        """As :meth:`SpanMap.run_at`; the run's neighbours are not looked at."""
        return self._steady(lambda: SpanMap.run_at(self, at), lambda found: found[:2] if found else (at, at + 1))

    def runs(self, start: int, end: int) -> Iterator[tuple[int, int, V]]:
        """As :meth:`SpanMap.runs`."""
        if self._machine.stepper is not None:
            self._announce("read", start, end)
        return SpanMap.runs(self, start, end)

    def next_run(self, at: int) -> tuple[int, int, V] | None:
        """As :meth:`SpanMap.next_run`; all up to the run's end is looked at."""
        return self._steady(lambda: SpanMap.next_run(self, at), lambda found: (at, found[1] if found else EVERYTHING))

    def first_fit(self, size: int, start: int, end: int) -> Span | None:
        """As :meth:`SpanMap.first_fit`; all up to the place is looked at."""
        look = partial(SpanMap.first_fit, self, size, start, end)
        return self._steady(look, lambda found: (start, found.end if found else end))

    def fits(self, size: int, start: int, end: int, most: int) -> list[Span]:
        """As :meth:`SpanMap.fits`; all up to the last place is looked at."""

        def told(found: list[Span]) -> tuple[int, int]:
            return start, found[-1].end if sum(span.size for span in found) >= most * size else end

        return self._steady(lambda: SpanMap.fits(self, size, start, end, most), told)

    def set(self, start: int, end: int, value: V) -> None:
        """As :meth:`SpanMap.set`."""
        if self._machine.stepper is not None and start < end:
            self._announce("write", start, end)
        SpanMap.set(self, start, end, value)

    def clear(self, start: int, end: int) -> None:
        """As :meth:`SpanMap.clear`."""
        if self._machine.stepper is not None and start < end:
            self._announce("write", start, end)
        SpanMap.clear(self, start, end)

    def set_each(self, spans: Sequence[Span], value: V) -> None:
        """As :meth:`SpanMap.set_each`; one after the other where somebody watches."""
        if self._machine.stepper is None:
            SpanMap.set_each(self, spans, value)
        else:
            for span in spans:
                self.set(*span, value)

    def clear_each(self, spans: Sequence[Span]) -> None:
        """As :meth:`SpanMap.clear_each`; one after the other where somebody watches."""
        if self._machine.stepper is None:
            SpanMap.clear_each(self, spans)
        else:
            for span in spans:
                self.clear(*span)

    def publish(self, start: int, end: int, value: V) -> None:
        """Let others find what has been made before: a step, as ``xa_store()`` and ``smp_store_release()`` are one."""
        self._announce("write", start, end)
        self._announce_found(start, end, write=True)
        self._step("write")
        SpanMap.set(self, start, end, value)

    def withdraw(self, start: int, end: int) -> None:
        """Let nobody find it any more, a step as well; whoever has found it may look at it still: ``xa_erase()``."""
        self._announce("write", start, end)
        self._step("write")
        SpanMap.clear(self, start, end)

    def lookup(self, at: int) -> V | None:
        """Find what :meth:`publish` has put there, as a step, and look at what is found: ``xa_load()``."""
        self._step("read")
        found = SpanMap.get(self, at)
        if found is not None:
            self._announce_found(at, at + 1, write=False)
        return found

    def finds(self, at: int) -> bool:
        """Whether :meth:`publish` has put something there, as a step; what is found is not looked at: ``xa_load()``."""
        self._step("read")
        return SpanMap.get(self, at) is not None

    def _announce_found(self, start: int, end: int, *, write: bool) -> None:
        """What is found is another thing than the place where it is."""
        stepper = self._machine.stepper
        if stepper is not None and stepper.listens:
            stepper.data(f"what {self.name} lead to", start, end, write=write)

    def _step(self, kind: str) -> None:
        stepper = self._machine.stepper
        if stepper is not None:
            stepper.step(Access(kind, self.name))


class SharedFlags(SharedMap[F]):
    """A map of flags, which CPUs read and change with atomic bit operations: ``test_bit()``, ``set_bit()``.

    These are marked. :meth:`set` and :meth:`clear` are plain, as when a structure is made.
    """

    __slots__ = ()

    def _announce(self, kind: str, start: int, end: int) -> None:
        if kind == "write":
            super()._announce(kind, start, end)
        else:
            self._marked(kind, start, end)

    def set_flags(self, start: int, end: int, flags: F) -> None:
        """Give each of ``[start, end)`` these flags too: ``SetPageFlag()``."""
        self._change(start, end, flags, on=True)

    def clear_flags(self, start: int, end: int, flags: F) -> None:
        """Take these flags from each of ``[start, end)``: ``ClearPageFlag()``."""
        self._change(start, end, flags, on=False)

    def test_set_flag(self, at: int, flag: F) -> bool:
        """Give one this flag; whether it had it already: ``TestSetPageFlag()``, in one step."""
        return any(flag in before for before in self._change(at, at + 1, flag, on=True))

    def _change(self, start: int, end: int, flags: F, *, on: bool) -> list[F]:
        """Change flags, in one step; what they were where there were any."""
        if start >= end:
            return []
        self._marked("atomic", start, end)
        before = list(SpanMap.runs(self, start, end))
        if on:
            SpanMap.set(self, start, end, flags)
        for lo, hi, old in before:
            new = old | flags if on else old & ~flags
            if new:
                SpanMap.set(self, lo, hi, new)
            else:
                SpanMap.clear(self, lo, hi)
        return [old for _, _, old in before]


class Counted(Protocol):
    """What is counted."""

    @property
    def count(self) -> int:
        """The counter as it is, without anybody being told."""


class SharedSet(SpanSet):
    """A set of spans that CPUs share; every access is announced as plain, with its range."""

    __slots__ = ("head",)

    _map: SharedMap[bool]

    def __init__(self) -> None:
        self._map = SharedMap()
        self._size = 0
        self.head = ""
        """What every change writes besides: the head of the lists that the set stands for, by a name of its own."""

    def belong(self, machine: Stepped, name: str) -> None:
        """From now on accesses are announced to the stepper of `machine`, under `name`."""
        self._map.belong(machine, name)

    @property
    def is_heard(self) -> bool:
        """Whether a machine's stepper is told of accesses."""
        return self._map.is_heard

    def _write_head(self) -> None:
        stepper = self._map._machine.stepper
        if stepper is not None and stepper.listens and self.head:
            stepper.data(self.head, 0, 1, write=True)

    def add(self, start: int, end: int) -> None:
        """Put ``[start, end)`` in."""
        self._write_head()
        super().add(start, end)

    def remove(self, start: int, end: int) -> None:
        """Take ``[start, end)`` out."""
        self._write_head()
        super().remove(start, end)

    def add_each(self, spans: Sequence[Span]) -> None:
        """As :meth:`SpanSet.add_each`; one after the other where somebody watches."""
        if self._map._machine.stepper is None:
            super().add_each(spans)
        else:
            for span in spans:
                self.add(*span)

    def remove_each(self, spans: Sequence[Span]) -> None:
        """As :meth:`SpanSet.remove_each`; one after the other where somebody watches."""
        if self._map._machine.stepper is None:
            super().remove_each(spans)
        else:
            for span in spans:
                self.remove(*span)

    @property
    def size(self) -> int:
        """How many integers the set holds: all of it is looked at."""
        self._map._announce("read", 0, EVERYTHING)
        return self._size


class SharedDict(MutableMapping[K, V]):
    """A dictionary that CPUs share; every access is announced as plain, to one key or to all."""

    __slots__ = ("_items", "_machine", "_numbers", "name")

    def __init__(self) -> None:
        self._items: dict[K, V] = {}
        self._numbers: dict[object, int] = {}
        """By key that was ever asked for: a number, which stands for it in announcements."""
        self._machine: Stepped = QUIET
        self.name = ""

    def belong(self, machine: Stepped, name: str) -> None:
        """From now on accesses are announced to the stepper of `machine`, under `name`."""
        self._machine, self.name = machine, name

    @property
    def is_heard(self) -> bool:
        """Whether a machine's stepper is told of accesses."""
        return self._machine is not QUIET

    def _announce(self, kind: str, key: object = None, *, whole: bool = False) -> None:
        stepper = self._machine.stepper
        if stepper is not None:
            at = 0 if whole else self._numbers.setdefault(key, len(self._numbers))
            if stepper.listens:
                stepper.data(self.name, at, EVERYTHING if whole else at + 1, write=kind == "write")

    def __getitem__(self, key: K) -> V:
        self._announce("read", key)
        return self._items[key]

    def __contains__(self, key: object) -> bool:
        self._announce("read", key)
        return key in self._items

    def __setitem__(self, key: K, value: V) -> None:
        self._announce("write", key)
        self._items[key] = value

    def __delitem__(self, key: K) -> None:
        self._announce("write", key)
        del self._items[key]

    def __iter__(self) -> Iterator[K]:
        self._announce("read", whole=True)
        return iter(list(self._items))

    def __len__(self) -> int:
        self._announce("read", whole=True)
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        self._announce("read", whole=True)
        return self._items == (other._items if isinstance(other, SharedDict) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._items)
