"""Where a thread stands: the functions that it is in, the place in each, and their local variables.

Two times at which a thread stands the same, it goes on the same way as long as its steps return the same. Objects count
with all that they lead to. Of those of memhp the plain fields do, and no more: they are what threads share, and count
where a round writes them. How far a ``for`` over equal things has come is not seen.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import dis
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Set
from contextlib import suppress
from functools import cache
from types import CellType, CodeType, FrameType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np
from greenlet import greenlet

from memhp.explore.engine.op import Round

LONGEST = 500
"""Steps of the longest round that is looked for."""
LARGE = 10_000
"""Lists with more in them are told apart by their length and their ends."""
DEEPEST = 8
"""So deep is looked into what containers hold."""
PLAIN = (int, str, bytes, float, range)


Met = dict[int, tuple[int, object]]
"""Objects that were looked into, by identity: their numbers, and themselves, for as long as those stand for them."""


class Standing(NamedTuple):
    """Where a thread stands in a loop that may go on for ever."""

    place: Hashable
    within: FrameType | None
    """Where the innermost loop is a ``for``, which ends, and another one around it does not: the call that is in it."""


def standing(running: greenlet, besides: Set[str] = frozenset()) -> Standing | None:
    """Where a greenlet stands that has been switched away from, besides functions and objects of some modules.

    None where it is in no loop, or in none but ``for`` loops, which end: it will not stand there again.
    """
    frames = []
    loops: list[tuple[bool, FrameType]] = []
    frame: FrameType | None = running.gr_frame
    while frame is not None:
        if frame.f_globals.get("__name__") not in besides:
            frames.append(frame)
            loops += ((endless, frame) for endless in _may_go_on_for_ever(frame.f_code, frame.f_lasti))
        frame = frame.f_back
    if not any(endless for endless, _ in loops):
        return None
    met: Met = {}
    places: list[Hashable] = []
    for frame in frames:
        variables: list[Hashable] = []
        for name, value in frame.f_locals.items():
            variables += name, _value(value, besides, met)
        places += id(frame.f_code), frame.f_lasti, tuple(variables)
    endless, within = loops[0]
    return Standing(tuple(places), None if endless else within)


@cache
def _may_go_on_for_ever(code: CodeType, at: int) -> tuple[bool, ...]:
    """Of the loops around a place of a function, the innermost first: whether it is other than a ``for``."""
    steps = {step.offset: step for step in dis.get_instructions(code)}
    around = {
        step.argval: step.offset
        for step in steps.values()
        if "BACKWARD" in step.opname and "NO_INTERRUPT" not in step.opname and step.argval <= at <= step.offset
    }
    return tuple(steps[start].opname != "FOR_ITER" for start in sorted(around, reverse=True))


def _value(value: object, besides: Set[str], met: Met, depth: int = 0) -> Hashable:
    """A value that is equal for values that are alike, as far as it is looked into."""
    if value is None or isinstance(value, PLAIN):
        return value
    kind = type(value)
    if depth > DEEPEST or kind.__module__ in besides or kind is ModuleType:
        return kind.__name__
    if isinstance(value, type):
        return value.__qualname__
    if isinstance(value, MethodType):
        value = value.__self__
        kind = type(value)
    if id(value) in met:
        return kind.__name__, met[id(value)][0]
    met[id(value)] = len(met), value

    def part(one: object) -> Hashable:
        return _value(one, besides, met, depth + 1)

    if isinstance(value, list | tuple | deque):
        return (len(value), part(value[0]), part(value[-1])) if len(value) > LARGE else tuple(map(part, value))
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, Set):
        return frozenset(map(part, value))
    if isinstance(value, dict):
        return tuple((part(key), part(one)) for key, one in value.items())
    if isinstance(value, Iterator | np.ndarray | np.generic | BaseException):
        return kind.__name__, _progress(value, part)
    fields: dict[str, object] = {}
    with suppress(Exception):  # what a class of the user's makes of it is anybody's guess
        slots = (name for each in kind.__mro__ for name in each.__dict__.get("__slots__", ()))
        fields = {name: getattr(value, name, None) for name in slots if name != "__dict__"}
        fields |= value.__dict__
    if kind.__module__.startswith("memhp."):
        return kind.__name__, tuple((name, one) for name, one in fields.items() if isinstance(one, PLAIN))
    if isinstance(value, FunctionType):
        cells = [cell for cell in value.__closure__ or () if cell != CellType()]
        fields |= {"closure": [cell.cell_contents for cell in cells], "defaults": value.__defaults__}
    return kind.__name__, tuple((name, part(one)) for name, one in fields.items())


def _progress(value: Any, part: Callable[[object], Hashable]) -> Hashable:
    """How far an iterator has come, and what an array, a number of it or an error holds."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tobytes()
    if isinstance(value, BaseException):
        return part(value.args)
    if isinstance(value, GeneratorType):
        frame = value.gi_frame
        return None if frame is None else (frame.f_lasti, tuple(map(part, frame.f_locals.values())))
    with suppress(Exception):  # those of Python itself tell; of others the fields count
        made = value.__reduce__()
        return tuple(map(part, made[1:])) if isinstance(made, tuple) else None
    return part(vars(value)) if hasattr(value, "__dict__") else None


class Rounds:
    """The steps of one thread, to tell when it goes round (:meth:`memhp.explore.engine.op.Run.spin`).

    Where it stands is looked at only when its last steps were the same ones twice, so a round is known when it has been
    done two times more.
    """

    def __init__(self, *besides: str) -> None:
        self._besides = frozenset(besides)
        """The modules whose functions and objects do not count: by them a thread waits for its turn."""
        self._texts: list[str] = []
        self._steps: list[int] = []
        """What was done and what came next, as a number: equal for equal steps."""
        self._at: dict[int, list[int]] = {}
        """By such a number: the steps that have it, ascending."""
        self._standing: list[Standing | None] = []
        self._in_for = False
        """Whether it has ever stood in a ``for`` within a loop that may be endless: then it is looked at more often."""
        self._state: list[Hashable] = []
        """By step: what all data was when it was asked for."""
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
        looks = self._in_for and len(self._at[number]) > 2
        self._standing.append(standing(running, self._besides) if looks else None)
        self._state.append(None)
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
        self._state.pop()
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
                stands = self._standing[now] = self._standing[now] or standing(running, self._besides)
                if stands is None:
                    return None
                self._in_for = self._in_for or stands.within is not None
                if self._state[now] is None and any(self._wrote[before + 1 :]):
                    self._state[now] = state()
                if all(self._is_as_now(one) for one in (before, at)) and self._came_anew(at):
                    return Round(now - at)
        return None

    def _is_as_now(self, at: int) -> bool:
        """Whether the thread stood after step `at` where it stands now, and all data that it writes was the same."""
        then, now = self._standing[at], self._standing[-1]
        assert now is not None
        return then is not None and then.place == now.place and self._state[at] == self._state[-1]

    def _came_anew(self, at: int) -> bool:
        """Whether a thread that stands in a ``for`` as it did after step `at` has been elsewhere in it meanwhile: it
        has begun with it once more.
        """
        now, then = self._standing[-1], self._standing[at]
        assert now is not None and then is not None
        if now.within is None or now.within is not then.within:
            return True
        return any(one is not None and one.place != now.place for one in self._standing[at + 1 : -1])
