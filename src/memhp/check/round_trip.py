"""The round trip: memory added and removed again leaves the page tables as they were.

Compared are the tables of direct map and vmemmap, by where they stand in the tree, and the entries in them; not the
frames that the tables and the struct pages happen to be in. Tables that this kernel keeps on purpose may stay, if they
are empty: they are counted.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from memhp.check.law import Breach, Law, Note
from memhp.check.machine_view import Leaves, MachineView, va_text
from memhp.check.snapshot import AreaTables, Positions, Snapshot, present_memory, snapshot, snapshot_of
from memhp.hw.format import HEIGHT_NAMES
from memhp.linux.areas import Area
from memhp.linux.layout import Layout
from memhp.spans import Span, SpanSet

__all__ = ["LAW", "Snapshot", "compare", "kept", "snapshot"]

NAME = "round-trip"

TablePlace = tuple[int, int]
"""Height and first address of a table."""


def same_memory(before: Snapshot, after: Snapshot) -> bool:
    """Whether the same memory is present, as old as it was: page tables of boot and of later differ."""
    return (before.early, before.hot) == (after.early, after.hot)


def _comparable(before: Snapshot | None, look: MachineView) -> Snapshot | None:
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
    """Leaves that are not what they were, in runs."""
    was, now = _by_kind(old.leaves), _by_kind(new.leaves)
    for kind, span in _only_in(was, now):
        yield Breach(NAME, f"the {area.name} had {_text(kind, span)} before, and has not any more", vas=span)
    for kind, span in _only_in(now, was):
        yield Breach(NAME, f"the {area.name} has {_text(kind, span)}, and had not before", vas=span)


class Kind(NamedTuple):
    """What leaves of one run have in common: height, attribute bits, and the physical less the virtual address."""

    height: int
    bits: int
    offset: int


def _by_kind(leaves: Leaves) -> dict[Kind, SpanSet]:
    """The addresses (bytes) of leaves of each kind."""
    found: dict[Kind, SpanSet] = {}
    columns = (leaves.va, leaves.size, leaves.pa, leaves.height, leaves.bits)
    for va, size, pa, height, bits in zip(*(column.tolist() for column in columns), strict=True):
        found.setdefault(Kind(height, bits, pa - va), SpanSet()).add(va, va + size)
    return found


def _only_in(these: dict[Kind, SpanSet], others: dict[Kind, SpanSet]) -> list[tuple[Kind, Span]]:
    """The runs of some leaves that others lack, ascending by address."""
    none = SpanSet()
    lacking = [
        (gap, kind) for kind, spans in these.items() for span in spans for gap in others.get(kind, none).gaps(*span)
    ]
    return [(kind, gap) for gap, kind in sorted(lacking)]


def _text(kind: Kind, span: Span) -> str:
    return f"{HEIGHT_NAMES[kind.height]} leaves {kind.bits:#x} at {va_text(span)}"


def kept(layout: Layout, before: Snapshot, after: Snapshot) -> Counter[int]:
    """How many tables stayed by policy, by height."""
    _, stayed = compare(layout, before, after)
    return Counter(height for height, _ in chain.from_iterable(stayed.values()))


def find(look: MachineView, before: Snapshot | None) -> Iterator[Breach]:
    """What the page tables have or lack against the snapshot, once the same memory is present again."""
    after = _comparable(before, look)
    if before is not None and after is not None:
        yield from compare(look.k.layout, before, after)[0]


def find_notes(look: MachineView, before: Snapshot | None) -> Iterator[Note]:
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
