"""Whether a guest is still at work, and what time it had, told by the processors that QEMU's threads use or wait for.

Software emulation on a busy machine may take minutes for what takes a second elsewhere, so seconds alone tell nothing.
A guest that has nothing more to do lets its threads sleep, however slow the machine is.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

BUSY = 0.7
"""Of the time for which the busiest thread of a guest with something to do runs or is ready to: on an idle guest each
wakes now and then, and waits for its turn."""


PROC = Path("/proc")
LEAST_SHARE = 0.02
"""Of the time that passes outside, what passes for a guest at least, however little of a processor it gets."""


class Turns(NamedTuple):
    """Seconds for which a thread ran, and was ready to run but had to wait for its turn."""

    ran: float
    waited: float


def turns(pid: int, proc: Path = PROC) -> dict[str, Turns]:
    """What each thread of a process had of the processors, by its id; none where nothing tells.

    ``/proc/PID/task/TID/schedstat`` (``Documentation/scheduler/sched-stats.rst``).
    """
    found = {}
    for path in (proc / str(pid) / "task").glob("*/schedstat"):
        try:
            ran, waited, _ = path.read_text().split()
        except (OSError, ValueError):
            continue
        found[path.parent.name] = Turns(int(ran) / 1e9, int(waited) / 1e9)
    return found


def wanted(pid: int, proc: Path = PROC) -> dict[str, float]:
    """Seconds for which each thread of a process ran or was ready to run, by its id."""
    return {thread: each.ran + each.waited for thread, each in turns(pid, proc).items()}


class GuestClock:
    """Seconds as a guest has them: those that pass outside, without those in which it waits for its turn to run.

    A limit by this clock is as long on a busy machine as on an idle one; for a guest that sleeps it is the clock.
    """

    def __init__(
        self,
        pid: int,
        *,
        threads: Callable[[int], dict[str, Turns]] = turns,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pid, self._threads, self._clock = pid, threads, clock
        self._now, self._seen, self._passed = clock(), threads(pid), 0.0

    def __call__(self) -> float:
        """Seconds since it was made."""
        now, seen = self._clock(), self._threads(self._pid)
        passed = now - self._now
        waits = (each.waited - self._seen[thread].waited for thread, each in seen.items() if thread in self._seen)
        self._passed += max(passed - max(waits, default=0.0), LEAST_SHARE * passed)
        self._now, self._seen = now, seen
        return self._passed


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
