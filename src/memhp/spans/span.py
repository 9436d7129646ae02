"""A run of integers: page frames or bytes."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import NamedTuple


class Span(NamedTuple):
    """A half-open run of integers ``[start, end)``, in bytes or PFNs as the owner says."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """How many integers the span holds."""
        return self.end - self.start

    def __bool__(self) -> bool:
        return self.end > self.start

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self.start <= value < self.end

    def covers(self, other: "Span") -> bool:
        """Whether `other` lies wholly inside."""
        return self.start <= other.start and other.end <= self.end

    def overlaps(self, other: "Span") -> bool:
        """Whether the two share at least one integer."""
        return self.start < other.end and other.start < self.end

    def clip(self, other: "Span") -> "Span":
        """The part shared with `other`; empty (and false) when there is none."""
        start = max(self.start, other.start)
        return Span(start, max(start, min(self.end, other.end)))

    def scaled(self, shift: int) -> "Span":
        """The span in a unit `shift` bits smaller (PFNs to bytes: ``span.scaled(PAGE_SHIFT)``)."""
        return Span(self.start << shift, self.end << shift)
