"""A patch tried out: functions of a Python file that stand in for the kernel's while a race is decided.

The file marks each with :func:`replaces`, which names the function of the kernel, ``file.c:function``. Whoever calls
that function runs the one of the file, wherever it got it from: tables of functions, other modules, an architecture's
port. When the race is decided all is as before.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from inspect import signature, unwrap
from pathlib import Path
from pkgutil import walk_packages
from types import CodeType, FunctionType
from typing import Any, NamedTuple, TypeVar

import msgspec

import memhp.linux
from memhp.errors import BadInput, KernelBug, KernelError
from memhp.explore.case_file import load
from memhp.explore.doors.again import Astray
from memhp.explore.doors.user_code import gives_code, is_users, kind_of, must_have_run, place_of, user_error
from memhp.explore.explored import Explored
from memhp.linux.place import own_place, stands_for

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__replaces__"
_STAND_IN = "__memhp_stand_in_for_{}__"
"""Under this name the module of a replaced function knows the one that stands in."""
_CONTEXT = contextmanager(iter).__code__
"""What every function that :func:`contextlib.contextmanager` makes does."""
_originals: dict[FunctionType, FunctionType] = {}
"""What the functions that are replaced do by themselves, as long as they are."""


class Replaced(NamedTuple):
    """Which function of the kernel another one stands in for."""

    place: str
    """``file.c:function``."""
    name: str = ""
    """The name of the Python function, where several stand for that place; with the end of its module's, or without."""

    def __str__(self) -> str:
        return f"{self.place} ({self.name})" if self.name else self.place


def replaces(place: str, name: str = "") -> Callable[[F], F]:
    """Mark a function of a patch as the one that stands in for ``file.c:function`` of the kernel.

    Where several functions of Python stand for that one, `name` says which. BadInput: it is no function, or one of a
    class, or is marked already.
    """

    def mark(function: F) -> F:
        if not isinstance(function, FunctionType):
            raise BadInput(f"wanted a function, and got a {type(function).__name__}", where="replaces()")
        if "." in function.__qualname__ and "<locals>" not in function.__qualname__:
            raise BadInput(f"wanted a function outside of classes, and got {function.__qualname__}", where="replaces()")
        if hasattr(function, _MARK):
            fix = "write a function for each"
            raise BadInput(f"{function.__name__} stands in for another one already", where="replaces()", fix=fix)
        setattr(function, _MARK, Replaced(place, name))
        return function

    return mark


def original(place: str, name: str = "") -> Callable[..., Any]:
    """The kernel's own function at a place that the patch replaces, for a patch that does something before or after.

    BadInput: the patch replaces nothing there.
    """
    replaced = Replaced(place, name)
    found = _originals.get(_target(replaced, "original()"))
    if found is None:
        raise BadInput(f"the patch does not replace {str(replaced)!r}", where="original()")
    return found


@contextmanager
def patched(files: Iterable[Path]) -> Iterator[dict[str, str]]:
    """The kernel with the functions of these files in place of its own; says which, by place, and whose file it is.

    BadInput: a file that cannot be loaded or marks nothing, a place that no function stands for, or several do and it
    is not said which, a function that takes other arguments, a function replaced twice.
    """
    told: dict[str, str] = {}
    with ExitStack() as stack:
        for file in files:
            for replaced, function in _marked(file):
                stack.enter_context(_replaced(replaced, function, _where(file, function)))
                told[str(replaced)] = str(file)
        yield told


def under_patch(files: Sequence[Path], look: Callable[[], Explored]) -> Explored:
    """What is found out with the functions of these files in place of the kernel's. BadInput: see :func:`patched`."""
    with patched(files) as told, _of_the_patch(files):
        found = look()
    return msgspec.structs.replace(found, patch=told, current=found.current and not told)


@contextmanager
def _of_the_patch(files: Sequence[Path]) -> Iterator[None]:
    """BadInput: with a patch the kernel goes wrong before the race begins, or does not do again what it did."""
    try:
        yield
    except BadInput:
        raise
    except (KernelError, KernelBug, Astray) as error:
        if not files:
            raise
        where = ", ".join(map(str, files))
        raise BadInput(f"with the patch: {type(error).__name__}: {error}", where=where) from error
    except Exception as error:
        if not files or not is_users(place_of(error.__traceback__).rpartition(":")[0]):
            raise
        raise user_error(error, "with the patch: ") from error


def _where(file: Path, function: FunctionType) -> str:
    """A function of a file, in errors."""
    return f"{file}:{function.__code__.co_firstlineno}: {function.__name__}"


def _marked(file: Path) -> list[tuple[Replaced, FunctionType]]:
    """The functions of a file that are marked, and what each replaces."""
    found: dict[FunctionType, Replaced] = {}
    for value in vars(load(Path(os.path.realpath(file)))).values():
        mark = getattr(value, _MARK, None)
        if not isinstance(mark, Replaced) or not isinstance(value, FunctionType):
            continue
        for said in mark:
            if not isinstance(said, str):
                raise BadInput(f"wanted a place, as text, and got {said!r}", where=_where(file, value))
        found[value] = mark
    if not found:
        raise BadInput(
            "marks no function as one of the kernel's",
            where=str(file),
            fix='write @replaces("mm/memory_hotplug.c:try_remove_memory") before one (memhp.explore.patch)',
        )
    return [(mark, function) for function, mark in found.items()]


@contextmanager
def _replaced(replaced: Replaced, function: FunctionType, where: str) -> Iterator[None]:
    """One function of the kernel with another body. What is bound to it, wherever that is, stays the same object."""
    place = replaced.place
    target = _target(replaced, where)
    if target in _originals:
        raise BadInput(f"{replaced} is replaced twice", where=where, fix="keep one of them")
    if _makes_context(target):
        function = unwrap(function)
        if kind_of(function) != "generator":
            text = f"wanted a function with a yield, as {place} is, which a with statement enters and leaves"
            raise BadInput(text, where=where)
    kind = kind_of(function)
    if kind and kind != kind_of(target):
        raise BadInput(f"wanted a function, as {place} is: calling a {kind} runs nothing of it", where=where)
    if _arguments(target) != _arguments(function):
        raise BadInput(f"wanted a function of ({', '.join(_arguments(target))}), as {place} is", where=where)
    name = _STAND_IN.format(target.__name__)
    own = target.__code__
    kernels = FunctionType(own, target.__globals__, target.__name__, target.__defaults__)
    kernels.__kwdefaults__ = target.__kwdefaults__
    stands_for(function, place)
    target.__globals__[name] = function if gives_code(target) else _run_at_once(function, where)
    target.__code__ = _calls(name, own)
    _originals[target] = kernels
    try:
        yield
    finally:
        target.__code__ = own
        del target.__globals__[name], _originals[target]


def _makes_context(target: FunctionType) -> bool:
    """Whether a function is a generator that :func:`contextlib.contextmanager` runs."""
    known_as = target.__globals__.get(target.__name__)
    return known_as is not target and getattr(known_as, "__code__", None) is _CONTEXT


def _run_at_once(function: FunctionType, where: str) -> Callable[..., Any]:
    """The function; BadInput when it gives code that has not run, such as a coroutine."""

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        said = function(*args, **kwargs)
        must_have_run(said, where)
        return said

    return stand_in


def _arguments(function: FunctionType) -> dict[str, object]:
    """The names of a function's arguments, and how each can be given."""
    return {name: one.kind for name, one in signature(function).parameters.items()}


def _calls(name: str, instead_of: CodeType) -> CodeType:
    """Code that hands all its arguments to what the module knows by a name."""
    code = compile(f"def stand_in(*args, **kwargs): return {name}(*args, **kwargs)", "<patch>", "exec")
    (body,) = (each for each in code.co_consts if isinstance(each, CodeType))
    return body.replace(co_name=instead_of.co_name, co_qualname=instead_of.co_qualname)


def _target(replaced: Replaced, where: str) -> FunctionType:
    """The function that is meant."""
    place, name = replaced
    known = _functions()
    standing = known.get(place, [])
    if not standing:
        near = get_close_matches(place, known, n=3)
        fix = f"did you mean {' or '.join(near)}?" if near else "a trace names places: memhp explore NAME --variant V"
        raise BadInput(f"no function stands for {place!r}", where=where, fix=fix)
    if name:
        found = [each for each in standing if f".{_name(each)}".endswith(f".{name}")]
    else:
        found = [each for each in standing if each.__name__ == place.partition(":")[2]] or standing
    if len(found) != 1:
        stand = "no function" if not found else f"{len(found)} functions"
        called = f" by the name of {name!r}" if name else ""
        fix = "say which: " + " or ".join(f"@replaces({place!r}, {each!r})" for each in _names(found or standing))
        raise BadInput(f"{stand} of memhp{called} stand{'' if found else 's'} for {place!r}", where=where, fix=fix)
    (target,) = found
    if target.__closure__ is not None:
        raise BadInput(f"{replaced} cannot be replaced: it is made where it is used", where=where)
    return target


def _name(function: FunctionType) -> str:
    return f"{function.__module__}.{function.__name__}"


def _names(functions: Sequence[FunctionType]) -> list[str]:
    """The names of functions, with those of their modules below memhp.linux where these alone tell them apart."""
    bare = [each.__name__ for each in functions]
    if len(set(bare)) == len(bare):
        return bare
    return [_name(each).removeprefix(f"{memhp.linux.__name__}.") for each in functions]


@cache
def _functions() -> dict[str, list[FunctionType]]:
    """Every function of the kernel that has a place of its own, by that."""
    found: dict[str, list[FunctionType]] = defaultdict(list)
    for module in walk_packages(memhp.linux.__path__, memhp.linux.__name__ + "."):
        for value in vars(import_module(module.name)).values():
            inner = unwrap(value) if callable(value) else None
            if isinstance(inner, FunctionType) and inner.__module__ == module.name:
                found[own_place(inner)].append(inner)
    del found[""]
    return {place: list(dict.fromkeys(functions)) for place, functions in found.items()}
