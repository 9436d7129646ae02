"""Claims as a page: the question, the answer, the figure it rests on, each kernel's verdict, the evidence."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from memhp.claims.claim import ClaimRow
from memhp.outputs.file import write_file
from memhp.report.claims import evidence, kernels, repair
from memhp.report.rendering import render

TONE = {"reproduced": "good", "answered": "good", "in part": "warn", "refuted": "bad"}
"""How a verdict is coloured; others are soft."""


def write_claims_page(rows: Sequence[ClaimRow], path: Path) -> None:
    """Write the page. Raises :class:`BadInput` if it cannot be written."""
    write_file(path, claims_page(rows))


def claims_page(rows: Sequence[ClaimRow]) -> str:
    """The page, as HTML that needs no other file."""
    sources = [
        (source, [(row, TONE.get(row.verdict, "soft"), _facts(row), evidence(row.held_against)) for row in group])
        for source, group in groupby(rows, key=lambda row: row.source)
    ]
    counts = Counter(row.verdict for row in rows)
    return render("claims.html", sources=sources, counts=", ".join(f"{n} {name}" for name, n in counts.items()))


def _facts(row: ClaimRow) -> list[tuple[str, str]]:
    """What stands in the list below an answer, by name."""
    told = kernels(row)
    return [("figure", row.figure), *([("kernels", told)] if told else []), *repair(row)]
