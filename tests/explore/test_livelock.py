"""Threads that go round: one that waits for another is let go round no further, and nobody getting further is told."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass, field
from io import StringIO

import pytest

from memhp.explore.case import Configuration, Variant
from memhp.explore.cases.actors import boot
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.replay import replay, watched
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.shortest import decide
from memhp.explore.programs.program import Program
from memhp.explore.programs.shared import Body, Shared
from memhp.linux.state import Kernel
from memhp.units import KiB

EVERYTHING = Limits(stop_at_failure=False, deadlock_is_failure=False, keep_behaviours=True, keep_classes=True)


def spin(memory: Shared) -> None:
    while not memory.load("x"):
        pass


def release(memory: Shared) -> None:
    memory.store("x", 1)


def both(first: str, second: str) -> Body:
    """Two locks: the second only if it is free, else both are let go and taken again."""

    def thread(memory: Shared) -> None:
        memory.lock(first)
        while not memory.trylock(second):
            memory.unlock(first)
            memory.lock(first)
        memory.unlock(second)
        memory.unlock(first)

    return thread


def test_two_that_try_fail_and_try_again_may_do_so_for_ever() -> None:
    program = Program((both("a", "b"), both("b", "a")), names=("adder", "remover"))
    verdict = search(program.run())
    assert verdict.word == "broken"
    assert verdict.failure is not None
    assert verdict.failure.reason == (
        "livelock: adder repeats lock a, trylock b, unlock a; remover repeats unlock b, lock b, trylock a"
    )
    assert verdict.coverage.livelocks == 1


def test_a_spin_on_a_thread_that_can_run_is_no_livelock() -> None:
    verdict = search(Program((spin, release), {"x": 0}).run(), EVERYTHING)
    assert (verdict.word, verdict.coverage.livelocks, verdict.coverage.too_long) == ("safe", 0, 0)
    # The store comes before the first load, or after the first, the second or the third; a fourth shows nothing new.
    assert verdict.coverage.executions == len(verdict.coverage.classes) == 4


def test_a_spin_that_nobody_ends_is_a_livelock() -> None:
    verdict = search(Program((spin,), {"x": 0}, names=("cpu 0",)).run())
    assert verdict.failure is not None
    assert verdict.failure.reason == "livelock: cpu 0 repeats load x"


def test_a_spin_with_a_lock_that_the_other_needs_is_a_livelock() -> None:
    def holder(memory: Shared) -> None:
        with memory.locked("a"):
            spin(memory)

    def needs(memory: Shared) -> None:
        with memory.locked("a"):
            release(memory)

    verdict = search(Program((holder, needs), {"x": 0}, names=("cpu 0", "cpu 1")).run())
    assert verdict.failure is not None
    assert verdict.failure.reason == "livelock: cpu 0 repeats load x; cpu 1 waits at lock a"


def test_two_that_spin_for_each_other_pass() -> None:
    def first(memory: Shared) -> None:
        memory.store("x", 1)
        while not memory.load("y"):
            pass

    def second(memory: Shared) -> None:
        spin(memory)
        memory.store("y", 1)

    coverage = search(Program((first, second), {"x": 0, "y": 0}).run(), EVERYTHING).coverage
    assert (coverage.livelocks, coverage.too_long, len(coverage.behaviours)) == (0, 0, 1)


@pytest.mark.parametrize("threads", [2, 3])
def test_a_lock_taken_by_trying_again_and_again_is_no_livelock(threads: int) -> None:
    def thread(memory: Shared) -> None:
        while not memory.trylock("lock"):
            pass
        memory.store("x", memory.load("x") + 1)
        memory.unlock("lock")

    program = Program((thread,) * threads, {"x": 0}, lambda cells: None if cells["x"] == threads else "lost")
    verdict = search(program.run(), Limits(keep_classes=True))
    assert verdict.word == "safe"
    assert verdict.coverage.executions == len(verdict.coverage.classes)


def test_an_attempt_that_gives_up_after_some_time_is_seen_to_give_up() -> None:
    def patient(memory: Shared) -> bool:
        for _ in range(5):
            if memory.trylock("lock"):
                memory.unlock("lock")
                return True
        return False

    def holder(memory: Shared) -> None:
        with memory.locked("lock"):
            pass

    coverage = search(Program((patient, holder)).run(), EVERYTHING).coverage
    assert coverage.livelocks == 0
    assert {ends[0][0] for _, ends in coverage.behaviours} == {True, False}  # type: ignore[misc, has-type]


def test_a_loop_over_equal_things_ends_although_it_looks_endless() -> None:
    def thread(memory: Shared) -> None:
        for name in ("x",) * 10:
            memory.store(name, 1)

    assert search(Program((thread,), {"x": 0}).run()).word == "safe"


def test_an_allocation_that_is_tried_until_it_succeeds_fails_twice_and_then_succeeds() -> None:
    def thread(memory: Shared) -> None:
        while memory.fails("mm/page_alloc.c:alloc_pages"):
            pass

    coverage = search(Program((thread,)).run(), EVERYTHING).coverage
    assert (coverage.executions, coverage.livelocks, coverage.too_long) == (4, 0, 0)


@pytest.mark.parametrize("bodies", [(spin, release), (spin, spin, release)])
def test_the_reduction_leaves_out_nothing_beside_a_spin(bodies: tuple[Body, ...]) -> None:
    run = Program(bodies, {"x": 0}).run()
    full = search(run, EVERYTHING, reduce=False)
    reduced = search(run, EVERYTHING)
    assert full.finished and reduced.finished
    assert reduced.coverage.classes == full.coverage.classes
    assert reduced.coverage.behaviours == full.coverage.behaviours


def test_kernel_code_that_tries_again_for_ever_is_told_with_its_place() -> None:
    def one(k: Kernel) -> None:
        k.hw.lock("device_hotplug_lock")
        while not k.hw.trylock("mem_hotplug_lock"):
            k.hw.unlock("device_hotplug_lock")
            k.hw.lock("device_hotplug_lock")
        k.hw.unlock("mem_hotplug_lock")
        k.hw.unlock("device_hotplug_lock")

    def other(k: Kernel) -> None:
        k.hw.lock("mem_hotplug_lock")
        while not k.hw.trylock("device_hotplug_lock"):
            k.hw.unlock("mem_hotplug_lock")
            k.hw.lock("mem_hotplug_lock")
        k.hw.unlock("device_hotplug_lock")
        k.hw.unlock("mem_hotplug_lock")

    machine = Configuration("arm64", 4 * KiB, 48)
    k = boot(Variant("as it is", "", "repaired", (machine,)).config(machine))
    program = KernelProgram(k, (one, other), ("cpu 0", "cpu 1"))
    verdict = decide(program.run())
    assert verdict.failure is not None
    assert verdict.failure.reason.startswith("livelock: cpu 0 repeats ")
    assert "trylock device_hotplug_lock" in verdict.failure.reason
    for trace in (replay(program.run(), verdict.failure.schedule), watched(program.run(), verdict.failure.schedule)):
        assert (trace.end, trace.reason) == ("livelock", verdict.failure.reason)


def test_two_who_back_off_from_each_other_for_ever_are_told_after_few_executions() -> None:
    """Where a thread stands is the same whether it got there step by step or in a state that was rebuilt."""

    def backs_off(own: str, others: str) -> Callable[[Kernel], None]:
        def actor(k: Kernel) -> None:
            while True:
                k.hw.lock(own)
                if k.hw.trylock(others):
                    k.hw.unlock(others)
                    k.hw.unlock(own)
                    return
                k.hw.unlock(own)

        return actor

    machine = Configuration("riscv64", 4 * KiB, 48)
    k = boot(Variant("as it is", "", "repaired", (machine,)).config(machine))
    program = KernelProgram(k, (backs_off("A", "B"), backs_off("B", "A")), ("a", "b"))
    verdict = search(program.run(), Limits(executions=100))
    assert verdict.failure is not None
    assert verdict.failure.reason.startswith("livelock: a repeats ")


def test_a_livelock_replays_from_its_schedule() -> None:
    program = Program((both("a", "b"), both("b", "a")), names=("adder", "remover"))
    for verdict in (search(program.run()), decide(program.run())):
        assert verdict.failure is not None
        trace = replay(program.run(), verdict.failure.schedule)
        assert (trace.end, trace.reason) == ("livelock", verdict.failure.reason)
    assert replay(program.run(), "ab").end == "unfinished"


def test_a_livelock_is_decided_where_a_store_changes_nothing() -> None:
    def waits(memory: Shared) -> None:
        memory.store("x", 1)
        while memory.load("y") < 1:
            pass

    def stores(memory: Shared) -> None:
        memory.store("y", 0)

    program = Program((waits, stores), {"x": 0, "y": 0})
    failure = decide(program.run()).failure
    assert failure is not None
    assert failure.reason == "livelock: thread 0 repeats load y"
    assert replay(program.run(), failure.schedule).reason == failure.reason


def test_who_waits_for_a_lock_that_is_let_go_in_each_round_gets_it() -> None:
    def plain(memory: Shared) -> None:
        with memory.locked("b"), memory.locked("a"):
            pass

    for bodies in ((both("a", "b"), plain), (plain, both("a", "b"))):
        assert search(Program(bodies).run()).word == decide(Program(bodies).run()).word == "safe"


def test_a_for_loop_ends_however_often_its_rounds_are_the_same() -> None:
    def thread(memory: Shared) -> None:
        for _ in range(300):
            memory.load("x")
        raise ValueError("it has come to its end")

    failure = decide(Program((thread,), {"x": 0}).run()).failure
    assert failure is not None
    assert failure.reason == "thread 0: ValueError: it has come to its end"


def test_a_livelock_is_told_although_another_thread_has_raised() -> None:
    def raises(memory: Shared) -> None:
        memory.store("z", 1)
        raise ValueError

    coverage = search(Program((spin, raises), {"x": 0, "z": 0}).run(), EVERYTHING).coverage
    assert (coverage.too_long, coverage.livelocks) == (0, coverage.executions)


def test_how_often_a_round_is_done_before_it_counts_as_endless_is_a_limit() -> None:
    def patient(memory: Shared) -> None:
        hidden = StringIO("." * 100)  # nothing that shows where the thread stands
        while hidden.read(1):
            memory.load("x")

    program = Program((patient,), {"x": 0})
    assert search(program.run(), Limits(rounds=10)).word == "broken"
    assert search(program.run(), Limits(rounds=200)).word == "safe"


def test_a_loop_that_uses_up_what_the_kernel_has_comes_to_its_end() -> None:
    @dataclass
    class Work:
        todo: list[int] = field(default_factory=lambda: [0] * 70)

    def works(k: Kernel) -> None:
        while k.statics(Work).todo:
            k.statics(Work).todo.pop()
            k.hw.reads("word")

    def writes(k: Kernel) -> None:
        k.hw.writes("word")

    machine = Configuration("riscv64", 4 * KiB, 48)
    k = boot(Variant("as it is", "", "repaired", (machine,)).config(machine))
    k.statics(Work)
    for actors in ((works, writes), (writes, works)):
        verdict = search(KernelProgram(k, actors, ("one", "two")).run())
        assert (verdict.word, verdict.classes) == ("safe", 71)  # the write comes before one of 70 reads, or after all
