"""A trace in the terminal as columns: a CPU each, time going down, the kernel's place above each access."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from memhp.explore.engine.trace import Line, Trace
from memhp.report.lines import longest_word, print_wrapped, wrapped
from memhp.report.trace_fold import Row, fold

STYLES = {
    "store": "yellow", "flush": "magenta", "claim": "green", "release": "green", "retag": "green", "allocate": "green",
    "lock": "cyan", "trylock": "cyan", "unlock": "cyan", "wait": "cyan", "write": "yellow", "atomic": "yellow",
}  # fmt: skip
"""By kind of access; loads have the terminal's own colour."""


GAP = 2
"""Spaces between two columns."""
INDENT = 2
"""What accesses are set in by, below their place."""
NARROWEST = 24
"""A CPU's column is no narrower than this, and than the longest word in it: else CPUs share one column."""


def print_columns(out: Console, trace: Trace, *, full: bool = False) -> None:
    """Print a trace; `full`: every step, where otherwise runs of the same steps share a line.

    Where the console is too narrow for a column for each CPU, there is one column, and each CPU is named where it
    starts to run.
    """
    rows = fold(trace.lines, full=full)
    shown = sorted({line.thread for line in trace.lines})
    numbers = max([len("step"), *(len(row.steps) for row in rows)])
    width = (out.width - numbers - GAP * len(shown)) // max(len(shown), 1)
    words = [longest_word(text) for row in rows for text in (*_parts(row.first.place), _access(row).plain)]
    apart = width >= max(NARROWEST, INDENT + max(words, default=0))
    heads = [f"CPU {thread}: {trace.names[thread]}" for thread in shown]
    if not apart:
        width = out.width - numbers - GAP
    _print_line(
        out,
        Text("step".rjust(numbers), style="dim"),
        [Text(head, style="bold") for head in heads] if apart else [],
        width,
    )
    places = [""] * len(trace.names)
    before: Line | None = None
    for row in rows:
        line = row.first
        at = shown.index(line.thread) if apart else 0
        if before is None or line.thread != before.thread:
            if before is not None:
                out.print()
            places[line.thread] = ""
            if not apart:
                _print_cell(out, "", Text(heads[shown.index(line.thread)], style="bold"), numbers, at, width)
        if line.place and line.place != places[line.thread]:
            for part in [line.place] if len(line.place) <= width else _parts(line.place):
                _print_cell(out, "", Text(part, style="dim"), numbers, at, width)
        _print_cell(out, row.steps, Text(" " * INDENT) + _access(row), numbers, at, width)
        places[line.thread] = row.last.place
        before = row.last
    for said in left(trace):
        print_wrapped(out, Text(said, style="dim"), hang=INDENT)


def _print_cell(out: Console, steps: str, cell: Text, numbers: int, at: int, width: int) -> None:
    """Print a cell of column `at`, the step's number beside its first line."""
    for part in wrapped(cell, width, hang=2 * INDENT):
        _print_line(out, Text(steps.rjust(numbers), style="dim"), [*([Text()] * at), part], width)
        steps = ""


def _print_line(out: Console, number: Text, cells: Sequence[Text], width: int) -> None:
    line = number
    for cell in cells:
        line = line + Text(" " * GAP) + cell + Text(" " * (width - len(cell.plain)))
    line.rstrip()
    out.print(line, soft_wrap=True)


def left(trace: Trace) -> Iterator[str]:
    """What each actor would do next, where a trace does not end with everybody done or something broken."""
    words = {"deadlock": "waits at", "unfinished": "would go on with"}.get(trace.end)
    for name, waiting in zip(trace.names, trace.waiting, strict=True):
        if words is not None and waiting is not None:
            yield f"{name} {words}: {waiting}"


def _parts(place: str) -> tuple[str, ...]:
    """A place in lines for a narrow column: the file, and under it the function."""
    file, colon, function = place.partition(":")
    return (file + colon, " " * INDENT + function) if function else (place,)


def _access(row: Row) -> Text:
    """What a row does, with its values."""
    line = row.first
    broken = any(change.kind == "broken" for one in row.lines for change in one.changes)
    cell = Text.assemble((row.title, "bold red" if broken else STYLES.get(line.kind, "")))
    if row.values:
        cell.append(f": {row.values}")
    if line.kind in {"lock", "trylock"} and line.about == "shared":
        cell.append(" (shared)")
    return cell
