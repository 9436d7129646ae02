"""Nothing outlives a twin: whatever is left in its mount namespace ends with it, also if it was killed.

A command may have started others, which the kernel does not end with it. They would go on with files that answer no
more.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 10.0
"""Seconds for processes that were killed to be gone."""
PAUSE = 0.01


@contextmanager
def none_left(pid: int) -> Iterator[None]:
    """End all that is in the mount namespace of a process, when this is over or this process has been killed.

    What sees to the second is a process of its own.
    """
    mounts = mount_namespace(pid)
    ours, its = socket.socketpair()
    watcher = os.fork()
    if not watcher:
        _watch(its.fileno(), mounts)
    its.close()
    try:
        yield
    finally:
        ours.close()
        os.waitpid(watcher, 0)
        end_all(mounts)


def mount_namespace(pid: int | str) -> int | None:
    """The number of the mount namespace that a process is in; None where it is gone, or is not to be seen."""
    try:
        return Path("/proc", str(pid), "ns", "mnt").stat().st_ino
    except OSError:
        return None


def end_all(mounts: int | None) -> None:
    """Kill the processes of a mount namespace until there is none."""
    end = time.monotonic() + PATIENCE
    while mounts not in (None, mount_namespace(os.getpid())) and time.monotonic() < end:
        found = [int(each.name) for each in Path("/proc").glob("[0-9]*") if mount_namespace(each.name) == mounts]
        if not found:
            return
        for pid in found:
            _kill(pid, mounts)
        time.sleep(PAUSE)


def _kill(pid: int, mounts: int | None) -> None:
    """Kill a process, unless its number is another's by now."""
    with suppress(OSError):
        process = os.pidfd_open(pid)
        try:
            if mount_namespace(pid) == mounts:
                signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)


def _watch(line: int, mounts: int | None) -> None:
    """In a process of its own, which holds no file of the other's: wait until that is gone, and end what is left."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    os.dup2(line, 3)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    with suppress(OSError):
        os.read(3, 1)
    end_all(mounts)
    os._exit(0)
