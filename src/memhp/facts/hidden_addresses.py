"""The memory of a machine whose /proc/iomem shows no addresses, as to all but root: as its zones and blocks have it.

Zones tell where memory of each begins, how far it reaches, and how many pages of that are present; memory blocks which
parts have any. Where pages are missing nobody knows: of the memory below 1 MiB of a PC the part that adapters have is
taken, else the end of the last block of the zone.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterable, Iterator
from math import log2

from memhp.facts.iomem import Resource
from memhp.facts.memory_blocks import MemoryBlocks
from memhp.facts.zoneinfo import ZoneInfo
from memhp.linux.arch.registry import ports
from memhp.spans import Span, SpanSet
from memhp.units import KiB, MiB

PAGE_SIZES = (4 * KiB, 16 * KiB, 64 * KiB)
"""The page sizes of riscv64, x86-64 and arm64."""
PC_DMA = 16 * MiB
"""The end of a PC's ZONE_DMA (``MAX_DMA_PFN``)."""

_ZERO = re.compile(r"^ *0+-0+ : ", re.MULTILINE)


def hides_addresses(text: str) -> bool:
    """Whether ``/proc/iomem`` shows zeroes only, as it does to all but root (``kernel/resource.c:r_show``)."""
    count = text.count("\n")
    return count > 1 and len(_ZERO.findall(text)) == count


def page_size_of(zones: Iterable[ZoneInfo], memory: MemoryBlocks) -> int | None:
    """Bytes of a page: zones end, in pages, where online memory ends, in bytes."""
    online = [memory.span(block).end for block in memory.blocks if block.state == "online"]
    pages = max((zone.end_pfn or 0 for zone in zones), default=0)
    if not online or not pages:
        return None
    return min(PAGE_SIZES, key=lambda size: abs(log2(max(online) / pages) - log2(size)))


def system_ram(zones: Iterable[ZoneInfo], memory: MemoryBlocks, page: int) -> tuple[Resource, ...]:
    """System RAM as zones and memory blocks show it."""
    ram = SpanSet(memory.span(block) for block in memory.blocks)
    kept = SpanSet()
    for zone in zones:
        if zone.start_pfn is not None:
            for part in _present(zone, ram, page):
                kept.add(*part)
    for block in memory.blocks:
        if block.state == "offline":
            kept.add(*memory.span(block))
    return tuple(Resource(span.start, span.end - 1, "System RAM", ()) for span in kept)


def _present(zone: ZoneInfo, ram: SpanSet, page: int) -> Iterator[Span]:
    """The parts of blocks that a zone spans, less as much as it lacks."""
    assert zone.start_pfn is not None
    span = Span(zone.start_pfn * page, (zone.start_pfn + zone.spanned) * page)
    parts = SpanSet(ram.runs(*span))
    missing = sum(part.size for part in parts) - zone.present * page
    bios = [kept for each in ports() for kept in each.bios_ranges if span.start <= kept.start < span.end == PC_DMA]
    size = sum(kept.size for kept in bios)
    if not bios or missing < size:
        yield from _less(parts, missing)
        return
    for kept in bios:
        parts.remove(*kept)
    yield from _less(parts, missing - size, before=bios[0].start)


def _less(parts: SpanSet, missing: int, before: int = 1 << 64) -> Iterator[Span]:
    """Parts without their last `missing` bytes before an address."""
    for part in reversed(list(parts)):
        cut = min(max(missing, 0), part.size) if part.end <= before else 0
        missing -= cut
        if cut < part.size:
            yield Span(part.start, part.end - cut)
