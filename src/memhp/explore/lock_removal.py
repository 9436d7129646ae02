"""What notices when a lock of the kernel's code is not taken: each acquisition, and the code as it is without it.

A *site* is a call in the syntax tree of kernel code that takes a lock, ``k.hw.locked(…)``, ``lock(…)``, ``trylock(…)``,
or begins a read-side section, ``rcu_read_lock(…)``. It is told from others at run time by its position in the source,
so that one of several on a line, or one whose lock another function lets go, can be left out by itself: nothing is
taken there, and the unlock that belongs to it lets nothing go.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import ast
import pkgutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import memhp.linux
from memhp.hw.locks import LockDoors
from memhp.linux.kernel.rcu import rcu_read_lock

TAKES = ("locked", "lock", "trylock")
"""The doors that take a lock."""
SECTION = f"{rcu_read_lock.__name__}()"
"""What stands for the lock where a read-side section begins."""


class Position(NamedTuple):
    """Where a call stands in the source."""

    file: str
    line: int
    column: int


@dataclass(frozen=True)
class Site:
    """One place that takes a lock, or begins a read-side section."""

    module: str
    function: str
    lock: str
    """The lock's name, as the code has it; :data:`SECTION`."""
    position: Position
    number: int
    """Which it is, from 1 on, of those of this lock in this function."""

    def __str__(self) -> str:
        """``mm/page_alloc.py:free_pages zone.lock``, with ``#2`` if it is the second of that name there."""
        file = self.module.removeprefix("memhp.linux.").replace(".", "/")
        return f"{file}.py:{self.function} {self.lock}" + (f" #{self.number}" if self.number > 1 else "")


def sites() -> list[Site]:
    """Every place of kernel code that takes a lock or begins a read-side section, in the order of files and lines."""
    return [site for found in pkgutil.walk_packages(memhp.linux.__path__, "memhp.linux.") for site in _in(found.name)]


@cache
def _in(name: str) -> tuple[Site, ...]:
    """The places of one module."""
    file = import_module(name).__file__
    assert file is not None
    found: list[Site] = []

    def visit(node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef):
            function = node.name
        if isinstance(node, ast.Call) and (lock := _taken(node)):
            position = Position(file, node.lineno, node.col_offset)
            number = sum((one.function, one.lock) == (function, lock) for one in found) + 1
            found.append(Site(name, function, lock, position, number))
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(ast.parse(Path(file).read_text(encoding="utf-8")), "")
    return tuple(found)


def _taken(call: ast.Call) -> str:
    """The lock that a call takes, as the code has it; empty if it takes none."""
    match call.func:
        case ast.Attribute(attr=door) if door in TAKES:
            return ast.unparse(call.args[0])
        case ast.Name(id=rcu_read_lock.__name__):
            return SECTION
    return ""


@cache
def _position(code: CodeType, instruction: int) -> Position:
    line, _, column, _ = list(code.co_positions())[instruction // 2]
    return Position(code.co_filename, line or 0, column or 0)


def _caller() -> Position:
    """Where kernel code called the door that a replacement stands for."""
    frame = sys._getframe(2)
    if frame.f_code is rcu_read_lock.__code__ and frame.f_back is not None:
        frame = frame.f_back
    return _position(frame.f_code, frame.f_lasti)


@contextmanager
def replaced(**doors: Callable[..., Any]) -> Iterator[None]:
    """Other doors in place of those of these names, for the length of a ``with`` block."""
    before = {name: vars(LockDoors)[name] for name in doors}
    for name, door in doors.items():
        setattr(LockDoors, name, door)
    try:
        yield
    finally:
        for name, door in before.items():
            setattr(LockDoors, name, door)


def removed(site: Site) -> AbstractContextManager[None]:
    """The kernel's code without this acquisition, for the length of a ``with`` block."""
    if site.lock == SECTION:
        return _without_section(site)
    taken, locked, trylock, unlock = LockDoors.lock, LockDoors.locked, LockDoors.trylock, LockDoors.unlock

    def not_taken(hw: LockDoors) -> Counter[tuple[int, str]]:
        """By CPU and lock: how often it would be held."""
        found: Counter[tuple[int, str]] = vars(hw).setdefault("not_taken", Counter())
        return found

    def lock_door(hw: LockDoors, name: str, **how: bool) -> None:
        if _caller() == site.position:
            not_taken(hw)[hw.cpu, name] += 1
        else:
            taken(hw, name, **how)

    def trylock_door(hw: LockDoors, name: str, **how: bool) -> bool:
        if _caller() != site.position:
            return trylock(hw, name, **how)
        not_taken(hw)[hw.cpu, name] += 1
        return True

    def locked_door(hw: LockDoors, name: str, **how: bool) -> AbstractContextManager[None]:
        return passed(hw, name, **how) if _caller() == site.position else locked(hw, name, **how)

    @contextmanager
    def passed(hw: LockDoors, name: str, *, write: bool = True, ordered: bool = True) -> Iterator[None]:
        """The block may let the lock go and take it again: whoever holds it at its end drops it."""
        not_taken(hw)[hw.cpu, name] += 1
        try:
            yield
        finally:
            unlock_door(hw, name, write=write)

    def unlock_door(hw: LockDoors, name: str, **how: bool) -> None:
        if not_taken(hw)[hw.cpu, name] and not hw.holds(name):
            not_taken(hw)[hw.cpu, name] -= 1
        else:
            unlock(hw, name, **how)

    return replaced(lock=lock_door, locked=locked_door, trylock=trylock_door, unlock=unlock_door)


def _without_section(site: Site) -> AbstractContextManager[None]:
    """What is within the section stays, and nobody waits for it."""
    within = LockDoors.section

    def section_door(hw: LockDoors, name: str) -> AbstractContextManager[None]:
        return nullcontext() if _caller() == site.position else within(hw, name)

    return replaced(section=section_door)


def told(
    note: Callable[[Position, LockDoors, str], None],
    note_section: Callable[[Position, LockDoors], None] = lambda _position, _hw: None,
) -> AbstractContextManager[None]:
    """`note` is told of every acquisition, before it happens, for the length of a ``with`` block.

    `note_section` is told of read-side sections, before they begin.
    """
    doors = {name: vars(LockDoors)[name] for name in TAKES}
    within = LockDoors.section

    def telling(name: str) -> Callable[..., Any]:
        def door(hw: LockDoors, lock: str, **how: bool) -> Any:
            note(_caller(), hw, lock)
            return doors[name](hw, lock, **how)

        return door

    def section_door(hw: LockDoors, name: str) -> AbstractContextManager[None]:
        note_section(_caller(), hw)
        return within(hw, name)

    return replaced(section=section_door, **{name: telling(name) for name in TAKES})
