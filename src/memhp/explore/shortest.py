"""The counterexample that people get to see: with as few preemptions as possible, then made smaller.

Design. The reducing search decides. A schedule that fails is made smaller for as long as something makes it so: leave
out its tail and let threads go on undisturbed, bring a thread's later steps and its earlier ones together, let an
allocation that fails succeed. Then schedules with fewer preemptions than are left are tried, none first, then one, two
… within a budget; what fails there is made smaller in the same way.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from memhp.explore.bounded import bounded_search
from memhp.explore.op import Run
from memhp.explore.replay import complete, replay
from memhp.explore.schedule import Choice, from_text
from memhp.explore.search import Limits, search
from memhp.explore.trace import Trace
from memhp.explore.verdict import Failure, Verdict

SHORT_BUDGET = 2_000
"""Executions spent on each number of preemptions."""


def decide(run: Run, limits: Limits | None = None) -> Verdict:
    """Safe, broken or undecided over every schedule; a failure comes with a schedule that is as small as can be."""
    limits = replace(limits if limits is not None else Limits(), stop_at_failure=True)
    found = search(run, limits)
    if found.failure is None:
        return found
    failure = shrink(run, found.failure, limits)
    most = replay(run, failure.schedule).preemptions
    for bound in range(most):
        fewer = bounded_search(run, bound, replace(limits, executions=SHORT_BUDGET))
        if fewer.failure is not None:
            failure = shrink(run, fewer.failure, limits)
            break
    return replace(found, failure=failure)


def shrink(run: Run, failure: Failure, limits: Limits) -> Failure:
    """A smaller schedule that goes wrong in the same way."""
    kind = failure.reason.split(":")[0]
    now = complete(run, from_text(failure.schedule), limits.steps)
    assert now is not None
    better = True
    while better:
        better = False
        for steps in _smaller(now[1]):
            then = complete(run, steps, limits.steps)
            if then is None or not _same(then[0], kind) or _size(then) >= _size(now):
                continue
            now = then
            better = True
            break
    trace = now[0]
    return Failure(trace.reason or failure.reason, trace.schedule)


def _same(trace: Trace, kind: str) -> bool:
    return trace.reason is not None and trace.reason.split(":")[0] == kind


def _size(execution: tuple[Trace, list[Choice]]) -> tuple[int, int, int]:
    """What smaller means: fewer preemptions, then fewer failed allocations, then fewer steps."""
    trace, steps = execution
    return trace.preemptions, sum(step.way for step in steps), len(steps)


def _smaller(steps: Sequence[Choice]) -> Iterator[list[Choice]]:
    """Schedules to try in place of this one."""
    blocks = [list(same) for _, same in groupby(steps, key=lambda step: step.thread)]
    for at in range(len(blocks)):
        yield [step for block in blocks[:at] for step in block]
        yield [step for block in [*blocks[:at], *blocks[at + 1 :]] for step in block]
        less = len(blocks[at]) // 2
        while less:
            yield [step for block in [*blocks[:at], blocks[at][:-less], *blocks[at + 1 :]] for step in block]
            less //= 2
        for later in range(at + 2, len(blocks)):
            if blocks[later][0].thread == blocks[at][0].thread:
                before, between, after = blocks[:at], blocks[at + 1 : later], blocks[later + 1 :]
                for moved in (
                    [*before, blocks[at], blocks[later], *between, *after],
                    [*before, *between, blocks[at], blocks[later], *after],
                ):
                    yield [step for block in moved for step in block]
                break
    for at, step in enumerate(steps):
        if step.way:
            yield [*steps[:at], Choice(step.thread)]
