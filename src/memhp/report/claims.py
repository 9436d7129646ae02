"""Claims with their verdicts, in the terminal."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.text import Text

from memhp.claims.claim import ClaimRow

STYLE = {"reproduced": "green", "answered": "cyan", "refuted": "bold red", "open": "dim"}


def print_claims(out: Console, rows: Sequence[ClaimRow]) -> None:
    """Print claims by source: verdict, claim, figure, and the command that shows it at length."""
    for source, group in groupby(rows, key=lambda row: row.source):
        out.print(Text(source, style="bold"))
        for row in group:
            out.print(Text.assemble(f"  {row.id:<6} ", (f"{row.verdict:<11}", STYLE[row.verdict]), row.text))
            if row.figure:
                out.print(Text(f"         {row.figure}"))
            if row.command:
                out.print(Text(f"         $ {row.command}", style="dim"))
        out.print()
    counts = Counter(row.verdict for row in rows)
    out.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
