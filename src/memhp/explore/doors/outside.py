"""What code of a race could go by beside the kernel that it gets: variables of its file, closures, random numbers.

An execution is done again and again, in parts: whatever an actor leaves behind elsewhere is there when it comes back.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import random
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from enum import EnumMeta
from functools import partial
from operator import is_not, itemgetter
from types import (
    BuiltinFunctionType,
    FrameType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)

import numpy as np

from memhp.errors import BadInput
from memhp.explore.doors.again import Astray
from memhp.explore.doors.kernel_image import bytes_of, is_filled, unwatched
from memhp.explore.doors.put_in import PutIn
from memhp.explore.doors.stand_ins import StandIns
from memhp.explore.doors.user_code import is_users, line_of, place_of
from memhp.hw.machine import Machine
from memhp.hw.memory import Arena
from memhp.linux.state import Kernel

NOT_LOOKED_AT = (type, ModuleType, FunctionType, BuiltinFunctionType)
DESCRIPTORS = (staticmethod, classmethod, property, GetSetDescriptorType, MemberDescriptorType)
"""What a class has of Python's own, or for its objects."""
BY_THE_KERNEL = "all must go by the kernel that it gets, whose k.statics() has what is shared"
"""What is told of functions that do not."""
PARTS = itemgetter(
    "fmt", "nr_cpus", "memory", "tlb", "ledger", "table_counts", "kind_of", "levels", "locks", "lock_order", "told",
    "told_busy", "violations", "callbacks",
)  # fmt: skip
"""The fields of a machine that stay what they were."""
Root = tuple[str, str]
"""A file, and a name there."""


class Outside:
    """All that functions could change beside the kernel, as it is now."""

    def __init__(self, functions: Sequence[Callable[..., object]]) -> None:
        self._functions = functions
        self._before = self._now()

    def changed(self) -> list[Root]:
        """What is not as it was; of what could not be written down then, or cannot now, that is not known."""
        now, before = self._now(), self._before
        files = {file for file, _ in before}
        new = [root for root in now if root not in before and root[0] in files]
        gone = [root for root in before if root not in now]
        both = ((root, before[root], now[root]) for root in before if root in now)
        return new + gone + [root for root, was, is_ in both if None not in (was, is_) and was != is_]

    def must_be_as_it_was(self) -> None:
        """BadInput: it is not."""
        changed = self.changed()
        if changed:
            names = ", ".join(name for _, name in changed)
            raise self.error(f"code of the race changes {names}", next((file for file, _ in changed if file), ""))

    def error(self, what: str, where: str = "") -> BadInput:
        """What to raise of functions that go by something else than the kernel."""
        return BadInput(f"{what}: {BY_THE_KERNEL}", where=where or users_file(self._functions))

    def _now(self) -> dict[Root, Hashable]:
        found: dict[Root, Hashable] = {}
        for root, value in self._roots():
            found[root] = None
            with suppress(Exception):  # some cannot be written down, and what stops them is anybody's
                found[root] = bytes_of(value)
        return found

    def _roots(self) -> Iterator[tuple[Root, object]]:
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and is_users(file):
                for name, value in _variables(module):
                    yield (file, name), value
        for function in self._functions:
            for name, value in brought(function):
                yield (file_of(function), name), value
        yield ("", "the numbers that random gives"), random.getstate()
        yield ("", "the numbers that numpy.random gives"), np.random.get_state()


def _variables(holder: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """The variables of a module, and of the classes and functions that it makes, by name; of an enum not what Python
    keeps there for later.
    """
    passed_over = "_" if isinstance(holder, EnumMeta) else "__"
    for name, value in list(vars(holder).items()):
        if name.startswith(passed_over):
            continue
        if not isinstance(value, (*NOT_LOOKED_AT, *DESCRIPTORS)):
            yield prefix + name, value
        elif isinstance(value, type | FunctionType) and getattr(value, "__module__", None) == _module_of(holder):
            yield from _variables(value, f"{prefix}{name}.")


def _module_of(holder: object) -> str:
    return str(holder.__name__ if isinstance(holder, ModuleType) else holder.__module__)


def file_of(function: Callable[..., object]) -> str:
    """The file of a function; "" of what has none."""
    while isinstance(function, partial):
        function = function.func
    code = getattr(function, "__code__", None)
    return str(code.co_filename) if code is not None else ""


def has_users(functions: Iterable[Callable[..., object]]) -> bool:
    """Whether one of these functions is a user's, or brings such a one along."""
    brings = (part for function in functions for part in (function, *(value for _, value in brought(function))))
    return any(callable(part) and is_users(file_of(part)) for part in brings)


def users_file(functions: Sequence[Callable[..., object]]) -> str:
    """The file of the first of some functions that is a user's; the option that brings others where none is."""
    return next(filter(is_users, map(file_of, functions)), "--patch")


def brought(function: object) -> Iterator[tuple[str, object]]:
    """What a function brings along: what it is bound to, default values, and what it has from the one around it."""
    seen: set[int] = set()
    left: list[tuple[str, object]] = [("", function)]
    while left:
        name, value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, partial):
            given = [(f"argument {number}", one) for number, one in enumerate(value.args)]
            left += [("", value.func), *given, *value.keywords.items()]
        elif isinstance(value, MethodType):
            left += [("", value.__func__), ("self", value.__self__)]
        elif isinstance(value, FunctionType):
            cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
            left += [(one, cell.cell_contents) for one, cell in cells if is_filled(cell)]
            left += [("a default value", one) for one in value.__defaults__ or ()]
            left += (value.__kwdefaults__ or {}).items()
        elif name:
            yield name, value


def must_have_no_kernel(function: Callable[..., object], name: str) -> None:
    """BadInput: a function has a kernel other than the one that it is given."""
    other = next((known_as for known_as, value in brought(function) if isinstance(value, Kernel)), "")
    if other:
        fix = "use the kernel that it gets: each execution has one of its own"
        raise BadInput(f"goes by {other!r}, a kernel that no execution is about", where=name, fix=fix)


def parts_of(hw: Machine) -> tuple[object, ...]:
    """What a machine is made of, by identity, and of how much: no door changes that."""
    return (*PARTS(vars(hw)), len(vars(hw)))


def must_have_its_parts(k: Kernel, stepper: object, parts: tuple[object, ...], put_in: PutIn | None) -> None:
    """Astray: an actor has changed the machine itself, past its doors. BadInput: or what it has put into kernel state,
    where it came from.
    """
    hw = getattr(k, "hw", None)
    if getattr(hw, "stepper", None) is not stepper:
        raise Astray("takes the doors of the machine away")
    if any(map(is_not, parts_of(k.hw), parts)):
        raise Astray("changes the machine past its doors")
    if put_in is not None:
        put_in.must_be_as_put()


def unwatched_likeness(k: Kernel, tables: Arena | None) -> Hashable:
    """As :func:`memhp.explore.doors.kernel_image.likeness`, of a kernel in the middle of an execution."""
    with unwatched(k):
        return bytes_of(k, tables)


def astray(actor: Callable[..., object], name: str, error: Astray, frame: FrameType | None) -> Exception:
    """What to raise where an actor does not do again what it did: an error of the user's, where the code is.

    `frame` is where the actor stands, None where it has raised the error or has ended.
    """
    is_theirs = is_users(file_of(actor))
    if not is_theirs and not StandIns.ran:
        return Astray(f"{name} {error}")
    where = line_of(actor) if is_theirs else StandIns.ran
    while frame is not None and not is_users(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is not None:
        where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return BadInput(f"{name} {error}: {BY_THE_KERNEL}", where=place_of(error.__traceback__, where))
