"""SVG elements, escaped. Pictures of a page have no view box: across they are measured in percent, downwards in pixels,
so that they are as wide as there is room while letters keep their size.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from markupsafe import Markup, escape

LETTER = 6.7
"""Pixels that a letter of a label takes, about."""


class Room(NamedTuple):
    """A width of the window for which labels are placed."""

    pixels: int
    """How wide a picture is at least."""
    style: str
    """The class of labels that are shown in such a window only."""


ROOMS = (Room(300, ""), Room(600, "wide"))
"""Narrow windows, and wide ones, which show the labels of both."""


def element(name: str, *inside: str, **attributes: object) -> Markup:
    """One element; ``view_box`` becomes ``view-box`` and ``class_`` ``class``; what is None is left out."""
    told = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _number(value))
        for key, value in attributes.items()
        if value is not None
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), told, Markup("").join(map(escape, inside)))


def _number(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def percent(share: float) -> str:
    """A place or a width across, of a whole of 1."""
    return f"{share * 100:.3f}".rstrip("0").rstrip(".") + "%"


def picture(label: str, height: int, parts: Iterable[Markup], style: str = "") -> Markup:
    """A whole picture; `label` says in words what it shows."""
    return element(
        "svg", *parts, class_=f"picture {style}".rstrip(), width="100%", height=height, role="img", aria_label=label
    )


def labels(long: str, short: str, share: float) -> Iterator[tuple[str, str]]:
    """What is written into this share of a picture's width, each with the class of windows that have room for it."""
    room = next((room for room in ROOMS if _fits(long, share, room)), None)
    if room is not None:
        yield long, room.style
    if room is ROOMS[0]:
        return
    if _fits(short, share, ROOMS[0]):
        yield short, "narrow" if room else ""
    elif room is None and _fits(short, share, ROOMS[-1]):
        yield short, ROOMS[-1].style


def _fits(text: str, share: float, room: Room) -> bool:
    return len(text) * LETTER + 4 <= share * room.pixels


class Label(NamedTuple):
    """Text at a place of a picture, a share of its width, where it begins or, with `ends`, where it ends."""

    x: float
    text: str
    ends: bool = False

    def reach(self, room: Room) -> tuple[float, float]:
        """The share of the width that it takes, with a letter of room behind or before it."""
        share = (len(self.text) + 1) * LETTER / room.pixels
        return (self.x - share, self.x) if self.ends else (self.x, self.x + share)


def spread(wanted: Iterable[Label], y: float, style: str = "") -> Iterator[Markup]:
    """Labels in a line, as far as they do not meet: those that come first win."""
    left, placed = list(wanted), list[Label]()
    for room in ROOMS:
        for label in list(left):
            start, end = label.reach(room)
            taken = [other.reach(room) for other in placed]
            if start >= -1e-9 and end <= 1 + 1e-9 and all(end <= first or last <= start for first, last in taken):
                left.remove(label)
                placed.append(label)
                look = f"{style} {room.style}".strip()
                anchor = "end" if label.ends else None
                yield element("text", label.text, class_=look or None, x=percent(label.x), y=y, text_anchor=anchor)
