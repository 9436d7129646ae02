"""How a real machine's boot left its memory: what each zone managed, what nothing was kept in, what came back late.

Facts show a later moment. Memory that came since is taken off again; boot memory that is offline, or went online in
another zone, is counted where boot had it, and nothing in it was reserved, or it could not have gone.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from memhp.facts import iomem
from memhp.facts.describe import MachineFacts, Origin
from memhp.facts.dmesg import GivenBack
from memhp.facts.observed import Facts
from memhp.facts.virtio_mem import virtio_mem_devices
from memhp.linux.config import Cma, Config
from memhp.linux.mm.zone_limits import zone_limits
from memhp.linux.mmzone import ZoneType
from memhp.spans import Span, SpanSet
from memhp.units import KiB, MiB, align_down, align_up

ZONE_OF = {kind.title: kind for kind in ZoneType}

HOT: tuple[Origin, ...] = ("dimm", "virtio_mem", "kmem", "hotplug")
"""How memory can have come after boot."""

ZonePages = dict[tuple[int, ZoneType], int]
"""Pages by node and zone."""

KERNEL_PARTS = ("Kernel code", "Kernel rodata", "Kernel data", "Kernel bss")


PRINTED_PARTS = ("kernel code", "rwdata", "rodata", "init", "bss")
"""What the kernel image is made of in the log's line ``Memory:``."""


class BootZones(NamedTuple):
    """Which node and zone boot memory was in: limits in bytes of the zones, ranges of the nodes."""

    limits: tuple[tuple[ZoneType, int], ...]
    nodes: tuple[tuple[int, Span], ...]

    def parts(self, span: Span) -> Iterator[tuple[int, ZoneType, int]]:
        """Node, zone and bytes of each part of a range that is boot memory."""
        for nid, memory in self.nodes:
            start = 0
            for kind, end in self.limits:
                part = memory.clip(Span(start, end)).clip(span)
                if part.size > 0:
                    yield nid, kind, part.size
                start = max(start, end)


def boot_zones(machine: MachineFacts, config: Config) -> BootZones:
    """The zones as boot made them."""
    memory = [(each.nid, each.span) for each in machine.boot_memory]
    dram = Span(min(span.start for _, span in memory), max(span.end for _, span in memory))
    limits = zone_limits(config, dram)
    return BootZones(
        tuple((kind, end << config.page_shift) for kind, end in sorted(limits.items())),
        tuple(memory),
    )


def moved_blocks(facts: Facts, machine: MachineFacts, zones: BootZones) -> list[Span]:
    """The blocks of boot memory that are not in the zone that boot put them in: offline, or in another one."""
    hot = SpanSet(machine.memory_of(*HOT))
    found = []
    for block in facts.memory.blocks:
        span = facts.memory.span(block)
        parts = list(zones.parts(span))
        if hot.covered(*span) or sum(size for *_, size in parts) != span.size:
            continue
        if block.state == "offline" or (
            len(parts) == 1 and block.zone is not None and ZONE_OF[block.zone] is not parts[0][1]
        ):
            found.append(span)
    return found


def managed_at_boot(facts: Facts, machine: MachineFacts, zones: BootZones) -> ZonePages:
    """Managed pages of each zone that had memory at boot: exact unless virtio-mem's part of a block is not told."""
    page = machine.page_size
    hot = SpanSet(machine.memory_of(*HOT))
    devices = virtio_mem_devices(facts)
    managed = Counter({(zone.node, ZONE_OF[zone.name]): zone.managed for zone in machine.zones})
    for block in facts.memory.blocks:
        span = facts.memory.span(block)
        if block.state == "online" and block.zone is not None and hot.covers(*span):
            online = span.size - sum(device.unplugged.covered(*span) for device in devices)
            managed[block.nodes[0] if block.nodes else 0, ZONE_OF[block.zone]] -= online // page
    for span in moved_blocks(facts, machine, zones):
        block = facts.memory.by_index[span.start // facts.memory.block_size]
        if block.zone is not None:
            managed[block.nodes[0] if block.nodes else 0, ZONE_OF[block.zone]] -= span.size // page
        for nid, kind, size in zones.parts(span):
            managed[nid, kind] += size // page
    had: Counter[tuple[int, ZoneType]] = Counter()
    for _, memory in zones.nodes:
        for nid, kind, size in zones.parts(memory):
            had[nid, kind] += size
    return {key: max(managed[key], 0) for key in had}


def given_back(facts: Facts, zones: BootZones, page: int) -> ZonePages:
    """Pages by zone that boot gave to the buddy once watermarks were set, as the kernel log has it."""
    log = facts.boot_log
    pages: Counter[tuple[int, ZoneType]] = Counter()
    for freed in log.given_back if log is not None else ():
        where = next(zones.parts(_place(facts, freed)), None)
        if where is not None:
            pages[where[:2]] += freed.size // page
    return dict(pages)


def _place(facts: Facts, freed: GivenBack) -> Span:
    """Where such memory lay: the initial ramdisk where the log or a reserved resource of its size tells, all else in
    the kernel image.
    """
    log = facts.boot_log
    if freed.what == "initrd" and log is not None:
        if log.ramdisk is not None:
            return log.ramdisk
        for _, res in iomem.walk(facts.iomem):
            if res.name.lower() == "reserved" and 0 <= res.span.size - freed.size <= 8 * KiB:
                return res.span
    image = kernel_parts(facts)
    return image[0] if image else Span(0, 1 << 62)


def kernel_parts(facts: Facts) -> list[Span]:
    """The sections of the kernel image that stay, ascending (bytes)."""
    return sorted(res.span for _, res in iomem.walk(facts.iomem) if res.name in KERNEL_PARTS)


def image_size(facts: Facts) -> int:
    """Bytes of the kernel image with what only boot needed, as the log counts them (``mem_init_print_info()``); 0 where
    it does not.
    """
    told = facts.boot_log.available if facts.boot_log is not None else None
    parts = told.parts if told is not None else {}
    return align_up(sum(parts.get(name, 0) for name in PRINTED_PARTS), 2 * MiB)


def kernel_image(facts: Facts, page: int) -> tuple[Span | None, tuple[Span, ...]]:
    """Where the kernel image lies, from the 2 MiB boundary that its code starts behind to the end of its data, and the
    gaps in it, which held what only boot needed.
    """
    parts = kernel_parts(facts)
    if not parts:
        return None, ()
    whole = Span(align_down(parts[0].start, 2 * MiB), align_up(max(part.end for part in parts), page))
    kept = SpanSet(Span(align_down(part.start, page), align_up(part.end, page)) for part in parts)
    return whole, tuple(gap for gap in kept.gaps(*whole) if gap.start > parts[0].start)


def mirrored(facts: Facts) -> tuple[Span, ...]:
    """What firmware keeps twice: as the log lists it, or, where it only says that there is some, all memory of each
    node below its ZONE_MOVABLE, the least that makes the zones what they are.
    """
    log = facts.boot_log
    if log is None or log.mirrored or not log.some_mirrored:
        return () if log is None else log.mirrored
    nodes = ((each.span, log.movable_start.get(each.nid, each.span.end)) for each in log.early_node_ranges)
    return tuple(Span(span.start, min(span.end, end)) for span, end in nodes if span.start < end)


class ToldCma(NamedTuple):
    """What boot reserved for the contiguous memory allocator: places in bytes, or how much where nothing tells them."""

    places: tuple[Span, ...] = ()
    size: Cma | None = None


def told_cma(facts: Facts) -> ToldCma | None:
    """What the kernel log tells of CMA, or how much it or /proc/meminfo has; None where neither says."""
    log = facts.boot_log
    reserved = None if log is None or log.available is None else log.available.parts.get("cma-reserved")
    if log is not None and (log.cma or reserved == 0):
        return ToldCma(places=log.cma)
    if reserved is not None:
        return ToldCma(size=Cma(reserved))
    if "CmaTotal" in facts.meminfo:
        return ToldCma(size=Cma(facts.meminfo["CmaTotal"] * KiB))
    return None
