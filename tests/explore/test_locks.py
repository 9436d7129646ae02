"""Locks as they are: writers go before readers that come later, and a grace period waits for those that were there."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable
from dataclasses import dataclass

import pytest

from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import boot
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.explore.engine.replay import replay
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.shortest import decide
from memhp.linux.kernel.rcu import rcu_read_lock, synchronize_rcu
from memhp.linux.state import Kernel
from memhp.units import KiB

MACHINE = Configuration("arm64", 4 * KiB, 48)
KEPT = Limits(stop_at_failure=False, keep_behaviours=True)


@dataclass
class Pointers:
    """Whether what one pointer leads to was replaced, and whether the old was freed."""

    old: int = 0
    freed: int = 0


@pytest.fixture(scope="module")
def k() -> Kernel:
    return boot(Variant("as it is", "", "repaired", (MACHINE,)).config(MACHINE))


def twice(k: Kernel) -> None:
    with k.hw.locked("mem_hotplug_lock", write=False), k.hw.locked("mem_hotplug_lock", write=False):
        pass


def once(k: Kernel) -> None:
    with k.hw.locked("mem_hotplug_lock", write=False):
        pass


def writer(k: Kernel) -> None:
    with k.hw.locked("mem_hotplug_lock"):
        pass


@pytest.mark.parametrize("actors", [(twice, writer), (writer, twice)])
def test_a_reader_that_takes_the_lock_again_behind_a_waiting_writer_is_a_deadlock(
    k: Kernel, actors: tuple[Actor, Actor]
) -> None:
    program = KernelProgram(k, actors, ("one", "other"))
    found = decide(program.run()).failure
    every = search(program.run(), reduce=False).failure
    assert found is not None and every is not None
    assert found.reason.startswith("deadlock: ") and every.reason.startswith("deadlock: ")
    assert replay(program.run(), found.schedule).end == "deadlock"


def test_a_reader_that_takes_the_lock_once_waits_for_the_writer_and_no_longer(k: Kernel) -> None:
    for actors in ((once, writer), (writer, once)):
        program = KernelProgram(k, actors, ("one", "other"))
        assert decide(program.run()).word == search(program.run(), reduce=False).word == "safe"


def reads_old(k: Kernel) -> Hashable:
    with rcu_read_lock(k.hw):
        k.hw.reads("old")
        seen = k.statics(Pointers).old
        k.hw.reads("freed")
        return seen, k.statics(Pointers).freed


def replaces(k: Kernel) -> None:
    k.hw.writes("old")
    k.statics(Pointers).old = 1
    synchronize_rcu(k.hw)
    k.hw.writes("freed")
    k.statics(Pointers).freed = 1


def test_a_grace_period_waits_for_those_who_saw_the_old_and_for_nobody_else(k: Kernel) -> None:
    program = KernelProgram(k, (reads_old, replaces), ("reader", "writer"))
    reduced, every = (search(program.run(), KEPT, reduce=reduce).coverage for reduce in (True, False))
    assert reduced.behaviours == every.behaviours
    # A reader that begins within the grace period may see what is freed; one that has seen the old may not.
    assert {behaviour[0][0] for behaviour in every.behaviours} == {(0, 0), (1, 0), (1, 1)}  # type: ignore[index]
    assert every.deadlocks == 0


def test_waiting_for_a_grace_period_within_a_reader_is_sleeping_where_nobody_may(k: Kernel) -> None:
    """The kernel tells of that before the wait that never ends."""
    def actor(k: Kernel) -> None:
        with rcu_read_lock(k.hw):
            synchronize_rcu(k.hw)

    failure = decide(KernelProgram(k, (actor,), ("one",)).run()).failure
    assert failure is not None
    said = "sleeping function called from invalid context: wait for a grace period under rcu_read_lock()"
    assert failure.reason == f"atomic-sleep: {said}"
