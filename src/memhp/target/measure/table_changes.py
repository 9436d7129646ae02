"""What a step did to the kernel's page tables: runs of entries set, cleared or changed, by level, address and area.

Only tables that the step touched are looked at, as they were (:class:`~memhp.hw.before_images.BeforeImages`) and as
they are; the way down leads through the entries of both. Other processes' root tables are left out.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from memhp.hw.before_images import BeforeImages
from memhp.hw.format import HEIGHT_NAMES, U64, Format
from memhp.linux.areas import Area
from memhp.linux.layout import Layout
from memhp.linux.state import Kernel
from memhp.scenario.result import TableChange

CHANGES: tuple[Literal["set", "cleared", "changed"], ...] = ("set", "cleared", "changed")
WHATS: tuple[Literal["leaf", "table", "other"], ...] = ("leaf", "table", "other")


@dataclass(frozen=True)
class _Level:
    """The changed entries of one height, ascending by address."""

    height: int
    va: U64
    old: U64
    new: U64


def table_changes(k: Kernel, before: BeforeImages) -> list[TableChange]:
    """The runs of entries that differ from before, level by level from the root down."""
    areas = sorted(_areas(k.layout), key=lambda area: area.start)
    return [run for level in _levels(k, before) for run in _runs(k.hw.fmt, level, areas)]


def _levels(k: Kernel, before: BeforeImages) -> Iterator[_Level]:
    """Go down the trees of before and after together, through tables that were touched."""
    fmt, arena = k.hw.fmt, k.hw.memory.arena
    width = fmt.page_size // 8
    none = np.zeros(width, dtype=np.uint64)
    touched = np.array(sorted(before.rows), dtype=np.uint64)
    olds = news = {0: k.init_mm.frame} if k.init_mm.frame in before else {}
    for height in range(fmt.root_height, -1, -1):
        vas = sorted(olds.keys() | news.keys())
        if not vas:
            return
        size = fmt.levels[height].size
        count = fmt.levels[height].entries
        rows = [before.rows[olds[va]] if va in olds else none for va in vas]
        old = np.array([none if row is None else row for row in rows])[:, :count]
        found = [arena.row(news[va]) if va in news else none for va in vas]
        new = np.array([none if row is None else row for row in found])[:, :count]
        base = np.array(vas, dtype=np.uint64)
        row, column = np.nonzero(old != new)
        address: Any = base[row] + column.astype(np.uint64) * np.uint64(size)
        yield _Level(height, fmt.canonical(address), old[row, column], new[row, column])
        olds, news = (_below(fmt, height, base, part, touched) for part in (old, new))


def _below(fmt: Format, height: int, base: U64, rows: U64, touched: U64) -> dict[int, int]:
    """The touched tables that entries point to: address, without its sign, to frame."""
    row, column = np.nonzero(np.asarray(fmt.is_table(rows, height)))
    frames = np.asarray(fmt.table_pfn(rows[row, column]))
    there = np.isin(frames, touched)
    va = base[row] + column.astype(np.uint64) * np.uint64(fmt.levels[height].size)
    return dict(zip(va[there].tolist(), frames[there].tolist(), strict=True))


def _runs(fmt: Format, level: _Level, areas: list[Area]) -> Iterator[TableChange]:
    if not level.va.size:
        return
    height, size = level.height, fmt.levels[level.height].size
    order = np.argsort(level.va, kind="stable")
    va, old, new = level.va[order], level.old[order], level.new[order]
    shown = np.where(new != 0, new, old)
    change = np.where(old == 0, 0, np.where(new == 0, 1, 2))
    leaf, table = np.asarray(fmt.is_leaf(shown, height)), np.asarray(fmt.is_table(shown, height))
    what = np.where(leaf, 0, np.where(table, 1, 2))
    pfn = np.where(leaf, np.asarray(fmt.leaf_pfn(shown, height)), np.asarray(fmt.table_pfn(shown))).astype(np.int64)
    rest = np.uint64(~fmt.pfn_mask & (1 << 64) - 1)
    alike = [change, what, shown & rest, old & rest, np.searchsorted([area.start for area in areas], va, "right")]
    linked = np.diff(va) == size
    for key in alike:
        linked &= key[1:] == key[:-1]
    stride = np.diff(pfn)
    linked &= (stride == np.where(leaf, fmt.pages_at(height), 1)[1:]) | (what[1:] == 2)
    starts = [0, *(np.flatnonzero(~linked) + 1).tolist(), va.size]
    for first, end in pairwise(starts):
        start = int(va[first])
        yield TableChange(
            area=_area(start, start + size, areas),
            level=HEIGHT_NAMES[height],
            change=CHANGES[int(change[first])],
            what=WHATS[int(what[first])],
            start=start,
            end=start + size * (end - first),
            entries=end - first,
            frame=int(pfn[first]),
            stride=int(stride[first]) if end - first > 1 else 0,
            old=int(old[first]),
            new=int(new[first]),
        )


def _areas(layout: Layout) -> Iterator[Area]:
    parts = (layout.direct_map, layout.vmemmap, layout.vmalloc, layout.modules, layout.kernel, layout.fixmap)
    yield from (part for part in (*parts, layout.pci_io, layout.kasan) if part is not None and part.size)


def _area(start: int, end: int, areas: list[Area]) -> str:
    """The name of the area that an entry's range is in, or begins to be in."""
    return next((area.name for area in areas if start < area.end and end > area.start), "elsewhere")
