"""How a virtio memory device misbehaves, or merely surprises, on demand: rules about single requests.

A rule says which requests it is about and what happens to them: another answer, a delay, a change of the device's
configuration right before or right after the answer. All that a specification-conforming device may do can be written
so, and much that it may not.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass

from memhp.hw.devices.virtio_mem_wire import Request, RequestType, ResponseType
from memhp.spans import Span

EVERY_TYPE = frozenset(RequestType)


@dataclass(frozen=True)
class Rule:
    """What happens to some requests. Sizes are bytes, times nanoseconds.

    A rule without `answer` lets the device answer as it would. With one, the device does nothing of what was asked: an
    ``ACK`` then is a lie.
    """

    types: frozenset[RequestType] = EVERY_TYPE
    overlaps: Span | None = None
    """Only requests for blocks in this range of addresses."""
    first: int = 1
    """The first of the requests that match which this is about, counted from 1."""
    count: int | None = None
    """How many of them from there on; None for all."""
    answer: ResponseType | None = None
    delay: int = 0
    """How long the answer takes."""
    requested_before: int | None = None
    """``requested_size`` changes to this right before the request is looked at."""
    requested_after: int | None = None
    """``requested_size`` changes to this right after it was dealt with, before the driver sees the answer."""
    usable_after: int | None = None
    """``usable_region_size`` becomes this at the same moment, even if it shrinks, which no device may let it do."""

    def matches(self, request: Request, block_size: int) -> bool:
        """Whether the rule speaks of such a request, whichever in the row it is."""
        if request.type not in self.types:
            return False
        return self.overlaps is None or self.overlaps.overlaps(request.span(block_size))

    def edges(self) -> tuple[int, ...]:
        """After how many requests that match the rule begins to be about them, and ends."""
        begins = self.first - 1
        return (begins,) if self.count is None else (begins, begins + self.count)

    def applies(self, number: int) -> bool:
        """Whether the rule is about the `number`-th request that matches."""
        return number >= self.first and (self.count is None or number < self.first + self.count)
