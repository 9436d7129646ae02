"""Where a request ends: QEMU and its guest agent read JSON values, not lines (``qobject/json-streamer.c``).

A client may write a request over several lines, or without a newline at its end, as ``qemu.qmp`` does.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

OPENING, CLOSING = b"{[", b"}]"
QUOTES = b"\"'"
"""QEMU takes strings in either."""
ESCAPE, NEWLINE = b"\\"[0], b"\n"[0]
SENTINEL = b"\xff"[0]
"""A byte that no JSON has: whatever was begun before it is given up."""


class JsonValues:
    """A request is an object or a list, as long as its brackets are open; anything else is a line."""

    def __init__(self) -> None:
        self._got = bytearray()
        self._depth = 0
        self._quote = 0
        """The quote that a string began with; 0 outside of strings."""
        self._escaped = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Every request that is whole now."""
        for byte in data:
            self._got.append(byte)
            if self._ends(byte):
                yield bytes(self._got)
                self._got.clear()

    def __len__(self) -> int:
        return len(self._got)

    def _ends(self, byte: int) -> bool:
        """Whether a request ends with a byte."""
        if byte == SENTINEL:
            self._depth = self._quote = 0
            self._escaped = False
        elif self._quote:
            if not self._escaped and byte == self._quote:
                self._quote = 0
            self._escaped = byte == ESCAPE and not self._escaped
        elif byte in QUOTES and self._depth:
            self._quote = byte
        elif byte in OPENING:
            self._depth += 1
        elif byte in CLOSING:
            self._depth = max(0, self._depth - 1)
            return not self._depth
        else:
            return byte == NEWLINE and not self._depth
        return False
