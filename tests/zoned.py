"""Kernels that have zones and free pages, and nothing above them: for tests of the page allocator.

Either from ranges of RAM, or from the facts of a real machine.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from typing import cast

from memhp.facts.describe import MachineFacts
from memhp.hw.machine import Machine
from memhp.hw.memory import Owner, Use
from memhp.linux.config import Config
from memhp.linux.drivers.base.node import NodeStates
from memhp.linux.kernel.resource import iomem_root
from memhp.linux.layout import Layout
from memhp.linux.mm.memblock import Memblock
from memhp.linux.mm.mm_init import free_area_init, memmap_init_range
from memhp.linux.mm.page_alloc import (
    build_all_zonelists,
    build_all_zonelists_init,
    free_pages_core,
    init_per_zone_wmark_min,
)
from memhp.linux.mmzone import PageFlags, Section, Zone, ZoneType
from memhp.linux.profiles import PROFILES, profile
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet

X86 = Config(arch="x86_64", profile=PROFILES["linux-6.12"], page_size=4096, va_bits=57)
RISCV = Config(arch="riscv64", profile=PROFILES["linux-7.2"], page_size=4096, va_bits=39)
ARM64_16K = Config(arch="arm64", profile=PROFILES["linux-6.12"], page_size=16384, va_bits=47)

BOOT = "boot"


def unzoned(config: Config, ram: list[tuple[int, int, int]], *, hotpluggable: list[Span] | None = None) -> Kernel:
    """A kernel right before ``free_area_init()``: memblock and sections know the RAM, ``(start, end, node)`` in bytes.

    A Layout is not needed and not there.
    """
    hw = Machine(config.format)
    k = Kernel(
        hw=hw,
        config=config,
        layout=cast(Layout, None),
        memblock=Memblock(config.page_size),
        iomem_resource=iomem_root(),
        node_states=NodeStates(possible={nid for *_, nid in ram}, online={nid for *_, nid in ram}),
    )
    for start, end, nid in ram:
        k.memblock.memblock_add_node(start, end - start, nid)
        frames = Span(-(-start // config.page_size), end // config.page_size)
        hw.plug(frames, Owner(Use.BOOT))
        k.boot_memory.add(*frames)
        for gap in list(k.mem_section.gaps(start // config.section_size, -(-end // config.section_size))):
            k.mem_section.set(*gap, Section(nid, online=True, early=True))
    for span in hotpluggable or []:
        k.memblock.memblock_mark_hotplug(span.start, span.size)
    return k


def booted(config: Config, ram: list[tuple[int, int, int]]) -> Kernel:
    """A kernel whose RAM, ``(start, end, node)`` in bytes, is all free and whose zones have watermarks."""
    k = unzoned(config, ram)
    free_area_init(k)
    build_all_zonelists_init(k)
    for span in k.boot_memory:
        free_pages_core(k, span.start, span.size, BOOT)
    k.slab_is_available = True
    init_per_zone_wmark_min(k)
    return k


def add_movable(k: Kernel, start: int, size: int, nid: int = 0) -> Zone:
    """Hot-add memory (bytes) to ZONE_MOVABLE of a node, with no more ado than the allocator needs."""
    zone = k.nodes[nid].zone(ZoneType.MOVABLE)
    pfn, pages = start // k.config.page_size, size // k.config.page_size
    k.hw.plug(Span(pfn, pfn + pages), Owner(Use.DEVICE))
    k.subsection_map.add(pfn, pfn + pages)
    zone.start_pfn = min(pfn, zone.start_pfn) if zone.spanned else pfn
    zone.spanned = max(pfn + pages, zone.end_pfn) - zone.start_pfn
    zone.present += pages
    memmap_init_range(k, pfn, pages, zone, flags=PageFlags.OFFLINE)
    build_all_zonelists(k)
    free_pages_core(k, pfn, pages, "online")
    init_per_zone_wmark_min(k)
    return zone


def config_of(machine: MachineFacts) -> Config:
    """The configuration of a captured kernel, as far as zones and the allocator go by it."""
    assert machine.va_bits is not None
    config = Config(
        arch=machine.arch,
        profile=profile(machine.series or ""),
        page_size=machine.page_size,
        va_bits=machine.va_bits,
        zone_dma="DMA" in machine.zone_names,
        zone_dma32="DMA32" in machine.zone_names,
        zone_device="Device" in machine.zone_names,
        movable_node=machine.movable_node,
    ).validate()
    if config.pageblock_order != machine.pageblock_order:
        config = replace(config, page_block_max_order=machine.pageblock_order)
    return config


def zone_named(k: Kernel, nid: int, name: str) -> Zone:
    """A zone by the name that the kernel prints."""
    return next(zone for kind, zone in k.nodes[nid].zones.items() if kind.title == name)


def accounts(k: Kernel) -> dict[str, tuple[int, int]]:
    """For each zone that manages pages: how many those are, and how many are free or in use.

    Reserved pages, those of a device, and those in a balloon are nobody's to manage.
    """
    found = {}
    offline = SpanSet((start, end) for start, end, flags in k.page_flags if PageFlags.OFFLINE in flags)
    for zone in k.zones():
        if zone.managed:
            used = sum(
                hi - lo
                for start, end, ref in k.page_zone.runs(zone.start_pfn, zone.end_pfn)
                if ref == (zone.nid, zone.type)
                for lo, hi, owner in k.hw.memory.owners.runs(start, end)
                if owner.use not in (Use.FREE, Use.BOOT, Use.DEVICE) and lo not in offline
            )
            found[f"{zone.nid}/{zone.name}"] = (zone.managed, zone.free.size + zone.isolated_free.size + used)
    return found


def owners_agree(k: Kernel) -> bool:
    """Whether the frames that nobody uses are those on free lists."""
    free = ((start, end) for start, end, owner in k.hw.memory.owners if owner.use is Use.FREE)
    lists = SpanSet(span for zone in k.zones() for spans in (zone.free, zone.isolated_free) for span in spans)
    return SpanSet(free) == lists
