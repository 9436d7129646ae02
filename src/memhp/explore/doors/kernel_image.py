"""A kernel as it stood once, kept as bytes, of which executions get copies: what pickle needs is far less than what
:func:`copy.deepcopy` does.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import io
import pickle
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache, cached_property
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from memhp.explore.doors.announced import announced_for
from memhp.explore.doors.common import of_users
from memhp.explore.doors.containers import AnnouncedDict, Container, empty
from memhp.explore.doors.put_in import PutIn
from memhp.hw.memory import Arena
from memhp.hw.unchanging import Unchanging
from memhp.linux.state import Kernel

Cells = tuple[CellType, ...] | None
SHARED = (type, FunctionType, ModuleType, Unchanging)
"""What all copies have in common."""


class KernelImage:
    """An announcing kernel, from which copies are made that share nothing that changes.

    Classes, functions, and what never changes are common to all; tables are copied as they are. A function that was
    made within another has variables of that one, and is copied with them.
    """

    def __init__(self, k: Kernel) -> None:
        self._common: list[object] = []
        """What pickle does not go into, by number."""
        data = io.BytesIO()
        _Pickler(data, self._common).dump(k)
        self._data = data.getvalue()
        self._tables = {number: one for number, one in enumerate(self._common) if isinstance(one, Arena)}
        self.tables = next(iter(self._tables.values()))
        """The page tables of the kernel as it stood, which are not to be written."""

    def copy(self) -> Kernel:
        """The kernel as it stood."""
        return self._copy([])

    def begun(self) -> tuple[Kernel, PutIn]:
        """The kernel as it stood, for an execution that begins with it, and what that puts in."""
        functions: list[object] = []
        return self._copy(functions), PutIn((*self._of_user, *functions))

    @cached_property
    def _of_user(self) -> tuple[object, ...]:
        """What its copies have in common that is a user's."""
        return tuple(of_users(self._common))

    def _copy(self, made: list[object]) -> Kernel:
        """The kernel as it stood; `made` gets the functions that are the copy's own."""
        common = self._common[:]
        for number, tables in self._tables.items():
            common[number] = deepcopy(tables)
        k = _Unpickler(io.BytesIO(self._data), common, made).load()
        assert isinstance(k, Kernel)
        return k


def likeness(k: Kernel, tables: Arena | None = None) -> Hashable:
    """What is equal only for kernels that stand alike in everything, down to the order of what they logged, whatever is
    announced of them and whoever looks on.

    What they have in common counts by identity; the likeness holds on to it. Kernels that came about in different ways
    may differ in it though they stand alike. Of page tables it holds what differs from `tables`, the same for all that
    are compared; by default all.
    """
    written, k.hw.written = k.hw.written, None
    like = bytes_of(k, tables)
    k.hw.written = written
    return like


def bytes_of(value: object, tables: Arena | None = None) -> Hashable:
    """What is equal only for values that are alike in everything; see :func:`likeness`.

    Whatever :mod:`pickle` raises: it is not known how such a value is written down.
    """
    common: list[object] = []
    data = io.BytesIO()
    Likener(data, common).dump(value)
    arenas = [one for one in common if isinstance(one, Arena)]
    contents = tuple(tables_against(arena, tables or _no_tables(arena.entries)) for arena in arenas)
    return Likeness(data.getvalue(), [one for one in common if not isinstance(one, Arena)], contents)


def tables_against(arena: Arena, tables: Arena) -> Hashable:
    """Of page tables, which frames have some, and what differs from others."""
    return tuple(arena.frames()), tuple(arena.differing(tables))


@contextmanager
def unwatched(k: Kernel) -> Iterator[None]:
    """A kernel in the middle of an execution as one on which nobody looks, and whose writes nobody logs."""
    hw = k.hw
    before = hw.stepper, hw.faults, hw.cpu, hw.written
    hw.stepper, hw.faults, hw.cpu, hw.written = None, None, 0, None
    try:
        yield
    finally:
        hw.stepper, hw.faults, hw.cpu, hw.written = before


@cache
def _no_tables(entries: int) -> Arena:
    return Arena(entries, np.empty((0, entries), dtype=np.uint64))


class Likeness:
    """A value in bytes, and what is not gone into: objects that are equal to themselves only."""

    __slots__ = ("_common", "_made_of")

    def __init__(self, data: bytes, common: list[object], contents: tuple[Hashable, ...]) -> None:
        self._common = common
        """What the numbers are of: they stay for as long as the likeness does."""
        self._made_of = (data, tuple(map(id, common)), contents)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Likeness) and self._made_of == other._made_of

    def __hash__(self) -> int:
        return hash(self._made_of[:2])  # tables are long, and kernels that differ in them alone are few


def _in_common(number: int) -> Any:
    """What all copies have in common, by number: a name for it in the bytes, of which each reader has its own."""
    raise pickle.UnpicklingError(f"nobody reads what is in common as number {number}")


def _with_its_own(number: int, cells: Cells, defaults: Any, by_name: Any) -> Any:
    """A function in common by number, with variables of the function around it that are a copy's own."""
    raise pickle.UnpicklingError(f"nobody reads function {number}")


def _function(code: CodeType) -> Any:
    """A function that is made anew whenever the one around it runs: two are alike that are made alike."""
    raise pickle.UnpicklingError(f"nobody reads {code.co_qualname} again")


def _error(kind: type, args: tuple[object, ...], fields: dict[str, object]) -> Any:
    """An exception."""
    raise pickle.UnpicklingError(f"nobody reads a {kind.__name__} again")


def is_filled(cell: CellType) -> bool:
    """Whether a variable that a function has from the one around it has a value."""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


@cache
def is_ordinary(kind: type) -> bool:
    """Whether objects of a class are written down as :mod:`pickle` does it."""
    return not issubclass(kind, (*SHARED, Arena, Container, CodeType, CellType, BaseException))


NAMES = (_in_common, _with_its_own)
"""Functions that stand for something in the bytes."""


def is_made_within(value: object) -> bool:
    """Whether a value is a function that another one made as it ran."""
    return isinstance(value, FunctionType) and "<locals>" in value.__code__.co_qualname


def _has_its_own(function: FunctionType) -> bool:
    """Whether a function has variables of the one around it, or such as were made with it."""
    return any((function.__closure__, function.__defaults__, function.__kwdefaults__, vars(function)))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, common: list[object], made: list[object]) -> None:
        super().__init__(file)
        self._get = common.__getitem__
        self._made = made

    def find_class(self, module: str, name: str) -> Any:
        """What is in common by number."""
        if name == _in_common.__name__:
            return self._get
        return self._with_its_own if name == _with_its_own.__name__ else super().find_class(module, name)

    def _with_its_own(self, number: int, cells: Cells, defaults: Any, by_name: Any) -> FunctionType:
        of = self._get(number)
        assert isinstance(of, FunctionType)
        made = FunctionType(of.__code__, of.__globals__, of.__name__, defaults, cells)
        made.__kwdefaults__ = by_name
        self._made.append(made)
        return made


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, common: list[object]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._common = common
        self._numbers: dict[int, int] = {}

    def reducer_override(self, obj: Any) -> Any:
        """What is not gone into goes by a number; containers that announce what is done to them are filled without."""
        kind: type = type(obj)
        if is_ordinary(kind):
            return NotImplemented
        if isinstance(obj, BaseException):
            return NotImplemented
        if isinstance(obj, Container):
            return empty, (type(obj),), _contents(obj), None, None, _fill
        if isinstance(obj, CellType):
            return CellType, (), (obj.cell_contents,) if is_filled(obj) else (), None, None, _fill_cell
        if is_made_within(obj) and _has_its_own(obj):
            own = obj.__closure__, obj.__defaults__, obj.__kwdefaults__
            return _with_its_own, (self._number(obj), *own), vars(obj) or None, None, None, _fill_function
        return (_in_common, (self._number(obj),)) if obj not in NAMES else NotImplemented

    def _number(self, obj: object) -> int:
        number = self._numbers.setdefault(id(obj), len(self._common))
        if number == len(self._common):
            self._common.append(obj)
        return number


class Likener(_Pickler):
    """Of kernels: what is announced, and the numbers that stand for keys in announcements, do not count."""

    def reducer_override(self, obj: Any) -> Any:
        """As of what stands behind the announcements."""
        kind: type = type(obj)
        if is_ordinary(kind):
            return NotImplemented
        if isinstance(obj, BaseException):  # some have a dictionary only once somebody has looked at it
            return _error, (type(obj), obj.args, dict(vars(obj)))
        if isinstance(obj, type):
            return super().reducer_override(announced_for(obj))
        if is_made_within(obj):
            cells = [cell.cell_contents for cell in obj.__closure__ or () if is_filled(cell)]
            return _function, (obj.__code__,), (obj.__defaults__, obj.__kwdefaults__, cells)
        if isinstance(obj, AnnouncedDict):
            return empty, (type(obj),), (obj._to, None, dict(dict.items(obj))), None, None, _fill
        return super().reducer_override(obj)


def _contents(container: Any) -> tuple[object, ...]:
    """What a container that announces accesses is made of: to whom, the keys' numbers, and what is in it."""
    if isinstance(container, AnnouncedDict):
        return container._to, dict(container._numbers), dict(dict.items(container))
    return container._to, None, list(list.__iter__(container)) if isinstance(container, list) else container.items


def _fill(container: Any, made_of: Any) -> None:
    """Make a container that is empty of what :func:`_contents` said; nothing is announced."""
    container._to, numbers, values = made_of
    if numbers is not None:
        container._numbers = numbers
        dict.update(container, values)
    elif isinstance(container, list):
        list.extend(container, values)
    else:
        container.items = values


def _fill_function(function: FunctionType, attributes: dict[str, object]) -> None:
    """Give a function the attributes that it had."""
    vars(function).update(attributes)


def _fill_cell(cell: CellType, contents: tuple[object, ...]) -> None:
    """Give a variable the value that it had, if any."""
    for value in contents:
        cell.cell_contents = value
