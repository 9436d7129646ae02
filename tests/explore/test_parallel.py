"""Searches in parts and over processes: the same verdicts and counts, nothing lost when a worker is killed."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import signal
import subprocess
import sys
import time
from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from generated_programs import counting_program
from jobs import EVERYTHING, Deadly, Generated, Increments
from memhp.errors import BadInput
from memhp.explore import parallel
from memhp.explore.cases import case
from memhp.explore.engine.follow import follow
from memhp.explore.engine.partition import SplitSearch
from memhp.explore.engine.schedule import from_text
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.subtree import Found, Part, Start
from memhp.explore.engine.verdict import Failure, Verdict
from memhp.explore.parallel import Job, Searchable, run_jobs, search_part, tell_failure
from memhp.explore.programs.generate import program
from memhp.explore.programs.program import Program
from memhp.pools import Cluster, WorkerDied

SMALL: Sequence[Searchable] = (
    *(Generated(seed) for seed in range(12)),
    Increments(4),
    Increments(3, careful=True),
    Increments(4, searched_within=Limits(executions=100)),
)


def in_parts(the_program: Program, limits: Limits, budget: int) -> tuple[Verdict, int]:
    """A search in parts, and how many there were."""
    run = the_program.run()
    whole = SplitSearch(limits)
    parts = 0
    while starts := whole.starts:
        parts += len(starts)
        whole.take([Part(run, limits, start, budget).look() for start in starts])
    run.close()
    return whole.verdict, parts


@pytest.mark.parametrize("budget", [1, 25, 100])
def test_a_search_in_parts_finds_what_the_whole_search_finds(budget: int) -> None:
    limits = replace(EVERYTHING, stop_at_failure=False)
    most = 0
    for seed in range(0, 160):
        run = program(seed).run()
        whole = search(run, replace(limits, executions=500))
        run.close()
        if not whole.finished:
            continue
        verdict, parts = in_parts(program(seed), limits, budget)
        assert verdict.finished
        for name in ("executions", "deadlocks", "livelocks", "failed", "behaviours", "classes", "announced", "fired"):
            assert getattr(verdict.coverage, name) == getattr(whole.coverage, name), f"program {seed}: {name}"
        most = max(most, parts)
    assert most > 10


@pytest.mark.parametrize("budget", [1, 10])
def test_a_step_that_is_tried_again_is_so_in_whichever_part_it_is_found(budget: int) -> None:
    """Steps that touch more where they slept (memhp.explore.engine.source_sets)."""
    again = 0
    for seed in range(60):
        run = counting_program(seed).run()
        every = search(run, EVERYTHING, reduce=False).coverage
        run.close()
        verdict, _ = in_parts(counting_program(seed), EVERYTHING, budget)
        assert verdict.finished
        assert verdict.coverage.classes == every.classes
        again += verdict.coverage.again
    assert again


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_search_in_parts_keeps_to_a_bound_on_failures(failures: int) -> None:
    limits = replace(EVERYTHING, stop_at_failure=False, failures=failures)
    for seed in range(40):
        whole = search(program(seed).run(), replace(limits, executions=500))
        if whole.finished:
            verdict, _ = in_parts(program(seed), limits, 20)
            assert verdict.coverage.classes == whole.coverage.classes
            assert verdict.coverage.executions == whole.coverage.executions


def test_verdicts_and_counts_do_not_depend_on_the_workers() -> None:
    told: list[tuple[int, int]] = []
    alone = run_jobs(SMALL, workers=1, budget=200)
    assert run_jobs(SMALL, workers=3, budget=200, progress=lambda done, jobs: told.append((done, jobs))) == alone
    assert [done for done, _ in told] == list(range(1, len(SMALL) + 1))
    assert all(before < after for before, after in pairwise(told))
    words = [verdict.word for verdict in alone[-3:]]
    assert words == ["safe", "broken", "undecided"]
    assert alone[-3].coverage.executions == 576


def test_a_failure_found_by_a_worker_replays() -> None:
    one, other = (run_jobs([Increments(4, careful=True)], workers=workers)[0] for workers in (1, 2))
    assert one.failure == other.failure
    assert one.failure is not None
    followed = follow(Increments(4, careful=True).run(), from_text(one.failure.schedule), 100)
    assert followed is not None
    assert followed.reason == one.failure.reason


def test_a_failure_that_nobody_looks_at_is_not_taken_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [Increments(2, careful=True), Increments(2), Increments(3, careful=True)]
    gone_through: list[Searchable] = []

    def counted(job: Searchable, failure: Failure, shared: frozenset[Hashable]) -> Failure:
        gone_through.append(job)
        return tell_failure(job, failure, shared)

    monkeypatch.setattr(parallel, "tell_failure", counted)
    whole = run_jobs(jobs, workers=1)
    assert gone_through == [jobs[0], jobs[2]]
    gone_through.clear()
    some = run_jobs(jobs, workers=1, told=lambda number, verdict: number == 2 and verdict.failure is not None)
    assert gone_through == [jobs[2]]
    assert some[2] == whole[2]
    assert [(one.word, one.coverage.executions) for one in some] == [
        (one.word, one.coverage.executions) for one in whole
    ]


def test_the_cases_of_memory_hotplug_are_jobs() -> None:
    job = Job("two-hotplugs", "two-adds", "x86_64-4K-48-linux-6.12")
    assert [verdict.word for verdict in run_jobs([job], workers=1)] == ["safe"]
    with pytest.raises(BadInput, match="no race 'nothing'"):
        run_jobs([Job("nothing", "at-all")], workers=1)


def test_a_configuration_begins_with_what_the_threads_of_the_first_share_and_finds_what_it_finds_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variant = case("memory-error-vs-removal").variant("block-offline")
    jobs = [Job("memory-error-vs-removal", variant.name, where.name) for where in variant.configurations[:6]]
    searched: list[Searchable] = []

    def counted(job: Searchable, start: Start, shared: frozenset[Hashable], budget: int) -> Found:
        searched.append(job)
        return search_part(job, start, shared, budget)

    with monkeypatch.context() as patched:
        patched.setattr(parallel, "search_part", counted)
        together = run_jobs(jobs, workers=1)
    rounds = [searched.count(job) for job in jobs]
    assert max(rounds[1:]) < rounds[0]
    for job, said in zip(jobs, together, strict=True):
        alone = run_jobs([job], workers=1)[0]
        assert (said.word, said.coverage.executions) == (alone.word, alone.coverage.executions), job.configuration
    assert run_jobs(jobs, workers=3) == together


def test_the_job_of_a_worker_that_is_killed_is_done_again(tmp_path: Path) -> None:
    jobs: list[Searchable] = [Deadly(tmp_path, deaths=2), Increments(4)]
    verdicts = run_jobs(jobs, workers=2)
    assert [verdict.coverage.executions for verdict in verdicts] == [36, 576]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_job_that_kills_every_worker_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(WorkerDied, match="3 workers died at Deadly"):
        run_jobs([Deadly(tmp_path, deaths=100)], workers=2)


def test_an_interrupt_ends_every_process_at_once(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    script = tmp_path / "endless.py"
    script.write_text(
        "import signal\n"
        "from pathlib import Path\n"
        "from jobs import Endless\n"
        "from memhp.explore.parallel import run_jobs\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)  # which who runs the tests may have shut out\n"
        f"    run_jobs([Endless(Path({str(marks)!r}), number) for number in range(4)], workers=2, budget=10**9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    running = subprocess.Popen([sys.executable, str(script)], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        patience = time.monotonic() + 60
        while len(list(marks.iterdir())) < 2 and running.poll() is None and time.monotonic() < patience:
            time.sleep(0.05)
        pids = [int(mark.name) for mark in marks.iterdir()]
        assert len(pids) == 2
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=30)
    finally:
        running.kill()
    assert "KeyboardInterrupt" in said
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_cluster_gives_the_same_verdicts_and_loses_nothing_when_a_worker_is_killed(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        jobs = [Deadly(tmp_path, deaths=1), *SMALL]
        verdicts = run_jobs(jobs, cluster=cluster.scheduler_address, budget=200)
    assert len(list(tmp_path.iterdir())) == 1
    assert verdicts == run_jobs([Increments(3), *SMALL], workers=1, budget=200)


def test_a_cluster_that_is_not_there_is_told() -> None:
    pytest.importorskip("distributed")
    with pytest.raises(BadInput, match=r"no scheduler at tcp://127\.0\.0\.1:1"):
        Cluster("tcp://127.0.0.1:1", patience=1)
