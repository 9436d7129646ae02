"""Entries that take the place of others: where they lead to the same frames, nothing is gone for a CPU that holds the
old ones.

A leaf that gets other attributes is one, and a leaf in whose place comes a table that maps all of it: to split a leaf
takes no flush on kernels whose CPUs bear both translations at once, and what it maps may be freed meanwhile.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import numpy as np

from memhp.hw.format import U64, Format
from memhp.hw.memory import Arena


def leads_on(fmt: Format, arena: Arena, height: int, old: int, new: int) -> bool:
    """Whether `new`, put where the leaf `old` stood in a table of a height, leads to all frames that it led to, at the
    same addresses. No where `old` is no leaf.
    """
    if not fmt.is_leaf(old, height):
        return False
    pfn = fmt.leaf_pfn(old, height)
    if fmt.is_leaf(new, height):
        return fmt.leaf_pfn(new, height) == pfn
    return bool(fmt.is_table(new, height)) and _maps(fmt, arena, fmt.table_pfn(new), height - 1, pfn)


def _maps(fmt: Format, arena: Arena, table: int, height: int, pfn: int) -> bool:
    """Whether a table of a height maps frames from `pfn` on, entry by entry, as leaves or by tables of them."""
    row = arena.row(table)
    if row is None:
        return False
    entries, pages = row[: fmt.levels[height].entries], fmt.pages_at(height)
    wanted = np.arange(len(entries), dtype=np.uint64) * np.uint64(pages) + np.uint64(pfn)
    leaf = np.asarray(fmt.is_leaf(entries, height))
    if not (fmt.leaf_pfn(entries, height) == wanted)[leaf].all():
        return False
    return all(
        fmt.is_table(entry, height) and _maps(fmt, arena, fmt.table_pfn(entry), height - 1, first)
        for entry, first in zip(entries[~leaf].tolist(), wanted[~leaf].tolist(), strict=True)
    )


def gone(fmt: Format, arena: Arena, height: int, old: U64, new: U64) -> U64:
    """Of entries `old` in whose place others are put, shape [n] both: those that led to what `new` does not lead to;
    the others as empty ones.
    """
    none = np.uint64(fmt.empty[height])
    left = np.where(old != new, old, none)
    if not (new != none).any():
        return left
    leaf = np.asarray(fmt.is_leaf(left, height)) & (left != none)
    alike = leaf & np.asarray(fmt.is_leaf(new, height)) & (fmt.leaf_pfn(left, height) == fmt.leaf_pfn(new, height))
    for at in np.flatnonzero(leaf & np.asarray(fmt.is_table(new, height))).tolist():
        alike[at] = leads_on(fmt, arena, height, int(old[at]), int(new[at]))
    left[alike] = none
    return left
