"""Steps that touch several objects, block on several, or compare counters with marks: nothing is missed of them."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable
from itertools import permutations

import pytest

from generated_programs import KEPT, agree_with_every_schedule, counting_program
from memhp.explore.engine.search import search
from memhp.explore.programs import cells
from memhp.explore.programs.program import Program
from memhp.explore.programs.shared import Body, Shared


def up_and_down(name: str) -> Body:
    def body(memory: Shared) -> None:
        memory.store(name, 1)
        memory.store(name, 0)

    return body


def wait_for_both(memory: Shared) -> Hashable:
    return memory.do(cells.wait_all(("x", "y"), lambda values: values == (1, 1)))


def test_a_wait_for_two_objects_is_met_by_an_order_of_steps_that_have_nothing_to_do_with_each_other() -> None:
    waits = Program((up_and_down("x"), up_and_down("y"), wait_for_both), {"x": 0, "y": 0})
    ends = {behaviour[1][2] for behaviour in search(waits.run(), KEPT).coverage.behaviours}  # type: ignore[index]
    assert ends == {((1, 1), None, None), (None, None, "wait for x and y")}


def test_changes_that_pass_a_mark_in_one_order_only_are_tried_in_both() -> None:
    """From 3, a look for 3 meets neither change when +2 comes first, and -1 when that does."""

    def look(memory: Shared) -> Hashable:
        return memory.do(cells.above("free", 3))

    def change(by: int) -> Body:
        return lambda memory: memory.do(cells.add("free", by))

    for order in ((look, change(2), change(-1)), (change(-1), look, change(2)), (change(2), change(-1), look)):
        run = Program(order, {"free": 3}).run()
        reduced, every = (search(run, KEPT, reduce=reduce).coverage for reduce in (True, False))
        assert reduced.behaviours == every.behaviours
        assert len(reduced.behaviours) == 2
        assert reduced.classes == every.classes
        assert reduced.executions == len(every.classes) or reduced.again


def test_a_look_that_a_change_meets_only_where_no_other_change_came_first_is_tried_before_it() -> None:
    """From 3, the first +1 goes past 4, unless -1 came first; that it slept says nothing of looks that precede it."""

    def adds(memory: Shared) -> Hashable:
        memory.do(cells.add("free", 1))
        memory.do(cells.add("free", 1))
        seen = memory.do(cells.above("free", 5))
        memory.do(cells.add("free", 1))
        return seen

    def takes(memory: Shared) -> Hashable:
        seen = memory.do(cells.above("free", 3))
        memory.do(cells.add("free", -1))
        return seen

    def look(memory: Shared) -> Hashable:
        return memory.do(cells.above("free", 4))

    for order in permutations((adds, takes, look)):
        run = Program(order, {"free": 3}).run()
        reduced, every = (search(run, KEPT, reduce=reduce).coverage for reduce in (True, False))
        assert reduced.classes == every.classes
        assert len(every.classes) == 12
        assert reduced.executions == 12 or reduced.again


@pytest.mark.parametrize("seed", range(60))
def test_who_counts_and_who_compares_come_in_every_order_that_matters(seed: int) -> None:
    run = counting_program(seed).run()
    reduced, every = (search(run, KEPT, reduce=reduce).coverage for reduce in (True, False))
    assert reduced.classes == every.classes
    assert reduced.executions == len(every.classes) or reduced.again


@pytest.mark.parametrize("seeds", [range(first, first + 25) for first in range(0, 50, 25)], ids=lambda seeds: seeds[0])
def test_what_generated_programs_do_is_what_every_schedule_does(seeds: range) -> None:
    assert agree_with_every_schedule(seeds, joint=True) > 10


def test_who_polls_two_objects_may_be_woken_by_either_whichever_changed_first() -> None:
    def polls(memory: Shared) -> Hashable:
        while True:
            seen = memory.load("y"), memory.load("x")
            if any(seen):
                return seen

    def sets(name: str) -> Body:
        return lambda memory: memory.store(name, 1)

    for order in ((sets("y"), polls, sets("x")), (polls, sets("x"), sets("y")), (sets("x"), sets("y"), polls)):
        run = Program(order, {"x": 0, "y": 0}).run()
        reduced, every = (search(run, KEPT, reduce=reduce).coverage for reduce in (True, False))
        assert reduced.classes == every.classes


@pytest.mark.parametrize("seed", [2205, 4223])
def test_who_polls_what_several_change_is_seen_to_go_on_by_each(seed: int) -> None:
    assert agree_with_every_schedule(range(seed, seed + 1), joint=True) == 1
