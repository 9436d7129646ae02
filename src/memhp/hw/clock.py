"""Machine time, what is to happen later, and the kernel log, whose lines carry the time."""
# SPDX-License-Identifier: GPL-2.0-or-later

import heapq
from collections.abc import Callable
from typing import NamedTuple

from memhp.hw.ledger import LogLine


class Repetition(NamedTuple):
    """What happens the same way every `period` nanoseconds, `most` times at most; told how often it is left out."""

    period: int
    most: int
    passed_over: Callable[[int], None]


class Clock:
    """The doors of a machine that read the clock, arm timers and log lines."""

    def __init__(self) -> None:
        self.now = 0
        """Machine time in nanoseconds."""
        self.log_lines: list[LogLine] = []
        self._timers: list[tuple[int, int, Callable[[], None], Repetition | None]] = []
        self._timer_serial = 0

    def log(self, text: str, level: str = "info") -> None:
        """A line to the kernel log: ``pr_info()``, ``pr_warn()``, ``pr_debug()`` …"""
        self.log_lines.append(LogLine(self.now, level, text))

    def arm(self, delay: int, call: Callable[[], None], *, again: Repetition | None = None) -> None:
        """Call something `delay` nanoseconds of machine time from now.

        `again` is said of what will do the same and be armed again each time, as long as nothing else comes due: time
        that passes goes on to the last of these times then.
        """
        self._timer_serial += 1
        heapq.heappush(self._timers, (self.now + delay, self._timer_serial, call, again))

    def next_due(self) -> int | None:
        """When the next timer is due, in machine time; None without one."""
        return self._timers[0][0] if self._timers else None

    def advance(self, duration: int) -> None:
        """Let `duration` nanoseconds pass; timers that come due run in order, and may themselves let time pass."""
        until = self.now + duration
        while self._timers and self._timers[0][0] <= until:
            due, _, call, again = heapq.heappop(self._timers)
            if again:
                free = min(until, self._timers[0][0] - 1) if self._timers else until
                times = min(max(0, free - due) // again.period, again.most)
                due += times * again.period
                again.passed_over(times)
            self.now = max(self.now, due)
            call()
        self.now = max(self.now, until)
