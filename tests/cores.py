"""Dumps of physical memory as files, written here for the tests: ELF cores, makedumpfile's format, those of s390."""
# SPDX-License-Identifier: GPL-2.0-or-later

import struct
import zlib
from collections.abc import Mapping

import numpy as np

from memhp.facts.elfcore import ElfCore

NOTES = (
    b"OSRELEASE=6.12.0\nPAGESIZE=4096\nNUMBER(VA_BITS)=39\n"
    b"NUMBER(va_kernel_pa_offset)=0x0\nSYMBOL(swapper_pg_dir)=80000000\n"
)


END_MARK = b"DUMP_END" + bytes(8)
"""What stands at the end of a dump of s390."""


def elf_note(notes: bytes, order: str = "<") -> bytes:
    """The VMCOREINFO note with this text."""
    return struct.pack(f"{order}III", 11, len(notes), 0) + b"VMCOREINFO\0\0" + notes + b"\0" * (-len(notes) % 4)


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


def notes_of(core: ElfCore) -> bytes:
    return next(note.desc for note in core.notes if note.name == "VMCOREINFO")


def table_frames(core: ElfCore) -> dict[int, bytes]:
    """Physical address → contents of every page with a table of a core; what of it is not in the core is zero."""
    size = core.root().fmt.page_size
    pages: dict[int, bytearray] = {}
    for load in core.loads:
        for pa in range(load.pa // size * size, load.pa + load.size, size):
            start, end = max(pa, load.pa), min(pa + size, load.pa + load.size)
            pages.setdefault(pa, bytearray(size))[start - pa : end - pa] = core.read(start, end - start)
    return {pa: bytes(page) for pa, page in sorted(pages.items())}


ZLIB, LZO = 1, 2
"""How the header of a dump says that its pages are packed."""


def kdump(
    frames: Mapping[int, bytes], notes: bytes, machine: str, *, page_size: int = 4096, order: str = "<",
    status: int = ZLIB,
) -> bytes:  # fmt: skip
    """A dump as ``makedumpfile -c`` writes it: header, sub-header, two bitmaps, descriptors, zlib pages; `order` is
    that of the bytes of its machine. Whatever `status` says of pages, each page says by itself that it is zlib's.
    """
    pfns = sorted(pa // page_size for pa in frames)
    most = pfns[-1] + 1
    bits = np.zeros(-(-most // (8 * page_size)) * 8 * page_size, dtype=np.uint8)
    bits[pfns] = 1
    bitmap = np.packbits(bits, bitorder="little").tobytes()
    blocks = len(bitmap) // page_size
    names = b"".join(text.encode().ljust(65, b"\0") for text in ("Linux", "host", "7.2.13", "#1", machine, ""))
    header = struct.pack(f"{order}8si390s6xQQiiiIIIIIii", b"KDUMP   ", 6, names, 0, 0, status, page_size, 1, 2 * blocks,
                         min(most, 0xFFFF_FFFF), 0, 0, len(pfns), 0, 1)  # fmt: skip
    note = elf_note(notes, order)
    text_at = page_size + 256 + len(note) - len(notes) - (-len(notes) % 4)
    places = (text_at, len(notes), page_size + 256, len(note))
    sub = struct.pack(f"{order}QiiQQQQQQQQQQQ", 0, 31, 0, 0, 0, *places, 0, 0, 0, 0, most)
    begin = header.ljust(page_size, b"\0") + (sub.ljust(256, b"\0") + note).ljust(page_size, b"\0")
    packed = [zlib.compress(frames[pfn * page_size], 1) for pfn in pfns]
    at = 2 * page_size + 2 * len(bitmap) + 24 * len(pfns)
    descriptors = b""
    for data in packed:
        descriptors += struct.pack(f"{order}QIIQ", at, len(data), 1, 0)
        at += len(data)
    return begin + bitmap + bitmap + descriptors + b"".join(packed)


def memory_of_s390(core: ElfCore) -> dict[int, bytes]:
    """Pages of tables, and what the kernel leaves for who dumps it: in the lowcore the place of its note
    (arch/s390/kernel/vmcore_info.c; ``struct lowcore``, 0xe0c).
    """
    size, frames = core.page_size, table_frames(core)
    note = elf_note(notes_of(core), ">").ljust(2 * size, b"\0")
    at = next(pa for pa in range(16 * size, 1 << 30, size) if pa not in frames and pa + size not in frames)
    lowcore = bytearray(size)
    lowcore[0xE0C:0xE14] = struct.pack(">Q", at)
    return dict(sorted({**frames, 0: bytes(lowcore), at: note[:size], at + size: note[size:]}.items()))


def s390_header(magic: int, memory: int, *, arch: int = 2, several: int = 0) -> bytes:
    """``struct df_s390_hdr`` of s390-tools' include/dump/s390_dump.h."""
    header = bytearray(4096)
    struct.pack_into(">QIIII", header, 0, magic, 5, 4096, 4, 4096)
    struct.pack_into(">QQQI", header, 0x18, memory, 0, memory, memory >> 12)
    struct.pack_into(">I", header, 0x48, arch)
    struct.pack_into(">QB", header, 0x54, memory, several)
    return bytes(header)


def s390_segments(memory: dict[int, bytes], *, compressed: int = 0) -> bytes:
    """``struct df_s390_dump_segm_hdr`` and pages that follow on, for each run of them."""
    runs: list[tuple[int, bytearray]] = []
    for pa, page in memory.items():
        if not runs or runs[-1][0] + len(runs[-1][1]) != pa:
            runs.append((pa, bytearray()))
        runs[-1][1].extend(page)
    return b"".join(
        struct.pack(">QQQI", pa, len(data), int(pa == runs[-1][0]), compressed).ljust(4096, b"\0") + data
        for pa, data in runs
    )


def flattened(dump: bytes, piece: int = 4000) -> bytes:
    """A dump as makedumpfile writes it into a pipe (``-F``): the same in pieces, each with its place in front."""
    places = [*range(0, len(dump), piece)]
    records = b"".join(
        struct.pack(">qq", at, len(dump[at : at + piece])) + dump[at : at + piece] for at in (*places[1:], places[0])
    )
    return struct.pack(">16sqq", b"makedumpfile", 1, 1).ljust(4096, b"\0") + records + struct.pack(">qq", -1, -1)
