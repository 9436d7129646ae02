"""Threads and processes that an actor would start: nobody follows what they do, so that is an error of the actor's.

Python tells of processes before they begin (``sys.addaudithook``), of threads in some releases only. What listens stays
there, from the first race of a user's on.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from functools import cache
from threading import Thread

from greenlet import getcurrent

from memhp.errors import BadInput

PROCESS = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"}
"""What Python says when a process begins."""


def _must_be_no_actor(starts: str) -> None:
    if getcurrent().parent is not None:
        raise BadInput(f"an actor starts a {starts}, which nobody follows")


def _listen(event: str, _: tuple[object, ...]) -> None:
    if event in PROCESS:
        _must_be_no_actor("process")


@cache
def refuse_starts() -> None:
    """From now on BadInput is raised where an actor starts a thread or a process."""
    sys.addaudithook(_listen)
    start = Thread.start

    def started(thread: Thread) -> None:
        _must_be_no_actor("thread")
        start(thread)

    Thread.start = started  # type: ignore[method-assign, assignment]
