"""Text in lines of a given width: broken between words only, and never between a number and its unit."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

_WORD = re.compile(r"[+-]?\d[\d.,]* (?:[KMGTPE]i)?B\b[^\s]*|\S+")
"""What is never taken apart: a size with its unit and the punctuation behind it, or a word."""


def _words(text: str) -> Iterator[tuple[int, int]]:
    """Where each word of a line starts and ends."""
    yield from (match.span() for match in _WORD.finditer(text))


def longest_word(text: str) -> int:
    """The length of the longest piece that :func:`wrapped` leaves whole."""
    return max((end - start for start, end in _words(text)), default=0)


def wrapped(text: Text, width: int, *, hang: int = 0) -> list[Text]:
    """The text in lines of at most `width` columns, those after the first set in by `hang`; styles are kept.

    A word that is longer than a line stands alone on one, whole.
    """
    lines: list[Text] = []
    for part in text.split("\n", allow_blank=True):
        lines.extend(_wrapped_line(part, width, hang))
    return lines or [Text()]


def _wrapped_line(text: Text, width: int, hang: int) -> Iterator[Text]:
    plain = text.plain
    start, end, room, lead = 0, 0, width, ""
    for first, last in _words(plain):
        if last - start > room and end > start:
            yield Text(lead) + text[start:end]
            start, room, lead = first, width - hang, " " * hang
        end = last
    yield Text(lead) + text[start:] if end == len(plain) or end == 0 else Text(lead) + text[start:end]


def print_wrapped(out: Console, text: Text, *, indent: int = 0, hang: int = 0, most: int | None = None) -> None:
    """Print text in lines that fit the console (and `most` columns), set in by `indent`, later ones by `hang` more."""
    width = out.width if most is None else min(out.width, most)
    for line in wrapped(text, width - indent, hang=hang):
        out.print(Text(" " * indent) + line if line else line, soft_wrap=True)
