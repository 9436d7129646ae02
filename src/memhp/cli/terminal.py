"""The terminal that reports are printed to: whatever their text holds, it only ever shows it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from memhp.printable import printable


class Terminal(Console):
    """A console whose text has no control characters, whoever wrote it; a reader that goes away is the caller's."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Text in pieces with styles; only rich's own pieces for control have anything but text in them."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(printable(segment.text, keep="\n"), segment.style)

    def on_broken_pipe(self) -> None:
        """Leave it to whoever ends the run."""
        raise BrokenPipeError
