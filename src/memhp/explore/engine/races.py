"""Data races: accesses to shared data, one of them a write and one of them plain, that nothing puts in order.

Design. A plain access is not a step; it belongs to the step of its thread that it comes after. What puts steps in order
(locks, waits, reference counts, marked accesses, in short all that the search sees) is what there is to order plain
accesses. One is before another when a later step of its thread happened before the other's step. Where that is so for
all that conflict, in every execution, no schedule is lost by not switching at plain accesses (Musuvathi and others,
"Finding and Reproducing Heisenbugs in Concurrent Programs", OSDI 2008). Where it is not, that is the finding: as
``kernel/kcsan`` has it, with both places. A marked access (``READ_ONCE()``, an atomic bit operation) is a step, so its
orders with others of its kind are looked at; with a plain one it races as two plain ones do.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Data(NamedTuple):
    """An access to a range of something shared."""

    name: str
    start: int
    end: int
    write: bool
    marked: bool = False
    a_step: bool = False
    """Of a marked one: whether it is the step itself, not one that was taken along after it."""


class Race(NamedTuple):
    """Two accesses that conflict, and that nothing orders: by thread, the earlier one first."""

    first: tuple[int, Data, str]
    second: tuple[int, Data, str]

    def told(self, names: tuple[str, ...]) -> str:
        """The race in words, without particulars that differ from execution to execution."""
        (one, was, where), (other, then, here) = self
        return f"{_access(was)} by {names[one]}{_at(where)} and {_access(then)} by {names[other]}{_at(here)}"


def _access(data: Data) -> str:
    return f"{'write' if data.write else 'read'} of {data.name}"


def _at(where: str) -> str:
    return f" at {where}" if where else ""


class Races:
    """Who has accessed what, in the execution up to here, and which accesses race.

    A step costs what the accesses cost that nothing puts in order with it, however many there were before.
    """

    def __init__(self) -> None:
        self.found: dict[tuple[str, int, bool, int, bool], Race] = {}
        """By what it is, and by thread and whether it writes: the first race of that sort."""
        self._seen: dict[str, tuple[_Accesses, ...]] = {}
        """By name, then by thread."""
        self._log: dict[int, list[list[_Access]]] = {}
        """By step that has accesses: the lists that they went to."""

    def step(
        self, thread: int, at: int, steps_of: Sequence[int], past: int, accesses: Mapping[Data, str]
    ) -> Race | None:
        """A thread has made accesses after step `at`; `past` are the steps before, and itself: a race, if there is one.

        `steps_of` are each thread's steps; they are masks, as `past` is.
        """
        log = self._log[at] = []
        found: Race | None = None
        last = [(steps & past).bit_length() - 1 for steps in steps_of]
        for one, where in accesses.items():
            seen = self._seen.get(one.name)
            if seen is None:
                seen = self._seen[one.name] = tuple(_Accesses([], []) for _ in last)
            for who, of_other in enumerate(seen):
                if who == thread:
                    continue
                for other in of_other.in_conflict(one, last[who]):
                    found = Race((who, other.data, other.where), (thread, one, where))
                    self.found.setdefault((one.name, who, other.data.write, thread, one.write), found)
            mine = seen[thread].of(one)
            log.append(mine)
            mine.append(_Access(at, one, where))
        return found

    def back(self, at: int) -> None:
        """Take the accesses after step `at`, the last one, back."""
        for accesses in self._log.pop(at, ()):
            accesses.pop()


class _Access(NamedTuple):
    """An access: after which step it was made, and its place."""

    when: int
    data: Data
    where: str


class _Accesses(NamedTuple):
    """A thread's accesses to what goes by one name, in their order."""

    reads: list[_Access]
    writes: list[_Access]

    def of(self, data: Data) -> list[_Access]:
        """Those that are of a kind with this one."""
        return self.writes if data.write else self.reads

    def in_conflict(self, one: Data, last: int) -> list[_Access]:
        """Those that race with one of another thread, in whose past this thread's steps are up to step `last`."""
        reads, writes = self
        found: list[_Access] = []
        if one.write and reads and reads[-1].when >= last:
            found = _not_before(reads, one, last)
        if writes and writes[-1].when >= last:
            found = _not_before(writes, one, last) + found
        return found


def _not_before(accesses: list[_Access], one: Data, last: int) -> list[_Access]:
    """Of a thread's accesses, in their order, those that race with another's."""
    found: list[_Access] = []
    for access in reversed(accesses):
        when, other, _ = access
        if when < last:
            break
        if (
            one.start < other.end
            and other.start < one.end
            and not (one.marked and other.marked)
            and last <= when - other.a_step
        ):
            found.append(access)
    return found[::-1]
