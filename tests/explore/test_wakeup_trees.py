"""By wakeup trees each class of equivalent executions is looked at once, and no execution is given up half way."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import pytest

from memhp.explore.engine.partition import SplitSearch
from memhp.explore.engine.search import Limits, Search, search
from memhp.explore.engine.subtree import Part
from memhp.explore.engine.verdict import Coverage
from memhp.explore.programs.generate import program
from memhp.explore.programs.program import Program, ProgramRun
from memhp.explore.programs.shared import Body, Shared

EVERYTHING = Limits(stop_at_failure=False, deadlock_is_failure=False, keep_behaviours=True, keep_classes=True)


def last_zero(threads: int) -> Program:
    """One thread looks for the last 0 of a list, from its end; every other sets one element to one more than that
    before it (Abdulla and others, "Optimal Dynamic Partial Order Reduction", POPL 2014, section 11).
    """

    def look(memory: Shared) -> int:
        at = threads
        while memory.load(f"x{at}") != 0:
            at -= 1
        return at

    def raise_(at: int) -> Body:
        return lambda memory: memory.store(f"x{at}", memory.load(f"x{at - 1}") + 1)

    return Program((look, *map(raise_, range(1, threads + 1))), {f"x{at}": 0 for at in range(threads + 1)})


def in_parts(run: ProgramRun, budget: int) -> Coverage:
    whole = SplitSearch(EVERYTHING)
    while starts := whole.starts:
        whole.take([Part(run, EVERYTHING, start, budget).look() for start in starts])
    return whole.verdict.coverage


@pytest.mark.parametrize("threads", [2, 5, 8])
def test_the_last_zero_has_as_many_executions_as_its_authors_count(threads: int) -> None:
    coverage = search(last_zero(threads).run(), EVERYTHING).coverage
    # 64 of 5 threads, 3,328 of 10 and 147,456 of 15 in the article
    assert (coverage.executions, coverage.cut) == ((threads + 3) * 2 ** (threads - 2), 0)
    assert len(coverage.classes) == coverage.executions


def test_a_search_that_is_divided_completes_the_same_classes_and_may_give_executions_up() -> None:
    run = last_zero(6).run()
    whole, divided = in_parts(run, 10**9), in_parts(run, 100)
    assert divided.classes == whole.classes
    assert divided.executions == whole.executions
    assert whole.cut == 0
    assert divided.cut > 0


@pytest.mark.parametrize("first", [0, 60])
def test_larger_programs_have_the_classes_that_source_sets_find(first: int) -> None:
    compared = given_up = 0
    for seed in range(first, first + 60):
        run = program(seed, large=True).run()
        by_trees = Search(run, replace(EVERYTHING, executions=1_000), optimal=True)
        if by_trees.explore():
            run.back(0)
            by_sets = Search(run, EVERYTHING)
            by_sets.explore()
            assert by_trees.coverage.classes == by_sets.coverage.classes, seed
            assert by_trees.coverage.behaviours == by_sets.coverage.behaviours, seed
            assert by_trees.coverage.executions == len(by_trees.coverage.classes), seed
            assert by_trees.coverage.cut == 0, seed
            given_up += by_sets.coverage.cut
            compared += 1
        run.close()
    assert compared > 30
    assert given_up > 0


def test_an_order_that_begins_with_a_step_to_be_tried_anyway_is_entered_below_that_step() -> None:
    """Two attempts at a lock beside stores of one variable, of which one comes after an attempt."""
    run = program(948).run()
    every = search(run, EVERYTHING, reduce=False).coverage
    assert len(every.classes) == 10
    assert search(run, EVERYTHING).coverage.classes == every.classes
