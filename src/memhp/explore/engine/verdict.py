"""What a search has to say: safe, broken or undecided, and how much it looked at."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from memhp.units import format_count


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


@dataclass(frozen=True)
class Bound:
    """What was allowed at most in one execution; None: any number."""

    preemptions: int | None = None
    failures: int | None = None
    """Allocations that fail."""

    @property
    def text(self) -> str:
        """``2 preemptions and 1 failed allocation``."""
        counted = ((self.preemptions, "preemption"), (self.failures, "failed allocation"))
        return " and ".join(format_count(count, what) for count, what in counted if count is not None)


class Step(NamedTuple):
    """A way for a step to go, as coverage counts it: whose, where, what, which way."""

    name: str
    place: str
    text: str
    way: int = 0
    ways: int = 1

    def __str__(self) -> str:
        """``hot-add: mm/page_alloc.c:alloc_pages: allocate: fails``."""
        parts = [self.name, self.place, self.text]
        if self.ways > 1:
            parts.append("fails" if self.way else "succeeds")
        return ": ".join(part for part in parts if part)


@dataclass
class Coverage:
    """What a search has looked at."""

    executions: int = 0
    """Executions that ran until no thread could go on, or until something was broken."""
    cut: int = 0
    """Executions given up half way because all that could follow had been seen before; by wakeup trees there are none
    (:mod:`memhp.explore.engine.search`)."""
    again: int = 0
    """Branches tried again after they had been tried and slept: executions may be looked at twice then
    (:mod:`memhp.explore.engine.source_sets`)."""
    deadlocks: int = 0
    """Executions that ended with a thread blocked for ever."""
    livelocks: int = 0
    """Executions in which threads go round for ever."""
    races: int = 0
    """Data races come upon; schedules that switch at what races were not looked at."""
    failed: int = 0
    """Executions that went wrong."""
    too_long: int = 0
    """Executions given up because they did not end."""
    steps: int = 0
    """Steps taken, those that rebuild a state and those that were taken along with another left out."""
    behaviours: set[Hashable] = field(default_factory=set)
    """Final behaviours (:meth:`memhp.explore.engine.op.Run.behaviour`), when they were asked for."""
    classes: set[Hashable] = field(default_factory=set)
    """Equivalence classes of the executions, when they were asked for."""
    announced: set[Step] = field(default_factory=set)
    """Steps that threads came to, in every way that each can go."""
    fired: set[Step] = field(default_factory=set)
    """Those of them that were done."""

    @property
    def never_fired(self) -> list[str]:
        """Steps that threads came to and that no execution did, and ways that none took, in words."""
        return sorted(str(step) for step in self.announced - self.fired)

    def add(self, other: "Coverage") -> None:
        """Take in what another search has looked at."""
        for name in ("executions", "cut", "again", "deadlocks", "livelocks", "races", "failed", "too_long", "steps"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("behaviours", "classes", "announced", "fired"):
            getattr(self, name).update(getattr(other, name))


SEQUENTIAL = "memory model: sequential consistency; each step is seen by all CPUs at once and in one order"
FAIR = "fairness: who can always go on does some time; who waits for a lock that is let go again and again gets it"
FOR_LOOPS = "a for loop ends"


@dataclass(frozen=True)
class Verdict:
    """The answer of a search.

    `bound` tells what was allowed at most, None where there was no such bound; `finished` whether everything within
    it was looked at.
    """

    mode: Mode
    finished: bool
    failure: Failure | None
    coverage: Coverage
    bound: Bound | None = None
    rests_on: tuple[str, ...] = ()
    """What the answer takes for granted, a line each: memory model, fairness, bounds of loops, grain of steps."""

    @property
    def classes(self) -> int | None:
        """How many classes of equivalent executions ran to their end; None where a search does not tell them apart."""
        if self.mode is Mode.REDUCED and not self.coverage.again:
            return self.coverage.executions  # it completes no class twice
        return len(self.coverage.classes) or None

    @property
    def word(self) -> str:
        """``safe``, ``broken`` or ``undecided``; a search with a bound is never plainly ``safe``."""
        if self.failure is not None:
            return "broken"
        if not self.finished or self.mode is Mode.RANDOM:
            return "undecided"
        if self.bound is not None:
            return f"safe up to {self.bound.text}"
        return "safe"
