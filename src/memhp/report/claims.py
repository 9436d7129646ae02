"""Claims with their verdicts, in the terminal."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.text import Text

from memhp.claims.claim import ClaimRow, Evidence
from memhp.report.lines import print_wrapped
from memhp.units import format_count

HANG = 9
"""Where the text of a claim starts."""
STYLE = {
    "reproduced": "green",
    "answered": "cyan",
    "in part": "yellow",
    "refuted": "bold red",
    "not decidable here": "dim",
    "open": "dim",
}


def print_claims(out: Console, rows: Sequence[ClaimRow]) -> None:
    """Print claims by source: verdict, claim, answer, figure, each kernel's verdict, evidence, and the command."""
    for source, group in groupby(rows, key=lambda row: row.source):
        print_wrapped(out, Text(source, style="bold"))
        for row in group:
            head = Text.assemble(f"  {row.id:<6} ", (f"{row.verdict:<10} ", STYLE[row.verdict]), row.text)
            print_wrapped(out, head, hang=HANG)
            for text, style in _lines(row):
                print_wrapped(out, Text(f"{'':{HANG}}{text}", style=style), hang=HANG)
            out.print(Text(f"{'':{HANG}}$ {row.command}", style="dim"), soft_wrap=True)
        out.print()
    counts = Counter(row.verdict for row in rows)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    print_wrapped(out, Text(f"{format_count(len(rows), 'claim')}: {told}."))


def _lines(row: ClaimRow) -> Iterator[tuple[str, str]]:
    if not row.as_known:
        yield f"known as {row.known}: a fault of memhp, or news", "bold red"
    if row.status:
        yield f"status: {row.status}", ""
    yield row.answer, ""
    yield f"figure: {row.figure}", "dim"
    if row.by_release:
        yield f"kernels: {kernels(row)}", ""
    yield from ((f"{name}: {text}", "") for name, text in repair(row))
    yield f"held against: {'; '.join(evidence(row.held_against))}", "dim"


def repair(row: ClaimRow) -> list[tuple[str, str]]:
    """What a patch has to change, as choices, and what came of it; nothing of a row that is no finding."""
    if row.repair is None:
        return []
    choices = ", ".join(f"{name}={value}" for name, value in row.repair.choices.items())
    return [
        ("patch", f"{choices} ({row.repair.machine})"),
        ("explored", row.repair.explored),
        ("rehearsed", row.repair.rehearsed),
        ("cost", row.repair.cost),
    ]


def kernels(row: ClaimRow) -> str:
    """The verdict of each kernel, those that are alike together."""
    alike: dict[str, list[str]] = {}
    for name, verdict in row.by_release.items():
        alike.setdefault(verdict, []).append(name)
    return "; ".join(f"{', '.join(names)} {verdict}" for verdict, names in alike.items())


def evidence(held_against: Sequence[Evidence]) -> list[str]:
    """What a row is held against, kind by kind."""
    kinds: dict[str, list[str]] = {}
    for each in held_against:
        kinds.setdefault(each.kind, []).append(each.name)
    return [f"{kind} {', '.join(names)}".rstrip() for kind, names in kinds.items()]
