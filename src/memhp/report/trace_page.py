"""A trace as one HTML file: no network; columns, differences, state and sequence diagram, stepped through by key."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from memhp.explore.engine.trace import Line, Trace, Value
from memhp.explore.explored import ONE_SCHEDULE, Explored
from memhp.outputs.file import write_file
from memhp.printable import printable
from memhp.report.trace import ENDS, coverage_text, facts, replay_command
from memhp.report.trace_columns import left
from memhp.report.trace_fold import Row, fold
from memhp.report.trace_lanes import lanes
from memhp.report.trace_page_script import SCRIPT
from memhp.report.trace_page_style import STYLE
from memhp.report.trace_state import Standing, standings
from memhp.report.trace_svg import breaks, hue, sequence, strip

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
    ("Home", "first step"), ("End", "last step"), ("f", "unfold steps taken together"), ("v", "columns or diagram"),
    ("c", "copy the schedule"),
)  # fmt: skip


def write_page(found: Explored, path: Path) -> None:
    """Write the page to a file, whole or not at all. Raises :class:`~memhp.errors.BadInput` when it cannot be."""
    write_file(path, page(found))


def page(found: Explored) -> str:
    """The page's HTML."""
    return printable("\n".join(_page(found)), keep="\n")


def _page(found: Explored) -> Iterator[str]:
    title = escape(f"{found.name}, {found.variant}")
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title><style>{STYLE}</style></head><body>"
    yield from _head(found)
    if found.trace is None:
        yield '<main class="alone"><p>No schedule goes wrong, so there is no trace to show.</p></main></body></html>'
        return
    yield from _trace(found.trace)
    data = msgspec.json.encode(_data(found.trace)).decode().replace("<", "\\u003c")
    yield f'<script type="application/json" id="trace">{data}</script><script>{SCRIPT}</script></body></html>'


def _head(found: Explored) -> Iterator[str]:
    one = found.mode == ONE_SCHEDULE
    tone = "warn" if one or found.verdict == "undecided" else "bad" if found.verdict == "broken" else "good"
    word = ENDS[found.trace.end] if one and found.trace is not None else found.verdict
    yield f'<header><h1>{escape(found.name)} <span class="chip {tone}">{escape(word)}</span></h1>'
    yield f'<p class="soft"><b>{escape(found.variant)}</b>: {escape(found.about)} · {escape(found.configuration)}</p>'
    if found.reason is not None:
        yield f'<p class="reason">{escape(found.reason)}</p>'
    yield f"<details><summary>{escape(found.actors)}</summary><ul>"
    yield from (f"<li>{escape(fact)}</li>" for fact in facts(found))
    yield "</ul></details>"
    if found.trace is not None:
        yield from (f'<p class="soft">{escape(line)}</p>' for line in left(found.trace))
        schedule = found.trace.schedule
        command = replay_command(found, found.trace)
        yield (
            f'<div class="schedule"><span class="soft">schedule</span> <code id="schedule">{escape(schedule)}</code>'
            f'<button data-copy="{escape(schedule)}">Copy</button>'
            f'<button data-copy="{escape(command)}">Copy command</button></div>'
        )
    elif found.coverage is not None:
        yield f'<p class="soft">{escape(coverage_text(found))}</p>'
    yield "</header>"


def _trace(trace: Trace) -> Iterator[str]:
    active = {line.thread for line in trace.lines}
    shown = [thread for thread in range(len(trace.names)) if thread in active]
    yield '<nav class="bar"><div class="steps">'
    yield from (
        f'<button id="{name}" title="{title}" aria-label="{title}"><svg viewBox="0 0 12 12"><path d="{icon}"/></svg>'
        "</button>"
        for name, title, icon in BUTTONS
    )
    yield f'<output id="at"></output><span class="soft"> of {len(trace.lines)}</span></div>'
    yield f'<div class="run">{strip(trace.lines, shown)}<i id="now"></i></div>'
    yield '<div class="tabs" role="tablist"><button role="tab" id="tab-columns" aria-selected="true">Columns</button>'
    yield '<button role="tab" id="tab-sequence" aria-selected="false">Diagram</button></div></nav>'
    yield f'<main><section id="columns"><div class="grid names" style="--cpus:{len(shown)}"><span></span>'
    for thread in shown:
        yield f'<b class="{hue(thread)}">CPU {thread}: {escape(trace.names[thread])} <i>{LETTERS[thread]}</i></b>'
    yield f'</div><ol class="rows" style="--cpus:{len(shown)}">'
    before: Line | None = None
    for row in fold(trace.lines):
        yield _row(row, before, shown.index(row.first.thread), trace)
        before = row.last
    yield "</ol></section>"
    yield f'<section id="sequence" hidden><div class="scroll">{sequence(trace, lanes(trace), shown)}</div></section>'
    yield '<aside id="detail" aria-live="polite"></aside></main><footer>'
    yield from (f"<span><kbd>{keys}</kbd> {what}</span>" for keys, what in KEYS)
    yield "</footer>"


def _row(row: Row, before: Line | None, column: int, trace: Trace) -> str:
    line = row.first
    switched = before is None or before.thread != line.thread
    broken = any(change.kind == "broken" for one in row.lines for change in one.changes)
    classes = ["row", hue(line.thread)] + ["switch"] * (switched and before is not None) + ["bad"] * broken
    place = ""
    if line.place and (switched or before is None or before.place != line.place):
        place = f'<span class="place">{breaks(line.place)}</span>'
    who = f'<span class="who">CPU {line.thread}: {escape(line.name)}</span>' if switched else ""
    fold_button = (
        '<button class="fold" aria-expanded="false" title="Show each step (f)">▸</button>' if row.times > 1 else ""
    )
    dots = "".join(f'<i class="dot {kind}" title="{kind}"></i>' for kind in dict.fromkeys(c.kind for c in row.changes))
    values = f'<span class="values">{escape(row.values)}</span>' if row.values else ""
    reason = f'<span class="reason">{escape(trace.reason)}</span>' if broken and trace.reason else ""
    times = f"{row.times} × " if row.times > 1 else ""
    kinds = ", ".join(f'<em class="{escape(one.kind)}">{escape(one.kind)}</em>' for one in row.lines[: row.period])
    return (
        f'<li class="{" ".join(classes)}" data-step="{line.step}" data-last="{row.last.step}">'
        f'<span class="n">{row.steps}</span><div class="cell" style="--at:{column + 2}">{who}{place}'
        f'<span class="does">{fold_button}{times}{kinds} <code>{escape(row.what)}</code>{values}'
        f'<span class="dots">{dots}</span></span>'
        f"{reason}</div></li>"
    )


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
