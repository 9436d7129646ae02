"""Where addresses lie in a picture: the memory that it is of, with holes cut short; the axis below; outlines."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from markupsafe import Markup

from memhp.report.svg import ROOMS, Label, element, percent, spread
from memhp.spans import Span, SpanSet

GAP = 0.023
"""A hole's share of the width of a picture, at most."""

GAPS = 0.4
"""The share that all holes have together, at most."""

AXIS = 16
"""Pixels: the height of the axis."""


class Segment(NamedTuple):
    """Memory without a hole, in bytes, and where it starts in the picture, as a share of the width."""

    span: Span
    x: float


class Scale:
    """Where addresses are in a picture, as shares of its width."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        spans = SpanSet(ranges)
        holes = max(len(spans) - 1, 0)
        gap = min(GAP, GAPS / holes) if holes else 0.0
        self._per_byte = (1 - gap * holes) / spans.size if spans.size else 0.0
        self.segments: list[Segment] = []
        x = 0.0
        for span in spans:
            self.segments.append(Segment(span, x))
            x += span.size * self._per_byte + gap

    def x(self, address: int) -> float:
        """Where an address is, if it is in memory or the end of it."""
        found = [each for each in self.segments if each.span.start <= address <= each.span.end]
        return found[-1].x + (address - found[-1].span.start) * self._per_byte

    def width(self, size: int) -> float:
        """How wide so many bytes are."""
        return size * self._per_byte

    def bar(self, start: int, size: int, y: float, height: float, style: str, title: str = "") -> Markup:
        """A range of bytes as a rectangle, wide enough to be seen, with words that a pointer on it shows."""
        told = [element("title", title)] if title else []
        width = max(self.width(size), LEAST)
        x = min(self.x(start), 1 - width)
        return element("rect", *told, class_=style, x=percent(x), y=y, width=percent(width), height=height)


LEAST = 0.002
"""The least width of anything."""


def outlines(scale: Scale, y: float, height: float) -> Iterator[Markup]:
    """The outlines of all memory that a picture is of."""
    for span, _ in scale.segments:
        yield scale.bar(span.start, span.size, y + 0.5, height - 1, "ghost")


def axis(scale: Scale, y: float) -> Iterator[Markup]:
    """Addresses where memory starts, and where the last of it ends, as far as they have room."""
    if scale.segments:
        last = scale.segments[-1].span.end
        first, *others = (Label(each.x, f"{each.span.start:#x}") for each in scale.segments)
        yield from spread([first, Label(1.0, f"{last:#x}", ends=True), *others], y + AXIS - 4)


NARROW = 4
"""Pixels: a block narrower than this gets no border of its own."""


def cuts(scale: Scale, span: Span, size: int, y: float, height: float) -> Iterator[Markup]:
    """Lines between neighbours of this size in a range, where they are wide enough to be told apart."""
    style = next((room.style for room in ROOMS if scale.width(size) * room.pixels >= NARROW), None)
    for at in range(span.start + size, span.end, size) if style is not None else ():
        x = percent(scale.x(at))
        yield element("line", class_=f"cut {style}".rstrip(), x1=x, x2=x, y1=y, y2=y + height)
