"""What a claim is: where it stands, what it says, how it is decided, and which command shows it at length."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

VerdictName = Literal["reproduced", "answered", "refuted", "open"]


@dataclass(frozen=True)
class Finding:
    """What deciding a claim yields: the verdict, and the figure that it rests on, computed just now."""

    verdict: VerdictName
    figure: str


@dataclass(frozen=True)
class Claim:
    """One row: `text` is the claim or question in our words, `decide` computes its finding (None: nobody has yet)."""

    id: str
    source: str
    text: str
    decide: Callable[[], Finding] | None = None
    command: str = ""


class ClaimRow(msgspec.Struct, frozen=True, kw_only=True):
    """A decided claim as it is printed."""

    id: str
    verdict: VerdictName
    figure: str
    command: str
    text: str
    source: str


def decide(claim: Claim) -> ClaimRow:
    """Decide a claim now; one that nobody has built yet is open."""
    finding = claim.decide() if claim.decide is not None else Finding("open", "")
    return ClaimRow(
        id=claim.id,
        verdict=finding.verdict,
        figure=finding.figure,
        command=claim.command,
        text=claim.text,
        source=claim.source,
    )
