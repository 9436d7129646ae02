"""The counterexample that people get to see: with few preemptions, and made smaller.

Design. The reducing search decides. A schedule that fails is made smaller for as long as something makes it so: leave
out its tail and let threads go on undisturbed, bring a thread's later steps and its earlier ones together, let an
allocation that fails succeed. Then schedules with fewer preemptions than are left are tried, none first, then one, two
… within a budget; what fails there is made smaller in the same way.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice

from memhp.explore.engine.bounded import BoundedSearch
from memhp.explore.engine.follow import Followed, Follower, follow, unseen_at
from memhp.explore.engine.fusion import taken_along
from memhp.explore.engine.op import Run
from memhp.explore.engine.schedule import Choice, from_text
from memhp.explore.engine.search import DATA_RACE, Limits, search
from memhp.explore.engine.verdict import Failure, Verdict

SHORT_BUDGET = 50_000
"""Steps spent on each number of preemptions, those that lead to an execution's first new step included."""
ROOM = 200
"""Steps by which a schedule with fewer preemptions may be longer than one with more, beside twice its length."""


def decide(run: Run, limits: Limits | None = None) -> Verdict:
    """Safe, broken or undecided over every schedule; a failure comes with a schedule that is as small as was found.

    Steps that nobody else can see are taken along with others (:mod:`memhp.explore.engine.fusion`); in the schedule
    they stand by themselves.
    """
    limits = replace(limits if limits is not None else Limits(), stop_at_failure=True)
    run.tell_apart(frozenset())
    found = search(run, limits)
    if found.failure is not None:
        found = replace(found, failure=shortest(run, found.failure, limits))
    run.tell_apart(None)
    return found


def shortest(run: Run, failure: Failure, limits: Limits) -> Failure:
    """A schedule as small as was found that goes wrong, in the way of the one given where that is found.

    A data race never takes the place of what else goes wrong.
    """
    small, followed = _shrunk(run, failure, limits)
    for bound in range(followed.preemptions if followed is not None else 0):
        assert followed is not None
        most = min(limits.steps, 2 * len(followed.steps) + ROOM)
        one = BoundedSearch(run, replace(limits, steps=most), bound, SHORT_BUDGET)
        one.explore()
        run.back(0)
        fewer = one.failure_or_race
        if fewer is not None and (_kind(fewer.reason) != DATA_RACE or _kind(failure.reason) == DATA_RACE):
            small, _ = _shrunk(run, fewer, limits)
            break
    return as_told(run, small, limits)


def shrink(run: Run, failure: Failure, limits: Limits) -> Failure:
    """A smaller schedule that goes wrong in the same way."""
    small, _ = _shrunk(run, failure, limits)
    return as_told(run, small, limits)


def as_told(run: Run, failure: Failure, limits: Limits) -> Failure:
    """A failure as people get to see it: every step taken by itself, a data race with both places and the locks."""
    return _with_places(run, _single(run, failure, limits))


def _with_places(run: Run, failure: Failure) -> Failure:
    """A data race as it is told: with the places of both accesses and the locks held there."""
    if _kind(failure.reason) != DATA_RACE:
        return failure
    shared = run.shared
    run.tell_apart(None)
    told = unseen_at(run, from_text(failure.schedule))
    run.tell_apart(shared)
    return replace(failure, reason=told or failure.reason)


def _single(run: Run, failure: Failure, limits: Limits) -> Failure:
    """The failure as it is when every step is taken by itself; as it was found where that shows another one."""
    shared = run.shared
    if shared is None:
        return failure
    run.tell_apart(None)
    followed = follow(run, from_text(failure.schedule), limits.steps)
    run.tell_apart(shared)
    if followed is None or _kind(followed.reason) != _kind(failure.reason):
        return failure
    return Failure(followed.reason or failure.reason, followed.schedule)


def _shrunk(run: Run, failure: Failure, limits: Limits) -> tuple[Failure, Followed | None]:
    """A smaller failure of its kind, and how it goes with steps taken along; None where it does not go so."""
    kind = _kind(failure.reason)
    begin = taken_along(run, from_text(failure.schedule))
    follower = Follower(run)
    now = follower.follow(begin, limits.steps) if begin is not None else None
    if now is None or _kind(now.reason) != kind:
        run.back(0)
        return failure, now
    tried: set[tuple[Choice, ...]] = set()
    no_better: list[Followed] = []
    better = True
    while better:
        better = False
        for steps in _smaller(now.steps):
            key = tuple(steps)
            if key in tried or not now.may_shrink(steps) or any(other.comes_of(key) for other in no_better):
                continue
            tried.add(key)
            most = min(limits.steps, 2 * len(now.steps) + ROOM)
            then = follower.follow(steps, most, preemptions=now.preemptions)
            if then is not None and _kind(then.reason) == kind and then.size < now.size:
                now = then
                better = True
                break
            if then is not None:
                no_better.append(then)
    run.back(0)
    return Failure(now.reason or failure.reason, now.schedule), now


def _kind(reason: str | None) -> str | None:
    """What went wrong, without the particulars."""
    return reason.split(":")[0] if reason is not None else None


def _smaller(steps: Sequence[Choice]) -> Iterator[list[Choice]]:
    """Schedules to try in place of this one, those first that save most."""
    blocks = [list(same) for _, same in groupby(steps, key=lambda step: step.thread)]

    def flat(*parts: Sequence[Sequence[Choice]]) -> list[Choice]:
        return [step for part in parts for block in part for step in block]

    for at, block in enumerate(blocks):
        again = (later for later in range(at + 2, len(blocks)) if blocks[later][0].thread == block[0].thread)
        for later in islice(again, 1):
            before, between, after = blocks[:at], blocks[at + 1 : later], blocks[later + 1 :]
            yield flat(before, [block, blocks[later]], between, after)
            yield flat(before, between, [block, blocks[later]], after)
    for at in range(len(blocks)):
        yield flat(blocks[:at])
        yield flat(blocks[:at], blocks[at + 1 :])
    for at, step in enumerate(steps):
        if step.way:
            yield [*steps[:at], Choice(step.thread)]
    for at, block in enumerate(blocks):
        less = len(block) // 2
        while less:
            yield flat(blocks[:at], [block[:-less]], blocks[at + 1 :])
            less //= 2
