"""Adds, removals and writes to a block's state file at the same time, with device_hotplug_lock and without."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.explore.cases import case
from memhp.explore.engine.replay import replay
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.shortest import decide
from memhp.explore.engine.verdict import Verdict

NAME = "two-hotplugs"
EACH_ARCH = ["riscv64-4K-48", "arm64-4K-39", "x86_64-4K-48"]
KEPT = Limits(executions=100, keep_behaviours=True)


def decided(variant: str, where: str, release: str = "linux-6.12") -> Verdict:
    return search(case(NAME).program(variant, f"{where}-{release}").run(), KEPT)


def returned(verdict: Verdict) -> set[object]:
    """What the two actors returned, an errno by its name."""
    return {state[0] for state in verdict.coverage.behaviours if isinstance(state, tuple)}


@pytest.mark.parametrize("variant", ["two-adds", "unlocked-two-adds"])
@pytest.mark.parametrize("where", EACH_ARCH)
def test_one_of_two_adds_of_a_range_is_told_that_it_is_taken(variant: str, where: str) -> None:
    verdict = decided(variant, where)
    assert (verdict.word, verdict.coverage.executions) == ("safe", 2)
    assert returned(verdict) == {(None, "EEXIST"), ("EEXIST", None)}


@pytest.mark.parametrize("release", ["linux-6.12", "linux-7.2"])
@pytest.mark.parametrize("where", EACH_ARCH)
def test_under_the_lock_every_pair_has_two_orders_and_no_deadlock(where: str, release: str) -> None:
    for variant, outcomes in {
        "add-and-online": {(None, "ENOENT"), (None, None)},
        "remove-and-add": {(None, "EEXIST"), (None, None)},
        "remove-and-neighbour": {(None, None)},
        "remove-and-online": {(None, "ENOENT"), ("EBUSY", None)},
    }.items():
        verdict = decided(variant, where, release)
        assert (verdict.word, verdict.coverage.executions, verdict.coverage.deadlocks) == ("safe", 2, 0), variant
        assert returned(verdict) == outcomes, variant


@pytest.mark.parametrize("where", EACH_ARCH)
def test_mem_hotplug_lock_alone_keeps_adds_and_removals_of_neighbours_apart(where: str) -> None:
    verdict = decided("unlocked-neighbour", where)
    assert verdict.word == "safe"
    assert verdict.coverage.executions > 2


@pytest.mark.parametrize("where", EACH_ARCH)
def test_without_device_hotplug_lock_a_removal_and_a_write_to_state_wait_for_each_other(where: str) -> None:
    run = case(NAME).program("unlocked-remove-and-online", f"{where}-linux-6.12").run()
    failure = search(run, KEPT).failure
    assert failure is not None
    trace = replay(run, failure.schedule)
    assert trace.end == "deadlock"
    assert "device_lock, write to state at lock mem_hotplug_lock" in (trace.reason or "")


@pytest.mark.parametrize("where", EACH_ARCH)
def test_without_device_hotplug_lock_a_block_is_onlined_before_it_has_its_node(where: str) -> None:
    """6.12 notes the node of a new block in ``register_memory_blocks_under_node()``, when all else is done."""
    run = case(NAME).program("unlocked-add-and-online", f"{where}-linux-6.12").run()
    failure = decide(run, KEPT).failure
    assert failure is not None
    assert failure.reason.startswith("write to state: KernelBug: BUG: ")
    assert "onlined before its node is noted" in failure.reason
    assert replay(run, failure.schedule).reason == failure.reason
