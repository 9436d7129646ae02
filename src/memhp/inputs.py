"""Reading what the user names: never more than a limit says, and never waiting for what does not come."""
# SPDX-License-Identifier: GPL-2.0-or-later

import lzma
import os
import select
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from memhp.errors import BadInput
from memhp.limits import PIPE_SECONDS, Limit

_PIECE = 1 << 20


def read_input(path: Path, limit: Limit) -> bytes:
    """A file's bytes, or what comes through a pipe or from a device; ``-`` is stdin.

    Raises :class:`BadInput` when there is more than `limit`, or nothing comes any more; OSError for what cannot be
    opened or read.
    """
    if str(path) == "-":
        if sys.stdin is None:
            raise BadInput("stdin is closed", where="-", fix="name a file")
        return _read(0, path, limit)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        return _read(fd, path, limit)
    finally:
        os.close(fd)


def read_file(path: Path, limit: Limit) -> bytes:
    """The bytes of a regular file. Raises :class:`BadInput` for anything else and for a larger one; OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _refuse_special(os.fstat(fd), path)
        return _read(fd, path, limit)
    finally:
        os.close(fd)


def open_regular(path: Path) -> BinaryIO:
    """A regular file, open for reading. Raises :class:`BadInput` for anything else; OSError."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb")
    try:
        _refuse_special(os.fstat(file.fileno()), path)
    except BaseException:
        file.close()
        raise
    return file


def _refuse_special(status: os.stat_result, path: Path) -> None:
    """Raise :class:`BadInput` for what has no end or may never say anything: a device, a pipe, a socket."""
    if stat.S_ISDIR(status.st_mode):
        raise BadInput("is a folder", where=str(path), fix="name a file")
    if not stat.S_ISREG(status.st_mode):
        raise BadInput("is no regular file", where=str(path), fix="copy it into one first")


def unpack_xz(path: Path, limit: Limit, packed: Limit) -> bytes:
    """What an xz file holds. Raises :class:`BadInput` for more than the limits, and for a damaged one; OSError."""
    data = read_file(path, packed)
    pieces: list[bytes] = []
    left = limit.most
    try:
        while data:
            decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ)
            piece = decompressor.decompress(data, _PIECE)
            while piece or not decompressor.eof:
                left -= len(piece)
                if left < 0:
                    raise limit.refusal(str(path))
                pieces.append(piece)
                if decompressor.eof:
                    break
                if decompressor.needs_input:
                    raise EOFError("it ends too early")
                piece = decompressor.decompress(b"", _PIECE)
            data = decompressor.unused_data.lstrip(b"\0")
    except (lzma.LZMAError, EOFError) as error:
        raise BadInput(f"cannot unpack: {error}", where=str(path), fix="the file is truncated or damaged") from None
    return b"".join(pieces)


def _read(fd: int, path: Path, limit: Limit) -> bytes:
    """What there is to read. An error says of which file, so that nobody takes it for one of an output."""
    try:
        return _pieces(fd, path, limit)
    except OSError as error:
        error.filename = str(path)
        raise


def _pieces(fd: int, path: Path, limit: Limit) -> bytes:
    pieces: list[bytes] = []
    left = limit.most + 1
    while left:
        try:
            piece = os.read(fd, min(left, _PIECE))
        except BlockingIOError:
            _wait(fd, path)
            continue
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        left -= len(piece)
    raise limit.refusal(str(path))


def _wait(fd: int, path: Path) -> None:
    """Wait until a writer has written, as long as that may take."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(PIPE_SECONDS.most * 1000):
        raise BadInput(
            f"nothing comes from it: {PIPE_SECONDS.name} is {PIPE_SECONDS.text} at most",
            where=str(path),
            fix="write it to a file first",
        )
