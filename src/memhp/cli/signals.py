"""How a run is ended from outside: an interrupt, a request to terminate or a terminal that goes away, at any moment.

The first of these signals raises :class:`Interrupted` where the program is, so that whatever is open is closed on the
way out. If something swallows that, it is raised again a little later. Code that must not be cut short on its way
out, such as one that ends other processes, holds the signals back (:func:`memhp.outputs.ending_signals.uninterrupted`).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import signal
import sys
from types import FrameType

from memhp.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_SECONDS = 1.0
"""After how long a request that had no effect is repeated."""
MOST_REPEATS = 20
"""After so many repeats the process ends where it stands."""


class _State:
    """What was asked for since the process began."""

    signal: int | None = None
    repeats = 0


def exit_code() -> int | None:
    """What the process is to exit with, as a shell tells it of a signal; None if nobody asked it to end."""
    return None if _State.signal is None else 128 + _State.signal


def leave_at_once() -> None:
    """From now on a signal ends the process where it is: nothing was begun yet."""
    _handle(SIGNALS, _leave)


def raise_where_it_is() -> None:
    """From now on a signal raises :class:`Interrupted` in the main thread."""
    _handle(SIGNALS, _raise)
    signal.signal(signal.SIGALRM, _raise_again)
    sys.unraisablehook = _quiet


def settle() -> None:
    """The run is over: signals change nothing any more."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    _handle(SIGNALS, signal.SIG_IGN)


def _handle(signals: tuple[signal.Signals, ...], how: "signal._HANDLER") -> None:
    """Set what signals do, but for those that whoever started the process wants ignored (``nohup``, ``&``)."""
    for each in signals:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, how)


def _leave(number: int, _: FrameType | None) -> None:
    os.write(2, b"memhp: interrupted\n")
    os._exit(128 + number)


def _raise(number: int, _: FrameType | None) -> None:
    if _State.signal is None:
        _State.signal = number
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS, AGAIN_SECONDS)
        raise Interrupted


def _raise_again(_: int, __: FrameType | None) -> None:
    _State.repeats += 1
    if _State.repeats > MOST_REPEATS:
        _leave(_State.signal or signal.SIGINT, None)
    raise Interrupted


def _quiet(raised: "sys.UnraisableHookArgs") -> None:
    """Exceptions where none can be raised, in destructors: not worth a word when the run is to end anyway."""
    if _State.signal is None:
        sys.__unraisablehook__(raised)
