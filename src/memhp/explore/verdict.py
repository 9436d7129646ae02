"""What a search has to say: safe, broken or undecided, and how much it looked at."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum


class Mode(Enum):
    """How schedules are chosen."""

    REDUCED = "every schedule, by partial-order reduction"
    EXHAUSTIVE = "every schedule, one by one"
    BOUNDED = "every schedule with few preemptions"
    RANDOM = "random schedules with few priority changes"


@dataclass(frozen=True)
class Failure:
    """An execution that went wrong: why, and the schedule (a string) that leads there."""

    reason: str
    schedule: str


@dataclass
class Coverage:
    """What a search has looked at."""

    executions: int = 0
    """Executions that ran until no thread could go on."""
    cut: int = 0
    """Executions given up half way because all that could follow had been seen before."""
    deadlocks: int = 0
    """Executions that ended with a thread blocked for ever."""
    failed: int = 0
    """Executions that went wrong."""
    too_long: int = 0
    """Executions given up because they did not end."""
    steps: int = 0
    """Steps taken, those that rebuild a state left out."""
    behaviours: set[Hashable] = field(default_factory=set)
    """Final behaviours (:class:`memhp.explore.op.Outcome`, `state`), when they were asked for."""
    classes: set[Hashable] = field(default_factory=set)
    """Equivalence classes of the executions, when they were asked for."""


@dataclass(frozen=True)
class Verdict:
    """The answer of a search.

    `bound` is the most preemptions that were allowed, None where there was no such bound; `finished` tells whether
    everything within it was looked at.
    """

    mode: Mode
    finished: bool
    failure: Failure | None
    coverage: Coverage
    bound: int | None = None

    @property
    def word(self) -> str:
        """``safe``, ``broken`` or ``undecided``; a search with a bound is never plainly ``safe``."""
        if self.failure is not None:
            return "broken"
        if not self.finished or self.mode is Mode.RANDOM:
            return "undecided"
        if self.bound is not None:
            return f"safe up to {self.bound} preemptions"
        return "safe"
