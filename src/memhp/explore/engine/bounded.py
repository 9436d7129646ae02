"""Searches that do not look at everything: few preemptions, and random schedules. Their verdicts say so.

With a bound on preemptions, every schedule within it is tried, one by one: a switch counts when the thread that ran
could have gone on. Random schedules follow Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees of
Finding Bugs" (ASPLOS 2010): random priorities, the highest enabled runs, and at a few random steps the running thread
drops below all others.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable, Set
from random import Random

from memhp.explore.engine.fusion import settled
from memhp.explore.engine.looked_at import LookedAt
from memhp.explore.engine.op import Run, deadlock
from memhp.explore.engine.schedule import EVERY_WAY, Choice, branch_of, to_text
from memhp.explore.engine.search import Limits, Search
from memhp.explore.engine.spin import spin_of
from memhp.explore.engine.verdict import Bound, Coverage, Failure, Mode, Verdict


class BoundedSearch(Search):
    """Every schedule with at most so many preemptions, without reduction."""

    def __init__(self, run: Run, limits: Limits, bound: int, budget: int | None) -> None:
        super().__init__(run, limits, reduce=False, budget=budget)
        self._bound = bound
        self._preempted: list[int] = []
        """By state: preemptions made before it."""

    def _allowed(self, enabled: int, last: int) -> int:
        choices = self._choices
        depth = len(choices)
        del self._preempted[depth:]
        spent = 0
        if depth > 1:
            switched = choices[-1].thread != choices[-2].thread
            spent = self._preempted[-1] + (switched and bool(self._enabled[depth - 1] >> choices[-2].thread & 1))
        self._preempted.append(spent)
        return enabled & last * EVERY_WAY if enabled & last and spent >= self._bound else enabled


def bounded_search(run: Run, bound: int, limits: Limits | None = None, *, budget: int | None = None) -> Verdict:
    """Every schedule with at most `bound` preemptions; with `budget`, it ends undecided after so many steps of all
    its executions together.
    """
    limits = limits if limits is not None else Limits()

    def look(run: Run) -> tuple[Verdict, Set[Hashable]]:
        one = BoundedSearch(run, limits, bound, budget)
        finished = one.explore()
        run.back(0)
        within = Bound(bound, limits.failures)
        return Verdict(
            Mode.BOUNDED, finished, one.failure_or_race, one.coverage, within, limits.rests_on(run)
        ), one.to_share

    return settled(run, look)


class _RandomSearch(Search):
    """One execution with random priorities."""

    def __init__(self, run: Run, limits: Limits, coverage: Coverage) -> None:
        super().__init__(run, limits, reduce=False)
        self.coverage = coverage

    def go(self, random: Random, changes: int, length: int) -> tuple[str | None, list[Choice]]:
        """Let it run to its end, with so many changes within its first `length` steps: why it went wrong, or None, and
        its steps.
        """
        run, limits, coverage, steps = self._run, self._limits, self.coverage, self._choices
        nr_threads = len(run.pending)
        priority = random.sample(range(changes, changes + nr_threads), nr_threads)
        drops = {random.randrange(length): low for low in range(changes)}
        LookedAt.executions += 1
        while run.broken is None:
            enabled = [thread for thread, op in enumerate(run.pending) if op is not None and run.enabled(thread)]
            if not enabled:
                break
            if len(steps) >= limits.steps:
                coverage.too_long += 1
                return None, steps
            thread = max(enabled, key=priority.__getitem__)
            op = run.pending[thread]
            assert op is not None
            way = random.randrange(op.choices)
            if way and limits.failures is not None:
                way *= sum(step.way > 0 for step in steps) < limits.failures
            self._step(branch_of(Choice(thread, way)))
            if len(steps) - 1 in drops:
                priority[thread] = drops[len(steps) - 1]
            if run.loops and spin_of(run, thread):
                priority[thread] = min(priority) - 1  # whom it waits for runs first
        coverage.executions += 1
        blocked = run.broken is None and any(run.pending)
        coverage.deadlocks += blocked
        if limits.keep_behaviours:
            coverage.behaviours.add(run.behaviour())
        reason = run.failure() or (deadlock(run) if blocked and limits.deadlock_is_failure else None)
        coverage.failed += reason is not None
        return reason, steps


def random_search(run: Run, seed: int, executions: int, *, changes: int = 2, limits: Limits | None = None) -> Verdict:
    """`executions` random schedules with `changes` priority changes each; the same seed gives the same ones."""
    limits = limits if limits is not None else Limits()
    random = Random(seed)
    coverage = Coverage()
    failure = race = None
    length = 1
    for _ in range(executions):
        one = _RandomSearch(run, limits, coverage)
        reason, steps = one.go(random, changes, length)
        length = max(length, len(steps))
        run.back(0)
        race = race or one.race
        if reason is not None and failure is None:
            failure = Failure(reason, to_text(steps))
            if limits.stop_at_failure:
                break
    return Verdict(Mode.RANDOM, True, failure or race, coverage, limits.bound, limits.rests_on(run))
