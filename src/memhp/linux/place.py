"""Where in the kernel a step is taken or an error raised: ``file:function`` of Linux's tree, from the code that runs.

Each module of this tree that stands for a file of the kernel, or for a part of one, says which by the constant
``KERNEL_FILE``. Its public functions have the kernel's names, and a private function is part of the public one that
called it. What is otherwise is said where it is defined: :func:`of_file` for a function of another file,
:func:`kernel_function` for one that goes by another name in the kernel or is no function there, :func:`each_level` for
one that the kernel has for each level of page tables, :func:`part_of_descent` for the descents that architectures share
here, whose builders and removers know what each architecture calls its own.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from collections.abc import Callable, Mapping
from types import CodeType, FrameType, FunctionType
from typing import Any, Concatenate, Literal, NamedTuple, ParamSpec, Protocol, TypeVar

from memhp.hw.tlb import Table

A = TypeVar("A")
B = TypeVar("B")
F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")

NOWHERE = "hw"
"""The place of a step that is in no function of the kernel."""
ByHeight = tuple[str, ...]
"""``file:function`` by the height of the table that is looked at, from 0 (PTE) on; the last also for those above."""
LEVELS = ("pte", "pmd", "pud", "p4d", "pgd")
"""What functions for tables of a height have in their names."""


class Level(NamedTuple):
    """How to tell, of a function here that is one for each level of page tables in the kernel, which it is.

    Its arguments are asked, by the names that it gives them; it gives them no other values while it runs.
    """

    names: Callable[[Mapping[str, Any]], ByHeight]
    """What the kernel's functions are called."""
    table: str
    """The table that is worked on."""
    below: int = 0
    """How many levels under that one the name is found."""


_NAMED: dict[CodeType, str] = {}
"""What :func:`kernel_function` says; an empty string where the place is the caller's."""
BY_LEVEL: dict[CodeType, Level] = {}
"""What :func:`each_level` and :func:`part_of_descent` say."""
STATED: set[str] = set()
"""Every ``file:function`` that is said here, of the modules that are loaded."""


def by_height(file: str, *functions: str) -> ByHeight:
    """Functions of one file of the kernel, by height."""
    names = tuple(f"{file}:{function}" for function in functions)
    STATED.update(names)
    return names


def kernel_function(place: str | None) -> Callable[[F], F]:
    """A function that is ``file:function`` in the kernel; None: the kernel writes it out where it is used."""

    def name(function: F) -> F:
        stands_for(function, place or "")
        STATED.update({place} if place else ())
        return function

    return name


def of_file(file: str) -> Callable[[F], F]:
    """A function under its own name in the kernel, but of another file than its module stands for."""
    return lambda function: kernel_function(f"{file}:{function.__name__}")(function)


def stands_for(function: Callable[..., Any], place: str) -> None:
    """What a function does, it does at this place."""
    _NAMED[function.__code__] = place


def each_level(names: ByHeight) -> Callable[
    [Callable[Concatenate[A, Table, P], R]], Callable[Concatenate[A, Table, P], R]
]:  # fmt: skip
    """A function that works on the table that is its second argument, and is one function for each height there."""

    def name(function: Callable[Concatenate[A, Table, P], R]) -> Callable[Concatenate[A, Table, P], R]:
        _, table = function.__code__.co_varnames[:2]
        BY_LEVEL[function.__code__] = Level(lambda _: names, table)
        return function

    return name


class Descent(NamedTuple):
    """What an architecture calls the functions of a descent of page tables."""

    unmap: ByHeight = ()
    """Where entries are read and leaves cleared, by the height of the table that they are in."""
    free: ByHeight = ()
    """Where a table is found empty and unlinked, by its own height."""
    leaf: ByHeight = ()
    """Where leaves are made, by the height of the table that they are put in."""
    fill: ByHeight = ()
    """Where tables are made or found, by the height of the table with the entries that point to them."""


UNNAMED = Descent()
"""A descent that no architecture's functions stand for."""


class Named(Protocol):
    """How a descent goes: a builder or a remover."""

    @property
    def names(self) -> Descent:
        """What its functions are called."""


H = TypeVar("H", bound=Named)


def part_of_descent(
    of: Literal["unmap", "free", "leaf", "fill"], *, below: int = 0
) -> Callable[[Callable[Concatenate[A, H, Table, P], R]], Callable[Concatenate[A, H, Table, P], R]]:
    """A function of a shared descent, whose second argument says how and whose third is a table.

    It is one of the functions `of` that descent for tables `below` levels under that one.
    """

    def name(function: Callable[Concatenate[A, H, Table, P], R]) -> Callable[Concatenate[A, H, Table, P], R]:
        _, how, table = function.__code__.co_varnames[:3]
        BY_LEVEL[function.__code__] = Level(lambda told: getattr(told[how].names, of), table, below)
        return function

    return name


def here() -> str:
    """Where in the kernel the caller is: ``mm/memory_hotplug.c:try_remove_memory``."""
    return _place(sys._getframe(1), None)


def place(target: object = None) -> str:
    """Where in the kernel the caller looks at `target`.

    Of a table, its height decides between functions that there are for each level. :data:`NOWHERE` for an actor that
    stands for no function of the kernel in particular.
    """
    return _place(sys._getframe(1), target)


def place_in(frame: FrameType) -> str:
    """Where in the kernel another call is, or was when it ended with an error."""
    return _place(frame, None)


def own_place(function: FunctionType) -> str:
    """The place that a function stands for by itself; "" for a part of another and for one that there is by level."""
    code, file = function.__code__, function.__globals__.get("KERNEL_FILE")
    if code in BY_LEVEL:
        return ""
    if code in _NAMED:
        return _NAMED[code]
    return f"{file}:{code.co_name}" if file and _is_public(code) else ""


def file_of(function: Callable[..., Any]) -> str:
    """The kernel's file of the module that a function is in."""
    return str(function.__globals__.get("KERNEL_FILE", ""))


def is_stated(function: FunctionType) -> bool:
    """Whether it is said where in the kernel a function is, and be it that it is where its caller is."""
    code = function.__code__
    return code in BY_LEVEL or code in _NAMED or "KERNEL_FILE" in function.__globals__


def is_named(function: FunctionType) -> bool:
    """Whether it is said which function of the kernel a function is."""
    return bool(_NAMED.get(function.__code__))


def _is_public(code: CodeType) -> bool:
    return code.co_name[0] not in "_<" or code.co_name.startswith("__")


def _place(frame: FrameType | None, target: object) -> str:
    while frame is not None:
        code = frame.f_code
        level = BY_LEVEL.get(code)
        if level is not None:
            told = frame.f_locals
            table = target if isinstance(target, Table) else told[level.table]
            names = level.names(told)
            if names:
                return names[min(table.height - level.below, len(names) - 1)]
        elif code in _NAMED:
            if _NAMED[code]:
                return _NAMED[code]
        elif "KERNEL_FILE" in frame.f_globals and _is_public(code) and frame.f_globals["__name__"].startswith("memhp."):
            return f"{frame.f_globals['KERNEL_FILE']}:{code.co_name}"  # others may have imported the constant
        frame = frame.f_back
    return NOWHERE
