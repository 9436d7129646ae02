"""The reducing search comes to every end there is, no more and no fewer: a search of all states finds the same ones."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Hashable
from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest

from bench.states import KEPT, case_differs, program_state, reachable
from memhp.explore.cases import case
from memhp.explore.cases.actors import boot, hot_add
from memhp.explore.doors.announced import announce
from memhp.explore.doors.digest import digest
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.search import search
from memhp.explore.engine.verdict import Coverage
from memhp.explore.programs.generate import program
from memhp.explore.programs.program import Program
from memhp.explore.programs.shared import Shared
from memhp.hw.memory import Owner, Use
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.mmzone import ZoneType
from memhp.linux.state import Kernel

SMALL = (
    ("vmalloc-fault", "sync", "x86_64-4K-48-linux-6.12"),
    ("two-hotplugs", "unlocked-remove-and-add", "riscv64-4K-39-linux-6.12"),
    ("memory-block-lookup", "lookup-unlocked", "arm64-4K-48-linux-6.12"),
)
ANYBODY = Owner(Use.KERNEL, "anybody")


@cache
def machine() -> Kernel:
    one = case("two-hotplugs")
    return boot(one.variants[0].config(one.variants[0].configurations[0]))


def kept(run: Program) -> tuple[Counter[str], Coverage]:
    """How many states and ends there are, and what the search finds."""
    going = run.run()
    space = reachable(going, program_state, 1_000)
    assert space is not None
    coverage = search(going, KEPT).coverage
    assert space.differences(coverage) == []
    return Counter(states=space.states, ends=len(space.ends), rounds=len(space.rounds)), coverage


def test_two_increments_have_as_many_states_as_their_product_by_hand() -> None:
    def increment(memory: Shared) -> None:
        memory.store("x", memory.load("x") + 1)

    # Neither has read; one has (twice); both have; one has written before the other reads (twice), and that one has
    # read 1 then (twice); one of two readers of 0 has written (twice); all done, both having read 0, or either 1.
    counts, _ = kept(Program((increment, increment), {"x": 0}))
    assert counts == Counter(states=1 + 2 + 1 + 2 + 2 + 2 + 3, ends=2)


def test_threads_that_go_round_for_ever_stay_in_states_that_are_never_left() -> None:
    def spin(memory: Shared) -> Hashable:
        while memory.load("x") != 1:
            pass
        return True

    def store(memory: Shared) -> None:
        memory.store("x", 1)
        memory.store("x", 2)

    counts, coverage = kept(Program((spin, store), {"x": 0}))
    assert counts["ends"] == 1
    assert counts["rounds"] > 0
    assert coverage.livelocks > 0


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_what_programs_whose_steps_meet_several_objects_come_to_is_all_there_is(first: int) -> None:
    compared = 0
    for seed in range(first, first + 50):
        run = program(seed, joint=True).run()
        space = reachable(run, program_state, 200)
        if space is not None:
            compared += 1
            reduced = search(run, KEPT)
            run.tell_apart(frozenset())
            along = search(run, KEPT)
            assert space.differences(reduced.coverage) == [], seed
            assert space.differences(along.coverage) == [], seed
        run.close()
    assert compared > 35


def test_a_round_that_becomes_shorter_is_woken_by_what_the_longer_one_looked_at() -> None:
    run = program(2023, joint=True).run()
    space = reachable(run, program_state, 1_000)
    assert space is not None
    assert space.differences(search(run, KEPT).coverage) == []


@pytest.mark.parametrize(("name", "variant", "configuration"), SMALL)
def test_races_come_to_the_same_final_states_with_their_actors_in_every_order(
    name: str, variant: str, configuration: str
) -> None:
    counts: Counter[str] = Counter()
    limits = replace(KEPT, executions=200, failures=case(name).limits.failures)
    assert case_differs(case(name).program(variant, configuration), limits, 200, counts) == []
    assert (counts["variants on a configuration"], counts["orders of actors"]) == (1, 2)


def test_a_digest_goes_by_what_is_there_and_not_by_identity_or_the_order_of_its_making() -> None:
    k = machine()
    before = digest(k)
    copy = deepcopy(k)
    announce(copy, None)
    assert digest(copy) == before
    copy = deepcopy(k)
    copy.node_states.devices = dict(reversed(copy.node_states.devices.items()))
    assert digest(copy) == before
    pages = alloc_pages(copy, 0, 0, owner=ANYBODY, where="mm/page_alloc.c:alloc_pages")
    assert digest(copy) != before
    free_pages(copy, pages, "mm/page_alloc.c:__free_pages")
    assert digest(copy) == before


CHANGES = {
    "a zone's counter": lambda k: setattr(k.nodes[0].zones[ZoneType.DMA32], "present", 1),
    "a page-table entry": lambda k: k.hw.store(k.init_mm, 0, 2),
    "who has a frame": lambda k: k.hw.memory.owners.set(0, 1, ANYBODY),
    "a lock that is held": lambda k: k.hw.lock("a_lock"),
    "memory blocks": hot_add,
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_digest_is_another_when_anything_is(what: str) -> None:
    k = deepcopy(machine())
    before = digest(k)
    CHANGES[what](k)
    assert digest(k) != before


def test_an_order_that_shows_in_the_state_and_in_no_verdict_is_two_final_states() -> None:
    """Each of two actors takes a page: who has which tells the orders apart, though both orders are safe."""

    def take(tag: str) -> object:
        def actor(k: Kernel) -> None:
            alloc_pages(k, 0, 0, owner=Owner(Use.KERNEL, tag), where="mm/page_alloc.c:alloc_pages")

        return actor

    taken = KernelProgram(machine(), (take("a"), take("b")), ("a", "b"))  # type: ignore[arg-type]
    verdict = search(taken.run(), KEPT)
    assert verdict.word == "safe"
    assert len(verdict.coverage.behaviours) == 2
    without = search(taken.run(), replace(KEPT, keep_states=False))
    assert len(without.coverage.behaviours) == 1
