"""Code of a race that is a user's and none of this package: where it stands, and what is said of errors in it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import inspect
import linecache
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from sysconfig import get_paths
from traceback import extract_tb, walk_tb
from types import FrameType, TracebackType

from memhp.errors import BadInput, Interrupted, KernelBug, MemhpError
from memhp.explore.doors.stand_ins import StandIns
from memhp.explore.engine.schedule import MOST_THREADS
from memhp.linux.place import NOWHERE, place_in

PACKAGE = Path(__file__).parents[2]


class FromOutside(BaseException):
    """What ends the user's code and was not raised by it; no ``except Exception`` of that code keeps it."""


@cache
def is_users(file: str) -> bool:
    """Whether a file of Python code is the user's: neither of this package, nor of Python and what is installed."""
    path = Path(file)
    installed = [Path(get_paths()[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return file[:1] != "<" and not any(each in path.parents for each in (PACKAGE, *installed))


def place_of(traceback: TracebackType | None, otherwise: str = "") -> str:
    """``FILE:LINE`` of the innermost line of the user's; `otherwise`, or the innermost of all, where none is."""
    frames = extract_tb(traceback)
    users = [frame for frame in frames if is_users(frame.filename)]
    if not users and (otherwise or not frames):
        return otherwise
    last = (users or frames)[-1]
    return f"{last.filename}:{last.lineno}"


def has_users_frame(traceback: TracebackType | None) -> bool:
    """Whether a line of the user's was running."""
    return any(is_users(frame.f_code.co_filename) for frame, _ in walk_tb(traceback))


def line_at(frame: FrameType | None) -> str:
    """``name:LINE`` of the innermost line of the user's that runs; "" where none does."""
    while frame is not None:
        code = frame.f_code
        if is_users(code.co_filename):
            return f"{Path(code.co_filename).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def line_of(function: Callable[..., object], otherwise: str = "") -> str:
    """``FILE:LINE`` where a function begins; `otherwise` of what has none."""
    while isinstance(function, partial):
        function = function.func
    code = getattr(inspect.unwrap(function), "__code__", None)
    return otherwise if code is None else f"{code.co_filename}:{code.co_firstlineno}"


def is_users_class(kind: type) -> bool:
    """Whether a class stands in a file of the user's."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return isinstance(file, str) and is_users(file)


def told_bug(error: BaseException) -> str | None:
    """What a bug of the kernel is told as; one that is in no function of the kernel, with the line of the user's. None:
    it is no bug of the kernel. What kernel code asserts is what it goes by: where that is not so, it is as a BUG_ON().
    """
    if isinstance(error, AssertionError):
        *_, (frame, line) = walk_tb(error.__traceback__)
        if not frame.f_globals.get("__name__", "").startswith("memhp.linux."):
            return None
        text = linecache.getline(frame.f_code.co_filename, line).strip()
        return f"{_in_kernel(frame, line)} goes by what is not so: {text}"
    if not isinstance(error, KernelBug):
        return None
    if error.place != NOWHERE:
        return _told(error)
    return f"{type(error).__name__}: {as_text(error.reason)} ({Path(place_of(error.__traceback__, NOWHERE)).name})"


def user_error(error: BaseException, what: str, otherwise: str = "") -> BadInput:
    """What is told of an error in the user's code: `what` it says before the error, and where that was raised.

    Of one that has come up in kernel code while a patch is in place: the function of the patch that ran last, too.
    """
    place = place_of(error.__traceback__, _stand_in_or(otherwise))
    if isinstance(error, SyntaxError) and otherwise:
        place = f"{error.filename}:{error.lineno}" if error.lineno is not None else otherwise
    if isinstance(error, BadInput):
        if error.where and error.where == StandIns.ran:
            return error
        return BadInput(error.message, where=f"{place}: {error.where}".removesuffix(": "), fix=error.fix)
    beside, fix = _beside_patch(error, place)
    return BadInput(f"{what}{_told(error)}{beside}", where=place, fix=fix)


def _stand_in_or(otherwise: str) -> str:
    """Where an error is that has come up in none of the user's lines: in the patch that is in place, or `otherwise`
    where there is none or that is the user's as well.
    """
    file = otherwise.rpartition(":")[0] or otherwise
    is_theirs = is_users(file) and Path(file).is_file()
    return otherwise if is_theirs or not StandIns.ran else StandIns.ran


def _beside_patch(error: BaseException, place: str) -> tuple[str, str]:
    """What more is told of an error that is told at a place, and what to do: where in the kernel it has come up, and
    which function of the patch ran last; nothing of one without a patch, or in it, or in another line of the user's.
    """
    frames = list(walk_tb(error.__traceback__))
    if not StandIns.ran or not frames or is_users(frames[-1][0].f_code.co_filename):
        return "", ""
    if any(frame.f_code in StandIns.codes for frame, _ in frames):
        return "", ""
    beside = "" if place == StandIns.ran else f", with {StandIns.ran} in place of the kernel's"
    if isinstance(error, MemhpError):
        return beside, ""
    return f", in {_in_kernel(*frames[-1])}{beside}", "its callers must be able to use what it gives and does"


def _in_kernel(frame: FrameType, line: int) -> str:
    """Where in the kernel a call was; the line of the module, where that is in no function of it."""
    found = NOWHERE
    with suppress(Exception):  # the function may tell by its arguments which one it is, and have got others
        found = place_in(frame)
    return found if found != NOWHERE else f"{frame.f_globals.get('__name__')}:{line}"


def _told(error: BaseException) -> str:
    return as_text(error, f"{type(error).__name__}: ").removesuffix(": ")


def as_text(value: object, before: str = "") -> str:
    """What the user's code has made, as text, whatever its ``__str__()`` does; `before` it, where it has one."""
    try:
        return f"{before}{value}"
    except Exception:
        return f"{type(value).__name__}, which cannot be told as text"


@contextmanager
def users(what: str = "", otherwise: str | Callable[..., object] = "") -> Iterator[None]:
    """Whatever leaves the user's code is an error of it, even what would end this process or a greenlet; but that the
    user wants an end of it all, and what is said of code that does not end. `otherwise`: its place where none of its
    lines ran, or the function of which that is the beginning.
    """
    try:
        yield
    except BaseException as error:
        if ends_it_all(error):
            raise
        place = otherwise if isinstance(otherwise, str) else line_of(otherwise)
        raise user_error(error, what, place) from error


def ends_it_all(error: BaseException) -> bool:
    """Whether what has left the user's code was not raised by it: somebody wants an end, or the code has had its time.

    With Python's own handler of SIGINT, nobody can tell who has raised a KeyboardInterrupt.
    """
    if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        return True
    return isinstance(error, Interrupted | FromOutside)


def kind_of(function: Callable[..., object]) -> str:
    """What a call of a function gives in place of running it: a generator, a coroutine; "" where it runs."""
    while isinstance(function, partial):
        function = function.func
    if not inspect.isroutine(function):
        function = vars(type(function)).get("__call__", function)
    if inspect.isasyncgenfunction(function):
        return "async generator"
    if inspect.iscoroutinefunction(function):
        return "coroutine"
    return "generator" if inspect.isgeneratorfunction(function) else ""


def gives_code(function: Callable[..., object]) -> bool:
    """Whether a function is meant to give code that is to run: it says so, or is a generator itself."""
    return bool(kind_of(function)) or "Iterator" in str(inspect.signature(function).return_annotation)


def must_take_one(function: object, wanted: str, name: str) -> None:
    """BadInput: a function cannot be called with one argument, or a call runs nothing of it."""
    if not callable(function):
        raise BadInput(f"wanted a function of one argument ({wanted}), and got {function!r:.80}", where=name)
    try:
        inspect.signature(function).bind(None)
    except (TypeError, ValueError) as error:
        raise BadInput(f"wanted a function of one argument ({wanted}): {error}", where=name) from None
    kind = kind_of(function)
    if kind:
        raise BadInput(f"wanted a function of one argument ({wanted}): calling a {kind} runs nothing of it", where=name)


def must_be_names(names: Sequence[object], beside: str) -> None:
    """BadInput: one of them is no line of text, or is that of another thread, or there are more than schedules can
    name; `beside` is the thread that there is beside actors.
    """
    if len(names) >= MOST_THREADS:
        raise BadInput(f"wanted at most {MOST_THREADS - 1} actors, got {len(names)}", where="actors")
    for name in names:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise BadInput(f"wanted names, each a line of text, and got {name!r}", where="names")
        if [*names, beside].count(name) > 1:
            raise BadInput(f"two threads are called {name!r}", where="names", fix="give each a name of its own")


def must_have_run(value: object, name: str) -> None:
    """BadInput: what a call has given is code that has not run."""
    kind = not_run(value)
    if kind:
        raise BadInput(f"gave a {kind}, of which nothing has run", where=name)


def not_run(value: object) -> str:
    """As :func:`kind_of`, of what a call has given."""
    if inspect.iscoroutine(value):
        value.close()  # or Python complains that nobody has waited for it
        return "coroutine"
    if inspect.isasyncgen(value):
        return "async generator"
    if inspect.isgenerator(getattr(value, "gen", None)):
        return "context manager"
    return "generator" if inspect.isgenerator(value) else ""
