"""One variant of a race looked at closely: its verdict with the trace, or a single schedule replayed."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import msgspec

from memhp.errors import BadInput, KernelBug, KernelError
from memhp.explore.case import Case, Configuration, StandsFor, Variant
from memhp.explore.cases import case
from memhp.explore.doors.endless import bounded
from memhp.explore.doors.outside import BY_THE_KERNEL, users_file
from memhp.explore.doors.run import KernelProgram, KernelRun
from memhp.explore.engine.bounded import bounded_search, random_search
from memhp.explore.engine.replay import NotToBeDone, watched
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.shortest import decide, shrink
from memhp.explore.engine.trace import Trace
from memhp.explore.engine.verdict import Failure, Verdict
from memhp.explore.row import as_known

ONE_SCHEDULE = "one schedule, replayed"


@dataclass(frozen=True)
class How:
    """How to search; without any of it: every schedule, by reduction."""

    preemptions: int | None = None
    """At most so many preemptions."""
    random: int | None = None
    """So many random schedules."""
    seed: int = 0
    reduction: bool = True
    executions: int | None = None
    """Executions after which it gives up, in place of the case's own limit."""
    steps: int | None = None
    """The longest execution that is followed, in place of the case's own limit."""
    rounds: int | None = None
    """How often an actor goes round, nothing changed, before that is endless, in place of the case's own bound."""
    step_seconds: float | None = None
    """The processor time that a step may take, in place of the case's own limit."""

    def limits(self, one: Case) -> Limits:
        """How far a search of a case goes."""
        named = {name: getattr(self, name) for name in ("executions", "steps", "rounds", "step_seconds")}
        return replace(one.limits, **{name: value for name, value in named.items() if value is not None})


class Covered(msgspec.Struct, frozen=True, kw_only=True):
    """How much was looked at: see :class:`memhp.explore.engine.verdict.Coverage`."""

    executions: int
    cut: int
    again: int
    deadlocks: int
    livelocks: int
    failed: int
    too_long: int
    """Executions that were given up after `longest` steps."""
    longest: int
    steps: int
    never_fired: list[str]
    """Steps that actors came to and that no execution took, and ways that none went."""


class Explored(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out of one variant on one configuration; ``memhp explore --json`` prints it."""

    name: str
    actors: str
    variant: str
    about: str
    """What the variant's kernel does."""
    configuration: str
    stands_for: StandsFor
    current: bool
    """Whether this is a kernel of today, unchanged."""
    mode: str
    """How schedules were chosen."""
    verdict: str
    """``safe``, ``safe up to …`` a bound, ``broken`` or ``undecided``."""
    reason: str | None
    executions: int
    classes: int | None
    """Classes of equivalent executions; None where the search does not tell them apart."""
    steps: int
    bound: str | None
    coverage: Covered | None
    """None of a single schedule."""
    trace: Trace | None
    geometry: str = ""
    note: str = ""
    choices: dict[str, str] = {}
    """What the kernel was told to choose otherwise, over what the variant says."""
    finding: str = ""
    """Where docs/findings.md explains a verdict other than what the variant is known as."""
    patch: dict[str, str] = {}
    """The kernel's functions that a patch replaced, ``file.c:function``, and the file with what stands in for each."""
    rests_on: tuple[str, ...] = ()
    """What the verdict takes for granted, a line each: memory model, fairness, bounds, grain, what is not modelled."""

    @property
    def as_known(self) -> bool:
        """Whether the verdict is what the variant is known as, or the difference is explained; of a kernel that was
        changed, by a patch or other choices, whether nothing breaks with that.
        """
        if self.patch or self.choices:
            return self.verdict.startswith("safe")
        return as_known(self.verdict, self.stands_for, self.note or self.finding)


def explore(
    name: str,
    variant: str,
    configuration: str | None = None,
    how: How | None = None,
    choices: Mapping[str, object] = MappingProxyType({}),
    *,
    patched: bool = False,
) -> Explored:
    """Decide a variant on a configuration (its first, if none is named), with the trace of what goes wrong.

    `patched`: code of a user's is part of the kernel. BadInput: there is no such case, variant or configuration.
    """
    one, chosen, where = _chosen(name, variant, configuration, choices)
    how = how or How()
    limits = how.limits(one)
    with bounded(limits.step_seconds):
        verdict = _search(_made(one, chosen, where, choices, patched).run(), limits, how)
        failure = verdict.failure
        trace = None if failure is None else _gone_wrong_again(_made(one, chosen, where, choices, patched), failure)
    covered = verdict.coverage
    return Explored(
        name=name, actors=one.actors, variant=variant, about=chosen.about, configuration=where.name,
        stands_for=chosen.stands_for, choices=_told(choices), current=chosen.current(where), mode=verdict.mode.value,
        verdict=verdict.word,
        reason=None if failure is None else failure.reason, executions=covered.executions, classes=verdict.classes,
        steps=covered.steps, bound=None if verdict.bound is None else verdict.bound.text, rests_on=verdict.rests_on,
        coverage=Covered(
            executions=covered.executions, cut=covered.cut, again=covered.again, deadlocks=covered.deadlocks,
            livelocks=covered.livelocks, failed=covered.failed, too_long=covered.too_long, longest=limits.steps,
            steps=covered.steps, never_fired=covered.never_fired,
        ),
        trace=trace, geometry=one.geometry, note=where.note, finding=chosen.finding,
    )  # fmt: skip


def replay_schedule(
    name: str,
    variant: str,
    configuration: str | None,
    schedule: str,
    *,
    extend: int = 0,
    choices: Mapping[str, object] = MappingProxyType({}),
    step_seconds: float | None = None,
    patched: bool = False,
) -> Explored:
    """The trace of one schedule, and of `extend` steps beyond it. It says whether that one breaks, never more.

    BadInput: there is no such case, variant or configuration, or the schedule asks for a step that cannot be done.
    """
    one, chosen, where = _chosen(name, variant, configuration, choices)
    with bounded(How(step_seconds=step_seconds).limits(one).step_seconds):
        trace = watched(_made(one, chosen, where, choices, patched).run(), schedule, extend=extend)
    return Explored(
        name=name, actors=one.actors, variant=variant, about=chosen.about, configuration=where.name,
        stands_for=chosen.stands_for, choices=_told(choices), current=chosen.current(where), mode=ONE_SCHEDULE,
        verdict="undecided" if trace.reason is None else "broken", reason=trace.reason, executions=1, classes=None,
        steps=len(trace.lines), bound=None, coverage=None, trace=trace, geometry=one.geometry, note=where.note,
        finding=chosen.finding,
    )  # fmt: skip


def _made(
    one: Case, variant: Variant, where: Configuration, choices: Mapping[str, object], patched: bool
) -> KernelProgram:
    """The program; with a patch, one of which it is proved that all goes by the kernel alone.

    BadInput: with other choices than the variant has, the kernel goes wrong before the race begins.
    """
    try:
        program = one.made(variant, where)
    except (KernelError, KernelBug) as error:
        if not choices:
            raise
        text = f"with these choices the race cannot be set up: {type(error).__name__}: {error}"
        raise BadInput(text, where="--choice") from error
    return replace(program, of_user=True) if patched else program


def _gone_wrong_again(program: KernelProgram, failure: Failure) -> Trace:
    """The trace of a schedule that went wrong. BadInput: in a machine made anew it does not, in code of a user's."""
    try:
        trace = watched(program.run(), failure.schedule)
        why = "nothing is wrong at its end" if trace.reason is None else ""
    except NotToBeDone as error:
        if not program.of_user:
            raise
        why = str(error)
    if why and program.of_user:
        file = users_file(program.actors)
        raise BadInput(f"what went wrong once does not again with the same steps, {why}: {BY_THE_KERNEL}", where=file)
    return trace


def _told(choices: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in choices.items()}


def _chosen(
    name: str, variant: str, configuration: str | None, choices: Mapping[str, object]
) -> tuple[Case, Variant, Configuration]:
    """The case, the variant with these choices changed too, and the configuration."""
    one = case(name)
    chosen = one.variant(variant)
    where = chosen.configuration(configuration)
    if not choices:
        return one, chosen, where
    try:
        changed = replace(chosen, choices={**chosen.choices, **choices})
        changed.config(where)
    except BadInput as error:
        raise BadInput(error.message, where=f"--choice {error.where}", fix=error.fix) from None
    return one, changed, where


def _search(run: KernelRun, limits: Limits, how: How) -> Verdict:
    if how.random is not None:
        found = random_search(run, how.seed, how.random, limits=limits)
    elif how.preemptions is not None:
        run.tell_apart(frozenset())
        found = bounded_search(run, how.preemptions, limits)
    elif not how.reduction:
        found = search(run, limits, reduce=False)
    else:
        return decide(run, limits)
    if found.failure is not None:
        found = replace(found, failure=shrink(run, found.failure, limits))
    run.tell_apart(None)
    return found
