"""Reading a modelled machine for a report: blocks, zones, where memory went, what passed the doors."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter

from memhp.hw.format import HEIGHT_NAMES
from memhp.hw.ledger import Ledger
from memhp.hw.memory import Use
from memhp.linux.state import Kernel
from memhp.scenario.result import BlockRun, FlushCount, Memory, Tables, ZoneCounters


def block_runs(k: Kernel) -> list[BlockRun]:
    """The memory blocks, neighbours that are alike as one."""
    runs: list[BlockRun] = []
    for first, end, block in k.memory_blocks:
        run = BlockRun(
            first=first,
            last=end - 1,
            state=block.state,
            zone=block.zone.title if block.state == "online" and block.zone is not None else "",
            node=block.nid,
            memmap_on_memory=block.altmap,
            start=first * k.memory_block_size,
            size=(end - first) * k.memory_block_size,
        )
        runs.append(run)
    return runs


def zone_counters(k: Kernel) -> list[ZoneCounters]:
    """Every zone's counters, in pages."""
    return [
        ZoneCounters(
            node=zone.nid,
            zone=zone.name,
            start_pfn=zone.start_pfn,
            spanned=zone.spanned,
            present=zone.present,
            managed=zone.managed,
            free=zone.free.size + zone.isolated_free.size,
        )
        for zone in k.zones()
    ]


def memory(k: Kernel) -> Memory:
    """Where the machine's memory is, in bytes."""
    size = k.config.page_size
    uses: Counter[Use] = Counter()
    hosted = 0
    for start, end, owner in k.hw.memory.owners:
        uses[owner.use] += end - start
        if owner.use is Use.MEMMAP and owner.tag:
            hosted += end - start
    return Memory(
        present=sum(zone.present for zone in k.zones()) * size,
        managed=sum(zone.managed for zone in k.zones()) * size,
        free=sum(zone.free.size for zone in k.zones()) * size,
        memmap=uses[Use.MEMMAP] * size,
        memmap_self_hosted=hosted * size,
        page_tables=uses[Use.TABLE] * size,
    )


def memmap_places(k: Kernel) -> Counter[str]:
    """Bytes of struct pages by where they are kept: the memory that they describe, or the RAM of a node."""
    places: Counter[str] = Counter()
    for start, end, owner in k.hw.memory.owners:
        if owner.use is not Use.MEMMAP:
            continue
        if owner.tag:
            places["the added memory itself"] += (end - start) * k.config.page_size
            continue
        for first, last, section in k.mem_section.runs(k.section_nr(start), k.section_nr(end - 1) + 1):
            per = k.config.pages_per_section
            pages = min(end, last * per) - max(start, first * per)
            places[f"RAM of node {section.nid}"] += pages * k.config.page_size
    return places


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
