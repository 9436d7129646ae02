"""The races as a table: a variant a row, its verdict on every configuration, and what to read where one surprises."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.text import Text

from memhp.explore.row import Row
from memhp.report.lines import print_wrapped
from memhp.report.table import Column, Section, print_table
from memhp.report.table import Row as TableRow
from memhp.units import format_count

STYLES = {"safe": "green", "broken": "red", "undecided": "yellow"}


def print_races(out: Console, rows: Sequence[Row], *, full: bool = False) -> None:
    """Print the table (`full`: a line for each configuration), what differs from expectation, and a count."""
    where = Column("configuration", fold=True) if full else Column("on", right=True)
    columns = (
        Column(""), Column("variant"), Column("known as"), Column("verdict", fold=True), where,
        Column("executions", right=True, drop=2), Column("steps", right=True, drop=1),
    )  # fmt: skip
    print_table(out, columns, _lines(rows, full=full))
    if not full:
        out.print(Text("on: how many configurations.", style="dim"))
    _explain(out, rows)
    print_wrapped(out, Text(_count(rows), style="bold"))


def _lines(rows: Sequence[Row], *, full: bool) -> Iterator[TableRow]:
    race = ""
    for group in _groups(rows, full=full):
        first = group[0]
        if first.name != race:
            race = first.name
            yield Section(Text(race, style="bold"))
        yield (
            _mark(group), first.variant, first.stands_for, _verdicts(group),
            first.configuration if full else str(len(group)),
            f"{sum(row.executions for row in group):,}", f"{sum(row.steps for row in group):,}",
        )  # fmt: skip


def _groups(rows: Sequence[Row], *, full: bool) -> Iterator[list[Row]]:
    """Rows that share a line."""
    if full:
        yield from ([row] for row in rows)
        return
    for _, same in groupby(rows, key=lambda row: (row.name, row.variant)):
        yield list(same)


def _verdicts(rows: Sequence[Row]) -> Text:
    """``safe``, or ``broken 3, safe 7`` where configurations differ."""
    counts = Counter(row.verdict for row in rows)
    text = Text()
    for verdict, count in sorted(counts.items()):
        if text:
            text.append(", ")
        text.append(verdict, style=STYLES[verdict.split()[0]])
        if len(counts) > 1:
            text.append(f" {count}")
    return text


def _mark(rows: Sequence[Row]) -> Text:
    """``✓``: as known everywhere; ``~``: explained where not; ``✗``: neither."""
    if not all(row.as_known for row in rows):
        return Text("✗", style="bold red")
    return Text("~", style="yellow") if any(_differs(row) for row in rows) else Text("✓", style="green")


def _differs(row: Row) -> bool:
    return (row.verdict == "broken") != (row.stands_for == "broken")


def _explain(out: Console, rows: Sequence[Row]) -> None:
    """Verdicts that are not what the variant is known as, and kernels of today that break."""
    said: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        if row.verdict == "undecided":
            said[row.name, row.variant, f"undecided after {format_count(row.executions, 'execution')}"] += 1
        elif _is_remarkable(row):
            today = "a kernel of today is broken: " if row.current and row.verdict == "broken" else ""
            why = f"docs/findings.md, {row.finding}" if row.finding else row.note or row.reason or "no reason is known"
            said[row.name, row.variant, f"{row.verdict}: {today}{why}"] += 1
    for (name, variant, why), count in said.items():
        text = f"{name} {variant} ({count} of its configurations): {why.removesuffix('.')}."
        print_wrapped(out, Text(text, style="yellow"), hang=2)


def _is_remarkable(row: Row) -> bool:
    """Whether the text below the table explains it: a verdict other than known, or a kernel of today that is broken."""
    return _differs(row) or (row.current and row.verdict == "broken")


def shows_reason(row: Row) -> bool:
    """Whether the table's text says what goes wrong there in the search's own words: nothing else explains it."""
    return _is_remarkable(row) and not row.finding and not row.note


def _count(rows: Sequence[Row]) -> str:
    counts = Counter(row.verdict.split()[0] for row in rows)
    words = ", ".join(f"{counts[word]} {word}" for word in STYLES if counts[word])
    races = len({row.name for row in rows})
    known = sum(row.as_known for row in rows)
    return (
        f"{format_count(races, 'race')}, {format_count(len(rows), 'verdict')}: {words}; {known} as known or explained."
    )
