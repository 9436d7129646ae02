"""Steps whose order is settled anyway are taken along with others: nothing that can happen is lost by that."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable
from random import Random

import pytest

from memhp.explore.cases import case
from memhp.explore.engine.bounded import bounded_search
from memhp.explore.engine.fusion import LazyDependence, one_by_one, taken_along
from memhp.explore.engine.op import SHARED, Op, Stretch
from memhp.explore.engine.schedule import Choice, from_text
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.shortest import decide
from memhp.explore.programs.generate import program
from memhp.explore.programs.program import Program
from memhp.explore.programs.shared import Shared

EVERYTHING = Limits(stop_at_failure=False, keep_behaviours=True)


@pytest.mark.parametrize("first", range(0, 600, 100))
def test_generated_programs_behave_the_same_with_and_without(first: int) -> None:
    for seed in range(first, first + 100):
        run = program(seed).run()
        single = search(run, Limits(2_000, stop_at_failure=False, keep_behaviours=True))
        if single.finished:
            run.tell_apart(frozenset())
            along = search(run, EVERYTHING)
            assert along.coverage.behaviours == single.coverage.behaviours
            assert along.coverage.executions == single.coverage.executions
        run.close()


@pytest.mark.parametrize("preemptions", [0, 1, 2])
def test_generated_programs_behave_the_same_within_a_bound_on_preemptions(preemptions: int) -> None:
    within = Limits(3_000, stop_at_failure=False, keep_behaviours=True)
    fewer = compared = 0
    for seed in range(60):
        run = program(seed).run()
        single = bounded_search(run, preemptions, within)
        if single.finished:
            run.tell_apart(frozenset())
            along = bounded_search(run, preemptions, within)
            assert along.coverage.behaviours == single.coverage.behaviours
            fewer += along.coverage.executions < single.coverage.executions
            compared += 1
        run.close()
    assert compared > 50
    assert fewer or not preemptions


def under_a_lock(memory: Shared) -> None:
    with memory.locked("lock"):
        memory.store("x", memory.load("x") + 1)


def test_of_what_a_lock_keeps_in_order_only_the_lock_is_seen() -> None:
    run = Program((under_a_lock, under_a_lock), {"x": 0}).run()
    run.tell_apart(frozenset())
    coverage = search(run, EVERYTHING).coverage
    assert run.shared == frozenset({"lock"})
    assert (coverage.executions, coverage.steps) == (2, 8)


def test_what_no_lock_keeps_in_order_is_found_to_be_shared() -> None:
    def reader(memory: Shared) -> int:
        with memory.locked("other lock"):
            return memory.load("x")

    run = Program((under_a_lock, reader), {"x": 0}).run()
    run.tell_apart(frozenset())
    assert search(run, EVERYTHING).coverage.executions == 2
    assert run.shared == frozenset({"x"})


def test_a_schedule_is_the_same_with_steps_along_and_without() -> None:
    run = Program((under_a_lock, under_a_lock), {"x": 0}).run()
    run.tell_apart(frozenset({"lock"}))
    steps = [Choice(0), Choice(0), Choice(1), Choice(1)]
    single = from_text("a4b4")
    assert taken_along(run, single) == steps
    assert one_by_one(steps, [0, 2, 0, 2]) == single
    assert taken_along(run, from_text("aba2")) is None


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("ptdump-vs-vmalloc-huge", "no-lock"),
        ("ptdump-vs-vmalloc-huge", "init-mm-lock"),
        ("vmalloc-fault", "vmalloc-fault"),
        ("memblock-order", "memblock-first"),
        ("free-before-flush", "riscv-order"),
    ],
)
def test_a_race_has_the_same_verdict_with_and_without(name: str, variant: str) -> None:
    one = case(name)
    single = search(one.program(variant).run(), one.limits)
    along = decide(one.program(variant).run(), one.limits)
    assert along.word == single.word
    assert along.coverage.executions == single.coverage.executions
    assert along.coverage.steps < single.coverage.steps


def parts_one_by_one(touches: list[tuple[Hashable, int]]) -> list[tuple[Hashable, int]]:
    """Touches with each part of a stretch by itself."""
    single: list[tuple[Hashable, int]] = []
    for target, mode in touches:
        parts = range(target.start, target.end) if isinstance(target, Stretch) else ()
        single += [((*target.of, part), mode) for part in parts] if isinstance(target, Stretch) else [(target, mode)]
    return single


@pytest.mark.parametrize("seed", range(300))
def test_a_stretch_of_entries_is_found_to_be_shared_where_one_of_them_would_be(seed: int) -> None:
    random = Random(seed)
    together, single = LazyDependence(3), LazyDependence(3)
    pasts: list[int] = []
    done: list[int] = []
    for _ in range(30):
        if done and random.random() < 0.2:
            thread = done.pop()
            pasts.pop()
            together.back(thread)
            single.back(thread)
            continue
        thread = random.randrange(3)
        seen = [at for at in range(len(done)) if done[at] == thread or random.random() < 0.1]
        past = 1 << len(done)
        for at in seen:
            past |= pasts[at]
        touches: list[tuple[Hashable, int]] = []
        for _ in range(random.randrange(4)):
            table = ("entry", random.randrange(2))
            start = random.randrange(12)
            if random.random() < 0.5:
                touches.append((Stretch(table, start, random.randrange(start + 1, 14)), random.randrange(2)))
            else:
                touches.append(((*table, start), random.randrange(2)))
        own = Op("store", ((("entry", 0, random.randrange(14)), random.choice((0, SHARED))),))
        together.step(thread, own, touches, past, frozenset())
        single.step(thread, own, parts_one_by_one(touches), past, frozenset())
        assert together.found == single.found
        done.append(thread)
        pasts.append(past)
    assert single.found
