"""makedumpfile's compressed dumps (``KDUMP   ``, flattened or not) whose pages zlib packs, or nobody: read here.

QEMU writes such dumps too (``dump-guest-memory`` with a format), and says in none of what architecture they are. Those
of other packers are :class:`memhp.facts.kdump.Kdump`'s. Source: makedumpfile's IMPLEMENTATION, "kdump-compressed", and
its ``diskdump_mod.h``: a header, a sub-header, two bitmaps (which pages there are, which are in the dump), a descriptor
for each page in the dump, and the pages.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import struct
import weakref
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from memhp.errors import BadInput
from memhp.facts.vmcoreinfo import LONGEST_NOTE, VmCoreInfo, parse_vmcoreinfo
from memhp.hw.format import U64, Format
from memhp.hw.reader import MissingTables
from memhp.inputs import open_regular
from memhp.limits import KDUMP_RECORDS
from memhp.spans import SpanMap

SIGNATURE, OLD, FLATTENED = b"KDUMP   ", b"DISKDUMP", b"makedumpfile\0"
SIGNATURES = (SIGNATURE, OLD, FLATTENED)
"""How such files begin; the last is the form that goes through pipes."""
FLAT_HEADER = 4096
_RECORD = struct.Struct(">qq")
"""Of a flattened dump, in front of bytes: where they belong, and how many; both -1 at the end."""
_HEADER = "8si390s22xiiiII"
"""Signature, version, names and time, status, block size, blocks of the sub-header, of both bitmaps, pages at most."""
_SUB_HEADER = "12xi16xQQ48xQ"
"""Whether it is a part of a dump, VMCOREINFO's place and size, pages at most."""
ZLIB = 1
OTHER_PACKERS = 0x2 | 0x4 | 0x20
"""LZO, snappy and zstd."""
_PAGE = "qIIQ"
"""A page's place, size, how it is packed, flags that nobody sets."""
BLOCK_SIZES = tuple(1 << shift for shift in range(12, 17))
ROW = 64
"""Bytes of a bitmap whose pages are counted together."""


class KdumpFile:
    """A compressed dump. `packed` says whether pages are packed as is not read here; then no more of it is known.

    `info` is None where it has no notes. Raises BadInput for what is no such dump, or is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        try:
            file = open_regular(path)
        except OSError as error:
            raise BadInput(error.strerror or str(error), where=self.where) from None
        self._fd = os.dup(file.fileno())
        file.close()
        weakref.finalize(self, os.close, self._fd)
        self._records = self._flattened() if self._bytes(0, len(FLATTENED)) == FLATTENED else None
        self.packed = True
        order, fields = self._header()
        signature, version, _, status, self.block_size, sub_blocks, bitmap_blocks, most = fields
        if signature == OLD or status & OTHER_PACKERS:
            return
        self.packed = False
        part, note_at, note_size, most_64 = self._unpacked(order + _SUB_HEADER, self.block_size, "sub-header")
        if part:
            fix = "put it together: makedumpfile --reassemble"
            raise BadInput("a part of a dump that was split", where=self.where, fix=fix)
        self.pages = most_64 if version >= 6 else most
        half = bitmap_blocks // 2 * self.block_size
        bitmaps = (1 + sub_blocks) * self.block_size
        self._bitmap = np.frombuffer(self._read(bitmaps + half, half, "bitmap"), dtype=np.uint8)
        rows = np.bitwise_count(self._bitmap).reshape(-1, ROW).sum(axis=1, dtype=np.int64)
        self._before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(rows)])
        self._descriptors, self._descriptor = bitmaps + 2 * half, struct.Struct(order + _PAGE)
        self.info = self._notes(note_at, note_size) if version >= 3 else None

    def _flattened(self) -> SpanMap[int]:
        """For runs of bytes of the dump, how far on they are in the file."""
        found: SpanMap[int] = SpanMap()
        at, count = FLAT_HEADER, 0
        while True:
            record = self._bytes(at, _RECORD.size)
            if len(record) < _RECORD.size:
                raise self._truncated("the record that ends it")
            start, size = _RECORD.unpack(record)
            if start < 0:
                return found
            count += 1
            if count > KDUMP_RECORDS.most:
                raise KDUMP_RECORDS.refusal(self.where)
            at += _RECORD.size
            if size <= 0:
                raise BadInput(f"no flattened dump: a record of {size} bytes", where=self.where)
            found.set(start, start + size, at - start)
            at += size

    def _header(self) -> tuple[str, tuple[bytes, int, bytes, int, int, int, int, int]]:
        """The order of bytes, and the header in it."""
        for order in "<>":
            fields = self._unpacked(order + _HEADER, 0, "header")
            if fields[0] not in (SIGNATURE, OLD):
                raise BadInput("no compressed dump: another signature", where=self.where)
            if fields[4] in BLOCK_SIZES and fields[5] > 0 and fields[6] >= 0:
                return order, fields
        raise BadInput("no compressed dump: no block size that there is", where=self.where)

    def _notes(self, at: int, size: int) -> VmCoreInfo | None:
        if not size:
            return None
        if size > LONGEST_NOTE:
            raise BadInput(f"VMCOREINFO of {size} bytes", where=self.where, fix="copy the dump whole")
        return parse_vmcoreinfo(self._read(at, size, "VMCOREINFO"), where=self.where)

    def _unpacked(self, layout: str, at: int, what: str) -> tuple[Any, ...]:
        fields = struct.Struct(layout)
        return fields.unpack(self._read(at, fields.size, what))

    def _read(self, at: int, size: int, what: str) -> bytes:
        found = self._bytes(at, size) if self._records is None else self._gathered(at, size)
        if len(found) != size:
            raise self._truncated(what)
        return found

    def _gathered(self, at: int, size: int) -> bytes:
        """Bytes of a flattened dump; what no record has is zero, as in a file with holes, up to the last one."""
        assert self._records is not None
        if at + size > self._records.end or size > os.fstat(self._fd).st_size:
            return b""
        found = bytearray(size)
        for start, stop, ahead in self._records.runs(at, at + size):
            part = self._bytes(start + ahead, stop - start)
            if len(part) != stop - start:
                return b""
            found[start - at : stop - at] = part
        return bytes(found)

    def _bytes(self, at: int, size: int) -> bytes:
        """What there is of these bytes of the file."""
        try:
            there = max(0, min(size, os.fstat(self._fd).st_size - at))
            return os.pread(self._fd, there, at) if there else b""
        except OSError as error:
            raise BadInput(error.strerror or str(error), where=self.where) from None

    def _truncated(self, what: str) -> BadInput:
        return BadInput(f"truncated: {what} is not in it", where=self.where, fix="copy the dump whole")

    @property
    def page_count(self) -> int:
        """How many pages are in the dump."""
        return int(self._before[-1])

    def page(self, pfn: int) -> bytes | None:
        """The page with that number, None where the dump has left it out."""
        byte, bit = pfn >> 3, pfn & 7
        if pfn >= self.pages or byte >= self._bitmap.size or not self._bitmap[byte] >> bit & 1:
            return None
        row = byte // ROW
        nth = int(self._before[row]) + int.from_bytes(self._bitmap[row * ROW : byte].tobytes(), "little").bit_count()
        nth += (int(self._bitmap[byte]) & (1 << bit) - 1).bit_count()
        place = self._descriptors + nth * self._descriptor.size
        at, size, flags, _ = self._descriptor.unpack(self._read(place, self._descriptor.size, "a page's descriptor"))
        if at < 0 or size > self.block_size or flags & OTHER_PACKERS:
            raise BadInput(f"no sound descriptor of page {pfn:#x}", where=self.where, fix="copy the dump whole")
        data = self._read(at, size, f"page {pfn:#x}")
        if flags & ZLIB:
            try:
                data = zlib.decompressobj().decompress(data, self.block_size)
            except zlib.error as error:
                raise BadInput(f"page {pfn:#x} cannot be unpacked: {error}", where=self.where) from None
        if len(data) != self.block_size:
            raise BadInput(f"page {pfn:#x} has {len(data)} bytes", where=self.where, fix="copy the dump whole")
        return data


class KdumpFrames:
    """A :class:`~memhp.hw.reader.TableReader` of a dump's frames of tables of one format."""

    def __init__(self, dump: KdumpFile, fmt: Format) -> None:
        self._dump, self.fmt = dump, fmt

    def tables(self, pfns: U64) -> U64:
        """Whole frames, shape ``[n, fmt.frame_entries]``. Raises MissingTables for those that were left out."""
        size, block = 1 << self.fmt.table_shift, self._dump.block_size
        pages: dict[int, bytes | None] = {}
        frames, missing = [], []
        for pfn in pfns.tolist():
            start = pfn * size
            parts = []
            for number in range(start // block, -(-(start + size) // block)):
                if number not in pages:
                    pages[number] = self._dump.page(number)
                parts.append(pages[number])
            if None in parts:
                missing.append(pfn)
                continue
            whole = b"".join(part or b"" for part in parts)
            frames.append(whole[start % block : start % block + size])
        if missing:
            raise MissingTables(missing)
        return self.fmt.rows(b"".join(frames))
