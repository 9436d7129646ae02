"""A trace in the terminal as columns: a CPU each, time going down, the kernel's place above each access."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memhp.explore.engine.trace import Line, Trace
from memhp.report.trace_fold import Row, fold

STYLES = {
    "store": "yellow", "flush": "magenta", "claim": "green", "release": "green", "retag": "green", "allocate": "green",
    "lock": "cyan", "trylock": "cyan", "unlock": "cyan", "wait": "cyan", "write": "yellow", "atomic": "yellow",
}  # fmt: skip
"""By kind of access; loads have the terminal's own colour."""


def print_columns(out: Console, trace: Trace, *, full: bool = False) -> None:
    """Print a trace; `full`: every step, where otherwise runs of the same steps share a line."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("step", justify="right", style="dim", no_wrap=True)
    shown = sorted({line.thread for line in trace.lines})
    for thread in shown:
        table.add_column(f"CPU {thread}: {trace.names[thread]}", ratio=1, overflow="fold")
    places = [""] * len(trace.names)
    before: Line | None = None
    for row in fold(trace.lines, full=full):
        line = row.first
        if before is not None and line.thread != before.thread:
            table.add_row()
            places[line.thread] = ""
        cells = [Text() for _ in shown]
        cells[shown.index(line.thread)] = _cell(row, shown=places[line.thread])
        if places[line.thread] == line.place or not line.place:
            table.add_row(row.steps, *cells)
        else:
            table.add_row(Text("\n") + row.steps, *cells)
        places[line.thread] = row.last.place
        before = row.last
    out.print(table)
    for said in left(trace):
        out.print(said, style="dim")


def left(trace: Trace) -> Iterator[str]:
    """What each actor would do next, where a trace does not end with everybody done or something broken."""
    words = {"deadlock": "waits at", "unfinished": "would go on with"}.get(trace.end)
    for name, waiting in zip(trace.names, trace.waiting, strict=True):
        if words is not None and waiting is not None:
            yield f"{name} {words}: {waiting}"


def _cell(row: Row, *, shown: str) -> Text:
    """The place, if it is not the one above, and the access."""
    line = row.first
    cell = Text()
    if line.place and line.place != shown:
        cell.append(f"{line.place}\n", style="dim")
    broken = any(change.kind == "broken" for one in row.lines for change in one.changes)
    style = "bold red" if broken else STYLES.get(line.kind, "")
    cell.append(f"  {row.title}", style=style)
    if row.values:
        cell.append(f": {row.values}")
    if line.kind in {"lock", "trylock"} and line.about == "shared":
        cell.append(" (shared)")
    return cell
