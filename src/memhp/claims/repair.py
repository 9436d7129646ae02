"""What a patch for a finding has to change, said as choices; whether that is enough, and what it costs.

The repaired kernel is explored where the finding is a race, over every schedule; where it is none, the row says why. It
is rehearsed in any case beside the kernel as it is, over the same steps, and what both did is counted. Steps that do
not come by the place, as no step of a scenario does, show only that nothing else changes: there the functions of the
kernel are called on both sides too.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memhp.claims import evidence
from memhp.claims.claim import RepairRow
from memhp.scenario.result import Run
from memhp.units import exact_size


@dataclass(frozen=True)
class Repair:
    """Choices that no kernel has made, or a later one, on a machine of a scenario, and steps that show their cost."""

    machine: Mapping[str, Any]
    choices: Mapping[str, Any]
    steps: tuple[Mapping[str, Any], ...]
    no_race: str = ""
    """Why no schedule could make a difference; empty where the finding is a race."""


def repair_row(repair: Repair, explored: str, called: str = "") -> RepairRow:
    """Rehearse a repair now. `explored` says what came of its exploration, if it was explored; `called` what came of
    the kernel's functions on both sides, where steps alone do not show the difference.
    """
    before, after = (_run(repair, choices) for choices in ({}, repair.choices))
    machine = after.machine
    return RepairRow(
        machine=f"{machine.arch} {machine.profile}, {exact_size(machine.page_size)} pages",
        choices=dict(repair.choices),
        explored=explored or repair.no_race,
        rehearsed=f"{_ends(before, after)}{f'; called by themselves: {called}' if called else ''}",
        cost=_compared(_cost(before), _cost(after)),
    )


def _run(repair: Repair, choices: Mapping[str, Any]) -> Run:
    own = repair.machine.get("choices", {})
    return evidence.run({**repair.machine, "choices": {**own, **choices}}, *map(dict, repair.steps))


def _ends(before: Run, after: Run) -> str:
    """How the steps ended where they did not end as before, and the laws that do not hold."""
    broken = evidence.broken_laws(after)
    laws = f"broken: {', '.join(broken)}" if broken else "every law held"
    other = [
        f"{now.do} {old.outcome.result} → {now.outcome.result}"
        for old, now in zip(before.steps, after.steps, strict=True)
        if old.outcome.result != now.outcome.result
    ]
    return "; ".join([laws, *(other or ["every step ends as before"])])


def _cost(run: Run) -> dict[str, int]:
    return {
        "invalidations": sum(flush.times for step in run.steps for flush in step.flushes),
        "entries written": sum(step.entries_written for step in run.steps),
        "page tables": run.state.memory.page_tables,
        "free": run.state.memory.free,
    }


BYTES = ("page tables", "free")


def _compared(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    parts = []
    for name, now in after.items():
        told = exact_size if name in BYTES else str
        old = before[name]
        parts.append(f"{name} {told(now)}, as before" if old == now else f"{name} {told(old)} → {told(now)}")
    return "; ".join(parts)
