"""Machine time, what is to happen later, and the kernel log, whose lines carry the time."""
# SPDX-License-Identifier: GPL-2.0-or-later

import heapq
from collections.abc import Callable
from typing import NamedTuple

from memhp.hw.callback import must_take_nothing
from memhp.hw.ledger import LogLine
from memhp.hw.stepper import Access, Stepper

LOG, CLOCK = "log_buf", "clock"
"""What the log, and the time with its timers, are called where CPUs share them."""


class Repetition(NamedTuple):
    """What happens the same way every `period` nanoseconds, `most` times at most; told how often it is left out."""

    period: int
    most: int
    passed_over: Callable[[int], None]


class Clock:
    """The doors of a machine that read the clock, arm timers and log lines."""

    stepper: Stepper | None

    def __init__(self) -> None:
        self._now = 0
        self._log_lines: list[LogLine] = []
        self._timers: list[tuple[int, int, Callable[[], None], Repetition | None]] = []
        self._timer_serial = 0

    def _shared(self, kind: str, name: str) -> None:
        """The log or the clock is about to be read or changed, in a step."""
        if self.stepper is not None:
            self.stepper.step(Access(kind, name))

    @property
    def now(self) -> int:
        """Machine time in nanoseconds."""
        self._shared("read", CLOCK)
        return self._now

    @now.setter
    def now(self, time: int) -> None:
        self._shared("write", CLOCK)
        self._now = time

    @property
    def log_lines(self) -> list[LogLine]:
        """The lines of the kernel log, the oldest first."""
        self._shared("read", LOG)
        return self._log_lines if self.stepper is None else list(self._log_lines)

    def log(self, text: str, level: str = "info") -> None:
        """A line to the kernel log: ``pr_info()``, ``pr_warn()``, ``pr_debug()`` …"""
        self._shared("add", LOG)
        self._log_lines.append(LogLine(self._now, level, text))

    def arm(self, delay: int, call: Callable[[], None], *, again: Repetition | None = None) -> None:
        """Call something `delay` nanoseconds of machine time from now.

        `again` is said of what will do the same and be armed again each time, as long as nothing else comes due: time
        that passes goes on to the last of these times then. TypeError: it cannot be called so.
        """
        must_take_nothing(call, "arm()")
        self._shared("atomic", CLOCK)
        self._timer_serial += 1
        heapq.heappush(self._timers, (self._now + delay, self._timer_serial, call, again))

    def next_due(self) -> int | None:
        """When the next timer is due, in machine time; None without one."""
        self._shared("read", CLOCK)
        return self._timers[0][0] if self._timers else None

    def advance(self, duration: int) -> None:
        """Let `duration` nanoseconds pass; timers that come due run in order, and may themselves let time pass."""
        self._shared("atomic", CLOCK)
        until = self._now + duration
        while self._timers and self._timers[0][0] <= until:
            due, _, call, again = heapq.heappop(self._timers)
            if again:
                free = min(until, self._timers[0][0] - 1) if self._timers else until
                times = min(max(0, free - due) // again.period, again.most)
                due += times * again.period
                again.passed_over(times)
            self._now = max(self._now, due)
            call()
            self._shared("atomic", CLOCK)
        self._now = max(self._now, until)
