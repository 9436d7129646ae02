"""Whether a guest is still at work, told by the processors that QEMU's threads use or wait for.

Software emulation on a busy machine may take minutes for what takes a second elsewhere, so seconds alone tell nothing.
A guest that has nothing more to do lets its threads sleep, however slow the machine is.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import time
from collections.abc import Callable
from pathlib import Path

BUSY = 0.4
"""Processors that a guest with something to do wants at least: looks at it take some, an idle one a few hundredths."""
WINDOW = 0.5
"""Seconds over which that is measured."""


def wanted(pid: int, proc: Path = Path("/proc")) -> float:
    """Seconds for which the threads of a process ran or were ready to run (``Documentation/scheduler/sched-stats.rst``,
    ``/proc/PID/task/TID/schedstat``); 0 where nothing tells.
    """
    total = 0
    for path in (proc / str(pid) / "task").glob("*/schedstat"):
        try:
            run, ready, _ = path.read_text().split()
        except (OSError, ValueError):
            continue
        total += int(run) + int(ready)
    return total / 1e9


class Idle:
    """For how long a process has had nothing to do, asked again and again."""

    def __init__(
        self, pid: int, want: Callable[[int], float] = wanted, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pid, self._want, self._clock = pid, want, clock
        self._since = self._at = clock()
        self._used = want(pid)

    def seconds(self) -> float:
        """Seconds since it was last seen to be busy."""
        now = self._clock()
        if now - self._at >= WINDOW:
            used = self._want(self._pid)
            if used - self._used > BUSY * (now - self._at):
                self._since = now
            self._at, self._used = now, used
        return now - self._since
