"""A schedule is a string that replays, extends and shrinks; short counterexamples come first; verdicts name bounds."""
# SPDX-License-Identifier: GPL-2.0-or-later

import subprocess
import sys
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memhp.errors import BadInput
from memhp.explore.engine.bounded import bounded_search, random_search
from memhp.explore.engine.follow import Follower
from memhp.explore.engine.replay import replay
from memhp.explore.engine.schedule import Choice, from_text, to_text
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.shortest import decide
from memhp.explore.programs.generate import program
from memhp.explore.programs.program import Program
from memhp.explore.programs.shared import Shared


def increment(memory: Shared) -> None:
    memory.store("x", memory.load("x") + 1)


def all_counted(cells: Mapping[str, object]) -> str | None:
    return None if cells["x"] == 3 else f"increment lost: x is {cells['x']}"


LOST = Program((increment,) * 3, {"x": 0}, check=all_counted, names=("cpu 0", "cpu 1", "cpu 2"))


def test_a_schedule_is_written_in_runs() -> None:
    steps = [Choice(0), Choice(0), Choice(0), Choice(1), Choice(0, 1), Choice(1), Choice(1)]
    assert to_text(steps) == "a3ba!b2"
    assert from_text("a3ba!b2") == steps


@given(st.lists(st.builds(Choice, st.integers(0, 25), st.integers(0, 2))))
def test_every_schedule_comes_back_from_its_string(steps: list[Choice]) -> None:
    assert from_text(to_text(steps)) == steps


@pytest.mark.parametrize("text", ["A", "a0", "3a", "a-b", "a 2"])
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="is not a step"):
        from_text(text)


@given(st.lists(st.integers(0, 2).map(Choice), max_size=7))
def test_what_leads_to_an_execution_once_more_is_known_without_following_it(steps: list[Choice]) -> None:
    run = LOST.run()
    follower = Follower(run)
    executions = [follower.follow(from_text(told), 100) for told in ("", "b", "c", "ab2", "cbcb")]
    then = follower.follow(steps, 100)
    run.close()
    for one in executions:
        assert one is not None
        assert one.comes_of(steps) == (one == then)


def test_a_trace_names_thread_access_and_values() -> None:
    trace = replay(LOST.run(), "aba")
    assert [(line.name, line.text) for line in trace.lines] == [
        ("cpu 0", "load x: 0"),
        ("cpu 1", "load x: 0"),
        ("cpu 0", "store x: 0 -> 1"),
    ]
    assert (trace.end, trace.preemptions) == ("unfinished", 2)


def test_the_same_string_gives_the_same_trace_and_extends() -> None:
    run = LOST.run()
    assert replay(run, "abab") == replay(LOST.run(), "abab")
    assert replay(run, "ab", extend=2).schedule == "ab2a"
    whole = replay(run, "abab", extend=10)
    assert (whole.schedule, whole.end, whole.reason) == ("ababc2", "broken", "increment lost: x is 2")


@pytest.mark.parametrize(("text", "why"), [("a3", "it has ended"), ("d", "there are 3 threads"), ("a!", "goes 1 ways")])
def test_a_schedule_that_does_not_fit_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        replay(LOST.run(), text)


def test_every_failure_replays_from_its_string() -> None:
    replayed = 0
    for seed in range(150):
        failure = search(program(seed).run(), Limits(executions=300)).failure
        if failure is not None:
            trace = replay(program(seed).run(), failure.schedule)
            assert trace.reason == failure.reason
            assert trace.schedule == failure.schedule
            replayed += 1
    assert replayed > 20


def test_the_shortest_counterexample_has_one_preemption() -> None:
    verdict = decide(LOST.run())
    assert verdict.word == "broken"
    assert verdict.failure is not None
    assert verdict.failure.reason == "increment lost: x is 2"
    assert replay(LOST.run(), verdict.failure.schedule).preemptions == 1


def test_a_counterexample_holds_no_failure_of_an_allocation_that_it_does_not_need() -> None:
    def allocate_and_store(memory: Shared) -> None:
        for site in range(3):
            if memory.fails(f"site {site}") and site == 1:
                memory.store("x", 1)

    leak = Program((allocate_and_store,), {"x": 0}, check=lambda cells: "leak" if cells["x"] else None)
    verdict = decide(leak.run())
    assert verdict.failure is not None
    assert verdict.failure.schedule == "aa!a2"


def test_a_thread_that_raises_is_a_failure() -> None:
    def unlocker(memory: Shared) -> None:
        memory.unlock("lock")

    verdict = search(Program((unlocker,), names=("cpu 0",)).run())
    assert verdict.failure is not None
    assert verdict.failure.reason.startswith("cpu 0: KernelBug: a thread lets go of lock")


def test_a_program_without_failure_is_safe_and_within_a_bound_only_up_to_it() -> None:
    def careful(memory: Shared) -> None:
        with memory.locked("lock"):
            increment(memory)

    safe = Program((careful,) * 3, {"x": 0}, check=all_counted)
    assert decide(safe.run()).word == "safe"
    assert bounded_search(safe.run(), 1).word == "safe up to 1 preemption"
    assert random_search(safe.run(), seed=1, executions=20).word == "undecided"


def test_preemptions_are_counted_as_the_bound_says() -> None:
    assert bounded_search(LOST.run(), 0).word == "safe up to 0 preemptions"
    within = {bound: bounded_search(LOST.run(), bound, Limits(stop_at_failure=False)) for bound in range(5)}
    full = search(LOST.run(), Limits(stop_at_failure=False), reduce=False).coverage.executions
    counts = [verdict.coverage.executions for verdict in within.values()]
    assert counts[0] == 6
    assert counts == sorted(counts)
    assert counts[-1] == full == 90


def test_random_schedules_find_the_lost_increment_and_repeat_by_seed() -> None:
    first = random_search(LOST.run(), seed=7, executions=200)
    assert first.word == "broken"
    assert first == random_search(LOST.run(), seed=7, executions=200)
    assert first.failure is not None
    assert replay(LOST.run(), first.failure.schedule).reason == first.failure.reason


def test_programs_that_nobody_has_closed_end_quietly_with_the_interpreter() -> None:
    script = """
from memhp.explore.cases import case
from memhp.explore.programs.generate import program
kept = [program(3).run(), case("vmalloc-fault").program("no-fault-handler").run()]
for run in kept:
    run.step(0, 0)
kept.append(kept)
"""
    done = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
