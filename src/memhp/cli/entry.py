"""The ``memhp`` process: from its first moment on it ends in one line and an exit code, whatever happens.

This module comes first, and while it imports what it needs an interrupt ends the process without a word: to import it
is to begin the process.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import sys

_signal = sys.modules["_signal"]  # it is there from the start; `signal` takes as long to import as all the rest
if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

from memhp.cli import signals  # noqa: E402
from memhp.outputs.whole import make_streams_whole  # noqa: E402

EXIT_DEFECT = 70
"""``EX_SOFTWARE`` of sysexits.h: memhp itself is at fault."""

TRACEBACK = "MEMHP_TRACEBACK"
"""The environment variable that asks for the traceback of a defect."""


def entry() -> int:
    """Run memhp with the process's arguments, and give the exit code."""
    signals.leave_at_once()
    code = 0
    ended_by: BaseException | None = None
    try:
        try:
            _fill_standard_streams()
            make_streams_whole()
            from memhp.cli.main import main

            signals.raise_where_it_is()
            code = main()
        except BaseException as error:
            ended_by = error
        signals.settle()
    except KeyboardInterrupt:  # once more, as the run was over
        signals.settle()
    if ended_by is not None:
        code = _end(ended_by)
    if (asked := signals.exit_code()) is not None and code != asked:
        _say("interrupted")
        code = asked
    return code


def _end(error: BaseException) -> int:
    """The exit code for what nobody else has dealt with."""
    if (code := signals.exit_code()) is not None:
        _say("interrupted")
        return code
    if not isinstance(error, Exception) or os.environ.get(TRACEBACK):
        raise error
    text = " ".join(f"{type(error).__name__}: {error}".split())
    _say(f"a defect of memhp: {text[:300]} ({TRACEBACK}=1 shows where)")
    return EXIT_DEFECT


def _say(text: str) -> None:
    """A line on stderr, as far as that takes it."""
    try:
        print("memhp:", text, file=sys.stderr, flush=True)
    except OSError:
        _discard(2)


def _fill_standard_streams() -> None:
    """Open the null device where stdin or stderr is closed, so that no file of the run gets their numbers."""
    for number, stream in ((0, sys.stdin), (2, sys.stderr)):
        if stream is None:
            _discard(number)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 (it stays open)


def _discard(number: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
