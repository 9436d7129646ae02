"""Depth-first search over schedules with dynamic partial-order reduction: source sets and sleep sets.

Design. An execution is a sequence of events; which events happened before an event is kept as a bit mask of positions
(what vector clocks say, in a form that is cheap to join). When a thread is about to do an operation, every earlier
event that it races with is looked at: could the operation have come first? If so, some thread that can begin the
reversed order must be tried at the state before that event (source sets: P. Abdulla and others, "Optimal Dynamic
Partial Order Reduction", POPL 2014). Threads whose every continuation has been seen are asleep until something happens
that does not commute with what they do next (sleep sets: P. Godefroid, LNCS 1032, 1996); no class of equivalent
executions is completed twice.

Blocking operations. An operation that can be disabled races not only with the latest event it depends on: between two
acquisitions of a lock there is always a release, and putting the acquisition before that release is impossible. So a
blocking operation looks at all events of its object that are not in its thread's past, and reverses those before which
it would have been enabled. That is done for operations that stay blocked at the end of an execution as well, without
which a deadlock would hide the executions that avoid it.

Choices. An operation that can go several ways, an allocation that may fail, is tried in each way wherever its thread
is tried. A bound on failures leaves the reduction sound: equivalent executions fail equally often, and the first way,
which every operation has, costs nothing.

Threads that go round. :mod:`memhp.explore.engine.spin` tells when one waits in fact, and when nobody gets further.
Where some threads repeat the same steps while another could go on, that other one goes first from there.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable, Set

from memhp.explore.engine.execution import Execution
from memhp.explore.engine.fusion import MOST_ALONG, one_by_one, settled
from memhp.explore.engine.limits import Limits
from memhp.explore.engine.op import SHARED, Op, Run, deadlock
from memhp.explore.engine.schedule import Choice, to_text
from memhp.explore.engine.spin import SpinOp, endless, livelock, own_steps, repetition, spin_of
from memhp.explore.engine.verdict import Coverage, Failure, Mode, Step, Verdict

__all__ = ["DATA_RACE", "Limits", "Search", "search"]

DATA_RACE = "data race"
"""The kind of failure that two accesses are which nothing puts in order (:mod:`memhp.explore.engine.races`)."""
NOTED = 20_000
"""Steps that are kept as objects before coverage takes them in."""


class Search(Execution):
    """One search: the events of the current execution, and what has been and must be tried before each."""

    def __init__(self, run: Run, limits: Limits, *, reduce: bool, budget: int | None = None) -> None:
        super().__init__(run, limits.rounds)
        self._limits = limits
        self._reduce = reduce
        self._budget = budget
        self._spent = 0
        self._stopped = False
        """Whether the budget is spent."""
        self.coverage = Coverage()
        self.failure: Failure | None = None
        """The first failure, in whose schedule every step stands by itself."""
        self.race: Failure | None = None
        """The first data race, likewise."""
        self._floor = 0
        """The depth whose subtree is searched."""
        self._branch = 0
        """The depth from which the execution differs from the one before it."""
        self._noted: set[tuple[Op, Choice]] = set()
        # By state, the one before the event of that number: bit masks of threads.
        self._enabled: list[int] = []
        self._asleep: list[int] = []
        self._wanted: list[int] = []
        self._tried: list[int] = []

    def explore(self, asleep: int = 0) -> bool:
        """Look at everything; False when the limits came first, or an execution met what was not known to be shared."""
        while True:
            thread = self._arrive(asleep)
            if thread < 0:
                self._note()
                if self._over() or self.met:
                    self._count_steps()
                    return False
                thread, way = self._next_branch()
                if thread < 0:
                    self._count_steps()
                    return not self.coverage.too_long
            else:
                way = 0
            asleep = self._step(thread, way)

    def _over(self) -> bool:
        most = self._limits.executions
        self._spent += self._taken[-1]
        self._stopped = self._budget is not None and self._spent >= self._budget
        if self._stopped:
            return True
        if self.failure is not None and self._limits.stop_at_failure:
            return True
        return most is not None and self.coverage.executions + self.coverage.cut >= most

    def _arrive(self, asleep: int) -> int:
        """Enter a new state; the thread to go on with, or -1 when the execution ends here."""
        run = self._run
        if run.broken is not None and self._limits.stop_at_failure:
            self.coverage.executions += 1
            self._fail(run.broken)
            return -1
        if len(self._choices) >= self._limits.steps:
            self.coverage.too_long += 1
            return -1
        if (run.loops or self._taken[-1] >= MOST_ALONG) and self.met:
            return -1  # a round may be one that others would end, had they been seen
        enabled = 0
        pending = self._pending() if run.loops else run.pending
        for thread, op in enumerate(pending):
            if op is not None and (not op.blocking or self._can(op, thread)):
                enabled |= 1 << thread
        last = 1 << self._choices[-1].thread if self._choices else 0
        if last:
            flipped = (enabled ^ self._enabled[-1]) & ~last
            if flipped:
                self._expect_touched(flipped, pending)
        if not enabled and run.loops:
            enabled = self._lets_go(pending)
        if not enabled:
            self._end()
            return -1
        awake = enabled & ~asleep
        if not awake:
            self.coverage.cut += 1
            if self._reduce:
                self._blocked_by_several(pending)
            return -1
        first = awake & last or awake & -awake
        if run.loops and last and spin_of(run, last.bit_length() - 1):
            repeated = repetition(run, self._choices)
            if repeated:
                first = self._leave(repeated, enabled, awake) or first
                if first < 0:
                    return -1
                first &= -first
        self._enabled.append(enabled)
        self._asleep.append(asleep)
        self._wanted.append(first if self._reduce else self._allowed(enabled, last))
        self._tried.append(0)
        return first.bit_length() - 1

    def _blocked_by_several(self, pending: list[Op | None]) -> None:
        """An execution is given up: what waits for several objects may have been enabled on the way."""
        for thread, op in enumerate(pending):
            if op is not None and op.blocking and _waits_for_several(op) and not self._can(op, thread):
                self._blocking_races(thread, op)

    def _lets_go(self, pending: list[Op | None]) -> int:
        """Nobody can go on. A thread that goes round and in each round lets somebody go on who waits, as a mask."""
        choices, enabled = self._choices, [*self._enabled[: len(self._choices)], 0]
        waiting = {who for who, op in enumerate(pending) if op is not None and not spin_of(self._run, who)}
        stepped = {
            who: max((at for at, choice in enumerate(choices) if choice.thread == who), default=-1) for who in waiting
        }
        for thread in set(range(len(pending))) - waiting:
            period = spin_of(self._run, thread)
            if not period:
                continue
            for at in own_steps(choices, thread, period):
                stopped = enabled[at] & ~enabled[at + 1]
                if any(stopped >> who & 1 and stepped[who] < at for who in waiting):
                    return 1 << thread
        return 0

    def _allowed(self, enabled: int, last: int) -> int:
        """Without reduction: which of the enabled threads are tried, `last` being the one that ran."""
        return enabled

    def _leave(self, length: int, enabled: int, awake: int) -> int:
        """The last steps were the same twice: the threads that break it, 0 if none can now, -1 where it goes on."""
        taking_part = others = 0
        last = range(len(self._choices) - length, len(self._choices))
        for at in last:
            taking_part |= 1 << self._choices[at].thread
            others |= self._enabled[at]
        others &= ~taking_part
        if not others:
            if not endless(self._run, last, self._choices, self._limits.rounds):
                return 0
            self.coverage.executions += 1
            self.coverage.livelocks += 1
            if self._limits.deadlock_is_failure:
                self._fail(livelock(self._run, self._ops, self._choices))
            return -1
        if others & enabled and not others & awake:
            self.coverage.cut += 1
            return -1
        return others & awake

    def _note(self) -> None:
        """An execution has ended: remember what was done in it and what was not."""
        depth = self._branch
        self._noted.update(zip(self._ops[depth:], self._choices[depth:], strict=True))
        pending = self._run.pending
        if any(pending):
            names = self._run.names
            for thread, op in enumerate(pending):
                if op is not None:
                    self.coverage.announced.update(_ways(names[thread], op))
        if len(self._noted) > NOTED:
            self._count_steps()

    def _count_steps(self) -> None:
        """Take the steps that were done into the coverage."""
        names = self._run.names
        announced, fired = self.coverage.announced, self.coverage.fired
        for op, (thread, way) in self._noted:
            if op.choices > 1:
                announced.update(_ways(names[thread], op))
            step = Step(names[thread], op.place, op.text, way, op.choices)
            announced.add(step)
            fired.add(step)
        self._noted.clear()

    @property
    def met(self) -> Set[Hashable]:
        """What threads share and was not known to be; what was found does not count then."""
        found, unseen = self._dependence.found, self._run.unseen
        return found | unseen if unseen else found

    @property
    def failure_or_race(self) -> Failure | None:
        """What has gone wrong; where nothing else does a data race is a failure: schedules that switch at what races
        were not looked at.
        """
        return self.failure or self.race

    def _failure(self, reason: str) -> Failure:
        """The execution up to here as one that goes wrong."""
        along = map(self._run.along, range(len(self._choices)))
        return Failure(reason, to_text(one_by_one(self._choices, along)))

    def _fail(self, reason: str) -> None:
        self.coverage.failed += 1
        if self.failure is None:
            self.failure = self._failure(reason)

    def _end(self) -> None:
        """No thread can go on: judge the execution."""
        run, coverage, limits = self._run, self.coverage, self._limits
        coverage.executions += 1
        blocked = [thread for thread, op in enumerate(run.pending) if op is not None]
        coverage.deadlocks += bool(blocked)
        if limits.keep_behaviours:
            behaviour = run.behaviour()
            coverage.behaviours.add((behaviour, run.state()) if limits.keep_states else behaviour)
        if limits.keep_classes:
            coverage.classes.add(self._class())
        failure = run.failure() if not self.met else None
        round_ = run.loops and any(spin_of(run, thread) for thread in blocked)
        coverage.livelocks += round_
        if failure is None and blocked and limits.deadlock_is_failure:
            failure = livelock(run, self._ops, self._choices) if round_ else deadlock(run)
        if failure is not None:
            self._fail(failure)
        if run.shared is not None:
            for thread in blocked:
                op = run.pending[thread]
                assert op is not None
                self._dependence.waits(thread, op, self._past_of_thread[thread], run.shared)
        if self._reduce:
            pending = self._pending() if run.loops else run.pending
            for thread in blocked:
                op = pending[thread]
                assert op is not None
                self._blocking_races(thread, op)

    def _may_fail(self) -> bool:
        """Whether one more allocation may fail in the execution up to here."""
        most = self._limits.failures
        return most is None or sum(choice.way > 0 for choice in self._choices) < most

    def _next_branch(self) -> Choice:
        """Go back to the latest state at which something remains to be tried; thread -1 when nothing remains."""
        while len(self._choices) > self._floor:
            thread, way = self._choices[-1]
            op = self._ops[-1]
            self._undo()
            self._branch = depth = len(self._choices)
            if way + 1 < op.choices and self._may_fail():
                return Choice(thread, way + 1)
            self._tried[depth] |= 1 << thread
            left = self._wanted[depth] & ~self._tried[depth] & ~self._asleep[depth]
            if left:
                return Choice((left & -left).bit_length() - 1)
            self._enabled.pop()
            self._asleep.pop()
            self._wanted.pop()
            self._tried.pop()
        return Choice(-1)

    def _step(self, thread: int, way: int) -> int:
        """Do an operation, look at its races; the threads asleep after it."""
        run = self._run
        pending = self._pending() if run.loops else run.pending
        op = pending[thread]
        assert op is not None
        if op.missed is not None and run.misses(thread):
            op = op.missed
        depth = len(self._choices)
        before = self._past_of_thread[thread]
        past = before
        direct = 0
        for target, mode in op.touches:
            events = self._events_of.get(target)
            if events is None:
                self._events_of[target] = []
                continue
            number = len(events) - 1
            while number >= 0:
                at, other, of_another_mode = events[number]
                if other != mode or not mode:
                    direct |= 1 << at
                    past |= self._past[at]
                    number = number - 1 if other else -1
                else:
                    number = of_another_mode
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
                other_op = pending[bit.bit_length() - 1]
                assert other_op is not None
                if other_op.missed is not None and run.misses(bit.bit_length() - 1):
                    other_op = other_op.missed
                if op.commutes(other_op):
                    asleep |= bit
        past |= direct
        run.step(thread, way)
        self.coverage.steps += 1
        taken = self._taken[-1] + 1
        if run.shared is not None:
            taken += run.along(depth)
            self._dependence.step(thread, op, run.touched_along, past | 1 << depth, run.shared)
        self._taken.append(taken)
        self._ops.append(op)
        self._choices.append(Choice(thread, way))
        self._races.step(thread, past | 1 << depth, run.data)
        if self._races.latest is not None:
            self.coverage.races += 1
            if self.race is None:
                self.race = self._failure(f"{DATA_RACE}: {self._races.latest.told(run.names)}")
        self._past.append(past)
        self._saved_past.append(before)
        self._past_of_thread[thread] = past | 1 << depth
        for target, mode in op.touches:
            events = self._events_of[target]
            same = bool(events) and events[-1][1] == mode
            events.append((depth, mode, events[-1][2] if same else len(events) - 1))
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
        """Reverse the races of an operation that can be disabled.

        One that waits for several objects may be enabled by an order of events that have nothing to do with each
        other: which, no single execution tells, so anything may come first wherever one of the objects is touched.
        """
        several = _waits_for_several(op)
        before = self._past_of_thread[thread]
        races = []
        past = before
        for target, mode in op.touches:
            for at, other, _ in self._events_of.get(target, ()):
                if (other != mode or not mode) and not before >> at & 1:
                    races.append((at, other))
                    past |= 1 << at
        for at, other in races:
            # Sharers that came after a sharer may have disabled the operation again: then anything may come first.
            if several or (other == SHARED and at != races[-1][0]):
                self._wanted[at] |= self._enabled[at]
            elif self._could(op, thread, at):
                self._reverse(at, thread, past)
            elif other == SHARED:
                self._wanted[at] |= self._enabled[at]


def _waits_for_several(op: Op) -> bool:
    """Whether an operation waits for several objects: :class:`SpinOp` looks for what wakes it itself."""
    return type(op) is not SpinOp and len(op.touches) > 1


def _ways(name: str, op: Op) -> list[Step]:
    """The ways in which a thread's step can go."""
    return [Step(name, op.place, op.text, way, op.choices) for way in range(op.choices)]


def search(run: Run, limits: Limits | None = None, *, reduce: bool = True, budget: int | None = None) -> Verdict:
    """Every schedule of a program (its run stands at the start), with reduction or, to compare, without.

    With `budget` it ends undecided when its executions, all together, have come to so many steps.
    """
    limits = limits if limits is not None else Limits()

    def look(run: Run) -> tuple[Verdict, Set[Hashable]]:
        one = Search(run, limits, reduce=reduce, budget=budget)
        finished = one.explore()
        run.back(0)
        return Verdict(mode, finished, one.failure_or_race, one.coverage, limits.bound, limits.rests_on(run)), one.met

    mode = Mode.REDUCED if reduce else Mode.EXHAUSTIVE
    return settled(run, look)
