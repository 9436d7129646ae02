"""What the page tables of a kernel say, as records: ranges of like leaves, what each area of the layout holds, and the
difference between two moments.

A range ends where the physical addresses do not follow on, or where anything that its text shows changes.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from memhp.errors import BadInput
from memhp.facts.noted_layout import NotedKernel, noted_kernel
from memhp.facts.ptdump import Event, Marker, Section, Skipped, dump
from memhp.facts.table_source import TableSource
from memhp.hw.decode import attribute_text, text_bits
from memhp.hw.format import HEIGHT_NAMES, U64, Format
from memhp.hw.ranges import Ranges, coarser, ranges
from memhp.hw.walker import Heights, TableList, Tables
from memhp.linux.arch.registry import tables_port
from memhp.linux.areas import Area
from memhp.linux.mm.ptdump_style import Line, Style
from memhp.spans import Span

END = 1 << 64
OTHER = "other"
"""What lies in no area of the layout."""


class MappedRange(msgspec.Struct, frozen=True):
    """Leaves of one level that say the same and follow on: `count` of `leaf_size` bytes each from `va`, to `pa` on.

    `block` is how many bytes around an address one TLB entry may serve: more than `leaf_size` in a Svnapot or
    contiguous run. `bits` are those that `attributes` puts in words.
    """

    area: str
    va: int
    size: int
    pa: int
    level: str
    leaf_size: int
    count: int
    block: int
    bits: int
    attributes: str


class LeafCount(msgspec.Struct, frozen=True):
    """How many leaves of a level an area has."""

    level: str
    leaf_size: int
    count: int


class TableCount(msgspec.Struct, frozen=True):
    """How many tables of a level translate an area's addresses, and how many of them lead nowhere."""

    level: str
    table_size: int
    """Bytes of one."""
    count: int
    empty: int


class AreaUse(msgspec.Struct, frozen=True):
    """One area (bytes): what is mapped in it, and the memory that its tables take below the root."""

    name: str
    start: int
    end: int
    mapped: int
    table_bytes: int
    leaves: list[LeafCount]
    tables: list[TableCount]


class MissingTable(msgspec.Struct, frozen=True):
    """A table that an entry points to and the source does not have: physical address, first address translated."""

    pa: int
    level: str
    va: int


class Difference(msgspec.Struct, frozen=True):
    """Addresses at which two moments differ: `added` and `removed` leaves; `changed` ones with what they were."""

    kind: Literal["added", "removed", "changed"]
    now: MappedRange
    """What stands there afterwards; of removed leaves what stood there."""
    was: str = ""
    """Of changed leaves: level, attributes and physical address before."""


class TableChange(msgspec.Struct, frozen=True):
    """How many tables of a level an area has more, or less, than before."""

    area: str
    level: str
    more: int


class Columns(NamedTuple):
    """Ranges of leaves as columns, ascending; bytes."""

    va: U64
    size: U64
    pa: U64
    height: Heights
    bits: U64
    entry: U64


class Part(NamedTuple):
    """A piece of the address space and the area that it belongs to; pieces are disjoint and leave no gap."""

    start: int
    end: int
    area: str


def parts_of(areas: Sequence[Area], first: int) -> tuple[Part, ...]:
    """The kernel's addresses, from `first` on, in pieces, each under the smallest area that covers it (arm64's image
    lies in vmalloc).
    """
    cuts = sorted({first, END, *(at for area in areas for at in (area.start, area.end) if at >= first)})
    found: list[Part] = []
    for start, end in pairwise(cuts):
        over = [area for area in areas if area.start <= start and end <= area.end]
        name = min(over, key=lambda area: area.size).name if over else OTHER
        joins = bool(found) and found[-1].area == name
        found.append(Part(found.pop().start if joins else start, end, name))
    return tuple(found)


@dataclass(frozen=True)
class SeenTables:
    """Page tables that were read: the source, and where its kernel keeps what (None: its notes do not tell)."""

    source: TableSource
    found: Ranges
    tables: Tables
    """Every table, the root first."""
    kernel: NotedKernel | None
    everything: Ranges
    """The same ranges with those of entries that lead nowhere or are reserved, told apart by all attributes."""

    @property
    def fmt(self) -> Format:
        """How entries are read."""
        return self.source.root.fmt

    @cached_property
    def areas(self) -> tuple[Area, ...]:
        """The areas of the layout, ascending."""
        return () if self.kernel is None else self.kernel.areas

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The kernel's half by area."""
        return parts_of(self.areas, self.fmt.start)

    @property
    def missing(self) -> list[MissingTable]:
        """The tables that the source lacks."""
        columns = zip(*(column.tolist() for column in self.found.missing), strict=True)
        return [MissingTable(frame << self.fmt.table_shift, HEIGHT_NAMES[height], va) for frame, height, va in columns]

    def columns(self) -> Columns:
        """What is mapped, cut where areas begin and end."""
        whole = Columns(*(getattr(self.found, name)[self.found.mapped] for name in Columns._fields))
        return cut(whole, np.array([part.start for part in self.parts], dtype=np.uint64))


def read_tables_of(source: TableSource) -> SeenTables:
    """Walk the kernel's half of the page tables of a source, once. Raises BadInput when they are no page tables."""
    root, listed = source.root, TableList(source.root.fmt)
    everything = ranges(
        source.reader, root.fmt, root.pfn, root_index=root.index, va_start=root.fmt.start, holes=True, see=listed.add
    )
    found = coarser(everything, text_bits(root.fmt))
    kernel = None if source.info is None else noted_kernel(source.info, root, found)
    return SeenTables(source, found, listed.tables(), kernel, everything)


def events_of(seen: SeenTables) -> Iterator[Event]:
    """The kernel's own dump of these tables. Raises BadInput when a table is missing."""
    root = seen.source.root
    style = tables_port(root.fmt.arch).ptdump_style_of(root.fmt)
    if seen.kernel is None:
        return dump(seen.source.reader, root, [Marker(0, "Address space")])
    markers = seen.kernel.markers
    limits = style.section_limits
    return dump(seen.source.reader, root, [Marker(m.start, m.name, limits.get(m.name, 0)) for m in markers])


def chosen_events(events: Iterable[Event], style: Style, spans: Sequence[Span], level: str | None) -> Iterator[Event]:
    """The lines of a dump in one of the spans, of that level, and the sections in which there are any."""
    name = None if level is None else style.level_names[-1 - HEIGHT_NAMES.index(level.upper())]
    section: Section | None = None
    for event in events:
        if isinstance(event, Section):
            section = event
        elif not isinstance(event, Skipped):
            if name is not None and event.level != name:
                continue
            line = Span(event.start, event.end or END)
            for span in spans:
                shown = line.clip(span)
                if shown:
                    if section is not None:
                        yield section
                        section = None
                    yield _shortened(event, shown)


def _shortened(line: Line, shown: Span) -> Line:
    """The part of a range; its physical address, where it is printed, is that of its first entry, which may go."""
    pa = line.pa + shown.start - line.start if line.pa else 0
    return line._replace(start=shown.start, end=shown.end % END, pa=pa)


def cut(these: Columns, at: U64) -> Columns:
    """The same ranges, cut at these addresses (ascending)."""
    if not these.va.size or not at.size:
        return these
    last = these.va + (these.size - np.uint64(1))
    first_cut = np.searchsorted(at, these.va, side="right")
    cuts = np.searchsorted(at, last, side="right") - first_cut
    row = np.repeat(np.arange(these.va.size), cuts + 1)
    nth = np.arange(row.size) - np.repeat(np.cumsum(cuts + 1) - (cuts + 1), cuts + 1)
    start = np.where(nth == 0, these.va[row], at[np.minimum(first_cut[row] + nth - 1, at.size - 1)])
    ends = np.where(nth == cuts[row], last[row], at[np.minimum(first_cut[row] + nth, at.size - 1)] - np.uint64(1))
    skipped = start - these.va[row]
    return Columns(
        start, ends - start + np.uint64(1), these.pa[row] + skipped, these.height[row], these.bits[row],
        these.entry[row],
    )  # fmt: skip


def part_of(parts: Sequence[Part], va: U64) -> npt.NDArray[np.intp]:
    """Which part each address lies in; 0 for one below them all."""
    starts = np.array([part.start for part in parts], dtype=np.uint64)
    return np.maximum(np.searchsorted(starts, va, side="right") - 1, 0)


def leaf_counts(fmt: Format, these: Columns) -> U64:
    """How many leaves begin in each range."""
    sizes = np.array([level.size for level in fmt.levels], dtype=np.uint64)[these.height]
    last = these.va + (these.size - np.uint64(1))
    counts = last // sizes - (these.va + (sizes - np.uint64(1))) // sizes + np.uint64(1)
    return counts.astype(np.uint64)


def mapped_ranges(seen: SeenTables, spans: Sequence[Span], level: str | None = None) -> list[MappedRange]:
    """The ranges that lie in one of the spans, cut to them, and are of that level."""
    edges = sorted({at for span in spans for at in span if 0 < at < END})
    shown = _inside(cut(seen.columns(), np.array(edges, dtype=np.uint64)), spans)
    if level is not None:
        shown = _rows(shown, shown.height == HEIGHT_NAMES.index(level.upper()))
    return records(seen, shown)


def records(seen: SeenTables, these: Columns) -> list[MappedRange]:
    """Ranges as records."""
    fmt, texts = seen.fmt, dict[tuple[int, int], str]()
    rows = zip(
        part_of(seen.parts, these.va).tolist(), *(column.tolist() for column in these),
        leaf_counts(fmt, these).tolist(), strict=True,
    )  # fmt: skip
    return [
        MappedRange(
            seen.parts[part].area, va, size, pa, HEIGHT_NAMES[height], fmt.levels[height].size, count,
            fmt.leaf_span(entry, height), bits,
            texts.setdefault((height, bits), attribute_text(fmt, bits, height)),
        )
        for part, va, size, pa, height, bits, entry, count in rows
    ]  # fmt: skip


def area_uses(seen: SeenTables) -> list[AreaUse]:
    """What each area holds, in the order of addresses; areas without any table or leaf are left out."""
    fmt, these = seen.fmt, seen.columns()
    counts = leaf_counts(fmt, these)
    part, table_part = part_of(seen.parts, these.va), part_of(seen.parts, seen.tables.va)
    below = seen.tables.height < fmt.root_height
    found = []
    for i, (start, end, name) in enumerate(seen.parts):
        here, there = part == i, (table_part == i) & below & seen.tables.present
        leaves = [
            LeafCount(HEIGHT_NAMES[height], level.size, int(counts[here & (these.height == height)].sum()))
            for height, level in reversed(list(enumerate(fmt.levels)))
        ]
        levels = [
            TableCount(HEIGHT_NAMES[height], fmt.table_size(height), int(at.sum()), int((at & seen.tables.empty).sum()))
            for height in range(fmt.root_height - 1, -1, -1)
            for at in (there & (seen.tables.height == height),)
        ]
        if here.any() or there.any():
            mapped = int(these.size[here].sum())
            bytes_ = sum(table.count * table.table_size for table in levels)
            shown = [leaf for leaf in leaves if leaf.count], [table for table in levels if table.count]
            found.append(AreaUse(name, start, end, mapped, bytes_, *shown))
    return found


def in_the_same_areas(before: SeenTables, after: SeenTables) -> tuple[SeenTables, SeenTables]:
    """Two moments of one kernel, with areas that have room for what each of them has: one whose end is where memory
    ends is larger while there is more of it.
    """
    if before.kernel is None or after.kernel is None:
        return before, after
    areas = {area.name: area for area in before.areas}
    for area in after.areas:
        was = areas.get(area.name, area)
        areas[area.name] = Area(area.name, min(area.start, was.start), max(area.end, was.end))
    both = tuple(sorted(areas.values(), key=lambda area: area.start))
    return (
        replace(before, kernel=before.kernel._replace(areas=both)),
        replace(after, kernel=after.kernel._replace(areas=both)),
    )


def differences(before: SeenTables, after: SeenTables, spans: Sequence[Span]) -> list[Difference]:
    """What the leaves of two moments of one kernel differ in, ascending by address.

    Raises BadInput when the tables are of different formats: then every entry differs.
    """
    if before.fmt.name != after.fmt.name:
        raise BadInput(f"page tables of {after.fmt.name}, not {before.fmt.name}", where=after.source.where)
    edges = np.array(sorted(at for span in spans for at in span if 0 < at < END), dtype=np.uint64)
    both = [cut(seen.columns(), edges) for seen in (before, after)]
    bounds = np.unique(np.concatenate([edge for r in both for edge in (r.va, r.va + r.size)]))
    bounds = bounds[bounds != 0]
    old, new = (_inside(cut(each, bounds), spans) for each in both)
    _, at_old, at_new = np.intersect1d(old.va, new.va, assume_unique=True, return_indices=True)
    same = (old.pa[at_old] == new.pa[at_new]) & (old.height[at_old] == new.height[at_new])
    same &= old.bits[at_old] == new.bits[at_new]
    only_old, only_new = np.ones(old.va.size, np.bool_), np.ones(new.va.size, np.bool_)
    only_old[at_old] = only_new[at_new] = False
    found = [Difference("removed", each) for each in records(before, _joined(_rows(old, only_old)))]
    found += [Difference("added", each) for each in records(after, _joined(_rows(new, only_new)))]
    found += _changed(before, after, _rows(old, at_old[~same]), _rows(new, at_new[~same]))
    return sorted(found, key=lambda each: each.now.va)


def _changed(before: SeenTables, after: SeenTables, old: Columns, new: Columns) -> list[Difference]:
    was = [f"{each.level} {each.attributes} pa={each.pa:#x}" for each in records(before, old)]
    return [Difference("changed", now, text) for now, text in zip(records(after, new), was, strict=True)]


def _rows(these: Columns, which: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Columns:
    va, size, pa, height, bits, entry = these
    return Columns(va[which], size[which], pa[which], height[which], bits[which], entry[which])


def _inside(these: Columns, spans: Sequence[Span]) -> Columns:
    keep = np.zeros(these.va.size, dtype=np.bool_)
    for span in spans:
        keep |= (these.va >= np.uint64(span.start)) & (these.va <= np.uint64(span.end - 1))
    return _rows(these, keep)


def _joined(these: Columns) -> Columns:
    """Neighbours that continue one another, as one."""
    if not these.va.size:
        return these
    same = (these.va[:-1] + these.size[:-1] == these.va[1:]) & (these.pa[:-1] + these.size[:-1] == these.pa[1:])
    same &= (these.height[:-1] == these.height[1:]) & (these.bits[:-1] == these.bits[1:])
    heads = np.concatenate([[0], np.flatnonzero(~same) + 1])
    sizes: U64 = np.add.reduceat(these.size, heads)
    return _rows(these, heads)._replace(size=sizes)


def table_changes(before: Sequence[AreaUse], after: Sequence[AreaUse]) -> list[TableChange]:
    """How many tables of each level each area has more or less."""
    old = {(use.name, each.level): each.count for use in before for each in use.tables}
    new = {(use.name, each.level): each.count for use in after for each in use.tables}
    keys = [*old, *(key for key in new if key not in old)]
    return [TableChange(*key, new.get(key, 0) - old.get(key, 0)) for key in keys if new.get(key, 0) != old.get(key, 0)]
