"""Whether a guest is still at work, told by the processors that QEMU's threads use or wait for.

Software emulation on a busy machine may take minutes for what takes a second elsewhere, so seconds alone tell nothing.
A guest that has nothing more to do lets its threads sleep, however slow the machine is.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import time
from collections.abc import Callable
from pathlib import Path

BUSY = 0.7
"""Of the time for which the busiest thread of a guest with something to do runs or is ready to: on an idle guest each
wakes now and then, and waits for its turn."""


def wanted(pid: int, proc: Path = Path("/proc")) -> dict[str, float]:
    """Seconds for which each thread of a process ran or was ready to run, by its id; none where nothing tells.

    ``/proc/PID/task/TID/schedstat`` (``Documentation/scheduler/sched-stats.rst``).
    """
    found = {}
    for path in (proc / str(pid) / "task").glob("*/schedstat"):
        try:
            run, ready, _ = path.read_text().split()
        except (OSError, ValueError):
            continue
        found[path.parent.name] = (int(run) + int(ready)) / 1e9
    return found


class Idle:
    """For how long a process has had nothing to do, while nobody asks it anything."""

    def __init__(
        self,
        pid: int,
        *,
        want: Callable[[int], dict[str, float]] = wanted,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pid, self._want, self._sleep, self._clock = pid, want, sleep, clock
        self.seconds = 0.0
        """Of the pauses since it was last seen to be busy."""

    def pause(self, seconds: float) -> None:
        """Leave it alone for a while, and see what it does."""
        began, used = self._clock(), self._want(self._pid)
        self._sleep(seconds)
        passed = self._clock() - began
        most = max((now - used.get(thread, now) for thread, now in self._want(self._pid).items()), default=0.0)
        self.seconds = 0.0 if most > BUSY * passed else self.seconds + passed
