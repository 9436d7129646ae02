"""Marks of functions that stand in for the kernel's, and which of them a file has made while it was loaded."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple, TypeVar

from memhp.errors import BadInput

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__replaces__"
"""The attribute by which a function has its mark; what a decorator makes of the function with `wraps` has the same."""


class Replaced(NamedTuple):
    """Which function of the kernel another one stands in for."""

    place: str
    """``file.c:function``."""
    name: str = ""
    """The name of the Python function, where several stand for that place; with the end of its module's, or without."""

    def __str__(self) -> str:
        return f"{self.place} ({self.name})" if self.name else self.place


@dataclass(frozen=True, eq=False)
class Mark:
    """One function marked once."""

    replaced: Replaced
    function: FunctionType


_made: list[Mark] = []
"""Every mark, in the order in which they were made."""


def replaces(place: str, name: str = "") -> Callable[[F], F]:
    """Mark a function of a patch as the one that stands in for ``file.c:function`` of the kernel.

    Where several functions of Python stand for that one, `name` says which. BadInput: these are no texts, or it is no
    function, or one of a class, or is marked already.
    """
    for said in (place, name):
        if not isinstance(said, str):
            raise BadInput(f"wanted a place, as text, and got {said!r:.80}", where="replaces()")

    def mark(function: F) -> F:
        if not isinstance(function, FunctionType):
            raise BadInput(f"wanted a function, and got a {type(function).__name__}", where="replaces()")
        if "." in function.__qualname__ and "<locals>" not in function.__qualname__:
            raise BadInput(f"wanted a function outside of classes, and got {function.__qualname__}", where="replaces()")
        if hasattr(function, _MARK):
            fix = "write a function for each"
            raise BadInput(f"{function.__name__} stands in for another one already", where="replaces()", fix=fix)
        one = Mark(Replaced(place, name), function)
        setattr(function, _MARK, one)
        _made.append(one)
        return function

    return mark


@contextmanager
def noted() -> Iterator[list[Mark]]:
    """The marks that are made within it, once it is over."""
    found: list[Mark] = []
    before = len(_made)
    yield found
    found += _made[before:]


def mark_of(value: object) -> Mark | None:
    """The mark that a function has; None of one without, and of what is no function."""
    mark = vars(value).get(_MARK) if type(value) is FunctionType else None
    return mark if isinstance(mark, Mark) else None
