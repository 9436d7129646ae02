"""A trace in the terminal as the differences that its steps made in the machine, one step after the other."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memhp.explore.trace import Change, Trace
from memhp.report.trace_fold import Row, fold

STYLES = {
    "entry": "yellow", "frames": "green", "section": "blue", "block": "blue", "zone": "blue", "pages": "blue",
    "memblock": "blue", "iomem": "blue", "mapping": "blue", "lock": "cyan", "stale": "magenta", "exposed": "red",
    "variable": "yellow", "broken": "bold red", "log": "dim", "end": "dim",
}  # fmt: skip


def print_differences(out: Console, trace: Trace, *, full: bool = False) -> None:
    """Print every step with what it changed; without `full`, steps that change nothing are only counted."""
    idle: list[Row] = []
    for row in fold(trace.lines, full=full):
        if not row.changes and not full:
            idle.append(row)
            continue
        _print_idle(out, idle)
        idle = []
        out.print(_head(row))
        if row.changes:
            out.print(_changes(row.changes))
    _print_idle(out, idle)


def _head(row: Row) -> Table:
    line = row.first
    head = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    head.add_column(width=9, justify="right", style="dim")
    head.add_column(overflow="fold")
    title = Text.assemble((line.name, "bold"), f"  {row.title}")
    head.add_row(row.steps, title)
    for text in (line.place, line.about if row.times == 1 else ""):
        if text and text != "alone":
            head.add_row("", Text(text, style="dim"))
    return head


def _changes(changes: Sequence[Change]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(width=11)
    table.add_column(width=8, no_wrap=True)
    table.add_column(overflow="fold")
    for change in changes:
        text = Text(change.what)
        text.append(f": {change.old} → " if change.old else ": ", style="dim")
        text.append(change.new)
        table.add_row("", Text(change.kind, style=STYLES[change.kind]), text)
    return table


def _print_idle(out: Console, rows: Sequence[Row]) -> None:
    """Steps that changed nothing, in one line."""
    if not rows:
        return
    count = sum(len(row.lines) for row in rows)
    kinds = dict.fromkeys(line.kind for row in rows for line in row.lines)
    steps = f"{rows[0].first.step}–{rows[-1].last.step}" if count > 1 else str(rows[0].first.step)
    what = f"{count} steps that change nothing" if count > 1 else "a step that changes nothing"
    out.print(f"{steps:>9} {what}: {', '.join(kinds)}", style="dim")
