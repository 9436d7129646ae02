"""A trace in the terminal as a sequence diagram: lifelines of CPUs and of what they meet on, an arrow a step.

Also as text for Mermaid (https://mermaid.js.org), which wikis and code hosts draw.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from textwrap import wrap

from rich.console import Console
from rich.text import Text

from memhp.explore.engine.trace import Trace
from memhp.report.lines import print_wrapped
from memhp.report.trace_columns import STYLES, print_columns
from memhp.report.trace_lanes import Event, lanes

STEP_WIDTH = 12
LABEL_WIDTH = 44
NARROWEST = 9


def print_sequence(out: Console, trace: Trace, *, full: bool = False) -> None:
    """Print the diagram; what each arrow is stands at its right, with values where they fit."""
    found = lanes(trace, full=full)
    shown = sorted({line.thread for line in trace.lines})
    heads = [*(f"CPU {thread}: {trace.names[thread]}" for thread in shown), *found.names]
    room = out.width - STEP_WIDTH - LABEL_WIDTH
    width = max(NARROWEST, min(18, room // max(1, len(heads))))
    if STEP_WIDTH + width * len(heads) > out.width:
        out.print(Text("Too narrow for a diagram: as columns.", style="dim"))
        print_columns(out, trace, full=full)
        return
    for line in _heads(heads, width):
        out.print(Text(" " * STEP_WIDTH + line, style="bold"), soft_wrap=True)
    before = None
    for event in found.events:
        thread = event.row.first.thread
        if before is not None and before != thread:
            out.print(Text(" " * STEP_WIDTH + _lifelines(len(heads), width), style="dim"), soft_wrap=True)
        before = thread
        _print_arrow(out, event, _arrow(event, shown, len(heads), width))


def _print_arrow(out: Console, event: Event, arrow: Text) -> None:
    """One row: the arrow and what it is, beside it if it fits and below it if not, with its values where they fit."""
    style = _style(event)
    label = Text(event.row.title, style=style)
    values = f": {event.row.values}" if event.row.values else ""
    if arrow.cell_len + 1 + len(label.plain) <= out.width:
        line = arrow + Text(" ") + label
        if line.cell_len + len(values) <= out.width:
            line.append(values)
        out.print(line, soft_wrap=True)
        return
    arrow.rstrip()
    out.print(arrow, soft_wrap=True)
    label.append(values)
    print_wrapped(out, Text(" " * STEP_WIDTH) + label, hang=STEP_WIDTH + 2)


def _heads(names: list[str], width: int) -> Iterator[str]:
    """The names above the lifelines, each in as many lines as it needs."""
    parts = [wrap(name, width - 1, break_long_words=True, break_on_hyphens=True) for name in names]
    for at in range(max(map(len, parts))):
        yield "".join((part[at] if at < len(part) else "").center(width - 1) + " " for part in parts).rstrip()


def _lifelines(count: int, width: int) -> str:
    return ("│".center(width - 1) + " ") * count


def _arrow(event: Event, shown: list[int], count: int, width: int) -> Text:
    """The lifelines, and the arrow across them."""
    line = event.row.first
    middle = (width - 2) // 2
    cells = list(_lifelines(count, width))
    start = shown.index(line.thread) * width + middle
    if event.lane is None:
        cells[start] = "●"
    else:
        end = (len(shown) + event.lane) * width + middle
        for at in range(start + 1, end):
            cells[at] = "─"
        cells[start] = "├"
        back = line.kind in {"load", "read"}
        cells[end] = "┤" if back else "▶"
        if back:
            cells[start + 1] = "◀"
    return Text.assemble((f"{event.row.steps:>{STEP_WIDTH - 2}}  ", "dim"), ("".join(cells), _style(event)))


def _style(event: Event) -> str:
    broken = any(change.kind == "broken" for one in event.row.lines for change in one.changes)
    return "bold red" if broken else STYLES.get(event.row.first.kind, "")


def mermaid(trace: Trace, *, full: bool = False) -> str:
    """The diagram as Mermaid's ``sequenceDiagram``."""
    found = lanes(trace, full=full)
    out = ["sequenceDiagram"]
    out += [f"  participant c{thread} as CPU {thread}: {_plain(name)}" for thread, name in enumerate(trace.names)]
    out += [f"  participant o{lane} as {_plain(name)}" for lane, name in enumerate(found.names)]
    for event in found.events:
        line = event.row.first
        cpu = f"c{line.thread}"
        other = cpu if event.lane is None else f"o{event.lane}"
        values = f": {event.row.values}" if event.row.values else ""
        arrow = f"{other}-->>{cpu}" if line.kind in {"load", "read"} else f"{cpu}->>{other}"
        out.append(f"  {arrow}: {event.row.steps} {_plain(event.row.title + values)}")
        if any(change.kind == "broken" for one in event.row.lines for change in one.changes) and trace.reason:
            out.append(f"  Note over {cpu}: {_plain(trace.reason)}")
    return "\n".join(out) + "\n"


def _plain(text: str) -> str:
    """Text without what Mermaid reads as the end of a message."""
    return text.replace(";", ",").replace("#", "no. ")
