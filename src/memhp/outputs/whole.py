"""Writing all that there is to write: also where the system takes less at once, or nothing for now.

A stream without a buffer (``PYTHONUNBUFFERED``) leaves it to the caller to write what the system did not take; one that
does not block, as programs that start others hand them down, refuses what its reader has not yet made room for.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import io
import os
import select
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def write_all(fd: int, data: "ReadableBuffer") -> int:
    """Write everything to an open file, waiting for room as long as it takes; returns how many bytes that were."""
    left = memoryview(data).cast("B")
    total = len(left)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            room = select.poll()
            room.register(fd, select.POLLOUT)
            room.poll()
    return total


class WholeFile(io.FileIO):
    """An open file whose every write is a whole one."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write everything."""
        return write_all(self.fileno(), data)


def make_streams_whole() -> None:
    """Let stdout and stderr take everything that is printed, or raise OSError; what they are otherwise they stay."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _whole(stream))


def _whole(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    raw = WholeFile(stream.fileno(), "w", closefd=False)
    buffered = not isinstance(stream.buffer, io.RawIOBase)
    return io.TextIOWrapper(
        io.BufferedWriter(raw) if buffered else raw,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
