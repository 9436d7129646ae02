"""Memory blocks as a picture: a strip for each step, all on one scale, so that memory is seen to come and to go."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator
from html import escape
from typing import NamedTuple

from memhp.scenario.result import BlockRun, Run
from memhp.spans import Span, SpanSet

WIDTH, HEIGHT, AXIS, GAP = 960, 30, 15, 22
"""User units: the width of a strip, its height, that of the addresses below, and a break where there is no memory."""

LETTER = 6.2
"""The width of a letter of the axis, about."""

NARROW = 5
"""A block narrower than this gets no border of its own."""


class Segment(NamedTuple):
    """Memory without a hole, in bytes, and where it starts in the picture."""

    span: Span
    x: float


class Scale:
    """Where addresses are in a picture: the memory that it is of, holes cut short."""

    def __init__(self, spans: SpanSet) -> None:
        total = spans.size
        self.per_byte = (WIDTH - GAP * max(len(spans) - 1, 0)) / total if total else 0.0
        self.segments: list[Segment] = []
        x = 0.0
        for span in spans:
            self.segments.append(Segment(span, x))
            x += span.size * self.per_byte + GAP

    def x(self, address: int) -> float:
        """Where an address is: its segment's end where it is one."""
        found = [each for each in self.segments if each.span.start <= address <= each.span.end]
        return found[-1].x + (address - found[-1].span.start) * self.per_byte

    def width(self, size: int) -> float:
        """How wide so many bytes are."""
        return size * self.per_byte


def scale_of(run: Run) -> Scale:
    """The scale of the pictures of a run: all memory that there ever was."""
    spans = SpanSet()
    for step in run.steps:
        for block in (*step.blocks_before, *step.blocks_after):
            spans.add(block.start, block.start + block.size)
    for block in run.state.blocks:
        spans.add(block.start, block.start + block.size)
    return Scale(spans)


def zone_class(zone: str) -> str:
    """The style class of a zone's colour."""
    return f"z-{zone.lower() or 'none'}"


def strip(blocks: list[BlockRun], scale: Scale, block_size: int) -> str:
    """Memory blocks as SVG: coloured by zone when online, hatched when offline, a ghost where memory is gone."""
    parts = [*ghosts(scale), *(part for run in blocks for part in _run(run, scale, block_size)), *axis(scale)]
    count = sum(run.last - run.first + 1 for run in blocks)
    online = sum(run.last - run.first + 1 for run in blocks if run.state == "online")
    label = f"{count} memory blocks, {online} of them online"
    return (
        f'<svg class="strip" viewBox="0 0 {WIDTH} {HEIGHT + AXIS}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def ghosts(scale: Scale) -> Iterator[str]:
    """The outlines of all memory that a picture is of."""
    for span, x in scale.segments:
        width = _at_least(scale.width(span.size) - 1)
        yield f'<rect class="ghost" x="{x + 0.5:.2f}" y="1.5" width="{width}" height="{HEIGHT - 3}"/>'


def _run(run: BlockRun, scale: Scale, block_size: int) -> Iterator[str]:
    x, width = scale.x(run.start), scale.width(run.size)
    look = zone_class(run.zone) if run.state == "online" else "offline"
    state = f"online in {run.zone or 'several zones'}" if run.state == "online" else run.state
    hosts = ", hosting their own memmap" if run.memmap_on_memory else ""
    blocks = f"block {run.first}" if run.first == run.last else f"blocks {run.first}–{run.last}"
    title = f"{blocks}: {state}{hosts}; {run.start:#x}–{run.start + run.size:#x}"
    yield (
        f'<rect class="{look}" x="{x:.2f}" y="1" width="{_at_least(width)}" height="{HEIGHT - 2}">'
        f"<title>{escape(title)}</title></rect>"
    )
    if run.memmap_on_memory:
        yield f'<rect class="host" x="{x:.2f}" y="1" width="{_at_least(width)}" height="4"/>'
    step = scale.width(block_size)
    if step >= NARROW:
        cuts = "".join(f"M{x + i * step:.2f} 1v{HEIGHT - 2}" for i in range(1, run.last - run.first + 1))
        yield f'<path class="cut" d="{cuts}"/>' if cuts else ""


def axis(scale: Scale) -> Iterator[str]:
    """Addresses where memory starts, and where the last of it ends, as far as they have room."""
    free_from = 0.0
    for span, x in scale.segments:
        text = f"{span.start:#x}"
        if x >= free_from:
            yield f'<text x="{x:.1f}" y="{HEIGHT + AXIS - 4}">{text}</text>'
            free_from = x + LETTER * (len(text) + 1)
    if scale.segments:
        text = f"{scale.segments[-1].span.end:#x}"
        if WIDTH - LETTER * len(text) >= free_from:
            yield f'<text x="{WIDTH}" y="{HEIGHT + AXIS - 4}" text-anchor="end">{text}</text>'


def _at_least(width: float) -> str:
    return f"{max(width, 0.6):.2f}"


def zones_of(runs: Iterable[BlockRun]) -> list[str]:
    """The zones that blocks are online in, in the order in which they first appear; empty for several at once."""
    return list(dict.fromkeys(run.zone for run in runs if run.state == "online"))
