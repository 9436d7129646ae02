"""A case decided: the row that `memhp races` prints and `memhp explore` shows at length."""
# SPDX-License-Identifier: GPL-2.0-or-later

import msgspec

from memhp.explore.case import StandsFor
from memhp.explore.cases import case
from memhp.explore.engine.verdict import Verdict
from memhp.explore.parallel import Job


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One variant of a race on one configuration, decided."""

    name: str
    variant: str
    configuration: str
    stands_for: StandsFor
    """What the variant is known as."""
    current: bool
    """Whether this is a kernel of today, unchanged."""
    verdict: str
    """``safe``, ``safe up to …`` a bound, ``broken`` or ``undecided``."""
    executions: int
    classes: int
    """Classes of equivalent executions that were looked at."""
    steps: int
    bound: str | None
    schedule: str | None
    """Of the counterexample, as the search came to it: the string that `memhp explore --replay` takes. `memhp explore`
    alone shows one that is made as small as was found.
    """
    reason: str | None
    """What goes wrong."""
    note: str = ""
    """What is particular about this configuration."""
    finding: str = ""
    """Where docs/findings.md explains a verdict other than what the variant is known as."""

    @property
    def as_known(self) -> bool:
        """Whether the verdict is what the variant is known as, or the difference is explained."""
        return as_known(self.verdict, self.stands_for, self.note or self.finding)


def as_known(verdict: str, stands_for: StandsFor, explanation: str) -> bool:
    """Whether a verdict is what a variant is known as, or there is an explanation why not; never when undecided."""
    if verdict == "undecided":
        return False
    return (verdict == "broken") == (stands_for == "broken") or bool(explanation)


def row_of(job: Job, verdict: Verdict) -> Row:
    """The row that the verdict of a job comes to."""
    chosen = case(job.case).variant(job.variant)
    where = chosen.configuration(job.configuration)
    failure = verdict.failure
    return Row(
        name=job.case,
        variant=job.variant,
        configuration=where.name,
        stands_for=chosen.stands_for,
        current=chosen.current(where),
        verdict=verdict.word,
        executions=verdict.coverage.executions,
        classes=verdict.classes or 0,
        steps=verdict.coverage.steps,
        bound=None if verdict.bound is None else verdict.bound.text,
        schedule=failure.schedule if failure is not None else None,
        reason=failure.reason if failure is not None else None,
        note=where.note,
        finding=chosen.finding,
    )
