"""What a rehearsal came to, in a sentence; and what a step did to the laws, in a few words: the same in every view."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from typing import Literal, NamedTuple

from memhp.scenario.result import LawResult, Run, StepResult


class Broke(NamedTuple):
    """How a step is marked."""

    mark: str
    """``✓`` as expected, ``~`` if it broke only laws that are meant to break, ``✗`` for anything else."""
    tone: Literal["good", "meant", "bad"]
    text: str
    """The laws that it broke; empty if none."""


def broke(step: StepResult, run: Run) -> Broke:
    """What a step did to the laws, and whether it went as the scenario expects."""
    laws = list(dict.fromkeys(breach.law for breach in step.breaches))
    meant = {law.law for law in run.laws if law.meant}
    as_meant = " as it is meant to" if laws and meant.issuperset(laws) else ""
    text = f"and broke {joined(laws)}{as_meant}" if laws else ""
    if not step.as_expected or not meant.issuperset(laws):
        return Broke("✗", "bad", text)
    return Broke("~", "meant", text) if laws else Broke("✓", "good", text)


def joined(names: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


def verdict(run: Run) -> str:
    """The last line: whether all went as expected; else which steps did not, and which laws broke since when."""
    if run.ok:
        meant = [f"{law.law} ({_since(law)})" for law in run.laws if law.meant]
        more = f": {joined(meant)} broke, as {'they are' if len(meant) > 1 else 'it is'} meant to" if meant else ""
        return f"The rehearsal went as expected{more}."
    return " ".join(_wrong(run))


def _wrong(run: Run) -> Iterator[str]:
    steps = [str(step.index + 1) for step in run.steps if not step.as_expected]
    if steps:
        yield f"Step{'s' if len(steps) > 1 else ''} {joined(steps)} did not end as expected."
    broken = [f"{law.law} ({_since(law)})" for law in run.laws if not law.as_expected and not law.held]
    if broken:
        yield f"Broken law{'s' if len(broken) > 1 else ''}: {joined(broken)}."
    whole = [law.law for law in run.laws if not law.as_expected and law.held]
    if whole:
        yield f"Meant to break, but held: {joined(whole)}."


def _since(law: LawResult) -> str:
    return "since the boot" if law.first_broken == -1 else f"since step {(law.first_broken or 0) + 1}"
