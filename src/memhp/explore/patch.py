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
from inspect import Parameter, Signature, signature, unwrap
from pathlib import Path
from pkgutil import walk_packages
from types import CodeType, FunctionType, TracebackType
from typing import Any

import msgspec

import memhp.linux
from memhp.errors import BadInput
from memhp.explore.case_file import load
from memhp.explore.doors.stand_ins import StandIns
from memhp.explore.doors.user_code import (
    ends_it_all,
    gives_code,
    has_users_frame,
    is_users,
    kind_of,
    line_of,
    must_have_run,
    user_error,
)
from memhp.explore.explored import Explored
from memhp.explore.marks import Mark, Replaced, mark_of, replaces
from memhp.linux.place import is_named, own_place, stands_for

__all__ = ["Replaced", "original", "patched", "replaces", "under_patch"]

_STAND_IN = "__memhp_stand_in_for_{}__"
"""Under this name the module of a replaced function knows the one that stands in."""
_CONTEXT = contextmanager(iter).__code__
"""What every function that :func:`contextlib.contextmanager` makes does."""
_originals: dict[FunctionType, Callable[..., Any]] = {}
"""What the functions that are replaced do by themselves, as long as they are."""


def original(place: str, name: str = "") -> Callable[..., Any]:
    """The kernel's own function at a place that the patch replaces, for a patch that does something before or after;
    entered by a ``with`` statement where the kernel's is.

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

    BadInput: a file that cannot be loaded or marks nothing, a marked function that the file has lost, a place that no
    function stands for, or several do and it is not said which, a function that cannot be called as the one that it
    replaces, a function replaced twice.
    """
    told: dict[str, str] = {}
    with ExitStack() as stack:
        for file in files:
            for replaced, function in _marked(file):
                stack.enter_context(_replaced(replaced, function, _where(function)))
                told[str(replaced)] = str(file)
        yield told


def under_patch(files: Sequence[Path], look: Callable[[], Explored]) -> Explored:
    """What is found out with the functions of these files in place of the kernel's. BadInput: see :func:`patched`, and
    for whatever is raised meanwhile, with the line of the patch.
    """
    with patched(files) as told:
        try:
            found = look()
        except BaseException as error:
            raised = _beyond_callers(error.__traceback__)
            is_told = isinstance(error, BadInput) and not has_users_frame(raised)
            if not told or raised is None or is_told or ends_it_all(error):
                raise
            raise user_error(error.with_traceback(raised), "with the patch: ") from error
    return msgspec.structs.replace(found, patch=told, current=found.current and not told)


def _beyond_callers(traceback: TracebackType | None) -> TracebackType | None:
    """What ran once whoever looks, whose code may be anybody's, had called this package; None: nothing did."""
    inner = traceback.tb_next if traceback is not None else None
    while inner is not None and is_users(inner.tb_frame.f_code.co_filename):
        inner = inner.tb_next
    return inner


def _where(function: FunctionType) -> str:
    """A function of a patch, in errors."""
    return f"{line_of(function)}: {function.__name__}"


def _marked(file: Path) -> list[tuple[Replaced, FunctionType]]:
    """The functions of a file that stand in, and for what: those that it has marked, or imported with a mark."""
    loaded = load(Path(os.path.realpath(file)))
    having: dict[Mark, list[FunctionType]] = {mark: [] for mark in loaded.marks}
    for value in dict.fromkeys(each for each in vars(loaded.module).values() if type(each) is FunctionType):
        mark = mark_of(value)
        if mark is not None:
            having.setdefault(mark, []).append(value)
    if not having:
        raise BadInput(
            "marks no function as one of the kernel's",
            where=str(file),
            fix='write @replaces("mm/memory_hotplug.c:try_remove_memory") before one (memhp.explore.patch)',
        )
    return [(mark.replaced, function) for mark, found in having.items() for function in _standing_in(mark, found)]


def _standing_in(mark: Mark, held: list[FunctionType]) -> list[FunctionType]:
    """The function that is marked, or what decorators have made of it and the file holds.

    BadInput: it is written outside of functions, and in the end its file has something else under that name.
    """
    function = unwrap(mark.function)
    name = function.__name__
    if "<locals>" in function.__qualname__ or not name.isidentifier():
        return held or [mark.function]
    now = function.__globals__.get(name)
    if type(now) is FunctionType:
        if mark_of(now) is mark:
            return [now]
        what = f"the function at {line_of(now)}"
    else:
        what = "nothing" if now is None else f"a {type(now).__name__}"
    text = f"is marked, and what the file has by that name in the end is {what}"
    raise BadInput(text, where=_where(function), fix="give each function a name of its own")


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
    _must_be_called_alike(function, target, place, where)
    name = _STAND_IN.format(target.__name__)
    own = target.__code__
    kernels = FunctionType(own, target.__globals__, target.__name__, target.__defaults__)
    kernels.__kwdefaults__ = target.__kwdefaults__
    stands_for(function, place)
    target.__globals__[name] = _heard(function, where, at_once=not gives_code(target))
    target.__code__ = _calls(name, own)
    _originals[target] = contextmanager(kernels) if _makes_context(target) else kernels
    before = StandIns.ran, StandIns.codes
    StandIns.ran, StandIns.codes = StandIns.ran or where, StandIns.codes | {unwrap(function).__code__}
    try:
        yield
    finally:
        StandIns.ran, StandIns.codes = before
        target.__code__ = own
        del target.__globals__[name], _originals[target]


def _makes_context(target: FunctionType) -> bool:
    """Whether a function is a generator that :func:`contextlib.contextmanager` runs."""
    known_as = target.__globals__.get(target.__name__)
    return known_as is not target and getattr(known_as, "__code__", None) is _CONTEXT


def _heard(function: FunctionType, where: str, *, at_once: bool) -> Callable[..., Any]:
    """The function, which is noted as the one that ran last; with `at_once`, BadInput when it gives code that has not
    run, such as a coroutine.
    """

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        StandIns.ran = where
        said = function(*args, **kwargs)
        StandIns.ran = where
        if at_once:
            must_have_run(said, where)
        return said

    return stand_in


def _must_be_called_alike(function: FunctionType, target: FunctionType, place: str, where: str) -> None:
    """BadInput: a function takes other arguments than the one that it replaces, or wants some that may be left out."""
    got, wanted = signature(function), signature(target)
    if _bare(got) != _bare(wanted):
        raise BadInput(f"wanted a function of {_bare(wanted)}, as {place} is, and got one of {_bare(got)}", where=where)
    empty = Parameter.empty
    lacking = [each.name for each in wanted.parameters.values() if each.default is not empty]
    lacking = [name for name in lacking if got.parameters[name].default is empty]
    if lacking:
        text = f"wanted default values for {', '.join(lacking)}, as {place} has them, and got none"
        raise BadInput(text, where=where, fix="callers leave these out")


def _bare(one: Signature) -> Signature:
    """What arguments there are, and how each can be given."""
    bare = [each.replace(default=Parameter.empty, annotation=Parameter.empty) for each in one.parameters.values()]
    return Signature(bare)


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
            elif isinstance(inner, type) and inner.__module__ == module.name:
                for method in vars(inner).values():
                    if isinstance(method, FunctionType) and is_named(method):
                        found[own_place(method)].append(method)
    del found[""]
    return {place: list(dict.fromkeys(functions)) for place, functions in found.items()}
