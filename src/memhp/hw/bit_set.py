"""Bits that CPUs set and clear atomically, under a lock, and that some look at without it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.hw.shared import SharedSet
from memhp.spans import SpanMap


class BitSet(SharedSet):
    """A set of spans that are bits in words: :meth:`set_bits`, :meth:`clear_bits` and :meth:`test` are marked: steps.

    Other accesses are plain, those of who holds the lock, and of who makes what the bits are about.
    """

    __slots__ = ()

    def set_bits(self, start: int, end: int) -> None:
        """Put ``[start, end)`` in: ``set_bit()``."""
        self._map._marked("atomic", start, end)
        self._size += end - start - self._in(start, end)
        SpanMap.set(self._map, start, end, True)

    def clear_bits(self, start: int, end: int) -> None:
        """Take ``[start, end)`` out: ``clear_bit()``."""
        self._map._marked("atomic", start, end)
        self._size -= self._in(start, end)
        SpanMap.clear(self._map, start, end)

    def test(self, start: int, end: int) -> bool:
        """Whether any of ``[start, end)`` is in, as who does not hold the lock sees it: ``READ_ONCE()``."""
        self._map._marked("read", start, end)
        return bool(self._in(start, end))

    def _in(self, start: int, end: int) -> int:
        """How many of ``[start, end)`` are in."""
        return sum(hi - lo for lo, hi, _ in SpanMap.runs(self._map, start, end))
