"""A trace in the terminal as the differences that its steps made in the machine, one step after the other."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence
from textwrap import wrap

from rich.console import Console
from rich.text import Text

from memhp.explore.engine.trace import Change, Trace
from memhp.report.trace_fold import Row, fold

STEPS, KIND = 9, 8
"""Columns that the numbers of steps and the kinds of differences take."""
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
        out.print(_head(row, out.width).append_text(_changes(row.changes, out.width)), soft_wrap=True)
    _print_idle(out, idle)


def _head(row: Row, width: int) -> Text:
    """Who does what, and under it where and what that is."""
    line = row.first
    title, *more = wrap(row.title, max(20, width - STEPS - 3 - len(line.name)))
    head = Text.assemble((f"{row.steps:>{STEPS}} ", "dim"), (line.name, "bold"), f"  {title}")
    for part in more:
        head.append(f"\n{'':{STEPS}}   {part}")
    for text in (line.place, line.about if row.times == 1 else ""):
        if text not in {"", "alone", "shared"}:
            for part in wrap(text, width - STEPS - 1):
                head.append(f"\n{'':{STEPS}} {part}", style="dim")
    return head


def _changes(changes: Sequence[Change], width: int) -> Text:
    """What is different, each with its kind in front."""
    told = Text()
    for change in changes:
        text = f"{change.what}: " + (f"{change.old} → " if change.old else "") + change.new
        first, *more = wrap(text, max(20, width - STEPS - KIND - 2))
        told.append(f"\n{'':{STEPS}} ").append(f"{change.kind:<{KIND}} ", style=STYLES[change.kind]).append(first)
        for part in more:
            told.append(f"\n{'':{STEPS + KIND}}  {part}")
    return told


def _print_idle(out: Console, rows: Sequence[Row]) -> None:
    """Steps that changed nothing, in one line."""
    if not rows:
        return
    count = sum(len(row.lines) for row in rows)
    kinds = dict.fromkeys(line.kind for row in rows for line in row.lines)
    steps = f"{rows[0].first.step}–{rows[-1].last.step}" if count > 1 else str(rows[0].first.step)
    what = f"{count} steps that change nothing" if count > 1 else "a step that changes nothing"
    out.print(f"{steps:>{STEPS}} {what}: {', '.join(kinds)}", style="dim")
