"""Small random programs, to hold the reducing search against the exhaustive one.

They use everything that the engine has: loads, stores, atomic updates, locks taken alone and shared, try-locks,
attempts repeated a few times or until they succeed, blocking waits, reference counts that are taken, put, killed and
waited for, allocations that may fail; branches depend on what was seen. A program uses some of these kinds and of the
names only: few kinds together collide more often than all of them. The same seed gives the same program. With `joint`
the statements of :mod:`memhp.explore.programs.joint` come in. A `large` one has more threads and steps than such that
every schedule could be tried.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable
from random import Random
from typing import NamedTuple, cast

from memhp.explore.programs.cells import FREE
from memhp.explore.programs.joint import COUNTER, COUNTER_AT, JOINT, THIRD
from memhp.explore.programs.program import Program
from memhp.explore.programs.shared import Body, Shared

VARIABLES = ("x", "y")
LOCKS = ("l", "m")
SEMAPHORES = {name: f"{name}'s semaphore" for name in LOCKS}
COUNT = "users"
"""A reference count: how many hold it, and whether it was killed."""


class Statement(NamedTuple):
    """One statement of a generated thread: its kind, what it is about, a small number, and statements inside it."""

    kind: str
    name: str
    number: int = 0
    inside: tuple["Statement", ...] = ()


def program(seed: int, *, joint: bool = False, large: bool = False, fair: bool = False) -> Program:
    """The generated program of that number: two to four threads, three to five of a `large` one; `joint`: steps may
    touch several objects at once; `fair`: with semaphores that favour writers.
    """
    random = Random(seed)
    nr_threads = random.choice((3, 4, 4, 5) if large else (2, 2, 2, 3, 3, 3, 4))
    most = {3: 5, 4: 3, 5: 2}[nr_threads] if large else {2: 6, 3: random.choice((3, 3, 3, 4)), 4: 2}[nr_threads]
    kinds = tuple(random.sample(_KINDS, random.randint(2, 6)))
    if joint:
        kinds = (*random.sample(tuple(JOINT), random.randint(2, 4)), *kinds[: random.randint(0, 2)])
    if fair:
        kinds = (*_FAIR, *kinds[: random.randint(0, 2)])
    names = random.randint(1, 2)
    bodies = []
    for _ in range(nr_threads):
        statements, _ = _block(random, kinds, names, random.randint(1, most), 0)
        bodies.append(body(statements))
    start: dict[str, Hashable] = {**dict.fromkeys(VARIABLES, 0), COUNT: (0, False), COUNTER: COUNTER_AT, THIRD: 0}
    if fair:
        start |= dict.fromkeys(SEMAPHORES.values(), FREE)
    return Program(tuple(bodies), start)


def _block(
    random: Random, kinds: tuple[str, ...], names: int, budget: int, depth: int
) -> tuple[tuple[Statement, ...], int]:
    """Statements that cost at most `budget` steps, and what is left of it."""
    made = []
    while budget > 0:
        kind = random.choice(kinds)
        if kind in _NESTED and (budget < 2 or depth > 1):
            kind = random.choice(("load", "store"))
        name = random.choice((LOCKS if kind in _NESTED else VARIABLES)[:names])
        inside: tuple[Statement, ...] = ()
        budget -= 2 if kind in _NESTED else 1
        if kind in _NESTED:
            part = random.randint(0, budget)
            inside, left = _block(random, kinds, names, part, depth + 1)
            budget -= part - left
        elif kind == "fails" and budget > 0:
            inside, budget = _block(random, kinds, names, 1, depth + 1)[0], budget - 1
        made.append(Statement(kind, name, random.randint(1, 2), inside))
    return tuple(made), budget


def body(statements: tuple[Statement, ...]) -> Body:
    """A thread that executes statements and returns everything it has seen."""

    def thread(memory: Shared) -> Hashable:
        seen: list[Hashable] = []
        _execute(memory, statements, seen)
        return tuple(seen)

    return thread


def _execute(memory: Shared, statements: tuple[Statement, ...], seen: list[Hashable]) -> None:
    for statement in statements:
        if statement.kind in JOINT:
            other = VARIABLES[1 - VARIABLES.index(statement.name)]
            JOINT[statement.kind](memory, statement.name, other, statement.number, seen)
        else:
            _KIND_OF[statement.kind](memory, statement, seen)


def _load(memory: Shared, statement: Statement, seen: list[Hashable]) -> None:
    seen.append(memory.load(statement.name))


def _store(memory: Shared, statement: Statement, seen: list[Hashable]) -> None:
    memory.store(statement.name, statement.number)


def _copy(memory: Shared, statement: Statement, seen: list[Hashable]) -> None:
    """A store whose value, or very existence, depends on what was seen last."""
    last = seen[-1] if seen else 0
    if last == 0:
        memory.store(statement.name, statement.number)
    else:
        seen.append(memory.load(statement.name))


def _update(memory: Shared, statement: Statement, seen: list[Hashable]) -> None:
    seen.append(memory.update(statement.name, lambda old: min(3, old + statement.number)))  # type: ignore[operator]


def _wait(memory: Shared, statement: Statement, seen: list[Hashable]) -> None:
    seen.append(memory.wait(statement.name, lambda value: value >= statement.number))  # type: ignore[operator]


def _get(memory: Shared, statement: Statement, seen: list[Hashable]) -> None:
    """``percpu_ref_tryget_live()``, and ``percpu_ref_put()`` after what is done with the reference."""
    _, dying = cast(tuple[int, bool], memory.update(COUNT, _taken))
    seen.append(dying)
    if not dying:
        _execute(memory, statement.inside, seen)
        memory.update(COUNT, lambda old: (old[0] - 1, old[1]))  # type: ignore[index]


def _taken(old: Hashable) -> Hashable:
    users, dying = cast(tuple[int, bool], old)
    return (users + (not dying), dying)


def _kill(memory: Shared, statement: Statement, seen: list[Hashable]) -> None:
    """``percpu_ref_kill()``, and wait until nobody holds a reference."""
    memory.update(COUNT, lambda old: (old[0], True))  # type: ignore[index]
    memory.wait(COUNT, lambda value: value[0] == 0)  # type: ignore[index]


def _spin(memory: Shared, statement: Statement, seen: list[Hashable]) -> None:
    while memory.load(statement.name) < statement.number:
        pass


def _attempts(memory: Shared, statement: Statement, seen: list[Hashable]) -> None:
    """Try to take a lock a few times."""
    for attempt in range(statement.number + 1):
        if memory.trylock(statement.name):
            seen.append(attempt)
            _execute(memory, statement.inside, seen)
            memory.unlock(statement.name)
            return
    seen.append("gave up")


def _insist(memory: Shared, statement: Statement, seen: list[Hashable]) -> None:
    """Try to take a lock until it is had."""
    while not memory.trylock(statement.name):
        pass
    _execute(memory, statement.inside, seen)
    memory.unlock(statement.name)


def _fails(memory: Shared, statement: Statement, seen: list[Hashable]) -> None:
    if memory.fails(f"site {statement.number}"):
        seen.append("failed")
    else:
        _execute(memory, statement.inside, seen)


def _hold(write: bool) -> Callable[[Shared, Statement, list[Hashable]], None]:
    def held(memory: Shared, statement: Statement, seen: list[Hashable]) -> None:
        with memory.locked(statement.name, write=write):
            _execute(memory, statement.inside, seen)

    return held


def _semaphore(write: bool) -> Callable[[Shared, Statement, list[Hashable]], None]:
    def held(memory: Shared, statement: Statement, seen: list[Hashable]) -> None:
        with memory.semaphore(SEMAPHORES[statement.name], write=write):
            seen.append(memory.update("x", lambda old: min(3, old + write)))  # type: ignore[operator]
            _execute(memory, statement.inside, seen)

    return held


def _try(write: bool) -> Callable[[Shared, Statement, list[Hashable]], None]:
    def tried(memory: Shared, statement: Statement, seen: list[Hashable]) -> None:
        got = memory.trylock(statement.name, write=write)
        seen.append(got)
        if got:
            _execute(memory, statement.inside, seen)
            memory.unlock(statement.name, write=write)

    return tried


_KIND_OF: dict[str, Callable[[Shared, Statement, list[Hashable]], None]] = {
    "load": _load,
    "store": _store,
    "copy": _copy,
    "update": _update,
    "wait": _wait,
    "fails": _fails,
    "get": _get,
    "kill": _kill,
    "spin": _spin,
    "attempts": _attempts,
    "insist": _insist,
    "lock": _hold(True),
    "read lock": _hold(False),
    "trylock": _try(True),
    "try read lock": _try(False),
}
_KINDS = tuple(_KIND_OF)
_FAIR = {"read semaphore": _semaphore(False), "write semaphore": _semaphore(True)}
_KIND_OF |= _FAIR
_NESTED = ("lock", "read lock", "trylock", "try read lock", "get", "attempts", "insist", *_FAIR)
