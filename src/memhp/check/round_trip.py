"""The round trip: memory added and removed again leaves the page tables as they were.

Compared are the tables of direct map and vmemmap, by where they stand in the tree, and the entries in them; not the
frames that the tables and the struct pages happen to be in. Tables that this kernel keeps on purpose may stay, if they
are empty: they are counted.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from memhp.check.law import Breach, Law, Note
from memhp.check.look import Leaves, Look, va_text
from memhp.check.snapshot import AreaTables, Positions, Snapshot, present_memory, snapshot, snapshot_of
from memhp.hw.format import HEIGHT_NAMES
from memhp.linux.layout import Area, Layout
from memhp.spans import Span

__all__ = ["LAW", "Snapshot", "compare", "kept", "snapshot"]

NAME = "round-trip"

TablePlace = tuple[int, int]
"""Height and first address of a table."""


def same_memory(before: Snapshot, after: Snapshot) -> bool:
    """Whether the same memory is present, as old as it was: page tables of boot and of later differ."""
    return (before.early, before.hot) == (after.early, after.hot)


def _comparable(before: Snapshot | None, look: Look) -> Snapshot | None:
    """The machine as it is now, if it can be held against what it was before: if it has the same memory."""
    if before is None or (before.early, before.hot) != present_memory(look):
        return None
    return snapshot_of(look)


def compare(layout: Layout, before: Snapshot, after: Snapshot) -> tuple[list[Breach], dict[str, list[TablePlace]]]:
    """What differs although it must not, and the tables that stayed by policy, by area.

    The two snapshots must be of the same memory (:func:`same_memory`).
    """
    breaches: list[Breach] = []
    stayed: dict[str, list[TablePlace]] = {}
    for area, old, new in (
        (layout.direct_map, before.direct_map, after.direct_map),
        (layout.vmemmap, before.vmemmap, after.vmemmap),
    ):
        there, now = _places(old.tables), _places(new.tables)
        for height, va in sorted(there.keys() - now.keys()):
            text = f"the {HEIGHT_NAMES[height]} table of the {area.name} at {va:#x} was there before and is gone"
            breaches.append(Breach(NAME, text, vas=_reach(layout, height, va)))
        kept_here: list[TablePlace] = []
        for height, va in sorted(now.keys() - there.keys()):
            if now[height, va] and layout.config.port.table_may_stay(layout, area, height, va):
                kept_here.append((height, va))
            else:
                name = f"{HEIGHT_NAMES[height]} table of the {area.name} at {va:#x}"
                text = f"{'an empty' if now[height, va] else 'a'} {name} is left that was not there before"
                breaches.append(Breach(NAME, text, vas=_reach(layout, height, va)))
        stayed[area.name] = kept_here
        breaches += _entries(area, old, new)
    return breaches, stayed


def _places(tables: Positions) -> dict[TablePlace, bool]:
    return dict(zip(zip(tables.height.tolist(), tables.va.tolist(), strict=True), tables.empty.tolist(), strict=True))


def _reach(layout: Layout, height: int, va: int) -> Span:
    level = layout.config.format.levels[height]
    return Span(va, va + (level.entries << level.shift))


def _entries(area: Area, old: AreaTables, new: AreaTables) -> Iterator[Breach]:
    """Runs of leaves that are not what they were."""
    was, now = _rows(old.leaves), _rows(new.leaves)
    for row in sorted(was - now):
        text = f"the {area.name} had {_row_text(row)} before, and has not any more"
        yield Breach(NAME, text, vas=Span(row[0], row[0] + row[1]))
    for row in sorted(now - was):
        text = f"the {area.name} has {_row_text(row)}, and had not before"
        yield Breach(NAME, text, vas=Span(row[0], row[0] + row[1]))


Row = tuple[int, int, int, int, int]


def _rows(leaves: Leaves) -> set[Row]:
    columns = (leaves.va, leaves.size, leaves.pa, leaves.height, leaves.bits)
    return set(zip(*(column.tolist() for column in columns), strict=True))


def _row_text(row: Row) -> str:
    va, size, _, height, bits = row
    return f"{HEIGHT_NAMES[height]} leaves {bits:#x} at {va_text(Span(va, va + size))}"


def kept(layout: Layout, before: Snapshot, after: Snapshot) -> Counter[int]:
    """How many tables stayed by policy, by height."""
    _, stayed = compare(layout, before, after)
    return Counter(height for height, _ in chain.from_iterable(stayed.values()))


def find(look: Look, before: Snapshot | None) -> Iterator[Breach]:
    """What the page tables have or lack against the snapshot, once the same memory is present again."""
    after = _comparable(before, look)
    if before is not None and after is not None:
        yield from compare(look.k.layout, before, after)[0]


def find_notes(look: Look, before: Snapshot | None) -> Iterator[Note]:
    """How many empty tables this kernel keeps on purpose."""
    after = _comparable(before, look)
    if before is None or after is None:
        return
    for height, count in sorted(kept(look.k.layout, before, after).items()):
        text = f"{count} empty {HEIGHT_NAMES[height]} tables stay behind, as this kernel never frees them"
        yield Note(NAME, text, count)


LAW = Law(
    NAME,
    "Memory that was added and removed again leaves page tables as they were, but for those this kernel keeps",
    find,
    find_notes=find_notes,
    still=lambda look, near: near.nothing,
)
