"""What changed between two moments of one machine: blocks, states, zones, resources, counters."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from memhp.facts import iomem
from memhp.facts.memory_blocks import MemoryBlock
from memhp.facts.observed import Facts

MEMMAP_COUNTERS = ("nr_memmap_pages", "nr_memmap_boot_pages")
"""Pages of struct page: taken from the buddy or from an altmap at runtime, from memblock at boot
(``mm/vmstat.c:nr_memmap_pages``)."""


@dataclass(frozen=True)
class BlockChange:
    """A memory block before and after; None where it did not exist."""

    before: MemoryBlock | None
    after: MemoryBlock | None

    @property
    def index(self) -> int:
        """The block's number."""
        block = self.after or self.before
        assert block is not None
        return block.index


class ZoneGrowth(NamedTuple):
    """By how many pages a zone grew (negative: shrank), and its first PFN before and after."""

    spanned: int
    present: int
    managed: int
    start_pfn: tuple[int | None, int | None]


@dataclass(frozen=True)
class Growth:
    """The differences between two moments. Empty parts did not change.

    `iomem_gone` and `iomem_new` are lines of /proc/iomem, with their indentation; counters are after minus before:
    `mem_total` in bytes, `memmap` in pages by the names of /proc/vmstat.
    """

    blocks: tuple[BlockChange, ...]
    zones: Mapping[tuple[int, str], ZoneGrowth]
    iomem_gone: tuple[str, ...]
    iomem_new: tuple[str, ...]
    mem_total: int | None
    memmap: Mapping[str, int]

    @property
    def added(self) -> tuple[MemoryBlock, ...]:
        """Blocks that came, as they are now."""
        return tuple(change.after for change in self.blocks if change.before is None and change.after is not None)

    @property
    def removed(self) -> tuple[MemoryBlock, ...]:
        """Blocks that went, as they were."""
        return tuple(change.before for change in self.blocks if change.after is None and change.before is not None)


def growth(before: Facts, after: Facts) -> Growth:
    """What changed from one moment of a machine to a later one."""
    old, new = before.memory.by_index, after.memory.by_index
    changes = [BlockChange(old.get(index), new.get(index)) for index in sorted(old.keys() | new.keys())]
    old_lines, new_lines = _lines(before), _lines(after)
    mem_total = None
    if "MemTotal" in before.meminfo and "MemTotal" in after.meminfo:
        mem_total = (after.meminfo["MemTotal"] - before.meminfo["MemTotal"]) << 10
    return Growth(
        blocks=tuple(change for change in changes if change.before != change.after),
        zones=_zones(before, after),
        iomem_gone=tuple(line for line in old_lines if line not in new_lines),
        iomem_new=tuple(line for line in new_lines if line not in old_lines),
        mem_total=mem_total,
        memmap={
            name: after.vmstat[name] - before.vmstat[name]
            for name in MEMMAP_COUNTERS
            if name in before.vmstat and name in after.vmstat and after.vmstat[name] != before.vmstat[name]
        },
    )


def _lines(facts: Facts) -> dict[str, None]:
    return {resource.line(depth): None for depth, resource in iomem.walk(facts.iomem)}


def _zones(before: Facts, after: Facts) -> dict[tuple[int, str], ZoneGrowth]:
    old = {(zone.node, zone.name): zone for zone in before.zones}
    new = {(zone.node, zone.name): zone for zone in after.zones}
    grown: dict[tuple[int, str], ZoneGrowth] = {}
    for key in [*old, *(key for key in new if key not in old)]:
        was, now = old.get(key), new.get(key)
        pages = [
            (getattr(now, name) if now else 0) - (getattr(was, name) if was else 0)
            for name in ("spanned", "present", "managed")
        ]
        starts = (was.start_pfn if was else None, now.start_pfn if now else None)
        if any(pages) or starts[0] != starts[1]:
            grown[key] = ZoneGrowth(pages[0], pages[1], pages[2], starts)
    return grown
