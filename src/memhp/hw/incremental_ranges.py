"""Ranges of a tree that were found before, read again only where entries have been written since."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from memhp.hw.ranges import Ranges, ranges
from memhp.hw.reader import TableReader
from memhp.hw.walker import ALL, Bools
from memhp.spans import Span

COLUMNS = ("va", "size", "pa", "height", "bits", "entry", "rights", "mapped")


def ranges_again(old: Ranges, reader: TableReader, root_pfn: int, written: Iterable[Span]) -> Ranges:
    """What ``ranges(..., holes=True)`` finds now, out of what it found before and the addresses written since.

    `written` are disjoint, ascending, and made of whole entries; all others hold what they held. The counts of what was
    scanned are those of the parts that were read again. Tables that the reader lacks are found by a whole scan only.
    """
    if old.missing.frame.size:
        return ranges(reader, old.fmt, root_pfn, holes=True)
    parts: list[Ranges] = []
    at = 0
    for window in written:
        if window.end <= at:
            continue
        fresh = ranges(reader, old.fmt, root_pfn, va_start=window.start, va_end=min(window.end + 1, ALL), holes=True)
        if fresh.missing.frame.size:
            return ranges(reader, old.fmt, root_pfn, holes=True)
        fresh = _clipped(fresh, at, ALL)
        start = min([window.start, *fresh.va[:1].tolist()])
        parts += [_clipped(old, at, start), fresh]
        at = max([window.end, *(int(fresh.va[i]) + int(fresh.size[i]) for i in range(len(fresh))[-1:])])
    parts.append(_clipped(old, at, ALL))
    return _joined(old, parts)


def _clipped(found: Ranges, start: int, end: int) -> Ranges:
    """What lies in ``[start, end)``, cut at its edges. A range cut at its start keeps its first entry, which is then
    another's: the caller joins it to the range before.
    """
    if start >= end or not found.va.size:
        return _chosen(found, slice(0, 0))
    last = found.va + (found.size - np.uint64(1))
    lo = int(np.searchsorted(last, np.uint64(start)))
    hi = int(np.searchsorted(found.va, np.uint64(end - 1), side="right"))
    part = _chosen(found, slice(lo, hi))
    if not part.va.size:
        return part
    va, size, pa = part.va.copy(), part.size.copy(), part.pa.copy()
    if int(va[0]) < start:
        skipped = np.uint64(start - int(va[0]))
        va[0] += skipped
        size[0] -= skipped
        pa[0] += skipped if part.mapped[0] else np.uint64(0)
    size[-1] = min(int(size[-1]), end - int(va[-1]))
    return replace(part, va=va, size=size, pa=pa)


def _chosen(found: Ranges, which: slice | Bools) -> Ranges:
    """Some of the ranges."""
    return replace(found, **{name: getattr(found, name)[which] for name in COLUMNS})


def _joined(old: Ranges, parts: list[Ranges]) -> Ranges:
    """Parts that follow on one another as one; only where two meet can ranges turn out to be one."""
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    entries, tables = (sum(getattr(part, name) for part in parts[1::2]) for name in ("entries", "tables"))
    whole = replace(old, **columns, entries=entries, tables=tables)
    keep = np.ones(len(whole), dtype=np.bool_)
    for seam in reversed(list(_seams(parts))):
        if _continues(whole, seam):
            whole.size[seam - 1] += whole.size[seam]
            keep[seam] = False
    return whole if keep.all() else _chosen(whole, keep)


def _seams(parts: list[Ranges]) -> Iterator[int]:
    """The indices at which a part begins that has another before it, ascending."""
    at = 0
    for part in parts:
        if at and len(part):
            yield at
        at += len(part)


def _continues(found: Ranges, i: int) -> bool:
    """Whether range `i` goes on where the one before it ends, and says the same."""
    one, size = i - 1, found.size[i - 1]
    if not (found.height[one] == found.height[i] and found.bits[one] == found.bits[i]):
        return False
    if found.mapped[one] != found.mapped[i] or int(found.va[one]) + int(size) != int(found.va[i]):
        return False
    return not found.mapped[i] or int(found.pa[one]) + int(size) == int(found.pa[i])
