"""What page tables and memory were like at one moment, to be held against a later one."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from memhp.check.machine_view import Leaves, MachineView
from memhp.hw.format import U64
from memhp.hw.walker import Bools, Heights
from memhp.linux.state import Kernel
from memhp.spans import Span


class Positions(NamedTuple):
    """Tables by where they stand in the tree, whatever frames they are in: height and first address, and whether no
    leaf lies below them.
    """

    height: Heights
    va: U64
    empty: Bools


@dataclass(frozen=True)
class AreaTables:
    """The page tables of one area: its tables, and what its leaves say in runs of like ones.

    `pa` is left out of the runs (zero) where the frames behind the leaves are whatever was free: in vmemmap.
    """

    tables: Positions
    leaves: Leaves


@dataclass(frozen=True)
class Snapshot:
    """The memory that was present (PFNs, by whether since boot), the page tables for it, and running counts."""

    early: tuple[Span, ...]
    hot: tuple[Span, ...]
    direct_map: AreaTables
    vmemmap: AreaTables
    exposed_frames: int


def snapshot(k: Kernel) -> Snapshot:
    """The machine as it is now."""
    return snapshot_of(MachineView(k))


def snapshot_of(look: MachineView) -> Snapshot:
    """The same, on a look that is there already."""
    early, hot = present_memory(look)
    layout = look.k.layout
    return Snapshot(
        early=early,
        hot=hot,
        direct_map=_area(look, layout.direct_map.span, frames=True),
        vmemmap=_area(look, layout.vmemmap_usable, frames=False),
        exposed_frames=look.k.hw.tlb.exposed_frames,
    )


def present_memory(look: MachineView) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """The memory that is present (PFNs): since boot, and added later."""
    early = tuple(part for span in look.early_sections for part in look.present.runs(*span))
    hot = tuple(part for span in look.hot_sections for part in look.present.runs(*span))
    return early, hot


def _area(look: MachineView, area: Span, *, frames: bool) -> AreaTables:
    leaves = look.leaves(area)
    if not frames:
        leaves = _without_frames(leaves)
    return AreaTables(_tables(look, area), leaves)


def _without_frames(leaves: Leaves) -> Leaves:
    """The same leaves whatever they map, in runs that no longer stop where their frames do not follow on."""
    if not leaves.va.size:
        return leaves
    joined = leaves.va[1:] == leaves.va[:-1] + leaves.size[:-1]
    joined &= (leaves.height[1:] == leaves.height[:-1]) & (leaves.bits[1:] == leaves.bits[:-1])
    heads = np.concatenate([[0], np.flatnonzero(~joined) + 1])
    sizes: U64 = np.add.reduceat(leaves.size, heads)
    pa = np.zeros(heads.size, dtype=np.uint64)
    return Leaves(leaves.va[heads], sizes, pa, leaves.height[heads], leaves.bits[heads])


def _tables(look: MachineView, area: Span) -> Positions:
    """The tables that translate some of `area` (bytes), root left out, ascending by height, then address."""
    found, fmt = look.tables, look.k.hw.fmt
    shifts = np.array([level.shift for level in fmt.levels], dtype=np.uint64)
    entries = np.array([level.entries for level in fmt.levels], dtype=np.uint64)
    below_root = found.height < fmt.root_height
    height, va = found.height[below_root], found.va[below_root]
    last = va + ((entries[height] << shifts[height]) - np.uint64(1))
    inside = (va <= np.uint64(area.end - 1)) & (last >= np.uint64(area.start))
    height, va, last = height[inside], va[inside], last[inside]
    order = np.lexsort((va, height))
    height, va, last = height[order], va[order], last[order]
    return Positions(height, va, _empty(look, va, last))


def _empty(look: MachineView, va: U64, last: U64) -> Bools:
    """Which of these tables no leaf lies below."""
    found = look.ranges
    starts = found.va[found.mapped]
    ends = starts + (found.size[found.mapped] - np.uint64(1))
    at = np.searchsorted(ends, va)
    used = at < ends.size
    used[used] = starts[at[used]] <= last[used]
    return ~used
