"""What kernel state leads to and nobody hears of: functions and classes of the user's, and members of enums.

Most are not copied with it, so all executions have the same ones, and what one leaves there the next one finds.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator
from enum import Enum, EnumMeta
from functools import cached_property
from operator import is_
from types import FunctionType
from typing import Any

from memhp.explore.doors.again import Astray
from memhp.explore.doors.user_code import is_users, is_users_class


class Common:
    """The attributes of such objects as they were when an execution began."""

    def __init__(self, objects: Iterable[object]) -> None:
        self._were = [(one, _attributes(one)) for one in of_users(objects)]

    def must_be_as_they_were(self) -> None:
        """Astray: somebody has set an attribute of one of them."""
        for one, was in self._were:
            now = _attributes(one)
            if now.keys() != was.keys() or not all(map(is_, now.values(), was.values())):
                name = next(name for name in now | was if now.get(name, was) is not was.get(name, now))
                raise Astray(f"changes {_called(one)}.{name}, of which nobody is told")


def _attributes(one: Any) -> dict[str, object]:
    """The attributes of an object, but those that Python keeps there for later."""
    kind = type(one)
    return {
        name: value
        for name, value in vars(one).items()
        if not name.startswith("_") and not isinstance(getattr(kind, name, None), cached_property)
    }


def _called(one: Any) -> str:
    return f"{type(one).__name__}.{one.name}" if isinstance(one, Enum) else str(one.__qualname__)


def of_users(objects: Iterable[object]) -> Iterator[Any]:
    """Those of some objects that are a user's functions and classes, with the members of enums."""
    for one in objects:
        if isinstance(one, FunctionType) and is_users(one.__code__.co_filename):
            yield one
        if isinstance(one, type) and is_users_class(one):
            yield one
            yield from one if isinstance(one, EnumMeta) else ()
