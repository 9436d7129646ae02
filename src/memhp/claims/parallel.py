"""Claims decided one beside the other: each by itself, on a process for each CPU, in the order of the table."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
from collections.abc import Iterator, Sequence

from memhp.claims.claim import Claim, ClaimRow, decide
from memhp.claims.table import CLAIMS
from memhp.pools import Call, Processes

FEW = 4
"""Up to so many claims processes are not worth their start."""


def decided(chosen: Sequence[Claim], *, workers: int | None = None) -> Iterator[ClaimRow]:
    """Rows in the order of `chosen`, decided on `workers` processes (by default one for each CPU)."""
    workers = workers or os.cpu_count() or 1
    if workers == 1 or len(chosen) <= FEW:
        yield from map(decide, chosen)
        return
    pool = Processes(workers)
    try:
        for number, claim in enumerate(chosen):
            pool.put(Call(number, decide_by_id, (claim.id,)))
        done: dict[int, ClaimRow] = {}
        for number in range(len(chosen)):
            while number not in done:
                at, row = pool.get()
                done[at] = row
            yield done.pop(number)
    finally:
        pool.close()


def decide_by_id(name: str) -> ClaimRow:
    """Decide the claim of that ID."""
    (claim,) = (each for each in CLAIMS if each.id == name)
    return decide(claim)
