"""The kernel's address space as text with physical addresses: one line for each range of like leaves.

``0xfff0000000200000-0xfff0000001e00000        28672K PMD ro NX UXN AF attr0                       pa=0x40200000``

Unlike the kernel's own dump (:mod:`memhp.facts.ptdump`) a range ends where the physical addresses do not follow on.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from memhp.hw.decode import attribute_text, text_bits
from memhp.hw.format import HEIGHT_NAMES
from memhp.hw.ranges import Ranges, ranges
from memhp.hw.reader import TableReader
from memhp.linux.port import Root


def ptwalk(reader: TableReader, root: Root, *, va_start: int | None = None, va_end: int = 1 << 64) -> Ranges:
    """The ranges of ``[va_start, va_end)`` that :func:`ptwalk_lines` prints; by default all that are the kernel's."""
    fmt = root.fmt
    va_start = fmt.start if va_start is None else va_start
    return ranges(reader, fmt, root.pfn, root_index=root.index, va_start=va_start, va_end=va_end, bits=text_bits(fmt))


def ptwalk_lines(found: Ranges) -> Iterator[str]:
    """A line for each range, and for each missing table one that says so; each ends without a newline."""
    columns = zip(
        found.va.tolist(),
        found.size.tolist(),
        found.pa.tolist(),
        found.height.tolist(),
        found.bits.tolist(),
        strict=True,
    )
    texts: dict[tuple[int, int], str] = {}
    for va, size, pa, height, bits in columns:
        text = texts.setdefault((height, bits), attribute_text(found.fmt, bits, height))
        yield f"0x{va:016x}-0x{va + size:016x} {size >> 10:>12}K {HEIGHT_NAMES[height]} {text:40s} pa=0x{pa:x}"
    for frame, height, va in zip(*(column.tolist() for column in found.missing), strict=True):
        pa = frame << found.fmt.table_shift
        yield f"0x{va:016x} {HEIGHT_NAMES[height]} table at pa=0x{pa:x} is not in the dump"
