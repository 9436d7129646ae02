"""Python code of a race that never comes to anything is an error, with its place, instead of a search without end.

An actor's step is over when it comes to its next one, and what makes or judges a kernel is to end. Neither is counted:
a timer of the process ticks now and then, and looks whether the same call is still going on. That needs the main
thread, and a signal that nobody else uses; without them nothing is bounded.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from threading import current_thread, main_thread
from time import thread_time
from types import FrameType

from greenlet import GreenletExit, getcurrent, greenlet

from memhp.errors import BadInput
from memhp.explore.doors.stand_ins import StandIns
from memhp.explore.doors.user_code import FromOutside, is_users
from memhp.explore.engine.limits import STEP_SECONDS

TICKS = 10
"""How often it is looked, in the time that a call may take."""
LONGEST_TICK = 1.0
SHORTEST_TICK = 0.005


class Endless(FromOutside):
    """Raised where the code stands that has taken too long."""

    def __init__(self, seconds: float, where: str) -> None:
        self.seconds = seconds
        self._where = where
        super().__init__()

    def told(self, what: str) -> BadInput:
        """What to raise instead: `what` has happened for so long, in the file of whose code it is."""
        fix = "end the loop, or give it more time: --step-seconds N"
        return BadInput(f"{what} {self.seconds:g} s of processor time", where=self._where, fix=fix)


class Watch:
    """What is going on, and since when."""

    def __init__(self) -> None:
        self.seconds = STEP_SECONDS
        self.calls: list[object] = []
        """Those that are to end, the innermost last."""
        self._hub = getcurrent()
        """Where the search runs, on which actors are children."""
        self._seen: object = None
        self._since = 0.0
        self._steady: list[FrameType] = []
        """The calls, from the outermost on, that have been going on at each look since."""

    def within(self, seconds: float) -> None:
        """So long a call may take from now on."""
        self.seconds = seconds
        tick = max(SHORTEST_TICK, min(seconds / TICKS, LONGEST_TICK))
        signal.setitimer(signal.ITIMER_VIRTUAL, tick, tick)

    def look(self, _: int = 0, frame: FrameType | None = None) -> None:
        """Endless: the same call as before goes on, and has for too long."""
        now = thread_time()
        going_on = self._going_on()
        frames = _outermost_first(frame)
        if going_on is None or going_on is not self._seen:
            self._seen, self._since, self._steady = going_on, now, frames
            return
        same = takewhile(lambda two: two[0] is two[1], zip(self._steady, frames, strict=False))
        self._steady = [one for one, _ in same]
        if now - self._since >= self.seconds:
            raise Endless(self.seconds, _place_in(self._steady or frames))

    def _going_on(self) -> object:
        """Of an actor: the call by which the search lets it run, a frame that is never the same again."""
        here = getcurrent()
        if here.parent is not None and here.parent is self._hub:
            return here.parent.gr_frame
        return self.calls[-1] if self.calls else None


def _outermost_first(frame: FrameType | None) -> list[FrameType]:
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def _place_in(frames: Sequence[FrameType]) -> str:
    """``FILE:LINE`` of the innermost of these calls, of the user's if there are any; without, that of the patch that is
    in place.
    """
    users = [one for one in frames if is_users(one.f_code.co_filename)]
    if not users and StandIns.ran:
        return StandIns.ran
    last = (users or list(frames) or [sys._getframe()])[-1]
    return f"{last.f_code.co_filename}:{last.f_lineno}"


def give_up(running: greenlet, name: str) -> None:
    """End an actor where it stands; who gives it up goes on, an actor of another race as well, amid whose steps garbage
    was collected. BadInput: it does not end.
    """
    running.parent = getcurrent()
    try:
        running.throw(GreenletExit)
    except Endless as error:
        raise error.told(f"{name} catches GreenletExit, and did not end for") from None
    except Exception:  # what it does on its way out, it does in an execution that does not count any more
        return


class _Main:
    """The main thread."""

    watch: Watch | None = None


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Within it no step of an actor takes more than so many seconds of processor time, and nothing that is to end."""
    watch = _Main.watch
    if current_thread() is not main_thread():
        yield
    elif watch is not None:
        before = watch.seconds
        try:
            watch.within(seconds)
            yield
        finally:
            watch.within(before)
    elif signal.getsignal(signal.SIGVTALRM) is not signal.SIG_DFL:
        yield
    else:
        watch = _Main.watch = Watch()
        signal.signal(signal.SIGVTALRM, watch.look)
        try:
            watch.within(seconds)
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
            _Main.watch = None


@contextmanager
def to_end(what: str) -> Iterator[None]:
    """Code that is to end: BadInput when it has not within the seconds of :func:`bounded`, or of a race by default."""
    outer = _Main.watch
    with bounded(outer.seconds if outer is not None else STEP_SECONDS):
        watch = _Main.watch if current_thread() is main_thread() else None
        if watch is None:
            yield
            return
        watch.calls.append(object())
        try:
            yield
        except Endless as error:
            raise error.told(f"{what} did not end within") from None
        finally:
            watch.calls.pop()
