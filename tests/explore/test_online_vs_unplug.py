"""User space and the virtio-mem driver's work on the same memory block, every schedule of the two."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from memhp.explore.cases import case
from memhp.explore.cases.online_vs_unplug import COMBINATIONS, MODES, MUTEX
from memhp.explore.engine.bounded import bounded_search
from memhp.explore.engine.replay import replay
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.shortest import decide
from memhp.explore.engine.verdict import Verdict
from memhp.linux.drivers.virtio import virtio_mem_notifier, virtio_mem_sbm, virtio_mem_sbm_unplug
from memhp.linux.drivers.virtio.virtio_mem_state import MbState, StateTable, VirtioMem
from memhp.linux.state import Kernel

BROKEN = [one.name for one in case("online-vs-unplug").variants if one.stands_for == "broken"]
QUICK = [name for name in COMBINATIONS if "-4K" not in name and "shrink-online" not in name and name not in BROKEN]


def searched(variant: str, configuration: str | None = None, *, keep: bool = False) -> Verdict:
    """The verdict on a variant."""
    program = case("online-vs-unplug").program(variant, configuration)
    return search(program.run(), Limits(executions=500, keep_behaviours=keep))


def user_saw(verdict: Verdict) -> set[object]:
    """What became of user space's writes, over all schedules."""
    seen = set()
    for behaviour in verdict.coverage.behaviours:
        assert isinstance(behaviour, tuple)
        seen.add(behaviour[0][0])
    return seen


@pytest.mark.parametrize("variant", QUICK)
def test_no_schedule_loses_a_block_or_leaves_one_online_that_was_taken_back(variant: str) -> None:
    verdict = searched(variant)
    assert (verdict.word, verdict.coverage.cut) == ("safe", 0)
    assert verdict.coverage.executions > 1


def test_what_adds_a_block_in_sub_blocks_while_another_one_changes_is_broken_unless_it_counts_under_the_mutex() -> None:
    """virtio_mem_sbm_plug_and_add_mb() of 6.1, 6.12 and 7.2; a device that says NACK is asked again at once."""
    meetings = {f"{place}-grow-{answer}" for place in ("sub-block", "sub-block-4K") for answer in ("ACK", "NACK")}
    assert set(BROKEN) == meetings | {f"{place}-grow-online-ACK" for place in ("sub-block", "sub-block-4K")}
    assert {f"sub-block-{name}-ACK{MUTEX}" for name in ("grow", "grow-online")} <= set(QUICK)


@pytest.mark.parametrize("variant", [name for name in BROKEN if "-4K" not in name])
def test_a_count_that_is_lost_ends_the_kernel_when_the_last_block_goes_online(variant: str) -> None:
    failure = decide(case("online-vs-unplug").program(variant).run(), Limits(executions=500)).failure
    assert failure is not None
    assert failure.reason.startswith("BUG: BUG_ON: block 17 is no longer OFFLINE")


def test_counters_that_both_change_are_a_data_race_even_where_no_count_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """An increment in one go is none of the kernel's marked accesses either."""

    def in_one_go(k: Kernel, vm: VirtioMem, block_id: int, state: int) -> None:
        vm.sbm.blocks.set(block_id, state)

    for module in (virtio_mem_sbm, virtio_mem_notifier):
        monkeypatch.setattr(module, "set_block_state", in_one_go)
    failure = decide(case("online-vs-unplug").program("sub-block-grow-online-ACK").run()).failure
    assert failure is not None
    counter = "memory[virtio1].VirtioMem.mode.blocks.counts"
    assert failure.reason.startswith(f"data race: read of {counter} by virtio-mem work")
    repaired = case("online-vs-unplug").program(f"sub-block-grow-online-ACK{MUTEX}").run()
    assert decide(repaired).word == "safe"


def test_blocks_are_counted_as_they_stand_and_those_not_counted_are_passed_over() -> None:
    table = StateTable(5)
    for _ in range(3):
        table.prepare_next()
    table.set(6, MbState.OFFLINE)
    table.set(7, MbState.OFFLINE)
    table.set(6, MbState.MOVABLE)
    assert table.counts == {state: table.blocks[state].size for state in MbState}
    assert [table.counts[state] for state in (MbState.UNUSED, MbState.OFFLINE, MbState.MOVABLE)] == [1, 1, 1]
    table.counts[MbState.OFFLINE] = 0
    assert list(table.each(MbState.OFFLINE)) == list(table.each_rev(MbState.OFFLINE)) == []


def test_a_block_that_is_taken_back_while_it_is_set_offline_and_online_again_ends_well_in_every_order() -> None:
    """No law breaks, which would come before a data race. That is virtio_mem_bbm_bb_is_movable(), which looks at the
    zone of a page that offline_pages() may be taking from it.
    """
    verdict = searched("big-block-shrink-online-BUSY", keep=True)
    assert verdict.finished and verdict.failure is not None
    raced = "data race: read of page_zone by virtio-mem work and write of page_zone by user space"
    assert verdict.failure.reason == raced
    assert user_saw(verdict) > {("ok", "ok")}


def test_an_offline_block_is_either_set_online_before_it_is_taken_back_or_not_at_all() -> None:
    verdict = searched("sub-block-shrink-offline-ACK", keep=True)
    assert user_saw(verdict) == {("ok",), ("EPERM",), ("ENOENT",)}


@pytest.mark.parametrize("configuration", [each.name for each in MODES["sub-block-4K"].configurations[:3]])
def test_with_many_pageblocks_too(configuration: str) -> None:
    assert searched("sub-block-4K-fill-offline-ACK", configuration).word == "safe"


@pytest.mark.parametrize("variant", ["sub-block-fill-online-NACK", "big-block-shrink-offline-BUSY"])
def test_every_schedule_with_one_preemption_ends_as_the_reduction_has_it(variant: str) -> None:
    reduced = searched(variant, keep=True)
    run = case("online-vs-unplug").program(variant).run()
    every = bounded_search(run, 1, Limits(keep_behaviours=True))
    assert every.word == "safe up to 1 preemption"
    assert every.coverage.executions > 10 * reduced.coverage.executions
    assert every.coverage.behaviours <= reduced.coverage.behaviours


@contextmanager
def _kept(k: Kernel, vm: VirtioMem) -> Iterator[None]:
    """What the driver must not do: keep its mutex while it removes memory."""
    yield


def test_a_driver_that_kept_its_mutex_while_it_removes_memory_would_take_locks_in_a_circle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(virtio_mem_sbm_unplug, "mutex_dropped", _kept)
    program = case("online-vs-unplug").program("sub-block-shrink-offline-ACK")
    verdict = decide(program.run(), Limits(executions=500))
    assert verdict.word == "broken"
    assert verdict.failure is not None
    circle = "device_hotplug_lock under virtio1.hotplug_mutex under device_hotplug_lock"
    assert verdict.failure.reason.startswith(f"lock-order: {circle}: ")
    assert replay(program.run(), verdict.failure.schedule).reason == verdict.failure.reason


def test_a_driver_that_let_any_block_go_online_would_lose_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(k: Kernel, vm: VirtioMem, block_id: int) -> int:
        return MbState.OFFLINE

    monkeypatch.setattr(virtio_mem_notifier, "block_state", blind)
    verdict = searched("sub-block-shrink-offline-ACK")
    assert verdict.word == "broken"
