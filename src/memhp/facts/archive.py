"""Reading a tar archive, compressed or not, into memory: from front to back, and never more than the limits say."""
# SPDX-License-Identifier: GPL-2.0-or-later

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from memhp.errors import BadInput
from memhp.inputs import open_regular
from memhp.limits import ARCHIVE_MEMBERS, ARCHIVE_SIZE, FILE_SIZE


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


COMPRESSED: dict[bytes, Callable[[BinaryIO], _Stream]] = {
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
}
"""How an archive is read that begins so."""


class _Counted:
    """A stream that ends in a refusal after so many bytes as an archive may have."""

    def __init__(self, stream: _Stream, where: str) -> None:
        self._stream = stream
        self._where = where
        self._left = ARCHIVE_SIZE.most

    def read(self, size: int) -> bytes:
        """So many bytes, or what is left. Raises :class:`BadInput` beyond the limit."""
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ARCHIVE_SIZE.refusal(self._where)
        return data


def read_archive(path: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The files of an archive whose names there are wanted; a link has no bytes.

    Raises :class:`BadInput` for what is no archive, is cut off, or is larger than the limits.
    """
    members: dict[str, bytes] = {}
    count = 0
    try:
        with open_regular(path) as file:
            start = file.read(6)
            file.seek(0)
            stream = next((how(file) for magic, how in COMPRESSED.items() if start.startswith(magic)), file)
            with tarfile.open(fileobj=_Counted(stream, str(path)), mode="r|") as tar:  # type: ignore[call-overload]
                for member in tar:
                    if member.isdir():
                        continue
                    count += 1
                    if count > ARCHIVE_MEMBERS.most:
                        raise ARCHIVE_MEMBERS.refusal(str(path))
                    name = member.name.removeprefix("./")
                    if wanted(name):
                        if member.size > FILE_SIZE.most:
                            raise FILE_SIZE.refusal(f"{path}/{member.name}")
                        content = tar.extractfile(member) if member.isreg() else None
                        members[name] = content.read() if content is not None else b""
                    tar.members.clear()
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError, OverflowError) as error:
        raise BadInput(f"cannot be read: {error}", where=str(path), fix="is the archive complete?") from error
    return members
