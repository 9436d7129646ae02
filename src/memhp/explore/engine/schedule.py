"""A schedule is a string: who took each step, and which way it went.

Threads are letters, ``a`` the first; a number after a letter repeats it; ``!`` after a letter is the step's second
way to go (an allocation that fails), ``!!`` the third. ``a3ba!b2`` is a, a, a, b, a with a failure, b, b.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from string import ascii_lowercase
from typing import NamedTuple

from memhp.errors import BadInput
from memhp.limits import SCHEDULE_STEPS

MOST_THREADS = len(ascii_lowercase)
_MOST_DIGITS = 10
_STEP = re.compile(r"([a-z])(!*)([1-9][0-9]*)?")


class Choice(NamedTuple):
    """One step of a schedule: the thread's number, and which way its operation goes."""

    thread: int
    way: int = 0


MOST_WAYS = 16
"""In which a step may go."""
EVERY_WAY = sum(1 << MOST_THREADS * way for way in range(MOST_WAYS))
"""The branches of thread 0."""
_CHOICES = [Choice(thread, way) for way in range(MOST_WAYS) for thread in range(MOST_THREADS)]


def branch_of(choice: Choice) -> int:
    """A step that may be taken from a state, as a bit of a mask: that of its first way is that of its thread."""
    return 1 << choice.thread + MOST_THREADS * choice.way


def choice_of(branch: int) -> Choice:
    """The step that a bit stands for."""
    return _CHOICES[branch.bit_length() - 1]


def numbers(mask: int) -> Iterator[int]:
    """The numbers of the bits that are set, the lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def to_text(steps: Iterable[Choice]) -> str:
    """The schedule as a string."""
    parts = []
    for choice, same in groupby(steps):
        count = len(list(same))
        parts.append(ascii_lowercase[choice.thread] + "!" * choice.way + (str(count) if count > 1 else ""))
    return "".join(parts)


def from_text(text: str) -> list[Choice]:
    """The steps that a string stands for. BadInput: it is not a schedule."""
    steps: list[Choice] = []
    at = 0
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            where = f"schedule, character {at + 1}"
            raise BadInput(f"{text[at : at + 20]!r} is not a step", where=where, fix="write a3ba!b2")
        letter, ways, count = found.groups()
        times = int(count or 1) if len(count or "") < _MOST_DIGITS else SCHEDULE_STEPS.most + 1
        if len(steps) + times > SCHEDULE_STEPS.most:
            raise SCHEDULE_STEPS.refusal(f"schedule, character {at + 1}")
        steps += [Choice(ascii_lowercase.index(letter), len(ways))] * times
        at = found.end()
    return steps
