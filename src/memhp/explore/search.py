"""Depth-first search over schedules with dynamic partial-order reduction: source sets and sleep sets.

Design. An execution is a sequence of events; which events happened before an event is kept as a bit mask of positions
(what vector clocks say, in a form that is cheap to join). When a thread is about to do an operation, every earlier
event that it races with is looked at: could the operation have come first? If so, some thread that can begin the
reversed order must be tried at the state before that event (source sets). Threads whose every continuation has been
seen are asleep until something happens that does not commute with what they do next (sleep sets); no class of
equivalent executions is completed twice.

Blocking operations. An operation that can be disabled races not only with the latest event it depends on: between two
acquisitions of a lock there is always a release, and putting the acquisition before that release is impossible. So a
blocking operation looks at all events of its object that are not in its thread's past, and reverses those before which
it would have been enabled. That is done for operations that stay blocked at the end of an execution as well, without
which a deadlock would hide the executions that avoid it.

Choices. An operation that can go several ways, an allocation that may fail, is tried in each way wherever its thread
is tried.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable
from dataclasses import dataclass

from memhp.explore.op import Op, Run, deadlock
from memhp.explore.schedule import Choice, to_text
from memhp.explore.verdict import Coverage, Failure, Mode, Verdict


@dataclass(frozen=True)
class Limits:
    """When a search ends before it has seen everything, and what it keeps.

    Deadlocks are failures unless `deadlock_is_failure` is False: a program may be meant to block.
    """

    executions: int | None = None
    steps: int = 100_000
    """The longest execution that is followed; one that goes on leaves the search undecided."""
    stop_at_failure: bool = True
    deadlock_is_failure: bool = True
    keep_behaviours: bool = False
    keep_classes: bool = False


class Search:
    """One search: the events of the current execution, and what has been and must be tried before each."""

    def __init__(self, run: Run, limits: Limits, *, reduce: bool) -> None:
        self._run = run
        self._limits = limits
        self._reduce = reduce
        self._threads = range(len(run.pending))
        self.coverage = Coverage()
        self.failure: Failure | None = None
        # By event.
        self._ops: list[Op] = []
        self._choices: list[Choice] = []
        self._past: list[int] = []
        self._past_of_thread: list[int] = [0] * len(run.pending)
        self._saved_past: list[int] = []
        self._events_of: dict[Hashable, list[tuple[int, int]]] = {}
        # By state, the one before the event of that number: bit masks of threads.
        self._enabled: list[int] = []
        self._asleep: list[int] = []
        self._wanted: list[int] = []
        self._tried: list[int] = []

    def explore(self) -> bool:
        """Look at everything; False when the limits came first."""
        asleep = 0
        while True:
            thread = self._arrive(asleep)
            if thread < 0:
                if self._over():
                    return False
                thread, way = self._next_branch()
                if thread < 0:
                    return not self.coverage.too_long
            else:
                way = 0
            asleep = self._step(thread, way)

    def _over(self) -> bool:
        most = self._limits.executions
        if self.failure is not None and self._limits.stop_at_failure:
            return True
        return most is not None and self.coverage.executions + self.coverage.cut >= most

    def _arrive(self, asleep: int) -> int:
        """Enter a new state; the thread to go on with, or -1 when the execution ends here."""
        run = self._run
        if run.broken is not None and self._limits.stop_at_failure:
            self._fail(run.broken)
            return -1
        if len(self._choices) >= self._limits.steps:
            self.coverage.too_long += 1
            return -1
        enabled = 0
        for thread, op in enumerate(run.pending):
            if op is not None and (not op.blocking or run.enabled(thread)):
                enabled |= 1 << thread
        if not enabled:
            self._end()
            return -1
        awake = enabled & ~asleep
        if not awake:
            self.coverage.cut += 1
            return -1
        last = 1 << self._choices[-1].thread if self._choices else 0
        first = awake & last or awake & -awake
        self._enabled.append(enabled)
        self._asleep.append(asleep)
        self._wanted.append(first if self._reduce else self._allowed(enabled, last))
        self._tried.append(0)
        return first.bit_length() - 1

    def _allowed(self, enabled: int, last: int) -> int:
        """Without reduction: which of the enabled threads are tried, `last` being the one that ran."""
        return enabled

    def _fail(self, reason: str) -> None:
        self.coverage.failed += 1
        if self.failure is None:
            self.failure = Failure(reason, to_text(self._choices))

    def _end(self) -> None:
        """No thread can go on: judge the execution."""
        run, coverage, limits = self._run, self.coverage, self._limits
        coverage.executions += 1
        blocked = [thread for thread, op in enumerate(run.pending) if op is not None]
        coverage.deadlocks += bool(blocked)
        outcome = run.outcome()
        if limits.keep_behaviours:
            coverage.behaviours.add(outcome.state)
        if limits.keep_classes:
            coverage.classes.add(self._class())
        failure = outcome.failure
        if failure is None and blocked and limits.deadlock_is_failure:
            failure = deadlock(run)
        if failure is not None:
            self._fail(failure)
        if self._reduce:
            for thread in blocked:
                op = run.pending[thread]
                assert op is not None
                self._blocking_races(thread, op)

    def _next_branch(self) -> Choice:
        """Go back to the latest state at which something remains to be tried; thread -1 when nothing remains."""
        while self._choices:
            thread, way = self._choices[-1]
            op = self._ops[-1]
            self._undo()
            if way + 1 < op.choices:
                return Choice(thread, way + 1)
            depth = len(self._choices)
            self._tried[depth] |= 1 << thread
            left = self._wanted[depth] & ~self._tried[depth] & ~self._asleep[depth]
            if left:
                return Choice((left & -left).bit_length() - 1)
            self._enabled.pop()
            self._asleep.pop()
            self._wanted.pop()
            self._tried.pop()
        return Choice(-1)

    def _undo(self) -> None:
        """Take the last event back."""
        self._run.back(len(self._choices) - 1)
        thread = self._choices.pop().thread
        for target, _ in self._ops.pop().touches:
            self._events_of[target].pop()
        self._past.pop()
        self._past_of_thread[thread] = self._saved_past.pop()

    def _step(self, thread: int, way: int) -> int:
        """Do an operation, look at its races; the threads asleep after it."""
        run = self._run
        op = run.pending[thread]
        assert op is not None
        depth = len(self._choices)
        before = self._past_of_thread[thread]
        past = before
        direct = 0
        for target, mode in op.touches:
            events = self._events_of.get(target)
            if events is None:
                self._events_of[target] = []
                continue
            for at, other in reversed(events):
                if other != mode or not mode:
                    direct |= 1 << at
                    past |= self._past[at]
                    if not other:
                        break
        asleep = 0
        if self._reduce:
            if op.blocking:
                self._blocking_races(thread, op)
            else:
                races = direct & ~past
                while races:
                    at = races.bit_length() - 1
                    races ^= 1 << at
                    self._reverse(at, thread, past | direct)
            drowsy = (self._asleep[depth] | self._tried[depth]) & ~(1 << thread)
            while drowsy:
                bit = drowsy & -drowsy
                drowsy ^= bit
                other_op = run.pending[bit.bit_length() - 1]
                assert other_op is not None
                if op.commutes(other_op):
                    asleep |= bit
        past |= direct
        run.step(thread, way)
        self.coverage.steps += 1
        self._ops.append(op)
        self._choices.append(Choice(thread, way))
        self._past.append(past)
        self._saved_past.append(before)
        self._past_of_thread[thread] = past | 1 << depth
        for target, mode in op.touches:
            self._events_of[target].append((depth, mode))
        return asleep

    def _reverse(self, at: int, thread: int, past: int) -> None:
        """Let the order be tried in which event `at` comes after the next operation of `thread`.

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
            if wanted & bit:
                return
            begin = bit
        begin &= self._enabled[at]
        self._wanted[at] |= begin & -begin if begin else self._enabled[at]

    def _blocking_races(self, thread: int, op: Op) -> None:
        """Reverse the races of an operation that can be disabled."""
        before = self._past_of_thread[thread]
        races = []
        past = before
        for target, mode in op.touches:
            for at, other in self._events_of.get(target, ()):
                if (other != mode or not mode) and not before >> at & 1:
                    races.append((at, other))
                    past |= 1 << at
        for at, other in races:
            # Sharers that came after a sharer may have disabled the operation again: then anything may come first.
            if other and at != races[-1][0]:
                self._wanted[at] |= self._enabled[at]
            elif self._run.could(op, thread, at):
                self._reverse(at, thread, past)
            elif other:
                self._wanted[at] |= self._enabled[at]

    def _class(self) -> Hashable:
        """What equivalent executions have in common: by thread, the way each event went and what came before it."""
        number: list[tuple[int, int]] = []
        count = [0] * len(self._past_of_thread)
        events: list[list[Hashable]] = [[] for _ in count]
        for position, (thread, way) in enumerate(self._choices):
            clock = [0] * len(count)
            past = self._past[position]
            while past:
                at = past.bit_length() - 1
                past ^= 1 << at
                who, which = number[at]
                clock[who] = max(clock[who], which)
            count[thread] += 1
            number.append((thread, count[thread]))
            events[thread].append((way, tuple(clock)))
        return tuple(tuple(of_thread) for of_thread in events)


def search(run: Run, limits: Limits | None = None, *, reduce: bool = True) -> Verdict:
    """Every schedule of a program (its run stands at the start), with reduction or, to compare, without."""
    limits = limits if limits is not None else Limits()
    one = Search(run, limits, reduce=reduce)
    finished = one.explore()
    run.back(0)
    return Verdict(Mode.REDUCED if reduce else Mode.EXHAUSTIVE, finished, one.failure, one.coverage)
