"""The signals that end a run, held back while files or processes are between two states.

A mask of the thread alone does not do that: the kernel hands a signal that this thread blocks to another one that does
not, such as a timer's, and Python runs its handler in the main thread all the same.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM})
"""What ends a run on request; held back while files of the user's are between two states."""


class _Back:
    """A handler that sends a signal which another thread took to the main one, where it stays pending."""

    def __init__(self, handler: Callable[[int, FrameType | None], Any]) -> None:
        self.handler = handler
        self.over = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.over:
            self.handler(number, frame)
        else:
            signal.pthread_kill(threading.get_ident(), number)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back the signals that end a run until the block is done; in the main thread, whichever thread takes them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    replaced: dict[signal.Signals, _Back] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for each in ENDING_SIGNALS:
                handler = signal.getsignal(each)
                if callable(handler):
                    replaced[each] = _Back(handler)
                    signal.signal(each, replaced[each])
        yield
    finally:
        for back in replaced.values():
            back.over = True
        try:
            for each, back in replaced.items():
                signal.signal(each, back.handler)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
