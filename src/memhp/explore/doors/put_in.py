"""What a user's actors put into kernel state is copied there, into a form that announces accesses to it.

They go on with what stands there. Who changes what he kept changes nothing there, as it would without the explorer, and
nobody hears of it: an error.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import sys
from operator import is_
from typing import Any, NamedTuple

from memhp.errors import BadInput
from memhp.explore.doors.user_code import line_at
from memhp.hw.machine import Machine
from memhp.spans import SpanMap

NOBODY_ELSE = 2
"""References to what only :class:`PutIn` has: its own, and that of the call that counts them."""

BY_WHOM = re.compile(r"\(CPU \d+(, \d+)?\)")
"""What tells things apart that actors put in one place (:meth:`memhp.explore.doors.stepper.Doors.takes_in`)."""


class _Kept(NamedTuple):
    value: Any
    """The dictionary, list, set or map that was put in."""
    held: list[Any]
    """What it held then."""
    name: str
    where: str


class PutIn:
    """What was put in during an execution, as long as somebody has it still."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []

    def note(self, value: Any, name: str) -> None:
        """A copy of `value` comes to `name`, from whoever runs now."""
        self._kept.append(_Kept(value, _held(value), name, line_at(sys._getframe())))

    def must_be_as_put(self) -> None:
        """BadInput: something was changed since."""
        for one in self._kept:
            now = _held(one.value)
            if len(now) != len(one.held) or not all(map(is_, now, one.held)):
                name = BY_WHOM.sub("", one.name)
                text = f"what {one.where} put into {name} is copied there, and was changed where it came from"
                raise BadInput(text, fix=f"change what stands in {name}, or put it there afterwards")
        self._kept = [one for one in self._kept if sys.getrefcount(one.value) > NOBODY_ELSE]


def copies(machine: Machine, value: Any, name: str) -> None:
    """What comes to `name` is a copy of `value`: to be noted where an actor of a user's puts it there."""
    stepper: Any = machine.stepper
    if stepper is not None and stepper.put_in is not None:
        stepper.put_in.note(value, name)


def _held(value: Any) -> list[Any]:
    if isinstance(value, SpanMap):
        return [*value._starts, *value._ends, *value._values]
    return [*value, *value.values()] if isinstance(value, dict) else list(value)
