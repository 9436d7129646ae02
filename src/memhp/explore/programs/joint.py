"""Statements of generated programs whose steps touch several objects, block on several, or compare counters with marks.

:mod:`memhp.explore.programs.generate` draws from these as well where it is told to.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable
from typing import cast

from memhp.explore.programs import cells
from memhp.explore.programs.shared import Shared

COUNTER = "free"
"""A counter that threads change, read, and compare with marks."""
COUNTER_AT = 3
"""What it begins with."""
THIRD = "z"
"""A variable that is met together with the others only."""
Seen = list[Hashable]


def _swap(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    seen.append(memory.do(cells.move((name, other), lambda values: (values[1], values[0]))))


def _shift(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    """Part of one variable goes to another, in one step."""

    def change(values: cells.Values) -> cells.Values:
        first, second = cast(tuple[int, int], values)
        return max(0, first - number), min(4, second + number)

    memory.do(cells.move((name, other), change))


def _peek(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    memory.do(cells.peek(name, other))


def _rotate(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    """Three variables change at once; the one that gets its value from itself as well goes up."""

    def change(values: cells.Values) -> cells.Values:
        first, second, third = cast(tuple[int, int, int], values)
        return third, first, min(3, second + number)

    seen.append(memory.do(cells.move((name, other, THIRD), change)))


def _take_both(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    """Something is taken from both, once there is as much in both."""
    memory.do(
        cells.move(
            (name, other),
            lambda values: tuple(value - number for value in cast(tuple[int, ...], values)),
            lambda values: min(cast(tuple[int, ...], values)) >= number,
        )
    )


def _wait_two_of_three(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    def ready(values: cells.Values) -> bool:
        return sum(value >= number for value in cast(tuple[int, ...], values)) >= 2

    seen.append(memory.do(cells.wait_all((name, other, THIRD), ready)))


def _wait_both(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    seen.append(memory.do(cells.wait_all((name, other), lambda values: min(cast(tuple[int, ...], values)) >= number)))


def _wait_either(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    seen.append(memory.do(cells.wait_all((name, other), lambda values: max(cast(tuple[int, ...], values)) >= number)))


def _wait_differ(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    seen.append(memory.do(cells.wait_all((name, other), lambda values: values[0] != values[1])))


def _spin_both(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    while memory.load(name) < number or memory.load(other) < number:
        pass


def _spin_differ(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    while memory.load(name) == memory.load(other):
        pass


def _both_locks(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    memory.do(cells.take_all(("l", "m")))
    memory.store(name, number)
    memory.unlock("m" if number > 1 else "l")
    memory.unlock("l" if number > 1 else "m")


def _try_both_locks(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    got = memory.do(cells.try_all(("l", "m")))
    seen.append(got)
    if got:
        memory.store(name, number)
        memory.unlock("l")
        memory.do(cells.unlock_and_store("m", other, number))


def _lock_when_set(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    """As a condition variable has it: the lock is had once the condition holds; it goes with a signal to others."""
    lock = "l" if number == 1 else "m"
    seen.append(memory.do(cells.lock_when(lock, name, lambda value: cast(int, value) >= number)))
    memory.do(cells.unlock_and_store(lock, other, number))


def _above(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    seen.append(memory.do(cells.above(COUNTER, COUNTER_AT + number * (1 if name < other else -1))))


def _take_if_above(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    """What is done next depends on the mark."""
    if memory.do(cells.above(COUNTER, COUNTER_AT + number - 1)):
        memory.do(cells.add(COUNTER, -number))
    else:
        memory.store(name, number)


def _more(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    memory.do(cells.add(COUNTER, number))


def _less(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    memory.do(cells.add(COUNTER, -number))


def _count(memory: Shared, name: str, other: str, number: int, seen: Seen) -> None:
    seen.append(memory.do(cells.count(COUNTER)))


JOINT: dict[str, Callable[[Shared, str, str, int, Seen], None]] = {
    "swap": _swap,
    "shift": _shift,
    "peek": _peek,
    "rotate": _rotate,
    "take both": _take_both,
    "wait for two of three": _wait_two_of_three,
    "wait for both": _wait_both,
    "wait for either": _wait_either,
    "wait for a difference": _wait_differ,
    "spin for both": _spin_both,
    "spin for a difference": _spin_differ,
    "both locks": _both_locks,
    "try both locks": _try_both_locks,
    "lock when set": _lock_when_set,
    "above": _above,
    "take if above": _take_if_above,
    "more": _more,
    "less": _less,
    "count": _count,
}
"""By kind of statement: (memory, a variable, another, a small number, what was seen so far)."""
