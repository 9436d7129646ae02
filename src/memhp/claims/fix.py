"""What a fix is: the commit, which kernels have it, what goes wrong without it, and what shows that."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from memhp.claims import evidence
from memhp.explore.case import Case
from memhp.linux.arch.registry import Arch
from memhp.linux.config import Config
from memhp.linux.profiles import profile
from memhp.linux.release import Release, Since, parse_release, series
from memhp.scenario.result import StepResult
from memhp.units import KiB

Status = Literal["shown", "not reachable", "not modelled"]
Lack = Literal["lacks", "not established"]


@dataclass(frozen=True)
class Shown:
    """What came of a witness on both sides of a fix."""

    before: str
    """What goes wrong without it; empty if nothing does."""
    after: str
    explored: str = ""
    """Of a race: what came of the exploration of its repaired side."""

    @property
    def holds(self) -> bool:
        """Whether it is broken before and right after."""
        return bool(self.before) and not self.after


@dataclass(frozen=True)
class Rehearsed:
    """Steps on a machine, said as they should end: with keys of `before` and of `after` over the machine's."""

    machine: Mapping[str, Any]
    steps: tuple[Mapping[str, Any], ...]
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    note: str = ""
    """What a note of a step has in it where something goes wrong that neither a result nor a law shows."""

    def show(self) -> Shown:
        """Run both."""
        return Shown(self._wrong(self.before), self._wrong(self.after))

    def _wrong(self, over: Mapping[str, Any]) -> str:
        run = evidence.run({**self.machine, **over}, *map(dict, self.steps))
        steps = [_ended(step) for step in run.steps if not step.as_expected]
        notes = [text for step in run.steps for text in step.notes if self.note and self.note in text]
        return "; ".join([*steps, *notes, *(f"law {law}" for law in evidence.broken_laws(run))])


def _ended(step: StepResult) -> str:
    said = f": {step.outcome.reason}" if step.outcome.reason else ""
    return f"{step.do} ends in {step.outcome.result}{said}, not in {step.expect}"


@dataclass(frozen=True)
class Raced:
    """Two variants of a race, each on a configuration."""

    race: Case
    before: tuple[str, str]
    """The variant and the configuration that are broken."""
    after: tuple[str, str]
    repaired: Case | None = None
    """Where `after` is a variant, if not of the same race."""

    def show(self) -> Shown:
        """Decide both, over every schedule."""
        before = evidence.explored(self.race, *self.before).failure
        verdict = evidence.explored(self.repaired or self.race, *self.after)
        after, (variant, configuration) = verdict.failure, self.after
        return Shown(
            "" if before is None else before.reason,
            "" if after is None else after.reason,
            f"{evidence.told(variant, verdict)} on {configuration}",
        )


@dataclass(frozen=True)
class Called:
    """Kernel functions called on a small machine, as no step of a scenario does: `does` says what goes wrong."""

    does: Callable[[Config], str]
    arch: Arch
    before: Mapping[str, object]
    """Choices of a kernel without the fix."""
    after: Mapping[str, object]
    release: str = "6.12"
    options: Mapping[str, Any] = field(default_factory=dict)
    """Build and boot options."""

    def show(self) -> Shown:
        """Call them on both."""
        return Shown(self._wrong(self.before), self._wrong(self.after))

    def _wrong(self, choices: Mapping[str, object]) -> str:
        kernel = profile(self.release).choosing(self.arch, choices)
        return self.does(Config(self.arch, kernel, 4 * KiB, 48, **self.options))


@dataclass(frozen=True)
class Fix:
    """One row. `since` has the commit's title, its release and the point releases that took it."""

    since: Since
    wrong: str
    """What goes wrong for a user of a kernel without it."""
    status: Status
    reason: str = ""
    """Why it cannot be met, or is not modelled."""
    broken_since: str = ""
    """The release that brought what it mends; empty for what was there before 5.13 or is not known."""
    witness: Rehearsed | Raced | Called | None = field(default=None, compare=False)

    def lacking(self, release: Release) -> Lack | None:
        """Whether a kernel lacks it: None if it has it, or has not what it mends."""
        if self.since.made_in(release) or (self.broken_since and release.series < series(self.broken_since)):
            return None
        return "not established" if self.since.open_in(release) or self._only_newer(release) else "lacks"

    def _only_newer(self, release: Release) -> bool:
        """Whether newer series took it and this one did not, so that it may lack what the fix mends as well."""
        taken = [parse_release(point) for point in self.since.stable]
        newer = all(each is not None and each.series > release.series for each in taken)
        return bool(taken) and newer and not self.broken_since


class FixRow(msgspec.Struct, frozen=True, kw_only=True):
    """A fix as it is printed."""

    title: str
    when: str
    """The release that was the first to have it, with point releases; or between which it came."""
    established: bool
    """Whether that release is known."""
    stable: list[str]
    broken_since: str
    wrong: str
    status: Status
    reason: str
    lack: Lack | None = None
    """Whether the kernel that was asked about lacks it."""


def row_of(fix: Fix, lack: Lack | None = None) -> FixRow:
    """A fix as it is printed."""
    return FixRow(
        title=fix.since.title,
        when=fix.since.when,
        established=fix.since.established,
        stable=list(fix.since.stable),
        broken_since=fix.broken_since,
        wrong=fix.wrong,
        status=fix.status,
        reason=fix.reason,
        lack=lack,
    )
