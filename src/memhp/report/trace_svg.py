"""Pictures of a trace as SVG: the sequence diagram, and the strip that shows which CPU ran when."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from math import log2

from memhp.explore.engine.trace import Line, Trace
from memhp.report.trace_lanes import Event, Lanes

LANE, ROW, TOP = 124, 34, 24
"""Pixels: between lifelines, between arrows, above the first arrow."""
HUES = 6
"""CPUs with a colour of their own."""


def hue(thread: int) -> str:
    """The class that gives a CPU its colour."""
    return f"cpu{thread % HUES}"


def sequence(trace: Trace, found: Lanes, shown: Sequence[int]) -> str:
    """The sequence diagram: heads of lifelines, those of the CPUs `shown` first, and the SVG below them.

    Arrows carry ``data-step``.
    """
    heads = [
        *(f'<b class="{hue(at)}">CPU {at}<br>{escape(trace.names[at])}</b>' for at in shown),
        *(f"<b>{breaks(name)}</b>" for name in found.names),
    ]
    width = LANE * len(heads)
    height = TOP + ROW * len(found.events) + 8
    parts = [
        f'<div class="heads" style="width:{width}px">{"".join(heads)}</div>',
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="listbox" '
        'aria-label="Sequence diagram: an arrow for each step, from its CPU to what it is about">',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto-start-reverse"><path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>',
    ]
    parts += (f'<path class="life" d="M{_x(lane)} 0V{height}"/>' for lane in range(len(heads)))
    parts += (_arrow(event, at, shown) for at, event in enumerate(found.events))
    parts += _running(found.events, shown)
    parts += _holding(found, len(shown))
    return "".join(parts) + "</svg>"


def breaks(name: str) -> str:
    """A name that may be cut behind its stops."""
    return escape(name).replace("/", "/<wbr>").replace(".", ".<wbr>").replace("_", "_<wbr>").replace(":", ":<wbr>")


def _x(lane: int) -> int:
    return LANE * lane + LANE // 2


def _y(at: int) -> int:
    return TOP + ROW * at


def _running(events: Sequence[Event], shown: Sequence[int]) -> Iterator[str]:
    """A bar on a CPU's lifeline for as long as it runs."""
    at = 0
    for thread, same in groupby(events, key=lambda event: event.row.first.thread):
        count = len(list(same))
        x, y = _x(shown.index(thread)) - 4, _y(at) - 10
        yield f'<rect class="runs {hue(thread)}" x="{x}" y="{y}" width="8" height="{ROW * (count - 1) + 20}"/>'
        at += count


def _holding(found: Lanes, nr_cpus: int) -> Iterator[str]:
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


def _bar(lane: int, since: tuple[int, int], until: int) -> str:
    at, thread = since
    return (
        f'<rect class="holds {hue(thread)}" x="{_x(lane) - 4}" y="{_y(at)}" width="8" '
        f'height="{max(4, ROW * (until - at))}"/>'
    )


def _arrow(event: Event, at: int, shown: Sequence[int]) -> str:
    line = event.row.first
    y, start = _y(at), _x(shown.index(line.thread))
    bad = " bad" if any(change.kind == "broken" for one in event.row.lines for change in one.changes) else ""
    label = event.row.title if len(event.row.lines) > 1 else f"{line.kind} {line.what}"
    title = f"{event.row.steps}: {line.name}, {line.place}: {event.row.title}"
    if event.lane is None:
        end, shape = start, f'<circle cx="{start}" cy="{y}" r="5"/>'
    else:
        end = _x(len(shown) + event.lane)
        reads = line.kind in {"load", "read"}
        tips = f"M{end - 5} {y}H{start + 6}" if reads else f"M{start + 5} {y}H{end - 6}"
        shape = f'<path d="{tips}" marker-end="url(#head)"/>'
    return (
        f'<g role="option" tabindex="-1" aria-selected="false" aria-label="{escape(title)}" '
        f'class="event {hue(line.thread)} {escape(line.kind)}{bad}" data-step="{line.step}" '
        f'data-last="{event.row.last.step}"><title>{escape(title)}</title>'
        f'<rect class="hit" x="0" y="{y - ROW + 12}" width="100%" height="{ROW}"/>{shape}'
        f'<text x="{start + 14}" y="{y - 6}">{escape(label)}</text></g>'
    )


def strip(lines: Sequence[Line], shown: Sequence[int]) -> str:
    """Who ran when: a row for each CPU, a block for each time that it ran, longer ones wider but not in proportion."""
    blocks = [(thread, list(same)) for thread, same in groupby(lines, key=lambda line: line.thread)]
    widths = [1 + log2(1 + len(same)) for _, same in blocks]
    total = sum(widths) or 1
    parts = [f'<svg class="strip" viewBox="0 0 1000 {14 * len(shown)}" preserveAspectRatio="none" role="img" '
             'aria-label="Which CPU ran when">']  # fmt: skip
    parts += (f'<path class="life" d="M0 {14 * row + 7}H1000"/>' for row in range(len(shown)))
    x = 0.0
    for (thread, same), size in zip(blocks, widths, strict=True):
        width = 1000 * size / total
        title = f"steps {same[0].step}–{same[-1].step}: {same[0].name}"
        parts.append(
            f'<rect class="{hue(thread)}" data-step="{same[0].step}" data-last="{same[-1].step}" x="{x:.1f}" '
            f'y="{14 * shown.index(thread) + 2}" width="{max(2, width - 2):.1f}" height="10">'
            f"<title>{escape(title)}</title></rect>"
        )
        x += width
    return "".join(parts) + "</svg>"
