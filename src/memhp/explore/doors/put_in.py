"""What is put into kernel state is copied there, into a form that announces accesses: one copy, wherever it is put.

A user's actors go on with what stands there. Who changes what he kept changes nothing there, as it would without the
explorer, and nobody hears of it: an error, as long as the copy stands anywhere.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import is_
from typing import Any, NamedTuple
from weakref import ref

from memhp.errors import BadInput
from memhp.explore.doors.common import Common
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
    copy: Callable[[], Any]
    """What stands for it; None once it stands nowhere any more."""
    name: str
    where: str
    """``name:LINE`` of who put it there; "" where that was build."""

    def is_as_put(self) -> bool:
        """Whether it has not been changed since."""
        now = _held(self.value)
        return len(now) == len(self.held) and all(map(is_, now, self.held))


class PutIn:
    """What was put in, by the actors of an execution or with the kernel that it begins with; `common` is of that what
    nobody hears of.
    """

    def __init__(self, common: Iterable[object] = ()) -> None:
        self._common = Common(common)
        self._kept: dict[int, _Kept] = {}
        """By the value's identity."""

    def note(self, value: Any, copy: Any, name: str, where: str) -> None:
        """A copy of `value` comes to `name`."""
        found = ref(copy) if hasattr(copy, "__weakref__") else lambda: copy
        self._kept[id(value)] = _Kept(value, _held(value), found, name, where)

    def copy_of(self, value: Any) -> Any:
        """The copy that stands for `value` already; None where none does."""
        one = self._kept.get(id(value))
        return one.copy() if one is not None and one.is_as_put() else None

    def must_be_as_put(self) -> None:
        """BadInput: something was changed that a copy stands for. Astray: or that is not copied."""
        self._common.must_be_as_they_were()
        for one in self._kept.values():
            if one.copy() is not None and not one.is_as_put():
                name = BY_WHOM.sub("", one.name)
                text = f"what {one.where} put into {name} is copied there, and was changed where it came from"
                raise BadInput(text, fix=f"change what stands in {name}, or put it there afterwards")
        self._kept = {
            key: one
            for key, one in self._kept.items()
            if sys.getrefcount(one.value) > NOBODY_ELSE and one.copy() is not None
        }


_of_build: list[PutIn] = []


@contextmanager
def built() -> Iterator[None]:
    """What a kernel begins with is put into a form that announces accesses."""
    _of_build.append(PutIn())
    try:
        yield
    finally:
        _of_build.pop()


def note(machine: Machine, value: Any, copy: Any, name: str) -> None:
    """A copy of `value` comes to `name`, from whoever runs now."""
    noted = _put_in(machine)
    if noted is not None:
        noted.note(value, copy, name, line_at(sys._getframe()) if machine.stepper is not None else "")


def copy_of(machine: Machine, value: Any) -> Any:
    """The copy that stands for `value` already, in another place; None where none does, or nobody has asked."""
    noted = _put_in(machine)
    return noted.copy_of(value) if noted is not None else None


def _put_in(machine: Machine) -> PutIn | None:
    stepper: Any = machine.stepper
    if stepper is None:
        return _of_build[-1] if _of_build else None
    noted: PutIn | None = stepper.put_in
    return noted


def _held(value: Any) -> list[Any]:
    if isinstance(value, SpanMap):
        return [*value._starts, *value._ends, *value._values]
    return [*value, *value.values()] if isinstance(value, dict) else list(value)
