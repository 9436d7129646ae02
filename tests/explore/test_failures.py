"""A bound on failed allocations is a labelled search; coverage tells what was never done."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable, Mapping
from dataclasses import replace
from math import comb

import pytest

from memhp.explore.engine.bounded import bounded_search, random_search
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.shortest import decide
from memhp.explore.engine.verdict import Bound
from memhp.explore.programs.generate import program
from memhp.explore.programs.program import Program
from memhp.explore.programs.shared import Shared

EVERYTHING = Limits(stop_at_failure=False, deadlock_is_failure=False, keep_behaviours=True, keep_classes=True)
SITE = "mm/page_alloc.c:alloc_pages"


def allocate(memory: Shared, times: int = 3) -> int:
    return sum(memory.fails(SITE) for _ in range(times))


def never_twice(cells: Mapping[str, Hashable]) -> str | None:
    return "leak: two allocations failed" if cells["failed"] == 2 else None


def count(memory: Shared) -> None:
    for _ in range(3):
        if memory.fails(SITE):
            memory.update("failed", lambda old: old + 1)  # type: ignore[operator]


@pytest.mark.parametrize("most", [0, 1, 2, 3, 4, 6, 8])
def test_at_most_so_many_allocations_fail_in_one_execution(most: int) -> None:
    run = Program((allocate, allocate)).run()
    coverage = search(run, replace(EVERYTHING, failures=most)).coverage
    # Six allocations, any of which fail as long as no more do than may.
    assert coverage.executions == sum(comb(6, failed) for failed in range(most + 1))
    assert search(run, EVERYTHING).coverage.executions == 2**6


def test_a_bound_is_said_in_the_verdict() -> None:
    run = Program((count,), {"failed": 0}, check=never_twice).run()
    once = search(run, Limits(failures=1))
    assert (once.word, once.bound) == ("safe up to 1 failed allocation", Bound(failures=1))
    assert search(run, Limits(failures=0)).word == "safe up to 0 failed allocations"
    assert bounded_search(run, 2, Limits(failures=1)).word == "safe up to 2 preemptions and 1 failed allocation"
    assert search(run, Limits(failures=2)).word == "broken"
    assert search(run).word == "broken"
    assert decide(run, Limits(failures=1)).word == once.word


def test_random_schedules_keep_to_the_bound() -> None:
    run = Program((count,), {"failed": 0}, check=never_twice).run()
    assert random_search(run, 1, 200, limits=Limits(failures=1)).failure is None
    assert random_search(run, 1, 200).failure is not None


def test_the_reduction_leaves_out_nothing_within_a_bound() -> None:
    compared = 0
    for seed in range(100):
        run = program(seed).run()
        for failures in (0, 1):
            limits = replace(EVERYTHING, failures=failures)
            full = search(run, replace(limits, executions=150), reduce=False)
            if full.finished and any(step.ways > 1 for step in full.coverage.announced):
                reduced = search(run, limits).coverage
                assert reduced.behaviours == full.coverage.behaviours, f"program {seed}"
                assert reduced.classes == full.coverage.classes, f"program {seed}"
                compared += 1
        run.close()
    assert compared > 12


def test_steps_that_no_execution_did_are_told() -> None:
    def waiter(memory: Shared) -> None:
        memory.wait("x", lambda value: value == 2)
        memory.store("y", 1)

    def setter(memory: Shared) -> None:
        memory.store("x", 1)

    run = Program((waiter, setter), {"x": 0, "y": 0}, names=("waiter", "setter")).run()
    verdict = search(run, Limits(stop_at_failure=False))
    assert verdict.coverage.never_fired == ["waiter: wait for x"]
    assert search(Program((setter,), {"x": 0}).run()).coverage.never_fired == []


def test_ways_that_no_execution_took_are_told() -> None:
    run = Program((allocate,), names=("hot-add",)).run()
    assert search(run, Limits(failures=0)).coverage.never_fired == [f"hot-add: allocate at {SITE}: fails"]
    assert search(run, Limits(failures=1)).coverage.never_fired == []


def test_classes_are_counted_where_a_search_tells_them_apart() -> None:
    run = Program((count, count), {"failed": 0}).run()
    reduced = search(run, EVERYTHING)
    assert reduced.classes == len(reduced.coverage.classes) == reduced.coverage.executions
    assert search(run, Limits(stop_at_failure=False), reduce=False).classes is None
    assert search(run, EVERYTHING, reduce=False).classes == reduced.classes
