"""Which steps are to be tried in a state: enough of them that every order of events can begin with one.

Design. Two events of an execution race when they do not commute and nothing but themselves puts one before the other.
Could the later operation have come first? Then some thread that can begin the reversed order must be tried in the state
before the earlier event: a *source set* (P. Abdulla and others, "Optimal Dynamic Partial Order Reduction", POPL 2014).

Blocking operations. An operation that can be disabled races not only with the latest event it depends on: between two
acquisitions of a lock there is always a release, and putting the acquisition before that release is impossible. So a
blocking operation looks at all events of its object that are not in its thread's past, and reverses those before which
it would have been enabled. That is done for operations that stay blocked at the end of an execution as well, without
which a deadlock would hide the executions that avoid it, and for those that are blocked where one is given up.

Operations that touch more in one state than in another. One that comes before what it races with may meet operations
then that it did not meet behind it: a change of a counter goes past other marks where another change has not come
first. Where it is asleep, and so was tried earlier, that says nothing of orders in which those come before it; it is
tried again then, for the races that it has there, and executions are looked at twice (:attr:`Coverage.again`).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.explore.engine.execution import NOTHING, Execution
from memhp.explore.engine.fusion import Touches
from memhp.explore.engine.op import ALONE, SHARED, Op, Run
from memhp.explore.engine.schedule import EVERY_WAY, numbers
from memhp.explore.engine.spin import SpinOp
from memhp.explore.engine.verdict import Coverage


class SourceSets(Execution):
    """The current execution, and what was and must be tried in the states on its way."""

    def __init__(self, run: Run, rounds: int) -> None:
        super().__init__(run, rounds)
        # By state, the one before the event of that number: bit masks of branches.
        self._enabled: list[int] = []
        self._asleep: list[int] = []
        self._wanted: list[int] = []
        self._tried: list[int] = []
        self._sleepers: list[list[tuple[int, Touches]]] = []
        """By event: branches of other threads that were asleep before it, and what each would have touched."""
        self.beyond_trees = False
        """Whether something was met that wakeup trees are not for."""
        self.coverage = Coverage()

    def _want(self, at: int, thread: int, op: Op, past: int) -> None:
        """Let the order be tried in which event `at` comes after `op`, which `thread` does next.

        `past` are the events that must come before that operation even then. What can begin such an order is any
        thread whose first event after `at` (those that need `at` left out) needs none of the others.
        """
        wanted = self._wanted[at] | self._asleep[at]
        begin = 0
        kept = 0
        seen = 0
        for position in range(at + 1, len(self._past)):
            its_past = self._past[position]
            if not its_past >> at & 1:
                bit = 1 << self._choices[position].thread
                if not its_past & kept and not seen & bit:
                    if wanted & bit:
                        return
                    begin |= bit
                seen |= bit
                kept |= 1 << position
        bit = 1 << thread
        if not past & kept and not seen & bit:
            if self._wanted[at] & bit:
                return
            if self._asleep[at] & bit:
                if not self._touched_more(at, bit, op):
                    return
                self._asleep[at] &= ~bit
                self.coverage.again += 1
            begin = bit
        begin &= self._enabled[at]
        self._wanted[at] |= (begin & -begin) * EVERY_WAY & self._enabled[at] if begin else self._enabled[at]

    def _touched_more(self, at: int, branch: int, op: Op) -> bool:
        """Whether a branch that is asleep before event `at` may meet there what `op`, its step now, does not meet."""
        if not op.changes_touched:
            return False
        before = next(touches for sleeper, touches in self._sleepers[at] if sleeper == branch)
        now = set(op.touches)
        return any((target, mode) not in now and (target, ALONE) not in now for target, mode in before)

    def _blocking_races(self, thread: int, op: Op) -> int:
        """The events before which an operation that can be disabled could have come, as a bit mask.

        One that waits for several objects may be enabled by an order of events that have nothing to do with each
        other: which, no single execution tells, so anything may come first wherever one of the objects is touched.
        """
        met = shared = 0
        for target, mode in op.touches:
            for other, events in self._events_of.get(target, NOTHING).items():
                if other != mode or not mode:
                    met |= events
                    if other == SHARED:
                        shared |= events
        races = met & ~self._past_of_thread[thread]
        several = waits_for_several(op)
        for at in numbers(races):
            # Sharers that come before it in either order may disable the operation: then anything may come first.
            of_sharers = bool(shared >> at & 1 and shared & self._without(at))
            if several or of_sharers or not self._could(op, thread, at):
                races ^= 1 << at
                if several or of_sharers:
                    self._wanted[at] |= self._enabled[at]
                    self.beyond_trees = True
        return races

    def _without(self, at: int) -> int:
        """The events after event `at` that do not need it, as a bit mask."""
        past = self._past
        events = (1 << len(past)) - (2 << at)
        for thread, its_past in enumerate(self._past_of_thread):
            if its_past >> at & 1:
                steps = events & self._steps_of[thread]
                while steps:
                    low = steps & -steps
                    if past[low.bit_length() - 1] >> at & 1:
                        events ^= steps
                        break
                    steps ^= low
        return events


def waits_for_several(op: Op) -> bool:
    """Whether an operation waits for several objects: :class:`SpinOp` looks for what wakes it itself."""
    return op.blocking and type(op) is not SpinOp and len(op.touches) > 1
