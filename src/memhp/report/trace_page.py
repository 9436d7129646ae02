"""A trace as one HTML file: no network; columns, differences, state and sequence diagram, stepped through by key."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from memhp.explore.engine.trace import Line, Trace, Value
from memhp.explore.explored import ONE_SCHEDULE, Explored
from memhp.json_text import json_encoded
from memhp.outputs.file import write_file
from memhp.report.rendering import render
from memhp.report.trace import ENDS, coverage_text, facts, replay_command
from memhp.report.trace_columns import left
from memhp.report.trace_fold import Row, fold
from memhp.report.trace_lanes import lanes
from memhp.report.trace_state import Standing, standings
from memhp.report.trace_svg import hue, sequence, strip, width

LETTERS = "abcdefghijklmnopqrstuvwxyz"
BUTTONS = (
    ("first", "First step (Home)", "M2 2h2v8H2zM11 2v8L5 6z"),
    ("back", "Step before (↑ or k)", "M9 2v8L3 6z"),
    ("next", "Next step (↓ or j)", "M3 2v8l6-4z"),
    ("last", "Last step (End)", "M1 2v8l6-4zM8 2h2v8H8z"),
)
"""Of the bar: name, title, the path of its picture."""
KEYS = (
    ("↓ j", "next step"), ("↑ k", "step before"), ("n", "next switch of CPU"), ("p", "switch before"),
    ("Home", "first step"), ("End", "last step"), ("→ ← f", "unfold and fold steps taken together"),
    ("v", "columns or diagram"), ("c", "copy the schedule"),
)  # fmt: skip


class RowView(NamedTuple):
    """A row as the page shows it."""

    style: str
    first: int
    last: int
    steps: str
    column: int
    who: str
    place: list[str]
    """In the pieces between which a line may end."""
    times: int
    kinds: list[str]
    what: str
    values: str
    dots: list[str]
    reason: str


def write_page(found: Explored, path: Path) -> None:
    """Write the page to a file, whole or not at all. Raises :class:`~memhp.errors.BadInput` when it cannot be."""
    write_file(path, page(found))


def page(found: Explored) -> str:
    """The page's HTML."""
    one = found.mode == ONE_SCHEDULE
    trace = found.trace
    return render(
        "trace.html",
        title=f"{found.name}, {found.variant}",
        found=found,
        tone="warn" if one or found.verdict == "undecided" else "bad" if found.verdict == "broken" else "good",
        word=ENDS[trace.end] if one and trace is not None else found.verdict,
        facts=list(facts(found)),
        trace=trace,
        coverage=coverage_text(found) if trace is None and found.coverage is not None else "",
        **({} if trace is None else _trace(found, trace)),
    )


def _trace(found: Explored, trace: Trace) -> dict[str, object]:
    active = {line.thread for line in trace.lines}
    shown = [thread for thread in range(len(trace.names)) if thread in active]
    found_lanes = lanes(trace)
    data = json_encoded(_data(trace)).decode().replace("<", "\\u003c")
    return {
        "left": list(left(trace)),
        "command": replay_command(found, trace),
        "buttons": BUTTONS,
        "keys": KEYS,
        "strip": strip(trace.lines, shown),
        "heads": [
            {"style": hue(thread), "cpu": thread, "name": trace.names[thread], "letter": LETTERS[thread]}
            for thread in shown
        ],
        "rows": list(_rows(trace, shown)),
        "others": [_pieces(name) for name in found_lanes.names],
        "width": width(len(shown) + len(found_lanes.names)),
        "sequence": sequence(found_lanes, shown),
        "data": Markup(data),
    }


def _rows(trace: Trace, shown: list[int]) -> Iterator[RowView]:
    before: Line | None = None
    for row in fold(trace.lines):
        yield _row(row, before, shown.index(row.first.thread), trace)
        before = row.last


def _row(row: Row, before: Line | None, column: int, trace: Trace) -> RowView:
    line = row.first
    switched = before is None or before.thread != line.thread
    broken = any(change.kind == "broken" for one in row.lines for change in one.changes)
    classes = ["row", hue(line.thread)] + ["switch"] * (switched and before is not None) + ["bad"] * broken
    placed = line.place and (switched or before is None or before.place != line.place)
    return RowView(
        style=" ".join(classes),
        first=line.step,
        last=row.last.step,
        steps=row.steps,
        column=column + 2,
        who=f"CPU {line.thread}: {line.name}" if switched else "",
        place=_pieces(line.place) if placed else [],
        times=row.times,
        kinds=[one.kind for one in row.lines[: row.period]],
        what=row.what,
        values=row.values,
        dots=list(dict.fromkeys(change.kind for change in row.changes)),
        reason=trace.reason or "" if broken else "",
    )


def _pieces(name: str) -> list[str]:
    """A name cut behind its stops."""
    return re.findall(r"[^/.:_]*[/.:_]|[^/.:_]+$", name)


def _data(trace: Trace) -> dict[str, Any]:
    """The steps as the script wants them, and the state after each: an index into all states that there are."""
    states: dict[Standing, int] = {}
    state_of = [states.setdefault(one, len(states)) for one in standings(trace.lines)]
    steps = [
        {
            "thread": line.thread, "name": line.name, "place": line.place, "kind": line.kind, "what": line.what,
            "about": line.about, "old": _value(line.old), "new": _value(line.new), "result": line.result,
            "changes": [[one.kind, one.what, one.old, one.new] for one in line.changes], "state": state,
        }
        for line, state in zip(trace.lines, state_of, strict=True)
    ]  # fmt: skip
    return {"steps": steps, "states": [one._asdict() for one in states], "schedule": trace.schedule}


def _value(value: Value | None) -> list[str] | None:
    """An entry as (hexadecimal, what it says): numbers of 64 bits are too large for a script."""
    if value is None:
        return None
    return [value.text if value.raw is None else f"{value.raw:#x}", "" if value.raw is None else value.text]
