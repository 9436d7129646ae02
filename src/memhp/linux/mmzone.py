"""Nodes, zones, sections and what is known of pages: ``include/linux/mmzone.h`` and ``page-flags.h``.

Everything that the kernel keeps page by page or block by block is kept here as runs of equal pages or blocks.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag, StrEnum
from typing import Literal, NamedTuple

from memhp.hw.bit_set import BitSet
from memhp.hw.counted import CountedSet
from memhp.hw.lifetime import SlabObject
from memhp.hw.shared import SharedMap, SharedSet, Stepped, marked
from memhp.linux.config import OnlineType


class ZoneType(IntEnum):
    """``enum zone_type``, as a kernel with ZONE_DMA and ZONE_DMA32 numbers it."""

    DMA = 0
    DMA32 = 1
    NORMAL = 2
    MOVABLE = 3
    DEVICE = 4

    @property
    def title(self) -> str:
        """The name that the kernel prints: ``zone_names[]``."""
        return ("DMA", "DMA32", "Normal", "Movable", "Device")[self]


class MigrateType(StrEnum):
    """What a pageblock's free pages are for: ``enum migratetype``."""

    UNMOVABLE = "Unmovable"
    MOVABLE = "Movable"
    RECLAIMABLE = "Reclaimable"
    CMA = "CMA"
    """Kept for the contiguous memory allocator; movable allocations may borrow it."""


class PageFlags(IntFlag):
    """Flags of ``struct page`` that hotplug reads; the use of a page is its frame's owner."""

    NONE = 0
    RESERVED = 1
    OFFLINE = 2
    """``PageOffline``: not to be touched by anybody but the driver that owns it."""
    VMEMMAP_SELF_HOSTED = 4
    HWPOISON = 8
    UNREFERENCED = 16
    """``page_count()`` is 0 though the page is not free: the driver that keeps it let go of it for offlining."""


class ZoneRef(NamedTuple):
    """The zone link in ``page->flags``."""

    nid: int
    type: ZoneType


def section_field(section_nr: int) -> str:
    """``section_mem_map`` with its flags, by the name that the doors know it under."""
    return f"mem_section[{section_nr}].section_mem_map"


def usage_field(section_nr: int) -> str:
    """``ms->usage``, the pointer, likewise."""
    return f"mem_section[{section_nr}].usage"


def subsection_map_field(section_nr: int) -> str:
    """``usage->subsection_map``, which the pointer leads to."""
    return f"{usage_field(section_nr)}->subsection_map"


class Section(NamedTuple):
    """``struct mem_section`` of a present section; a run of equal neighbours is one entry of the map."""

    nid: int
    online: bool
    early: bool
    """Present since boot."""
    zone_device: bool = False
    """Some of its pages are, or were, a device's: ``SECTION_TAINT_ZONE_DEVICE``."""


NOWHERE = 1 << 63
"""Above every PFN."""


@dataclass(eq=False)
class Arrival:
    """Page frames that came to a zone's free lists one after the other, from low PFNs to high ones.

    What comes online goes to the tails of the lists (``FPI_TO_TAIL`` in ``__free_pages_core()`` and
    ``__putback_isolated_page()``), so the allocator takes of what came first as long as there is any.
    """

    start: int = 0
    end: int = NOWHERE
    top: int = 0
    """Where the last that came ends: what comes behind it belongs here too."""
    search_from: dict[tuple[MigrateType | None, int], int] = field(default_factory=dict)
    """(migrate type, order) → PFN below which there is no free block of them: saves the allocator a search. No kernel
    has it, and it changes nothing but time. Only mm/rmqueue.py puts pages into :attr:`Zone.free`, and keeps it true."""


@dataclass(eq=False)
class PerCpuPages:
    """``struct per_cpu_pages``: pages of a zone that were freed on one CPU, and are not in the buddy yet."""

    name: str
    """What it goes by at the doors."""
    high_min: int = field(metadata=marked(lambda pcp: f"{pcp.name}->high_min"))
    """From how many pages on they go to the buddy; 0: each at once. Written while others read it (``READ_ONCE()``)."""
    batch: int = field(metadata=marked(lambda pcp: f"{pcp.name}->batch"))
    """How many go at a time."""
    count: int = field(default=0, metadata=marked(lambda pcp: pcp.count_field))
    """How many there are: ``drain_all_pages()`` looks without the lock, and may miss one that is just put there."""
    pages: list[int] = field(default_factory=list)
    """PFNs, those freed first in front; the kernel has a list for each migrate type and order."""

    @property
    def count_field(self) -> str:
        """The name of ``pcp->count``."""
        return f"{self.name}->count"

    @property
    def lock(self) -> str:
        """The name of ``pcp->lock``. Before 6.2 it is that interrupts are off, and that the CPU drains its lists itself
        when another asks: that keeps the two apart as well.
        """
        return f"{self.name}.pcp_lock"


WATERMARK = marked(lambda zone: zone.field("_watermark"))
"""``zone_watermark_fast()`` reads the marks without ``zone->lock``, under which they are written."""


@dataclass
class Zone:
    """``struct zone``: PFN range and counters in pages, and the buddy's free pages."""

    nid: int
    type: ZoneType
    start_pfn: int = 0
    spanned: int = 0
    present: int = 0
    present_early: int = 0
    managed: int = field(default=0, metadata=marked(lambda zone: zone.field("managed_pages")))
    nr_isolate_pageblock: int = 0
    cma_pages: int = 0
    contiguous: bool = False
    """Whether every pageblock within the span belongs to the zone."""
    watermark_min: int = field(default=0, metadata=WATERMARK)
    """Pages that only allocations in distress may take: ``_watermark[WMARK_MIN]``."""
    watermark_low: int = field(default=0, metadata=WATERMARK)
    watermark_high: int = field(default=0, metadata=WATERMARK)
    watermark_promo: int = field(default=0, metadata=WATERMARK)
    lowmem_reserve: dict[ZoneType, int] = field(
        default_factory=dict, metadata=marked(lambda zone: zone.field("lowmem_reserve"))
    )
    """Zone that an allocation may use at most → pages kept from it here: ``protection`` of /proc/zoneinfo."""
    free: CountedSet = field(default_factory=CountedSet)
    """PFNs in the buddy's free lists, those in isolated pageblocks left out."""
    isolated_free: SharedSet = field(default_factory=SharedSet)
    """PFNs of free pages in isolated pageblocks."""
    migratetypes: SharedMap[MigrateType] = field(default_factory=SharedMap)
    """PFN span → migrate type of its pageblocks."""
    isolated: BitSet = field(default_factory=BitSet)
    """PFNs of isolated pageblocks: bits of ``pageblock_flags``, which are changed under ``zone->lock``."""
    per_cpu_pageset: dict[int, PerCpuPages] = field(default_factory=dict, repr=False, compare=False)
    """CPU → its lists; where there are none, all that is freed goes to the buddy at once (``boot_pageset``)."""
    pageset_high_min: int = field(default=0, repr=False, compare=False)
    """What the lists have when they are not disabled."""
    pageset_batch: int = field(default=1, repr=False, compare=False)
    arrivals: list[Arrival] = field(default_factory=lambda: [Arrival()], repr=False, compare=False)
    """All page frames there can be, in the order in which the free lists have them."""
    span_seqlock: int = field(
        default=0, repr=False, compare=False, metadata=marked(lambda zone: zone.field("span_seqlock"))
    )
    """How often the span began or ended to be written: odd while it is."""

    def belong(self, machine: Stepped) -> None:
        """The zone is one of a machine's, whose explorer gets to see who touches its lists."""
        for name, cell in (
            ("free", self.free), ("isolated_free", self.isolated_free), ("migratetypes", self.migratetypes),
            ("isolated", self.isolated),
        ):  # fmt: skip
            cell.belong(machine, f"zone{self.nid}/{self.name}.{name}")
        self.free.head = self.isolated_free.head = f"zone{self.nid}/{self.name}.free_area"

    @property
    def end_pfn(self) -> int:
        """``zone_end_pfn()``."""
        return self.start_pfn + self.spanned

    @property
    def populated(self) -> bool:
        """``populated_zone()``."""
        return self.present > 0

    @property
    def name(self) -> str:
        """``zone->name``."""
        return self.type.title

    @property
    def lock(self) -> str:
        """The name of ``zone->lock``."""
        return self.field("lock")

    def field(self, name: str) -> str:
        """What a field of the zone goes by at the doors."""
        return f"zone{self.nid}/{self.type.title}.{name}"


@dataclass
class Node:
    """``pg_data_t``: a node, its zones, and the PFN range that they span."""

    nid: int
    machine: Stepped = field(repr=False, compare=False)
    zones: dict[ZoneType, Zone] = field(default_factory=dict)
    start_pfn: int = 0
    spanned: int = 0
    present: int = 0
    zeroed: bool = field(default=False, repr=False, compare=False, metadata=marked(lambda node: node.zone_pgdat))
    """Whether all of it is zeroed, so that ``zone->zone_pgdat`` of its zones is NULL: kernels before 4.0, which do that
    as soon as the node is offline."""

    @property
    def zone_pgdat(self) -> str:
        """What the pointers back from its zones go by at the doors."""
        return f"node{self.nid}.node_zones[].zone_pgdat"

    @property
    def end_pfn(self) -> int:
        """``pgdat_end_pfn()``."""
        return self.start_pfn + self.spanned

    def zone(self, kind: ZoneType) -> Zone:
        """``&pgdat->node_zones[kind]``."""
        if kind not in self.zones:
            zone = Zone(self.nid, kind)
            zone.belong(self.machine)
            self.zones[kind] = zone
        return self.zones[kind]


BlockState = Literal["online", "offline", "going-offline"]


@dataclass(frozen=True)
class MemoryBlock:
    """``struct memory_block`` (include/linux/memory.h); a run of equal neighbours is one entry of the map."""

    state: BlockState
    nid: int | None
    zone: ZoneType | None = None
    """The one zone that manages all of it while online (``mem->zone``); None when there are several, or holes."""
    altmap: bool = False
    """Whether it hosts its own memmap; the altmap itself is in ``Kernel.altmaps``."""
    group: int | None = None
    """Its memory group (``memory_group_find_by_id``)."""
    online_type: OnlineType = "offline"
    """How it goes online next where nobody says (``mem->online_type``): a request that found it online leaves it."""


GROUPS_BLOCKS = "memory_group.memory_blocks"


@dataclass
class MemoryGroup:
    """``struct memory_group``: memory that comes and goes together, for auto-movable. Counts in pages."""

    nid: int
    dynamic: bool
    unit_pages: int = 0
    """``d.unit_pages`` of a dynamic group."""
    max_pages: int = 0
    """``s.max_pages`` of a static group."""
    memory_blocks: int = field(default=0, metadata=marked(GROUPS_BLOCKS))
    """How many belong to it: the kernel has a list of them, whose ends are read and written whole."""
    links: int = field(default=0, repr=False, compare=False)
    """Counts changes of that list: each writes its neighbours' links too, which nobody else may do meanwhile."""
    present_kernel_pages: int = 0
    present_movable_pages: int = 0
    slab: SlabObject = field(default_factory=lambda: SlabObject("memory_group"), repr=False, compare=False)
