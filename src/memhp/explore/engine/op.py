"""What the search sees of a program: operations, what they touch, and a run that goes forward and back.

Two operations of different threads are dependent when they touch the same object in ways that do not commute. Each
touch has a *mode*: 0 commutes with nothing; two touches of one object with the same mode above 0 commute (two loads,
two shared acquisitions); different modes do not.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, Protocol

from memhp.explore.engine.races import Data
from memhp.explore.engine.trace import Line

ALONE = 0
"""The mode that commutes with nothing: a store, taking or releasing a lock."""
SHARED = 1
"""The mode of whatever leaves the object as it is for others of its kind: a load, a shared acquisition."""
MISSED = 2
"""The mode of an attempt to take a lock that is not to be had: it leaves the lock as it is."""


class Stretch(NamedTuple):
    """Neighbouring parts of one object, each of which is touched; part `i` by itself is ``(*of, i)``, of three members.

    Only what steps touch that are taken along may stand for many parts at once.
    """

    of: tuple[Hashable, Hashable]
    start: int
    end: int


class Op:
    """One step of a thread, as announced before it happens."""

    __slots__ = ("blocking", "changes_touched", "choices", "missed", "place", "text", "touches")

    def __init__(
        self,
        text: str,
        touches: tuple[tuple[Hashable, int], ...],
        *,
        blocking: bool = False,
        choices: int = 1,
        place: str = "",
    ) -> None:
        self.text = text
        """For people: ``store x = 3``."""
        self.place = place
        """Where in the program: ``file:function``; empty where that is not known."""
        self.touches = touches
        """Objects that the step reads or changes, with modes."""
        self.blocking = blocking
        """Whether there are states in which the thread cannot go on."""
        self.choices = choices
        """How many ways the step can go (2: an allocation that may fail)."""
        self.changes_touched = False
        """Whether what it touches depends on the state that it is done in, beyond what `missed` tells."""
        self.missed: Op | None = None
        """The step as it is in states where it finds its lock taken (:meth:`Run.misses`), if it is an attempt."""

    def commutes(self, other: "Op") -> bool:
        """Whether the order of the two makes no difference, when different threads do them."""
        for target, mode in self.touches:
            for other_target, other_mode in other.touches:
                if target == other_target and (mode != other_mode or not mode):
                    return False
        return True


class Round:
    """Steps that a thread has done twice in a row."""

    __slots__ = ("endless", "period")

    def __init__(self, period: int) -> None:
        self.period = period
        """How many they are."""
        self.endless: bool | None = None
        """Whether it goes on with them for as long as nobody interferes; None: nobody has looked."""


class Run(Protocol):
    """A program under exploration, in some state after a number of steps."""

    pending: list[Op | None]
    """By thread: the operation it does next; None when it has ended."""
    broken: str | None
    """What has gone wrong already, whatever comes: a thread that raised, a violation."""
    loops: bool
    """Whether some thread has ever gone round (:meth:`spin`); never taken back."""
    shared: frozenset[Hashable] | None
    """What threads share, as far as that is known: steps that touch nothing of it are taken along with the step of
    their thread before them (:mod:`memhp.explore.engine.fusion`). None: every step is taken by itself."""

    unseen: set[Hashable]
    """State that was written while its reads were not looked at, so that a data race with one could not be told: it
    counts as shared and not known to be. Empty where `shared` is None: then all are looked at."""
    grain: tuple[str, ...]
    """What one step is, and what is not looked at, a line each: what a verdict rests on besides its limits."""
    notes_places: bool
    """Whether plain accesses to shared data come with their places, which takes time."""

    @property
    def data(self) -> Mapping[Data, str]:
        """Plain accesses to shared data that the last step brought with it, and where they were made."""

    @property
    def names(self) -> tuple[str, ...]:
        """The threads' names."""

    def enabled(self, thread: int) -> bool:
        """Whether a thread with a pending operation can do it now."""

    def misses(self, thread: int) -> bool:
        """Whether a thread's attempt (an operation with a `missed` form) finds its lock taken now."""

    def step(self, thread: int, choice: int) -> None:
        """Do a thread's pending operation (it is enabled), the way `choice` says."""

    def back(self, depth: int) -> None:
        """Return to the state after the first `depth` steps."""

    def could(self, op: Op, thread: int, depth: int) -> bool:
        """Whether a blocking `op` would have been enabled just before step `depth`, which touched the same object."""

    def spin(self, thread: int) -> Round | None:
        """The round that a thread has done twice and may be about to do again, if there is one.

        Its last steps were the same ones twice, with the same values seen and written, and it stands where it stood
        before each of the two rounds, with the same values of its own variables, as far as can be seen.
        """

    def said(self, depth: int) -> Hashable:
        """What step `depth` did, and those that were taken along: equal for the same with the same values."""

    def watch(self) -> None:
        """From now on, note what every step changes, for :meth:`line`; it takes time."""

    def line(self, depth: int) -> Line:
        """Step `depth` as a line of a trace."""

    def behaviour(self) -> Hashable:
        """Shared memory and what each thread returned; equal for equal behaviours."""

    def state(self) -> Hashable:
        """All that threads share, as it is now; equal where it is equal, whatever came before."""

    def failure(self) -> str | None:
        """What has gone wrong where no thread can go on: a thread that raised, a property that does not hold."""

    def tell_apart(self, shared: frozenset[Hashable] | None) -> None:
        """Take this for what threads share; the run is at its start then."""

    def is_lock(self, target: Hashable) -> bool:
        """Whether an object is something that threads wait for."""

    def along(self, depth: int) -> int:
        """How many steps were taken along with step `depth`."""

    @property
    def touched_along(self) -> Sequence[tuple[Hashable, int]]:
        """What the steps touched that were taken along with the last step that was done, with modes."""


def deadlock(run: Run) -> str:
    """Who waits for what, where no thread can go on."""
    stuck = (f"{name} at {op.text}" for name, op in zip(run.names, run.pending, strict=True) if op is not None)
    return f"deadlock: {', '.join(stuck)}"
