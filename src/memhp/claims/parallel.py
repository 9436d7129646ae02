"""Claims decided one beside the other: each by itself, on a process for each CPU, in the order of the table."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator, Sequence

from memhp.claims.claim import Claim, ClaimRow, decide
from memhp.claims.table import CLAIMS
from memhp.pools import in_order

FEW = 4
"""Up to so many claims processes are not worth their start."""


def decided(chosen: Sequence[Claim], *, workers: int | None = None) -> Iterator[ClaimRow]:
    """Rows in the order of `chosen`, decided on `workers` processes (by default one for each CPU)."""
    if len(chosen) <= FEW:
        return map(decide, chosen)
    return in_order(decide_by_id, [claim.id for claim in chosen], workers)


def decide_by_id(name: str) -> ClaimRow:
    """Decide the claim of that ID."""
    (claim,) = (each for each in CLAIMS if each.id == name)
    return decide(claim)
