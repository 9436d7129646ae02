"""Child processes that never outlive this one: they die with it, whatever ends it.

The kernel sends SIGKILL when the parent is gone (``prctl(PR_SET_PDEATHSIG)``), kill -9 and crashes included; a child
leads a process group of its own, so that a Ctrl-C on the terminal reaches the parent, which then ends the whole group.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""``include/uapi/linux/prctl.h``."""

Child = subprocess.Popen[bytes]


def _die_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes another program; the library is loaded before the fork."""
    libc = ctypes.CDLL(None, use_errno=True)

    def before_exec() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return before_exec


def start(
    command: Sequence[str | Path],
    *,
    output: int = subprocess.DEVNULL,
    stdin: int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    cwd: Path | None = None,
    own_group: bool = True,
) -> Child:
    """Start a program whose standard output and error go to `output`.

    To be called from the main thread: Linux sends the signal when the thread that forked is gone. A program that talks
    to the terminal must stay in the group that the terminal listens to: not `own_group`.
    """
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=output,
        stderr=output,
        pass_fds=tuple(pass_fds),
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        process_group=0 if own_group else None,
        preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - runs two system calls, loaded beforehand
    )


def end(child: Child) -> None:
    """End a child with all that it started, and wait for it."""
    if child.poll() is None:
        if os.getpgid(child.pid) == child.pid:
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()


@contextmanager
def ended(child: Child) -> Iterator[Child]:
    """The child for as long as the block runs."""
    try:
        yield child
    finally:
        end(child)
