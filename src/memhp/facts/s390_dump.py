"""The dump format of IBM Z's stand-alone dump tools, ``zipl -d`` and zfcpdump: a header, then memory as it lies.

The extended format has memory in segments, each behind a page that says where it belongs, and leaves out what is zero.
Dumps on several volumes, and compressed segments, are refused. Source: ``zdump/df_s390.h``, ``include/dump/
s390_dump.h`` and ``zdump/dfi_s390.c`` of s390-tools.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from memhp.errors import BadInput
from memhp.facts.ram_image import Piece
from memhp.inputs import open_regular
from memhp.limits import DUMP_SEGMENTS

MAGIC, MAGIC_EXTENDED = bytes.fromhex("a8190173618f23fd"), bytes.fromhex("a8190173618f23fe")
SIGNATURES = (MAGIC, MAGIC_EXTENDED)
"""How such files begin."""
HEADER_SIZE = PAGE_SIZE = 4096
ARCH_64 = 2
_HEADER = struct.Struct(">8sIIIIQQQIIQQIIIQB")
"""magic, version, header size, level, page size, memory's size, start and end, pages, padding, time, CPU, architecture,
volume, architecture of the tool, real size of memory, whether on several volumes."""
_SEGMENT = struct.Struct(">QQQI")
"""Start, length, mark of the last one, size in the file if it is compressed."""
_FIX = "make an ELF dump: zgetdump -f elf"


def pieces_of(path: Path) -> list[Piece]:
    """Where memory lies in a dump. Raises BadInput for one that is cut off, or of a kind that is not read."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            return _pieces(path, file, size)
    except OSError as error:
        raise BadInput(error.strerror or str(error), where=str(path)) from None


def _pieces(path: Path, file: BinaryIO, size: int) -> list[Piece]:
    header = file.read(HEADER_SIZE)
    if len(header) < HEADER_SIZE:
        raise BadInput("truncated: the header is cut off", where=str(path), fix="copy the dump whole")
    fields = _HEADER.unpack_from(header)
    magic, memory, start, arch, several = fields[0], fields[5], fields[6], fields[12], fields[16]
    if arch != ARCH_64:
        raise BadInput("an s390 dump of a 31-bit kernel", where=str(path), fix="a dump of a 64-bit kernel")
    if several:
        raise BadInput("a part of an s390 dump on several volumes", where=str(path), fix=_FIX)
    if magic == MAGIC:
        if HEADER_SIZE + memory > size:
            raise _truncated(path, HEADER_SIZE + memory, size)
        return [Piece(path, start, HEADER_SIZE, memory)]
    return list(_segments(path, file, size))


def _segments(path: Path, file: BinaryIO, size: int) -> Iterator[Piece]:
    at, last, count = HEADER_SIZE, 0, 0
    while not last:
        if at + PAGE_SIZE > size:
            raise _truncated(path, at + PAGE_SIZE, size)
        count += 1
        if count > DUMP_SEGMENTS.most:
            raise DUMP_SEGMENTS.refusal(str(path))
        file.seek(at)
        start, length, last, compressed = _SEGMENT.unpack(file.read(_SEGMENT.size))
        if compressed:
            raise BadInput("an s390 dump with compressed segments", where=str(path), fix=_FIX)
        at += PAGE_SIZE
        if at + length > size:
            raise _truncated(path, at + length, size)
        yield Piece(path, start, at, length)
        at += length


def _truncated(path: Path, wanted: int, size: int) -> BadInput:
    return BadInput(
        f"truncated: memory lies in it up to {wanted:#x}, and it ends at {size:#x}",
        where=str(path),
        fix="copy the dump whole",
    )
