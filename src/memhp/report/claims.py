"""Claims with their verdicts, in the terminal."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.text import Text

from memhp.claims.claim import ClaimRow
from memhp.report.lines import print_wrapped

HANG = 9
"""Where the text of a claim starts."""
STYLE = {"reproduced": "green", "answered": "cyan", "refuted": "bold red", "open": "dim"}


def print_claims(out: Console, rows: Sequence[ClaimRow]) -> None:
    """Print claims by source: verdict, claim, figure, and the command that shows it at length."""
    for source, group in groupby(rows, key=lambda row: row.source):
        print_wrapped(out, Text(source, style="bold"))
        for row in group:
            head = Text.assemble(f"  {row.id:<6} ", (f"{row.verdict:<11}", STYLE[row.verdict]), row.text)
            print_wrapped(out, head, hang=HANG)
            if row.figure:
                print_wrapped(out, Text(f"{'':{HANG}}{row.figure}"), hang=HANG)
            if row.command:
                out.print(Text(f"{'':{HANG}}$ {row.command}", style="dim"), soft_wrap=True)
        out.print()
    counts = Counter(row.verdict for row in rows)
    out.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()), soft_wrap=True)
