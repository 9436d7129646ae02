"""A run on a twin as a timeline: who read and wrote what, what was done to the machine, and what came of it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from memhp.outputs.file import write_file
from memhp.printable import printable
from memhp.report.lines import print_wrapped
from memhp.report.rendering import Cell, Head, PageTable, code, render
from memhp.twin.machine import SECOND
from memhp.twin.record import OK, Entry
from memhp.twin.result import TwinRun
from memhp.units import format_range

WIDTH = 120
LONGEST_TEXT = 60
"""Characters of what was read or written that a line shows."""


def verdict(run: TwinRun) -> str:
    """The run in a sentence."""
    if run.dead:
        return f"The machine died: {run.dead}"
    if run.unmet:
        return f"Not as expected: {'; '.join(run.unmet)}."
    return "As expected." if run.exit_code in (0, None) else f"The command ended with {run.exit_code}."


def lines(run: TwinRun) -> Iterator[tuple[str, str, str, str, str]]:
    """Time, who, what, what about, and what came of it, of each entry."""
    for entry in run.entries:
        yield f"{entry.time / SECOND:.6f}", _who(entry), entry.what, _about(entry), _came(entry)


def _who(entry: Entry) -> str:
    return f"{entry.command or 'pid'} {entry.pid}" if entry.pid else ""


def _about(entry: Entry) -> str:
    text = entry.text.rstrip("\n")
    if not text:
        return entry.path
    first, _, rest = text.partition("\n")
    shown = first if len(first) <= LONGEST_TEXT and not rest else f"{first[:LONGEST_TEXT]}…"
    arrow = "←" if entry.what in ("write", "qmp", "qga") else "→"
    return f"{entry.path} {arrow} {shown}"


def _came(entry: Entry) -> str:
    told = f"{entry.result}: {entry.reason}" if entry.reason else entry.result
    placed = f"{told} ({entry.place})" if entry.place else told
    times = f"{entry.times} times" if entry.times > 1 else ""
    return " ".join(filter(None, (times, "" if entry.result == OK and not entry.reason else placed)))


def print_twin(out: Console, run: TwinRun) -> None:
    """Print the timeline and the end."""
    print_wrapped(out, Text(run.title, style="bold"))
    print_wrapped(out, Text(run.machine, style="dim"))
    for time, who, what, about, came in lines(run):
        refused = bool(came) and "times" not in came
        print_wrapped(out, Text(printable(f"{time:>12}  {what:<6} {about}{f'  [{who}]' if who else ''}")))
        if came:
            print_wrapped(out, Text(printable(f"{'':14}{came}"), style="yellow" if refused else "dim"))
    for block in run.blocks:
        names = f"memory{block.first}" + (f"-{block.last}" if block.last != block.first else "")
        out.print(Text(f"{names}: {block.state} {block.zone}".rstrip(), style="dim"))
    print_wrapped(out, Text(verdict(run), style="bold green" if run.fine else "bold red"))


def twin_text(run: TwinRun) -> str:
    """The timeline as text, as wide as it needs to be."""
    with StringIO() as file:
        print_twin(Console(file=file, width=WIDTH, markup=False, highlight=False, emoji=False, no_color=True), run)
        return file.getvalue()


def write_twin_page(run: TwinRun, path: Path) -> None:
    """Write the timeline as one HTML file. Raises :class:`~memhp.errors.BadInput` when it cannot be."""
    write_file(path, twin_page(run))


def twin_page(run: TwinRun) -> str:
    """The page's HTML."""
    heads = (Head("time (s)", right=True), Head("what"), Head("who"), Head("about"), Head("what came of it"))
    rows: list[tuple[Cell, ...]] = [(time, what, who, code(about), came) for time, who, what, about, came in lines(run)]
    blocks: list[tuple[Cell, ...]] = [
        (format_range(block.first, block.last), block.state, block.zone) for block in run.blocks
    ]
    return render(
        "twin.html",
        title=run.title,
        run=run,
        command=" ".join(run.command),
        verdict=verdict(run),
        entries=PageTable("What was read, written and done", heads, rows),
        blocks=PageTable("Memory blocks at the end", (Head("blocks"), Head("state"), Head("zone")), blocks),
    )
