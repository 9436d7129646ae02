"""What a claim is: where it stands, what it says, how it is decided, what that is held against, and how to see more.

A verdict is computed for each kernel that is asked (`by_release`); that of the row is theirs where they agree, and
``in part`` where they do not. The table has the verdict that a row is known to have (`known`), so that another one is
seen: by ``memhp claims`` as exit code 1, by the tests as a failure.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

VerdictName = Literal["reproduced", "refuted", "in part", "answered", "not decidable here", "open"]
"""A claim holds; it does not; it holds for some kernels or in some respects. A question has its answer, by a figure
that could have come out otherwise. Nothing that runs here can tell. Nobody has built it."""

EvidenceKind = Literal["capture", "guest", "source", "posting", "model only"]


class Evidence(msgspec.Struct, frozen=True):
    """What a row is held against, beside the model."""

    kind: EvidenceKind
    """``capture``: files of a real machine that come with the tests. ``guest``: page tables or requests of a real
    kernel, likewise. ``source``: a kernel function, read in the releases at hand. ``posting``: a mail as it was sent.
    ``model only``: nothing."""
    name: str = ""
    """The capture's or the guest's name, or ``file:function``; of a posting, its subject."""


MODEL_ONLY = (Evidence("model only"),)


def captures(*names: str) -> tuple[Evidence, ...]:
    """Captures by name."""
    return tuple(Evidence("capture", name) for name in names)


def guests(*names: str) -> tuple[Evidence, ...]:
    """Records of real guests by name: their page tables, what their driver asked the served device for, or what came of
    a module that was loaded there.
    """
    return tuple(Evidence("guest", name) for name in names)


def sources(*places: str) -> tuple[Evidence, ...]:
    """Kernel functions as ``file:function``."""
    return tuple(Evidence("source", place) for place in places)


def postings(*subjects: str) -> tuple[Evidence, ...]:
    """Mails by subject."""
    return tuple(Evidence("posting", subject) for subject in subjects)


class RepairRow(msgspec.Struct, frozen=True, kw_only=True):
    """Of a finding of ours: what a patch has to change, said as choices, whether that is enough, and what it costs."""

    machine: str
    choices: dict[str, Any]
    """What the kernel decides otherwise, by the names of :mod:`memhp.linux.choices`."""
    explored: str
    """What came of the exploration of the repaired kernel, or why there is nothing to explore."""
    rehearsed: str
    """What came of the rehearsal of the repaired kernel, and of its functions called on both sides."""
    cost: str
    """What the steps took as it is and repaired: invalidations, entries written, memory."""


@dataclass(frozen=True)
class Finding:
    """What deciding a claim yields: the verdict, and the figure that it rests on, computed just now."""

    verdict: VerdictName
    figure: str
    by_release: Mapping[str, VerdictName] = field(default_factory=dict)
    """The verdict for each kernel that was asked, by the name of its profile."""
    repair: RepairRow | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One row: a claim or question in our words, how it is decided, and what a maintainer would want beside it."""

    id: str
    source: str
    text: str
    answer: str
    """What came of it, in about two sentences; figures are in the finding's."""
    known: VerdictName
    """The verdict that it is known to have; another one is a fault of this program, or news."""
    decide: Callable[[], Finding]
    command: str
    held_against: tuple[Evidence, ...]
    status: str = ""
    """Of a finding of ours: read in source, seen in a guest, reported, fixed in which kernels."""


class ClaimRow(msgspec.Struct, frozen=True, kw_only=True):
    """A decided claim as it is printed."""

    id: str
    verdict: VerdictName
    figure: str
    command: str
    text: str
    source: str
    answer: str
    known: VerdictName
    by_release: dict[str, VerdictName]
    held_against: list[Evidence]
    status: str = ""
    """Of a finding of ours: read in source, seen in a guest, reported, fixed in which kernels."""
    repair: RepairRow | None = None

    @property
    def as_known(self) -> bool:
        """Whether the verdict is the one that it is known to have."""
        return self.verdict == self.known


def judged(holds: bool) -> VerdictName:
    """The verdict on a claim that holds or does not."""
    return "reproduced" if holds else "refuted"


def settled(found: bool) -> VerdictName:
    """The verdict on a question: answered if what its answer rests on came out so, else open."""
    return "answered" if found else "open"


def together(verdicts: Iterable[VerdictName]) -> VerdictName:
    """The verdict of a row: that of all its kernels, or ``in part``; ``open`` if none was asked."""
    found = set(verdicts)
    return found.pop() if len(found) == 1 else "in part" if found else "open"


def over_releases(figure: str, by_release: Mapping[str, VerdictName]) -> Finding:
    """A finding whose verdict is that of its kernels together."""
    return Finding(together(by_release.values()), figure, by_release)


def on(releases: Iterable[str], holds: bool, figure: str) -> Finding:
    """A finding that is the same for all kernels that were asked, as they were asked together."""
    verdict = judged(holds)
    return Finding(verdict, figure, dict.fromkeys(releases, verdict))


def answered(releases: Iterable[str], found: bool, figure: str) -> Finding:
    """The finding on a question: answered if what its answer rests on came out so, else open."""
    verdict = settled(found)
    return Finding(verdict, figure, dict.fromkeys(releases, verdict))


def decide(claim: Claim) -> ClaimRow:
    """Decide a claim now."""
    finding = claim.decide()
    return ClaimRow(
        id=claim.id,
        verdict=finding.verdict,
        figure=finding.figure,
        command=claim.command,
        text=claim.text,
        source=claim.source,
        answer=claim.answer,
        known=claim.known,
        by_release=dict(finding.by_release),
        held_against=list(claim.held_against),
        status=claim.status,
        repair=finding.repair,
    )
