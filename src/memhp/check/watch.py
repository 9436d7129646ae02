"""A machine under watch: after each step the laws look at what changed, and find what a whole check would find.

A law that held and can say so from the changes alone (:attr:`memhp.check.law.Law.still`) holds on; any other is looked
at in full. What changed is found by comparing the maps of the kernel with copies of what they were, which costs little
where they are equal, and from the log of writes to page tables that the machine's doors keep meanwhile.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from itertools import pairwise
from operator import attrgetter
from typing import Any

import numpy as np

from memhp.check.law import Breach, Law, Note
from memhp.check.machine_view import MachineView, Near, TableFrames, tables_below
from memhp.check.resource_changes import ResourceChanges
from memhp.check.snapshot import Snapshot
from memhp.hw.dirty_log import Written
from memhp.hw.format import U64, Format
from memhp.hw.incremental_ranges import ranges_again
from memhp.hw.unchanging import Unchanging
from memhp.hw.walker import ALL, Bools
from memhp.linux.mm.dev_pagemap import Memremap
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanMap, SpanSet

MOST_WINDOWS = 8
"""Stretches of addresses that are read again one by one; more are taken together with what lies between them."""

Key = tuple[object, ...]

_altmap_state = attrgetter("base_pfn", "reserve", "free", "align", "alloc")


class Watch:
    """The laws over the life of a machine, whose page tables are written through the doors only. A machine has one."""

    def __init__(self, k: Kernel, laws: tuple[Law, ...], baseline: Snapshot | None = None) -> None:
        self._k = k
        self._laws = laws
        self._baseline = baseline
        self._look: MachineView | None = None
        self._seen: dict[Key, SpanMap[Any] | SpanSet] = {}
        self._altmaps: dict[int, tuple[int, ...]] = {}
        self._groups: set[int] = set()
        self._resources = ResourceChanges()
        self._broken: set[str] = set()
        self._notes: dict[str, list[Note]] = {}
        self._first: FirstLook | None = None
        """What its copies go on from, and itself if it is one, until it looks again."""

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy goes on from the same look, of which nothing has to be copied but what names the machine's objects."""
        self._first = self._first or FirstLook(self)
        return _go_on, (self._first, self._k, self._resources)

    def check(self) -> tuple[list[Breach], list[Note]]:
        """Every place where a law does not hold now, and what the laws allow but a reader may want to know."""
        near = self._see()
        breaches = self._breaches(near)
        for law in self._laws:
            if near is None or law.still is None or not near.nothing:
                self._notes[law.name] = law.notes(self.look, self._baseline)
        return breaches, [note for notes in self._notes.values() for note in notes]

    def breaches(self) -> list[Breach]:
        """Every place where a law does not hold now."""
        return self._breaches(self._see())

    @property
    def look(self) -> MachineView:
        """The machine as it was last seen."""
        assert self._look is not None
        return self._look

    def _breaches(self, near: MachineView | None) -> list[Breach]:
        look = self.look
        found: list[Breach] = []
        for law in self._laws:
            if near is None or law.name in self._broken or not law.holds_on(look, near):
                found += law.check_look(look, self._baseline)
        self._broken = {breach.law for breach in found}
        return found

    def _see(self) -> MachineView | None:
        """Look again: a look confined to what changed since the last one; None the first time."""
        k, old = self._k, self._look
        self._first = None
        if old is None or k.hw.written is None:
            k.hw.written = Written(k.hw.fmt)
            self._look = look = MachineView(k)
            look.read()
            list(self._differences())
            self._resources.look(k.iomem_resource)
            return None
        written = k.hw.written.take()
        vas = _few(SpanSet.joined(sorted([*written.addresses, *_reach(k, old.tables, written.frames)])))
        ranges = ranges_again(old.ranges, k.hw.memory, k.init_mm.frame, vas) if vas else old.ranges
        tables = _tables_again(k, old.tables, vas) if vas else old.tables
        changed, siblings = self._resources.look(k.iomem_resource)
        differing = [*self._differences(), *(_frames(span, k.config.page_shift) for span in changed)]
        if not vas and not differing:
            near = MachineView(k, Near(SpanSet(), SpanSet(), siblings))
            near.hold(ranges=ranges, tables=tables, storage=(SpanSet(), []))
            return near
        self._look = look = MachineView(k)
        look.hold(ranges=ranges, tables=tables)
        if not vas:
            look.hold(storage=old.storage)
        pfns = _units(k, [*differing, *_frames_of(old, vas), *_frames_of(look, vas)])
        near = MachineView(k, Near(pfns, SpanSet.joined(sorted([*vas, *_addresses_of(k, pfns)])), siblings))
        mapped, twice = look.storage
        near.hold(
            ranges=ranges,
            tables=tables.chosen(_inside(tables.frame, pfns)),
            storage=(SpanSet.joined(near.spans(mapped)), [part for span in twice for part in pfns.runs(*span)]),
        )
        return near

    def _differences(self) -> Iterator[Span]:
        """The frames (PFNs) of which anything in the kernel's maps is not what it was, in no order."""
        k = self._k
        maps = dict(_maps(k))
        for key in maps.keys() | self._seen.keys():
            now, old = maps.get(key), self._seen.get(key)
            if now == old:
                continue
            found = _differ(now, old)
            unit, shift = _scale(k, key)
            of_pages = (unit, shift) == (1, 0)
            yield from found if of_pages else (_frames(Span(at * unit, end * unit), shift) for at, end in found)
            if now is None:
                del self._seen[key]
            else:
                self._seen[key] = now.copy()
        altmaps = dict(zip(k.altmaps, map(_altmap_state, k.altmaps.values()), strict=True))
        if altmaps != self._altmaps:
            for block in altmaps.keys() | self._altmaps.keys():
                if altmaps.get(block) != self._altmaps.get(block):
                    yield Span(block * k.pages_per_block, (block + 1) * k.pages_per_block)
            self._altmaps = altmaps
        if k.memory_groups.keys() != self._groups:
            gone = self._groups - k.memory_groups.keys()
            for first, last, device in k.memory_blocks if gone else ():
                if device.group in gone:
                    yield Span(first * k.pages_per_block, last * k.pages_per_block)
            self._groups = set(k.memory_groups)


class FirstLook(Unchanging):
    """What copies of a watch have in common: the watch that they go on from."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch


def _go_on(first: FirstLook, k: Kernel, resources: ResourceChanges) -> Watch:
    """A watch over a copy of a machine."""
    other = Watch.__new__(Watch)
    vars(other).update(vars(first.watch))
    other._k, other._resources = k, resources
    other._look = first.watch._look.of(k) if first.watch._look is not None else None
    other._seen, other._notes = dict(first.watch._seen), dict(first.watch._notes)
    other._first = first
    return other


class WrittenSince(Written):
    """A log of writes that began with a watch's first look; both are copied with the machine that they are of."""

    def __init__(self, fmt: Format, watch: Watch) -> None:
        super().__init__(fmt)
        self.watch = watch


def _maps(k: Kernel) -> Iterator[tuple[Key, SpanMap[Any] | SpanSet]]:
    """What laws read of the kernel in runs: what it is kept by, of which the first word says what its keys are."""
    yield ("page", "page_zone"), k.page_zone
    yield ("page", "page_flags"), k.page_flags
    yield ("page", "subsection_map"), k.subsection_map
    yield ("page", "boot_memory"), k.boot_memory
    yield ("page", "owners"), k.hw.memory.owners
    yield ("page", "pgmap_array"), k.statics(Memremap).pgmap_array
    yield ("section", "mem_section"), k.mem_section
    yield ("block", "memory_blocks"), k.memory_blocks
    yield ("byte", "memblock"), k.memblock.memory
    for nid, links in k.node_states.devices.items():
        yield ("block", "node", nid), links
    for zone in k.zones():
        yield ("page", zone.nid, zone.type, "free"), zone.free
        yield ("page", zone.nid, zone.type, "isolated_free"), zone.isolated_free
        yield ("page", zone.nid, zone.type, "isolated"), zone.isolated


def _scale(k: Kernel, key: Key) -> tuple[int, int]:
    """How many pages a key of a map stands for: so many, shifted right by so many bits."""
    units = {
        "page": (1, 0),
        "section": (k.config.pages_per_section, 0),
        "block": (k.pages_per_block, 0),
        "byte": (1, k.config.page_shift),
    }
    return units[str(key[0])]


def _frames(span: Span, shift: int) -> Span:
    """The frames that hold some of a span, whose integers are frames shifted left by so many bits."""
    return Span(span.start >> shift, -(-span.end >> shift))


def _differ(now: Any, old: Any) -> list[Span]:
    """Where two maps or sets differ, either of which may not be there."""
    if now is None or old is None:
        there = now if old is None else old
        return [Span(run[0], run[1]) for run in there]
    differences: list[Span] = now.differences(old)
    return differences


def _units(k: Kernel, frames: list[Span]) -> SpanSet:
    """Spans of frames rounded out to memory blocks, and to what a leaf of vmemmap describes if that is more."""
    unit = k.pages_per_block
    if k.config.vmemmap_huge:
        unit = max(unit, k.hw.fmt.levels[1].size // k.config.struct_page_size)
    return SpanSet.joined(sorted({(start // unit * unit, -(-end // unit) * unit) for start, end in frames}))


def _addresses_of(k: Kernel, pfns: SpanSet) -> Iterator[Span]:
    """The addresses (bytes) at which frames are mapped, and those of their struct pages, rounded out to pages."""
    shift, size = k.config.page_shift, k.config.page_size
    for span in pfns:
        start = k.layout.phys_to_virt(span.start << shift)
        yield Span(start, min(start + (span.size << shift), ALL))
        memmap = k.layout.memmap(*span)
        yield Span(memmap.start // size * size, min(-(-memmap.end // size) * size, ALL))


def _frames_of(look: MachineView, vas: SpanSet) -> Iterator[Span]:
    """The frames that these addresses lead to, in direct map or vmemmap; of vmemmap those that it describes as well."""
    k, shift = look.k, look.k.config.page_shift
    if not vas:
        return
    confined = MachineView(k, Near(SpanSet(), vas))
    confined.hold(ranges=look.ranges)
    vmemmap = k.layout.vmemmap_usable
    for area in (k.layout.direct_map.span, vmemmap):
        leaves = confined.leaves(area)
        for pa, size in zip(leaves.pa.tolist(), leaves.size.tolist(), strict=True):
            yield _frames(Span(pa, pa + size), shift)
    for part in vas.runs(*vmemmap):
        yield Span(k.layout.page_to_pfn(part.start), k.layout.page_to_pfn(part.end - 1) + 1)


def _reach(k: Kernel, tables: TableFrames, frames: SpanSet) -> Iterator[Span]:
    """The addresses that the tables in these frames translate."""
    found = tables.chosen(_inside(tables.frame, frames))
    sizes = [level.entries << level.shift for level in k.hw.fmt.levels]
    for va, height in zip(found.va.tolist(), found.height.tolist(), strict=True):
        yield Span(va, va + sizes[height])


def _tables_again(k: Kernel, old: TableFrames, written: SpanSet) -> TableFrames:
    """The tables as they are now: those found before, but below the entries that were written those found now."""
    entries = np.array([level.entries << level.shift for level in k.hw.fmt.levels[:-1]] + [0], dtype=np.uint64)
    gone = np.zeros(old.frame.size, dtype=np.bool_)
    parts = []
    for span in written:
        last = old.va + (entries[old.height] - np.uint64(1))
        gone |= (old.va >= np.uint64(span.start)) & (last <= np.uint64(span.end - 1)) & (old.height < old.height[0])
        parts.append(tables_below(k, span))
    kept = old.chosen(~gone)
    found = TableFrames(*(np.concatenate(columns) for columns in zip(kept, *parts, strict=True)))
    return found.ordered()


def _inside(frames: U64, spans: SpanSet) -> Bools:
    """Which of these frames lie in the spans."""
    starts = np.array([span.start for span in spans], dtype=np.uint64)
    ends = np.array([span.end for span in spans], dtype=np.uint64)
    if not starts.size:
        return np.zeros(frames.size, dtype=np.bool_)
    at = np.searchsorted(starts, frames, side="right") - 1
    inside: Bools = (at >= 0) & (frames < ends[at])
    return inside


def _few(spans: SpanSet) -> SpanSet:
    """The same addresses in few spans: where there are many, the narrowest gaps between them are taken along."""
    these = list(spans)
    if len(these) <= MOST_WINDOWS:
        return spans
    gaps = sorted(right.start - left.end for left, right in pairwise(these))
    most = gaps[-MOST_WINDOWS]
    few = [these[0]]
    for span in these[1:]:
        if span.start - few[-1].end <= most:
            few[-1] = Span(few[-1].start, span.end)
        else:
            few.append(span)
    return SpanSet.joined(few)
