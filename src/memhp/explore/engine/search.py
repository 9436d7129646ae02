"""Depth-first search over schedules with dynamic partial-order reduction: wakeup trees, source sets, sleep sets.

Design. What was tried in a state is asleep while other branches of that state are, until something happens that does
not commute with what it would do (sleep sets: P. Godefroid, LNCS 1032, 1996); so no class of equivalent executions is
completed twice, but where :attr:`Coverage.again` says so. What is to be tried, wakeup trees say
(:mod:`memhp.explore.engine.wakeup_tree`): each class is looked at once, and no execution is given up half way. They
need to know of each two events that race whether the later one can come first, and what it touches then. Where
something waits for several objects, or for sharers of a lock that may come before it either way, where what an
operation touches depends on what came before, or where a thread is let go on that waits in fact, that is not known:
then the search begins again with source sets alone (:mod:`memhp.explore.engine.source_sets`), and may give executions
up (:attr:`Coverage.cut`).

Choices. An operation that can go several ways, an allocation that may fail, has a branch for each. A bound on failures
leaves the reduction sound: equivalent executions fail equally often, and the first way, which every operation has,
costs nothing.

Threads that go round. :mod:`memhp.explore.engine.spin` tells when one waits in fact, and when nobody gets further.
Where some threads repeat the same steps while another could go on, that other one goes first from there.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable, Set

from memhp.explore.engine.execution import NOTHING
from memhp.explore.engine.fusion import MOST_ALONG, Touches, one_by_one, settled
from memhp.explore.engine.limits import Limits
from memhp.explore.engine.looked_at import LookedAt
from memhp.explore.engine.op import ALONE, Op, Run, deadlock
from memhp.explore.engine.schedule import EVERY_WAY, MOST_THREADS, Choice, branch_of, choice_of, numbers, to_text
from memhp.explore.engine.spin import endless, lets_go, livelock, repetition, spin_of
from memhp.explore.engine.verdict import Failure, Mode, Step, Verdict
from memhp.explore.engine.wakeup_tree import Wake, WakeupTrees

__all__ = ["DATA_RACE", "Limits", "Search", "search"]

FIRST_WAYS = (1 << MOST_THREADS) - 1
"""The branches in which steps go their first way: the bit of each is that of its thread."""
DATA_RACE = "data race"
"""The kind of failure that two accesses are which nothing puts in order (:mod:`memhp.explore.engine.races`)."""
NOTED = 20_000
"""Steps that are kept as objects before coverage takes them in."""


class Search(WakeupTrees):
    """One search: the events of the current execution, and what has been and must be tried before each."""

    def __init__(
        self, run: Run, limits: Limits, *, reduce: bool = True, optimal: bool = False, budget: int | None = None
    ) -> None:
        super().__init__(run, limits.rounds, limits.failures)
        self._limits = limits
        self._reduce = reduce
        self._optimal = optimal
        """Whether the reduction is by wakeup trees, not by source sets alone."""
        self._budget = budget
        self._spent = 0
        self._stopped = False
        """Whether the budget is spent."""
        self.failure: Failure | None = None
        """The first failure, in whose schedule every step stands by itself."""
        self.race: Failure | None = None
        """The first data race, likewise."""
        self._floor = 0
        """The depth whose subtree is searched."""
        self._branch = 0
        """The depth from which the execution differs from the one before it."""
        self._noted: set[tuple[Op, Choice]] = set()

    def explore(self, asleep: int = 0) -> bool:
        """Look at everything; False when the limits came first, or an execution met what was not known to be shared."""
        while True:
            branch = self._arrive(asleep)
            if not branch:
                self._note()
                if self._over() or self.met:
                    self._count_steps()
                    return False
                if self._open:
                    self._look_at_races()
                branch = self._next_branch()
                if not branch:
                    self._count_steps()
                    return not self.coverage.too_long
            asleep = self._step(branch)

    def _over(self) -> bool:
        most = self._limits.executions
        self._spent += self._taken[-1]
        self._stopped = self._budget is not None and self._spent >= self._budget
        if self._stopped or self.gives_up:
            return True
        if self.failure is not None and self._limits.stop_at_failure:
            return True
        return most is not None and self.coverage.executions + self.coverage.cut >= most

    @property
    def gives_up(self) -> bool:
        """Whether something was met that wakeup trees are not for, and no failure."""
        if self.failure is not None and self._limits.stop_at_failure:
            return False
        return self._optimal and self.beyond_trees

    def _arrive(self, asleep: int) -> int:
        """Enter a new state; the branch to go on with, 0 where the execution ends."""
        run = self._run
        if run.broken is not None and self._limits.stop_at_failure:
            self.coverage.executions += 1
            self._fail(run.broken)
            return 0
        if (run.loops or self._taken[-1] >= MOST_ALONG) and self.met:
            return 0  # a round may be one that others would end, had they been seen
        enabled = 0
        pending = self._pending() if run.loops else run.pending
        for thread, op in enumerate(pending):
            if op is not None and (not op.blocking or self._can(op, thread)):
                enabled |= 1 << thread
                if op.choices > 1 and self._may_fail():
                    enabled |= EVERY_WAY << thread & (1 << MOST_THREADS * op.choices) - 1
        last = 1 << self._choices[-1].thread if self._choices else 0
        if last:
            flipped = (enabled ^ self._enabled[-1]) & FIRST_WAYS & ~last
            if flipped:
                self._expect_touched(flipped, pending)
        if not enabled and run.loops:
            enabled = lets_go(run, pending, self._ops, self._choices, self._enabled)
            self.beyond_trees = self.beyond_trees or bool(enabled)
        if not enabled:
            self._end()
            return 0
        if len(self._choices) >= self._limits.steps:
            self.coverage.too_long += 1
            return 0
        awake = enabled & ~asleep
        if not awake:
            self.coverage.cut += 1
            if self._reduce:
                self._still_wait(pending)
            return 0
        wakes = self._following
        if wakes:
            step = wakes.pop(0)
            branch = step.branch
            self._following = step.then
            if not branch & awake:
                self.beyond_trees = True
                return 0
        else:
            branch = awake & last or awake & last * EVERY_WAY or awake
            if run.loops and last and spin_of(run, last.bit_length() - 1):
                repeated = repetition(run, self._choices)
                if repeated:
                    branch = self._leave(repeated, enabled & FIRST_WAYS, awake) or branch
                    if branch < 0:
                        self.beyond_trees = True
                        return 0
            branch &= -branch
            wakes = []
            if enabled > FIRST_WAYS and self._optimal:
                wakes = self._other_ways(branch, awake, pending)
        self._enabled.append(enabled)
        self._asleep.append(asleep)
        self._tried.append(0)
        self._wakes.append(wakes)
        if self._optimal:
            self._wanted.append(0)
        elif self._reduce:
            self._wanted.append(enabled & EVERY_WAY << choice_of(branch).thread)
        else:
            self._wanted.append(self._allowed(enabled, last))
        return branch

    def _still_wait(self, pending: list[Op | None]) -> None:
        """An execution is given up: whoever waits may have been able to go on before, and in what was seen of how it
        goes on came later.
        """
        for thread, op in enumerate(pending):
            if op is not None and op.blocking and not self._can(op, thread):
                self._would_come(thread, op)

    def _allowed(self, enabled: int, last: int) -> int:
        """Without reduction: which of the enabled threads are tried, `last` being the one that ran."""
        return enabled

    def _leave(self, length: int, enabled: int, awake: int) -> int:
        """The last steps were the same twice: the threads that break it, 0 if none can now, -1 where it goes on."""
        taking_part, others = 0, enabled  # who is let go on is no part of what was enabled
        last = range(len(self._choices) - length, len(self._choices))
        for at in last:
            taking_part |= 1 << self._choices[at].thread
            others |= self._enabled[at]
        others &= FIRST_WAYS & ~taking_part
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

    def _other_ways(self, branch: int, awake: int, pending: list[Op | None]) -> list[Wake]:
        """The other ways in which a step may go, to be tried as well."""
        thread = choice_of(branch).thread
        op = pending[thread]
        assert op is not None
        return [Wake(1 << number, op.touches) for number in numbers(awake & EVERY_WAY << thread & ~branch)]

    def _note(self) -> None:
        """An execution has ended: remember what was done in it and what was not."""
        LookedAt.executions += 1
        self._noted.update(zip(self._ops[self._branch :], self._choices[self._branch :], strict=True))
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
                self._would_come(thread, op)

    def _would_come(self, thread: int, op: Op) -> None:
        """At its end a thread waits: it would go on where what it races with had not come before."""
        races = self._blocking_races(thread, op)
        if not races:
            return
        before = self._past_of_thread[thread]
        past = before | self._meeting(op.touches)
        if not self._optimal:
            for at in numbers(races):
                self._want(at, thread, op, past)
            return
        for at in numbers(past):
            past |= self._past[at]
        self._happens(Choice(thread), op, before, past)
        for at in numbers(races):
            self._reverse(at, len(self._past) - 1, 0)
        self._forget()

    def _may_fail(self) -> bool:
        """Whether one more allocation may fail in the execution up to here."""
        most = self._limits.failures
        return most is None or sum(choice.way > 0 for choice in self._choices) < most

    def _next_branch(self) -> int:
        """Go back to the latest state at which something remains to be tried, and what; 0 when nothing remains."""
        depth = len(self._choices)
        branch = 0
        while depth > self._floor and not branch:
            done = self._choices[-1]
            self._undo()
            depth -= 1
            if self._reduce:
                self._sleepers.pop()
            if self._optimal:
                if self._unsettled.pop():
                    self._open &= ~(1 << depth)
                if self._turned:
                    self._turned.pop(depth, None)
            tried = self._tried[depth] = self._tried[depth] | branch_of(done)
            wakes = self._wakes[depth]
            if wakes:
                step = wakes.pop(0)
                self._following = step.then
                branch = step.branch & self._enabled[depth]
                if not branch:
                    self.beyond_trees = True
                    break
            elif left := self._wanted[depth] & ~tried & ~self._asleep[depth]:
                left = left & EVERY_WAY << done.thread or left
                branch = left & -left
            else:
                self._enabled.pop()
                self._asleep.pop()
                self._wanted.pop()
                self._tried.pop()
                self._wakes.pop()
        self._branch = depth
        self._run.back(depth)
        return branch

    def _step(self, branch: int) -> int:
        """Take a branch, look at the races of its operation; the branches asleep after it."""
        run = self._run
        choice = choice_of(branch)
        thread = choice.thread
        pending = self._pending() if run.loops else run.pending
        op = pending[thread]
        assert op is not None
        turned = None
        if op.missed is not None:
            op, turned = (op.missed, op) if run.misses(thread) else (op, op.missed)
        depth = len(self._choices)
        past = before = self._past_of_thread[thread]
        direct = 0
        for target, mode in op.touches:
            met = 0
            events = self._events_of.get(target, NOTHING)
            for other, which in events.items():
                if other != mode or not mode:
                    met |= which
            if met:
                last = events.get(ALONE, 0).bit_length() - 1  # this one has all others before it
                direct |= met >> last << last if last > 0 else met
        left = direct
        while left:
            at = left.bit_length() - 1
            left ^= 1 << at
            past |= self._past[at]
        asleep = 0
        if self._reduce:
            races = self._blocking_races(thread, op) if op.blocking else direct & ~past
            drowsy = (self._asleep[depth] | self._tried[depth]) & ~(EVERY_WAY << thread)
            sleepers: list[tuple[int, Touches]] = []
            while drowsy:
                bit = drowsy & -drowsy
                drowsy ^= bit
                who = choice_of(bit).thread
                other_op = pending[who]
                assert other_op is not None
                if other_op.missed is not None and run.misses(who):
                    other_op = other_op.missed
                sleepers.append((bit, other_op.touches))
                if op.commutes(other_op):
                    asleep |= bit
            self._sleepers.append(sleepers)
            if self._optimal:
                if races or op.choices > 1:
                    races = self._next_races(branch, op, turned, races)
                self._unsettled.append(races)
            elif races:
                needed = before | self._meeting(op.touches)
                for at in numbers(races):
                    self._want(at, thread, op, needed)
        past |= direct
        run.step(thread, choice.way)
        self.coverage.steps += 1
        taken = self._taken[-1] + 1
        if run.shared is not None:
            taken += run.along(depth)
            self._along.append(run.touched_along)
            known = self._known_past(op, before, past) | 1 << depth
            self._dependence.step(thread, op, run.touched_along, known, run.shared)
        self._taken.append(taken)
        self._happens(choice, op, before, past)
        if run.data and not self.met:
            self._look_for_race(thread, depth)
        return asleep

    def _look_for_race(self, thread: int, depth: int) -> None:
        """Whether accesses that came with the last step race with others."""
        found = self._races.step(thread, depth, self._steps_of, self._past_of_thread[thread], self._run.data)
        if found is not None:
            self.coverage.races += 1
            if self.race is None:
                self.race = self._failure(f"{DATA_RACE}: {found.told(self._run.names)}")


def _ways(name: str, op: Op) -> list[Step]:
    """The ways in which a thread's step can go."""
    return [Step(name, op.place, op.text, way, op.choices) for way in range(op.choices)]


def search(run: Run, limits: Limits | None = None, *, reduce: bool = True, budget: int | None = None) -> Verdict:
    """Every schedule of a program (its run stands at the start), with reduction or, to compare, without.

    With `budget` it ends undecided when its executions, all together, have come to so many steps.
    """
    limits = limits if limits is not None else Limits()
    optimal = reduce

    def look(run: Run) -> tuple[Verdict, Set[Hashable]]:
        nonlocal optimal
        one = Search(run, limits, reduce=reduce, optimal=optimal, budget=budget)
        finished = one.explore()
        more = one.to_share
        run.back(0)
        if one.gives_up:
            optimal = False
            if not more:
                return look(run)
        return Verdict(mode, finished, one.failure_or_race, one.coverage, limits.bound, limits.rests_on(run)), more

    mode = Mode.REDUCED if reduce else Mode.EXHAUSTIVE
    return settled(run, look)
