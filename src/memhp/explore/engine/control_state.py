"""Where a thread stands: the functions that it is in, the place in each, and their local variables.

Two times at which a thread stands the same, it goes on the same way as long as its steps return the same. Of objects
other than numbers, strings and the containers of Python the plain fields count, and no more: objects are what threads
share, and count where a round writes them. How far a loop over equal things has come is not seen.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import dis
from collections import Counter
from collections.abc import Callable, Hashable, Set
from functools import cache
from types import CodeType, FrameType

from greenlet import greenlet

from memhp.explore.engine.op import Round

LONGEST = 500
"""Steps of the longest round that is looked for."""
LARGE = 100
"""Containers with more in them are told apart by their length and their ends."""


def standing(running: greenlet, besides: Set[str] = frozenset()) -> Hashable:
    """Where a greenlet stands that has been switched away from, besides the functions of some modules that it is in.

    None where it is in no loop: it will not stand there again. None as well where the innermost loop is a ``for``: that
    ends, and how far it has come cannot be seen.
    """
    frames = []
    loop: bool | None = None
    frame: FrameType | None = running.gr_frame
    while frame is not None:
        if frame.f_globals.get("__name__") not in besides:
            frames.append(frame)
            if loop is None:
                loop = _may_go_on_for_ever(frame.f_code, frame.f_lasti)
        frame = frame.f_back
    if not loop:
        return None
    known: dict[int, Hashable] = {}
    places: list[Hashable] = []
    for frame in frames:
        variables: list[Hashable] = []
        for name, value in frame.f_locals.items():
            if id(value) not in known:  # what one function has others were given
                known[id(value)] = _value(value)
            variables += name, known[id(value)]
        places += id(frame.f_code), frame.f_lasti, tuple(variables)
    return tuple(places)


@cache
def _may_go_on_for_ever(code: CodeType, at: int) -> bool | None:
    """Whether the innermost loop around a place of a function is other than a ``for``; None where there is none."""
    steps = {step.offset: step for step in dis.get_instructions(code)}
    around = [
        (step.offset - step.argval, step.argval)
        for step in steps.values()
        if "BACKWARD" in step.opname and "NO_INTERRUPT" not in step.opname and step.argval <= at <= step.offset
    ]
    if not around:
        return None
    return steps[min(around)[1]].opname != "FOR_ITER"


def _value(value: object) -> Hashable:
    if value is None or isinstance(value, int | str | bytes | float):
        return value
    if isinstance(value, list | tuple):
        if len(value) > LARGE:
            return len(value), _value(value[0]), _value(value[-1])
        return tuple(_value(part) for part in value)
    if isinstance(value, Set):
        return frozenset(_value(part) for part in value)
    if isinstance(value, dict):
        return tuple((_value(key), _value(part)) for key, part in value.items())
    fields = getattr(value, "__dict__", {})
    plain = tuple((name, part) for name, part in fields.items() if isinstance(part, int | str | bytes | float))
    return type(value).__name__, plain


class Rounds:
    """The steps of one thread, to tell when it goes round (:meth:`memhp.explore.engine.op.Run.spin`).

    Where it stands is looked at only when its last steps were the same ones twice, so a round is known when it has been
    done two times more.
    """

    def __init__(self, *besides: str) -> None:
        self._besides = frozenset(besides)
        """The modules whose functions do not count: by them a thread waits for its turn."""
        self._texts: list[str] = []
        self._steps: list[int] = []
        """What was done and what came next, as a number: equal for equal steps."""
        self._at: dict[int, list[int]] = {}
        """By such a number: the steps that have it, ascending."""
        self._standing: list[Hashable] = []
        self._wrote: list[bool] = []
        """By step: whether it wrote data in ways that `said` does not tell."""
        self._spin: list[Round | None] = []
        self._numbers: dict[Hashable, int] = {}
        self._count: Counter[str] = Counter()

    @property
    def spin(self) -> Round | None:
        """The round that the thread has done twice, if it has."""
        return self._spin[-1] if self._spin else None

    def step(
        self, said: Hashable, text: str, running: greenlet, wrote: bool, state: Callable[[], Hashable]
    ) -> None:
        """The thread has done a step, `said` tells it from others, and has come to the one called `text`.

        `wrote`: whether it has written data along with it; `state` gives what all data is now.
        """
        number = self._numbers.setdefault((said, text), len(self._numbers))
        self._texts.append(text)
        self._at.setdefault(number, []).append(len(self._steps))
        self._steps.append(number)
        self._standing.append(None)
        self._wrote.append(wrote)
        self._spin.append(None)
        if text and self._count[text] > 1:
            self._spin[-1] = self._round(running, state)
        self._count[text] += 1

    def back(self) -> None:
        """Forget the last step."""
        self._count[self._texts.pop()] -= 1
        self._at[self._steps.pop()].pop()
        self._standing.pop()
        self._wrote.pop()
        self._spin.pop()

    def _round(self, running: greenlet, state: Callable[[], Hashable]) -> Round | None:
        steps, now = self._steps, len(self._steps) - 1
        for at in reversed(self._at[steps[now]][:-1]):
            before = 2 * at - now
            if before < 0 or now - at >= LONGEST:
                return None
            if self._texts[before] != self._texts[at] or (now - at > 1 and steps[at - 1] != steps[now - 1]):
                continue
            if steps[before + 1 : at] == steps[at + 1 : now]:
                place = standing(running, self._besides)
                if place is not None and any(self._wrote[before + 1 :]):
                    place = place, state()
                self._standing[now] = place
                same = (
                    self._standing[now] is not None
                    and self._standing[before] == self._standing[at] == self._standing[now]
                )
                return Round(now - at) if same else None
        return None
