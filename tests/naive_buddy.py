"""The rules of the page allocator applied to one page and one block at a time: slow, and plain to read."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from dataclasses import dataclass, field

from memhp.linux.mmzone import MigrateType, ZoneType

UNMOVABLE, MOVABLE, RECLAIMABLE, CMA = (
    MigrateType.UNMOVABLE,
    MigrateType.MOVABLE,
    MigrateType.RECLAIMABLE,
    MigrateType.CMA,
)
TURN_TO = {
    UNMOVABLE: [RECLAIMABLE, MOVABLE],
    MOVABLE: [RECLAIMABLE, UNMOVABLE],
    RECLAIMABLE: [UNMOVABLE, MOVABLE],
}


@dataclass
class NaiveZone:
    """A zone as lists of pages; pages from `first` to `last`, exclusive."""

    kind: ZoneType
    first: int
    last: int
    low: int
    min: int
    reserve: dict[ZoneType, int]
    block: int
    """Pages of a pageblock."""
    max_order: int
    types: dict[int, MigrateType] = field(default_factory=dict)
    """Page → type of its pageblock."""
    free: set[int] = field(default_factory=set)
    isolated: set[int] = field(default_factory=set)
    movable: set[int] = field(default_factory=set)
    """Pages in movable use."""

    def usable(self) -> set[int]:
        return self.free - self.isolated

    def lowest(self, order: int, types: set[MigrateType]) -> int | None:
        """The lowest free block of an order in pageblocks of these types."""
        usable = self.usable()
        size = 1 << order
        for start in range(-(-self.first // size) * size, self.last - size + 1, size):
            if all(page in usable and self.types[page] in types for page in range(start, start + size)):
                return start
        return None

    def set_types(self, start: int, size: int, kind: MigrateType) -> None:
        for page in range(start, start + size):
            self.types[page] = kind

    def pick(self, order: int, kind: MigrateType, nofragment: bool) -> int | None:
        """The block that an allocation gets from this zone, whose pageblocks may change type for it."""
        usable = self.usable()
        lent = {page for page in usable if self.types[page] is CMA}
        if kind is MOVABLE and len(lent) > len(usable) // 2:
            start = self.lowest(order, {CMA})
            if start is not None:
                return start
        for types in ({kind}, {CMA} if kind is MOVABLE else set()):
            start = self.lowest(order, types) if types else None
            if start is not None:
                return start
        return self.lowest(order, {kind}) if self.claim(order, kind, nofragment) else None

    def steal(self, order: int, kind: MigrateType) -> int | None:
        """A block of another type, whose pageblock keeps its type."""
        for types in ({TURN_TO[kind][0]}, {TURN_TO[kind][1]}, {UNMOVABLE, MOVABLE, RECLAIMABLE}):
            start = self.lowest(order, types)
            if start is not None:
                return start
        return None

    def claim(self, order: int, kind: MigrateType, nofragment: bool) -> bool:
        """Give the pageblocks of the largest free block of another type to this one."""
        block_order = self.block.bit_length() - 1
        for size_order in range(self.max_order, order - 1, -1):
            if nofragment and size_order < block_order:
                return False
            if kind is MOVABLE and size_order < block_order // 2:
                return False
            for other in TURN_TO[kind]:
                start = self.lowest(size_order, {other})
                if start is None:
                    continue
                if size_order >= block_order:
                    self.set_types(start, 1 << size_order, kind)
                    return True
                if self.claim_block(start // self.block * self.block, other, kind):
                    return True
                break
        return False

    def claim_block(self, start: int, old: MigrateType, new: MigrateType) -> bool:
        pages = range(start, start + self.block)
        if start < self.first or start + self.block > self.last:
            return False
        free = sum(page in self.usable() for page in pages)
        movable = sum(page in self.movable for page in pages)
        alike = movable if new is MOVABLE else self.block - free - movable if old is MOVABLE else 0
        if free + alike < self.block // 2:
            return False
        self.set_types(start, self.block, new)
        return True

    def isolate(self, start: int, blocks: int) -> bool:
        """Isolate pageblocks, the first, the last, then the others; or none, and then those it had are Movable."""
        starts = [start + i * self.block for i in range(blocks)]
        done: list[int] = []
        for at in dict.fromkeys((starts[0], starts[-1], *starts)):
            pages = set(range(at, at + self.block))
            inside = self.first <= at and at + self.block <= self.last
            if not inside or pages & self.isolated or not pages <= self.free | self.movable or self.types[at] is CMA:
                for each in done:
                    self.undo(each)
                return False
            self.isolated |= pages
            done.append(at)
        return True

    def undo(self, start: int) -> None:
        """Put one pageblock back into use, Movable, if it is isolated."""
        pages = set(range(start, start + self.block))
        if pages <= self.isolated:
            self.isolated -= pages
            self.set_types(start, self.block, MOVABLE)


@dataclass
class Naive:
    """Zones of one node, highest first, as an allocation tries them."""

    zones: list[NaiveZone]

    def zone_of(self, page: int) -> NaiveZone:
        return next(zone for zone in self.zones if zone.first <= page < zone.last)

    def allocate(self, order: int, count: int, kind: MigrateType) -> set[int]:
        """Up to `count` blocks, one after the other: their pages.

        Where one was stolen, the next are too, as under one hold of the zone's lock (``RMQUEUE_STEAL``).
        """
        taken: set[int] = set()
        stealing: set[tuple[ZoneType, str]] = set()
        for _ in range(count):
            found = next(self.places(order, kind, stealing), None)
            if found is None:
                break
            zone, start = found
            pages = set(range(start, start + (1 << order)))
            zone.free -= pages
            if kind is MOVABLE:
                zone.movable |= pages
            taken |= pages
        return taken

    def places(
        self, order: int, kind: MigrateType, stealing: set[tuple[ZoneType, str]]
    ) -> Iterator[tuple[NaiveZone, int]]:
        highest = ZoneType.MOVABLE if kind is MOVABLE else ZoneType.NORMAL
        zones = [zone for zone in self.zones if zone.kind <= highest]
        spares = zones[0].kind is ZoneType.NORMAL
        for mark, nofragment in (("low", True), ("low", False), ("min", False)):
            if nofragment and not spares:
                continue
            for zone in zones:
                usable = zone.usable()
                kept = (zone.low if mark == "low" else zone.min) + zone.reserve.get(highest, 0)
                if kind is not MOVABLE:
                    kept += sum(zone.types[page] is CMA for page in usable)
                if len(usable) - kept < 1 << order:
                    continue
                steals = (zone.kind, mark) in stealing
                start = None if steals else zone.pick(order, kind, nofragment)
                if start is None and not nofragment:
                    start = zone.steal(order, kind)
                    if start is not None:
                        stealing.add((zone.kind, mark))
                if start is not None:
                    yield zone, start

    def release(self, pages: set[int]) -> None:
        for page in pages:
            zone = self.zone_of(page)
            zone.free.add(page)
            zone.movable.discard(page)
