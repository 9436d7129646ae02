"""Parts of a kernel's virtual address space and the section markers of its page-table dump. Addresses are bytes."""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import lru_cache
from typing import NamedTuple

from memhp.spans import Span

_span = lru_cache(maxsize=1 << 10)(Span)


class Area(NamedTuple):
    """A named part of the kernel's address space, ``[start, end)``."""

    name: str
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start

    @property
    def span(self) -> Span:
        """The area without its name."""
        return _span(self.start, self.end)

    def __contains__(self, address: object) -> bool:
        return isinstance(address, int) and self.start <= address < self.end


class Marker(NamedTuple):
    """A line of the page-table dump, ``---[ name ]---``, printed before the first entry at or above `start`."""

    start: int
    name: str
