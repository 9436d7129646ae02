"""Pictures of a trace as SVG: the sequence diagram, and the strip that shows which CPU ran when."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator, Sequence
from itertools import groupby
from math import log2

from markupsafe import Markup

from memhp.explore.engine.trace import Line
from memhp.report.svg import element
from memhp.report.trace_lanes import Event, Lanes

LANE, ROW, TOP = 124, 34, 24
"""Pixels: between lifelines, between arrows, above the first arrow."""
HUES = 6
"""CPUs with a colour of their own."""


def hue(thread: int) -> str:
    """The class that gives a CPU its colour."""
    return f"cpu{thread % HUES}"


def width(lanes: int) -> int:
    """Pixels that so many lifelines take."""
    return LANE * lanes


def sequence(found: Lanes, shown: Sequence[int]) -> Markup:
    """The sequence diagram below the heads of its lifelines, those of the CPUs `shown` first.

    Arrows carry ``data-step``.
    """
    lanes = len(shown) + len(found.names)
    across, height = width(lanes), TOP + ROW * len(found.events) + 8
    tip = element("path", class_="tip", d="M0 0L8 4L0 8z")
    marker = element(
        "marker", tip, id="head", viewBox="0 0 8 8", refX=7, refY=4, markerWidth=8, markerHeight=8,
        orient="auto-start-reverse",
    )  # fmt: skip
    return element(
        "svg",
        element("defs", marker),
        *(element("path", class_="life", d=f"M{_x(lane)} 0V{height}") for lane in range(lanes)),
        *(_arrow(event, at, shown) for at, event in enumerate(found.events)),
        *_running(found.events, shown),
        *_holding(found, len(shown)),
        width=across, height=height, viewBox=f"0 0 {across} {height}", role="listbox",
        aria_label="Sequence diagram: an arrow for each step, from its CPU to what it is about",
    )  # fmt: skip


def _x(lane: int) -> int:
    return LANE * lane + LANE // 2


def _y(at: int) -> int:
    return TOP + ROW * at


def _running(events: Sequence[Event], shown: Sequence[int]) -> Iterator[Markup]:
    """A bar on a CPU's lifeline for as long as it runs."""
    at = 0
    for thread, same in groupby(events, key=lambda event: event.row.first.thread):
        count = len(list(same))
        x, y = _x(shown.index(thread)) - 4, _y(at) - 10
        yield element("rect", class_=f"runs {hue(thread)}", x=x, y=y, width=8, height=ROW * (count - 1) + 20)
        at += count


def _holding(found: Lanes, nr_cpus: int) -> Iterator[Markup]:
    """A bar on a lock's lifeline for as long as somebody holds it, where the lifeline is that lock's alone."""
    for lane, name in enumerate(found.names):
        since: tuple[int, int] | None = None
        last = len(found.events) - 1
        for at, event in enumerate(found.events):
            for change in (one for one in event.row.changes if one.kind == "lock" and one.what == name):
                if change.new == "free" and since is not None:
                    yield _bar(nr_cpus + lane, since, at)
                    since = None
                elif change.new != "free" and since is None:
                    since = (at, event.row.first.thread)
        if since is not None:
            yield _bar(nr_cpus + lane, since, last)


def _bar(lane: int, since: tuple[int, int], until: int) -> Markup:
    at, thread = since
    height = max(4, ROW * (until - at))
    return element("rect", class_=f"holds {hue(thread)}", x=_x(lane) - 4, y=_y(at), width=8, height=height)


def _arrow(event: Event, at: int, shown: Sequence[int]) -> Markup:
    line = event.row.first
    y, start = _y(at), _x(shown.index(line.thread))
    bad = " bad" if any(change.kind == "broken" for one in event.row.lines for change in one.changes) else ""
    label = event.row.title if len(event.row.lines) > 1 else f"{line.kind} {line.what}"
    title = f"{event.row.steps}: {line.name}, {line.place}: {event.row.title}"
    if event.lane is None:
        shape = element("circle", cx=start, cy=y, r=5)
    else:
        end = _x(len(shown) + event.lane)
        reads = line.kind in {"load", "read"}
        tips = f"M{end - 5} {y}H{start + 6}" if reads else f"M{start + 5} {y}H{end - 6}"
        shape = element("path", d=tips, marker_end="url(#head)")
    return element(
        "g",
        element("title", title),
        element("rect", class_="hit", x=0, y=y - ROW + 12, width="100%", height=ROW),
        shape,
        element("text", label, x=start + 14, y=y - 6),
        role="option", tabindex=-1, aria_selected="false", aria_label=title,
        class_=f"event {hue(line.thread)} {line.kind}{bad}", data_step=line.step, data_last=event.row.last.step,
    )  # fmt: skip


def strip(lines: Sequence[Line], shown: Sequence[int]) -> Markup:
    """Who ran when: a row for each CPU, a block for each time that it ran, longer ones wider but not in proportion."""
    blocks = [(thread, list(same)) for thread, same in groupby(lines, key=lambda line: line.thread)]
    widths = [1 + log2(1 + len(same)) for _, same in blocks]
    total = sum(widths) or 1
    parts = [element("path", class_="life", d=f"M0 {14 * row + 7}H1000") for row in range(len(shown))]
    x = 0.0
    for (thread, same), size in zip(blocks, widths, strict=True):
        part = 1000 * size / total
        parts.append(
            element(
                "rect",
                element("title", f"steps {same[0].step}–{same[-1].step}: {same[0].name}"),
                class_=hue(thread),
                data_step=same[0].step,
                data_last=same[-1].step,
                x=x,
                y=14 * shown.index(thread) + 2,
                width=max(2.0, part - 2),
                height=10,
            )
        )
        x += part
    return element(
        "svg", *parts, class_="strip", viewBox=f"0 0 1000 {14 * len(shown)}", preserveAspectRatio="none", role="img",
        aria_label="Which CPU ran when",
    )  # fmt: skip
