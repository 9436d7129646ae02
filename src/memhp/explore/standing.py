"""Where a thread stands: the functions that it is in, the place in each, and their local variables.

Two times at which a thread stands the same, it goes on the same way as long as its steps return the same. Of objects
other than numbers, strings and the containers of Python the plain fields count, and no more: objects are what threads
share. How far a loop over equal things has come is not seen.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Hashable
from types import FrameType

from greenlet import greenlet

from memhp.explore.op import Round

LONGEST = 500
"""Steps of the longest round that is looked for."""
LARGE = 100
"""Containers with more in them are told apart by their length and their ends."""


def standing(running: greenlet) -> Hashable:
    """Where a greenlet stands that has been switched away from."""
    frames = []
    frame: FrameType | None = running.gr_frame
    while frame is not None:
        own = tuple((name, _value(value)) for name, value in frame.f_locals.items())
        frames.append((id(frame.f_code), frame.f_lasti, own))
        frame = frame.f_back
    return tuple(frames)


def _value(value: object) -> Hashable:
    if value is None or isinstance(value, int | str | bytes | float):
        return value
    if isinstance(value, list | tuple):
        if len(value) > LARGE:
            return len(value), _value(value[0]), _value(value[-1])
        return tuple(_value(part) for part in value)
    if isinstance(value, set | frozenset):
        return frozenset(_value(part) for part in value)
    if isinstance(value, dict):
        return tuple((_value(key), _value(part)) for key, part in value.items())
    fields = getattr(value, "__dict__", {})
    plain = tuple((name, part) for name, part in fields.items() if isinstance(part, int | str | bytes | float))
    return type(value).__name__, plain


class Rounds:
    """The steps of one thread, to tell when it goes round (:meth:`memhp.explore.op.Run.spin`).

    Where it stands is looked at only when it comes to a step that it has done before.
    """

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._seen: list[str] = []
        self._standing: list[Hashable] = []
        self._spin: list[Round | None] = []
        self._count: Counter[str] = Counter()

    @property
    def spin(self) -> Round | None:
        """The round that the thread has done twice, if it has."""
        return self._spin[-1] if self._spin else None

    def step(self, seen: str, text: str, running: greenlet) -> None:
        """The thread has done a step, with what `seen` says, and has come to the one called `text`."""
        self._seen.append(seen)
        self._texts.append(text)
        again = self._count[text] > 0
        self._count[text] += 1
        self._standing.append(standing(running) if again else None)
        self._spin.append(self._round() if again else None)

    def back(self) -> None:
        """Forget the last step."""
        self._count[self._texts.pop()] -= 1
        self._seen.pop()
        self._standing.pop()
        self._spin.pop()

    def _round(self) -> Round | None:
        now = len(self._texts) - 1
        for at in range(now - 1, max(now - LONGEST, -1), -1):
            if self._texts[at] == self._texts[now] and self._standing[at] == self._standing[now]:
                period = now - at
                before = at - period
                same = (
                    before >= 0
                    and self._standing[before] == self._standing[now]
                    and self._seen[before + 1 : at + 1] == self._seen[at + 1 : now + 1]
                )
                return Round(period) if same else None
        return None
