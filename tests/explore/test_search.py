"""The reducing search visits every class of equivalent executions, once, and finds what exhaustive search finds."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable, Mapping
from math import comb, factorial

import pytest

from memhp.explore.engine.op import ALONE, SHARED, Op
from memhp.explore.engine.search import Limits, search
from memhp.explore.programs.generate import program
from memhp.explore.programs.program import Program
from memhp.explore.programs.shared import Shared

EVERYTHING = Limits(stop_at_failure=False, deadlock_is_failure=False, keep_behaviours=True, keep_classes=True)


def increment(memory: Shared) -> None:
    memory.store("x", memory.load("x") + 1)


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_an_increment_race_has_one_execution_for_every_class(threads: int) -> None:
    coverage = search(Program((increment,) * threads, {"x": 0}).run(), EVERYTHING).coverage
    # Writes in any order; the i-th writer's read stands in one of i gaps between the writes before it.
    assert len(coverage.classes) == factorial(threads) ** 2
    assert (coverage.executions, coverage.cut) == (factorial(threads) ** 2, 0)


def test_the_increments_of_a_race_are_lost_in_every_possible_number() -> None:
    counts = set()

    def note(cells: Mapping[str, Hashable]) -> None:
        counts.add(cells["x"])

    search(Program((increment,) * 3, {"x": 0}, check=note).run(), EVERYTHING)
    assert counts == {1, 2, 3}


@pytest.mark.parametrize(("threads", "sections", "orders"), [(2, 3, comb(6, 3)), (3, 2, 90), (2, 4, comb(8, 4))])
def test_critical_sections_on_one_lock_come_in_every_order(threads: int, sections: int, orders: int) -> None:
    def thread(memory: Shared) -> None:
        for _ in range(sections):
            with memory.locked("lock"):
                pass

    coverage = search(Program((thread,) * threads).run(), EVERYTHING).coverage
    assert (coverage.executions, len(coverage.classes), coverage.cut) == (orders, orders, 0)


def test_threads_that_share_nothing_need_one_execution() -> None:
    def alone(cell: str) -> Program:
        return Program((increment,), {cell: 0})

    def other(memory: Shared) -> None:
        memory.store("y", memory.load("y") + 1)

    assert search(alone("x").run()).coverage.executions == 1
    assert search(Program((increment, other), {"x": 0, "y": 0}).run()).coverage.executions == 1


def test_readers_of_a_read_write_lock_do_not_multiply() -> None:
    def reader(memory: Shared) -> None:
        with memory.locked("lock", write=False):
            pass

    def writer(memory: Shared) -> None:
        with memory.locked("lock"):
            pass

    assert search(Program((reader,) * 4).run(), EVERYTHING).coverage.executions == 1
    reduced = search(Program((reader, reader, writer)).run(), EVERYTHING).coverage
    assert reduced.executions == len(reduced.classes) == 4  # each reader before or after the writer


def test_an_allocation_is_made_to_fail_in_every_place() -> None:
    def allocator(memory: Shared) -> int:
        return sum(memory.fails("mm/page_alloc.c:alloc_pages") for _ in range(3))

    coverage = search(Program((allocator,)).run(), EVERYTHING).coverage
    assert coverage.executions == 8
    assert len(coverage.behaviours) == 4


def test_a_deadlock_is_found_and_told() -> None:
    def taker(first: str, second: str) -> Program:
        def thread(memory: Shared) -> None:
            with memory.locked(first), memory.locked(second):
                pass

        return Program((thread,))

    threads = (*taker("a", "b").threads, *taker("b", "a").threads)
    verdict = search(Program(threads, names=("adder", "remover")).run())
    assert verdict.word == "broken"
    assert verdict.failure is not None
    assert verdict.failure.reason == "deadlock: adder at lock b, remover at lock a"
    assert search(Program((threads[0], threads[0])).run()).word == "safe"


def test_a_wait_that_nobody_ends_is_a_deadlock_and_one_that_ends_is_not() -> None:
    def waiter(memory: Shared) -> None:
        memory.wait("x", lambda value: value == 1)

    def setter(memory: Shared) -> None:
        memory.store("x", 1)
        memory.store("x", 2)

    assert search(Program((waiter, setter), {"x": 0}).run()).word == "broken"
    assert search(Program((waiter, increment), {"x": 0}).run()).word == "safe"


def test_an_execution_that_is_merely_too_long_leaves_the_search_undecided() -> None:
    def counter(memory: Shared) -> None:
        while memory.load("x") < 1000:
            increment(memory)

    verdict = search(Program((counter,), {"x": 0}).run(), Limits(steps=50))
    assert (verdict.word, verdict.coverage.too_long) == ("undecided", 1)


def test_a_spent_budget_is_undecided() -> None:
    verdict = search(Program((increment,) * 3, {"x": 0}).run(), Limits(executions=10))
    assert (verdict.word, verdict.coverage.executions) == ("undecided", 10)


def test_operations_commute_by_object_and_mode() -> None:
    load, store = Op("load", (("x", SHARED),)), Op("store", (("x", ALONE),))
    assert load.commutes(load)
    assert not load.commutes(store)
    assert not store.commutes(store)
    assert store.commutes(Op("store", (("y", ALONE),)))
    assert not Op("add", (("tlb", 1),)).commutes(Op("flush", (("tlb", 2),)))


@pytest.mark.parametrize("first", range(0, 900, 150))
def test_generated_programs_behave_as_in_exhaustive_search(first: int) -> None:
    compared = by_trees = 0
    for seed in range(first, first + 150):
        run = program(seed).run()
        full = search(run, Limits(250, stop_at_failure=False, keep_behaviours=True, keep_classes=True), reduce=False)
        if not full.finished:
            continue
        reduced = search(run, EVERYTHING).coverage
        goes_round = run.loops
        run.close()
        assert reduced.behaviours == full.coverage.behaviours, f"program {seed}"
        assert reduced.executions == len(full.coverage.classes) == len(reduced.classes), f"program {seed}"
        assert reduced.classes == full.coverage.classes, f"program {seed}"
        compared += 1
        if not goes_round and not any("shared" in step.text for step in reduced.announced):
            assert reduced.cut == 0, f"program {seed}"
            by_trees += 1
    assert compared > 90
    assert by_trees > 50
