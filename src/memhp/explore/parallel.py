"""Many jobs at once: each variant of each case on each configuration, over processes or a cluster.

A job is searched in rounds of parts (:mod:`memhp.explore.engine.partition`), nearly always a single one; a job that
turns out to be large is spread over all workers. What the threads of a variant share is found out on its first
configuration; on the others the search begins with that. Verdicts, counts and schedules depend neither on the workers
nor on their number.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import gc
import os
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from memhp.explore.cases import case
from memhp.explore.doors.endless import bounded
from memhp.explore.engine.op import Run
from memhp.explore.engine.partition import SplitSearch
from memhp.explore.engine.search import Limits
from memhp.explore.engine.shortest import as_told
from memhp.explore.engine.subtree import BUDGET, Found, Part, Start
from memhp.explore.engine.verdict import Failure, Verdict
from memhp.pools import Call, Cluster, Here, Pool, Processes


class Searchable(Protocol):
    """What a job must be: hashable, and fit to be pickled."""

    def run(self) -> Run:
        """The program, before its first step."""

    @property
    def searched_within(self) -> Limits:
        """How far the search goes."""

    @property
    def kin(self) -> Hashable:
        """Equal for jobs whose threads share the same things, in all likelihood; None for one that is like no other."""


@dataclass(frozen=True)
class Job:
    """A variant of a case on a configuration (the variant's first, if none is named), within the case's own limits
    or others.
    """

    case: str
    variant: str
    configuration: str | None = None
    limits: Limits | None = None

    def run(self) -> Run:
        """The program, before its first step. BadInput: there is no such case, variant or configuration."""
        return case(self.case).program(self.variant, self.configuration).run()

    @property
    def searched_within(self) -> Limits:
        """How far the search goes."""
        return self.limits if self.limits is not None else case(self.case).limits

    @property
    def kin(self) -> Hashable:
        """The variant, whatever the configuration."""
        return self.case, self.variant


class _Kept(threading.local):
    """The program that a thread of this process searched last: greenlets belong to their thread."""

    job: Searchable | None = None
    run: Run | None = None


_kept = _Kept()


@contextmanager
def _run_of(job: Searchable, shared: frozenset[Hashable]) -> Iterator[Run]:
    """The program of a job before its first step, kept from one of its parts to the next."""
    if _kept.run is None or _kept.job != job:
        _kept.job, _kept.run = None, job.run()
    run = _kept.run
    try:
        if run.shared != shared:
            run.tell_apart(shared)
        yield run
    except BaseException:
        _kept.run = None  # it stands anywhere
        raise
    _kept.job = job


SELDOM = 20_000
"""Objects made and not gone between two looks for garbage that goes in circles, such as kernels that were copied."""


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Look for garbage seldom: thousands of copies of a kernel come and go."""
    before = gc.get_threshold()
    gc.set_threshold(SELDOM, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def search_part(job: Searchable, start: Start, shared: frozenset[Hashable], budget: int) -> Found:
    """Search a part of a job, whose threads are known to share this: what a worker does."""
    limits = replace(job.searched_within, stop_at_failure=True)
    with bounded(limits.step_seconds), _seldom_collected(), _run_of(job, shared) as run:
        return Part(run, limits, start, budget).look()


def tell_failure(job: Searchable, failure: Failure, shared: frozenset[Hashable]) -> Failure:
    """The failure of a job as its schedule is told: what a worker does."""
    limits = job.searched_within
    with bounded(limits.step_seconds), _seldom_collected(), _run_of(job, shared) as run:
        return as_told(run, failure, limits)


def run_jobs(
    jobs: Sequence[Searchable],
    workers: int | None = None,
    cluster: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    budget: int = BUDGET,
    told: Callable[[int, Verdict], bool] | None = None,
) -> list[Verdict]:
    """Decide every job; the verdicts are in the order of the jobs, each failure with the schedule that showed it.
    Making that small costs more than deciding does, and is done where somebody looks at one:
    :func:`memhp.explore.engine.shortest.decide`.

    `told` says of a broken job, by its number, whether somebody will look at how it fails (by default: of all). To
    tell that, every step of the failure is taken by itself once more; else it is as the search came upon it.

    `workers` processes (by default as many as this machine has processors; 1: none but this one), or the Dask cluster
    at `cluster`. `progress` is told how many jobs are done and how many there are. `budget` is the number of steps
    after which a search is divided. BadInput: a job that there is not, or a cluster that cannot be reached.
    """
    workers = workers if workers is not None else os.cpu_count() or 1
    pool: Pool = Cluster(cluster) if cluster is not None else Here() if workers == 1 else Processes(workers)
    try:
        return _run_jobs(jobs, pool, progress, budget, told)
    finally:
        pool.close()


class _Going:
    """A job, the parts of its present round, and what was found in them."""

    def __init__(self, job: Searchable, shared: frozenset[Hashable]) -> None:
        self.search = SplitSearch(replace(job.searched_within, stop_at_failure=True), shared)
        self.parts = 0
        self.found: dict[int, Found] = {}
        self.verdict: Verdict | None = None


def _run_jobs(
    jobs: Sequence[Searchable],
    pool: Pool,
    progress: Callable[[int, int], None] | None,
    budget: int,
    told: Callable[[int, Verdict], bool] | None,
) -> list[Verdict]:
    going: dict[int, _Going] = {}
    calls: list[tuple[int, int]] = []
    verdicts: dict[int, Verdict] = {}
    kin: dict[Hashable, list[int]] = {}
    for number, job in enumerate(jobs):
        kin.setdefault(number if job.kin is None else (job.kin,), []).append(number)
    after = {first: others for first, *others in kin.values()}

    def call(number: int, part: int, soon: bool, function: Callable[..., object], *arguments: object) -> None:
        pool.put(Call(len(calls), function, (jobs[number], *arguments)), soon=soon)
        calls.append((number, part))

    def begin_round(number: int, *, soon: bool) -> None:
        one = going[number]
        starts = one.search.starts
        one.parts = len(starts)
        one.found = {}
        for part, start in reversed(list(enumerate(starts))) if soon else enumerate(starts):
            call(number, part, soon, search_part, start, one.search.shared, budget)

    def begin(numbers: Iterable[int], shared: frozenset[Hashable]) -> None:
        for number in numbers:
            going[number] = _Going(jobs[number], shared)
            begin_round(number, soon=False)

    begin(after, frozenset())
    while len(verdicts) < len(jobs):
        made, value = pool.get()
        number, part = calls[made]
        one = going[number]
        if one.verdict is not None:
            verdicts[number] = replace(one.verdict, failure=value)
        else:
            one.found[part] = value
            if len(one.found) < one.parts:
                continue
            one.search.take([one.found[at] for at in range(one.parts)])
            begin_round(number, soon=True)  # the worker that searched the last part still has the program
            if one.parts:
                continue
            one.verdict = one.search.verdict
            begin(after.get(number, ()), one.search.shared)
            if one.verdict.failure is not None and (told is None or told(number, one.verdict)):
                call(number, 0, True, tell_failure, one.verdict.failure, one.search.shared)
                continue
            verdicts[number] = one.verdict
        if progress is not None:
            progress(len(verdicts), len(jobs))
    return [verdicts[number] for number in range(len(jobs))]
