"""``/proc/kpageflags`` summarised: for each memory block, how many pages carry which flags, and between which PFNs.

The kernel gives 8 bytes a page (``fs/proc/page.c``, Documentation/admin-guide/mm/pagemap.rst). Flags that change from
one moment to the next and do not decide what can be moved are left out, so that a block takes a few lines.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from memhp.spans import Span

KEPT = {
    "LRU": 5,
    "SLAB": 7,
    "BUDDY": 10,
    "MMAP": 11,
    "ANON": 12,
    "SWAPBACKED": 14,
    "COMPOUND_HEAD": 15,
    "COMPOUND_TAIL": 16,
    "HUGE": 17,
    "UNEVICTABLE": 18,
    "HWPOISON": 19,
    "NOPAGE": 20,
    "KSM": 21,
    "THP": 22,
    "OFFLINE": 23,
    "ZERO_PAGE": 24,
    "PGTABLE": 26,
    "RESERVED": 32,
    "MLOCKED": 33,
}
"""The flags that are kept, by name, with their bit (``include/uapi/linux/kernel-page-flags.h``)."""

MASK = np.uint64(sum(1 << bit for bit in KEPT.values()))
ENTRY = 8
"""Bytes that the kernel gives for a page."""

Flags = npt.NDArray[np.uint64]


def summary(block: str, first_pfn: int, flags: Flags) -> str:
    """The lines of one memory block, its pages' flags given in order: ``block flags pages first-PFN last-PFN``."""
    values, place, counts = np.unique(flags & MASK, return_inverse=True, return_counts=True)
    lines = []
    for index, (value, count) in enumerate(zip(values.tolist(), counts.tolist(), strict=True)):
        at = np.flatnonzero(place == index)
        first, last = first_pfn + int(at[0]), first_pfn + int(at[-1])
        lines.append(f"{block}\t{value:#x}\t{count}\t{first:#x}\t{last:#x}\n")
    return "".join(lines)


def of_file(path: Path, blocks: Iterator[tuple[str, Span]]) -> str | None:
    """The summary of a machine's blocks (name, PFNs); None where the file cannot be read, as by all but root."""
    try:
        with path.open("rb", buffering=0) as file:
            return "".join(_read(file.fileno(), name, span) for name, span in blocks)
    except OSError:
        return None


def _read(fd: int, name: str, span: Span) -> str:
    data = b""
    while len(data) < span.size * ENTRY:
        part = os.pread(fd, span.size * ENTRY - len(data), span.start * ENTRY + len(data))
        if not part:
            break
        data += part
    return summary(name, span.start, np.frombuffer(data, dtype=np.uint64)) if data else ""
