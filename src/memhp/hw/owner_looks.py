"""Kernel code looks at who uses a page, as its ``struct page`` says: a step while interleavings are explored.

What stands in :attr:`memhp.hw.memory.PhysicalMemory.owners` changes at the doors of a machine (claims, releases, new
uses), which are steps, so whoever goes by it without being the one who changes it looks here.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from memhp.hw.memory import Owner
from memhp.hw.stepper import ALL_FRAMES, Access, Stepper
from memhp.spans import Span, SpanMap


class OwnerLooks:
    """The owners of frames (PFNs) as kernel code sees them."""

    __slots__ = ("_owners", "_stepper")

    def __init__(self, owners: SpanMap[Owner], stepper: Stepper | None) -> None:
        self._owners, self._stepper = owners, stepper

    def get(self, pfn: int) -> Owner | None:
        """Who has a frame; None where there is no memory."""
        self._look(pfn, pfn + 1)
        return self._owners.get(pfn)

    def runs(self, start: int, end: int) -> Iterator[tuple[int, int, Owner]]:
        """Who has ``[start, end)``, run by run, as it is now."""
        self._look(start, end)
        return self._owners.runs(start, end)

    def gaps(self, start: int, end: int) -> Iterator[Span]:
        """Where in ``[start, end)`` there is no memory."""
        self._look(start, end)
        gaps = self._owners.gaps(start, end)
        return gaps if self._stepper is None else iter(list(gaps))

    def covers(self, start: int, end: int) -> bool:
        """Whether all of ``[start, end)`` is memory."""
        self._look(start, end)
        return self._owners.covers(start, end)

    def copy(self) -> SpanMap[Owner]:
        """Who has what, all of it."""
        self._look(*ALL_FRAMES)
        return self._owners.copy()

    def __iter__(self) -> Iterator[tuple[int, int, Owner]]:
        self._look(*ALL_FRAMES)
        return iter(self._owners if self._stepper is None else list(self._owners))

    def _look(self, start: int, end: int) -> None:
        if self._stepper is not None and start < end:
            self._stepper.step(Access("look", Span(start, end)))
