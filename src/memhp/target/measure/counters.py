"""Reading a modelled machine for a report: blocks, zones, where memory went, what passed the doors."""
# SPDX-License-Identifier: GPL-2.0-or-later

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from operator import attrgetter

from memhp.hw.format import HEIGHT_NAMES
from memhp.hw.ledger import Ledger
from memhp.hw.memory import Owner, Use
from memhp.linux.mmzone import Section
from memhp.linux.state import Kernel
from memhp.scenario.result import BlockRun, BlockUse, FlushCount, Memory, Tables, ZoneCounters
from memhp.spans import Span, SpanMap, SpanSet
from memhp.target.measure.block_use import BlockUses


class Gauge:
    """Readings of one machine again and again: each costs what changed since the one before."""

    def __init__(self, k: Kernel) -> None:
        self._k = k
        self._blocks = k.memory_blocks.copy()
        self._runs = block_runs(k)
        self._owners: SpanMap[Owner] = SpanMap()
        self._sections: SpanMap[Section] = SpanMap()
        self._uses: Counter[Use] = Counter()
        self._places: Counter[str] = Counter()
        self._block_uses = BlockUses(k)
        for first, last, _ in self._blocks:
            self._block_uses.changed_blocks(Span(first, last))

    def blocks(self) -> list[BlockRun]:
        """The memory blocks, neighbours that are alike as one."""
        now = self._k.memory_blocks
        changed = now.differences(self._blocks)
        if changed:
            before = bisect_left(self._runs, changed[0].start - 1, key=attrgetter("last"))
            after = bisect_right(self._runs, changed[-1].end, key=attrgetter("first"))
            start = self._runs[before - 1].last + 1 if before else 0
            end = self._runs[after].first if after < len(self._runs) else 1 << 64
            self._runs = [*self._runs[:before], *block_runs(self._k, start, end), *self._runs[after:]]
            self._blocks = now.copy()
            for span in changed:
                self._block_uses.changed_blocks(span)
        return self._runs

    def block_use(self) -> list[BlockUse]:
        """What the memory of each block is used for, neighbours that are alike as one."""
        self.blocks()
        self._count()
        return self._block_uses.read()

    def memory(self) -> Memory:
        """Where the machine's memory is, in bytes."""
        self._count()
        k, size = self._k, self._k.config.page_size
        return Memory(
            present=sum(zone.present for zone in k.zones()) * size,
            managed=sum(zone.managed for zone in k.zones()) * size,
            free=sum(zone.free.size for zone in k.zones()) * size,
            memmap=self._uses[Use.MEMMAP] * size,
            memmap_self_hosted=self._places[ITSELF],
            page_tables=self._uses[Use.TABLE] * size,
        )

    def memmap_places(self) -> Counter[str]:
        """Bytes of struct pages by where they are kept: the memory that they describe, or the RAM of a node. The place
        at the lowest address comes first.
        """
        self._count()
        there = {place for place, size in self._places.items() if size}
        if len(there) < 2:
            return Counter({place: self._places[place] for place in there})
        found: dict[str, int] = {}
        for start, end, owner in self._owners:
            if len(found) == len(there):
                break
            if owner.use is Use.MEMMAP:
                for place, _ in _places(owner, Span(start, end), self._sections, self._k.config.pages_per_section):
                    found.setdefault(place, self._places[place])
        return Counter(found)

    def _count(self) -> None:
        """Take what was where something changed out of the sums, and what is there in."""
        k = self._k
        owners, sections = k.hw.memory.owners, k.mem_section
        per = k.config.pages_per_section
        moved = [Span(first * per, end * per) for first, end in sections.differences(self._sections)]
        changed = [*owners.differences(self._owners), *moved]
        if not changed:
            return
        unit = k.pages_per_block
        whole = sorted((span.start // unit * unit, -(-span.end // unit) * unit) for span in changed)
        for span in SpanSet.joined(whole):
            self._block_uses.changed(span)
            for sign, at, of in ((-1, self._owners, self._sections), (1, owners, sections)):
                for start, end, owner in at.runs(*span):
                    self._uses[owner.use] += sign * (end - start)
                    if owner.use is Use.MEMMAP:
                        for place, pages in _places(owner, Span(start, end), of, per):
                            self._places[place] += sign * pages * k.config.page_size
        self._owners, self._sections = owners.copy(), sections.copy()


ITSELF = "the added memory itself"


def _places(owner: Owner, frames: Span, sections: SpanMap[Section], per: int) -> Iterator[tuple[str, int]]:
    """Where struct pages in these frames (PFNs) are, and how many pages in each place; `per` pages are a section."""
    if owner.tag:
        yield ITSELF, frames.size
        return
    for first, last, section in sections.runs(frames.start // per, (frames.end - 1) // per + 1):
        yield f"RAM of node {section.nid}", frames.clip(Span(first * per, last * per)).size


def block_runs(k: Kernel, start: int = 0, end: int = 1 << 64) -> list[BlockRun]:
    """The memory blocks numbered ``[start, end)``, neighbours that are alike as one."""
    runs: list[BlockRun] = []
    for first, last, block in k.memory_blocks.runs(start, end):
        run = BlockRun(
            first=first,
            last=last - 1,
            state=block.state,
            zone=block.zone.title if block.state == "online" and block.zone is not None else "",
            node=block.nid,
            memmap_on_memory=block.altmap,
            start=first * k.memory_block_size,
            size=(last - first) * k.memory_block_size,
        )
        runs.append(run)
    return runs


def zone_counters(k: Kernel) -> list[ZoneCounters]:
    """Every zone's counters, in bytes."""
    size = k.config.page_size
    return [
        ZoneCounters(
            node=zone.nid,
            zone=zone.name,
            start=zone.start_pfn * size,
            spanned=zone.spanned * size,
            present=zone.present * size,
            managed=zone.managed * size,
            free=(zone.free.size + zone.isolated_free.size) * size,
        )
        for zone in k.zones()
    ]


def tables(counts: Counter[int]) -> Tables:
    """Counts by height as a result."""
    return Tables(**{HEIGHT_NAMES[height]: count for height, count in counts.items()})


def flushes(ledger: Ledger) -> list[FlushCount]:
    """The invalidations in a ledger, the most frequent first."""
    return [
        FlushCount(
            function=flush.function,
            operation=flush.operation,
            last_level=flush.last_level,
            local=flush.local,
            times=times,
            pages=ledger.flushed_pages[flush],
        )
        for flush, times in sorted(ledger.flushes.items(), key=lambda item: (-item[1], item[0]))
    ]
