"""Dumps of physical memory as files, written here for the tests: ELF cores, makedumpfile's compressed format."""
# SPDX-License-Identifier: GPL-2.0-or-later

import struct
import zlib
from collections.abc import Mapping

import numpy as np

from memhp.facts.elfcore import ElfCore
from memhp.hw.walker import tables

NOTES = (
    b"OSRELEASE=6.12.0\nPAGESIZE=4096\nNUMBER(VA_BITS)=39\n"
    b"NUMBER(va_kernel_pa_offset)=0x0\nSYMBOL(swapper_pg_dir)=80000000\n"
)


def elf_note(notes: bytes) -> bytes:
    """The VMCOREINFO note with this text."""
    return struct.pack("<III", 11, len(notes), 0) + b"VMCOREINFO\0\0" + notes + b"\0" * (-len(notes) % 4)


def elf(
    loads: list[tuple[int, bytes]],
    *,
    notes: bytes = NOTES,
    machine: int = 243,
    kind: int = 4,
    ident: bytes = b"\x7fELF\x02\x01\x01",
    many: bool = False,
) -> bytes:
    """An ELF core with one VMCOREINFO note and these (physical address, bytes) segments."""
    note = elf_note(notes)
    count = 1 + len(loads)
    at = 64 + 56 * count + (64 if many else 0)
    headers = [struct.pack("<IIQQQQQQ", 4, 0, at, 0, 0, len(note), len(note), 0)]
    body = note
    for pa, data in loads:
        headers.append(struct.pack("<IIQQQQQQ", 1, 0, at + len(body), 0, pa, len(data), len(data), 0))
        body += data
    section = struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, count, 0, 0) if many else b""
    start = struct.pack(
        "<16sHHIQQQIHHHHHH",
        ident, kind, machine, 1, 0, 64, 64 + 56 * count if many else 0, 0, 64, 56,
        0xFFFF if many else count, 64, int(many), 0,
    )  # fmt: skip
    return start + b"".join(headers) + section + body


def table_frames(core: ElfCore) -> dict[int, bytes]:
    """Physical address → contents of every table frame of a core."""
    root = core.root()
    found = tables(core, root.fmt, root.pfn)
    size = root.fmt.page_size
    held = {pfn for span in core.frames for pfn in range(*span)} | set(found.frame.tolist())
    return {pfn * size: core.read(pfn * size, size) for pfn in sorted(held)}


def kdump(frames: Mapping[int, bytes], notes: bytes, machine: str, *, page_size: int = 4096) -> bytes:
    """A dump as ``makedumpfile -c`` writes it: header, sub-header, two bitmaps, descriptors, zlib pages."""
    pfns = sorted(pa // page_size for pa in frames)
    most = pfns[-1] + 1
    bits = np.zeros(-(-most // (8 * page_size)) * 8 * page_size, dtype=np.uint8)
    bits[pfns] = 1
    bitmap = np.packbits(bits, bitorder="little").tobytes()
    blocks = len(bitmap) // page_size
    names = b"".join(text.encode().ljust(65, b"\0") for text in ("Linux", "host", "7.2.13", "#1", machine, ""))
    header = struct.pack("<8si390s6xQQiiiIIIIIii", b"KDUMP   ", 6, names, 0, 0, 1, page_size, 1, 2 * blocks,
                         min(most, 0xFFFF_FFFF), 0, 0, len(pfns), 0, 1)  # fmt: skip
    note = elf_note(notes)
    text_at = page_size + 256 + len(note) - len(notes) - (-len(notes) % 4)
    places = (text_at, len(notes), page_size + 256, len(note))
    sub = struct.pack("<QiiQQQQQQQQQQQ", 0, 31, 0, 0, 0, *places, 0, 0, 0, 0, most)
    begin = header.ljust(page_size, b"\0") + (sub.ljust(256, b"\0") + note).ljust(page_size, b"\0")
    packed = [zlib.compress(frames[pfn * page_size], 1) for pfn in pfns]
    at = 2 * page_size + 2 * len(bitmap) + 24 * len(pfns)
    descriptors = b""
    for data in packed:
        descriptors += struct.pack("<QIIQ", at, len(data), 1, 0)
        at += len(data)
    return begin + bitmap + bitmap + descriptors + b"".join(packed)
