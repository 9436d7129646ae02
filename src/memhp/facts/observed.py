"""All facts of one machine at one moment."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import log2
from typing import Protocol, TypeVar

from memhp.errors import BadInput
from memhp.facts import (
    buddyinfo,
    cmdline,
    counters,
    cpuinfo,
    devices,
    dmesg,
    iomem,
    kpageflags,
    memory_blocks,
    nodes,
    pagetypeinfo,
    params,
    zoneinfo,
)
from memhp.facts.buddyinfo import BuddyZone
from memhp.facts.cmdline import Cmdline
from memhp.facts.cpuinfo import Cpuinfo
from memhp.facts.devices import DaxDevice, Qemu
from memhp.facts.dmesg import Dmesg, NodeRange
from memhp.facts.hidden_addresses import PAGE_SIZES, hides_addresses, page_size_of, system_ram
from memhp.facts.iomem import Resource
from memhp.facts.kpageflags import PageRun
from memhp.facts.memory_blocks import MemoryBlock, MemoryBlocks
from memhp.facts.nodes import Nodes
from memhp.facts.pagetypeinfo import NodePageTypes
from memhp.facts.params import HotplugParams
from memhp.facts.source import DMESG, OSRELEASE, SYS_MEMORY, Source
from memhp.facts.zoneinfo import ZoneInfo
from memhp.linux.arch.registry import Arch
from memhp.spans import Span

T_co = TypeVar("T_co", covariant=True)


IOMEM, ZONEINFO = "/proc/iomem", "/proc/zoneinfo"
BLOCK_SIZE = f"{SYS_MEMORY}/block_size_bytes"


class Parser(Protocol[T_co]):
    """A parser of one file's text, which names the file in its errors."""

    def __call__(self, text: str, *, where: str) -> T_co:
        """What the text says."""


_MAY_LACK = ("sysroot", "report")
"""Kinds of sources that may lack /proc/iomem, /proc/zoneinfo and the memory blocks."""
_EVERY_CAPTURE_HAS = ("/proc/meminfo", "/proc/vmstat")
_NOT_EMPTY = ("/proc/buddyinfo", "/proc/cmdline")
"""What a capture may lack, but not have cut off."""


@dataclass(frozen=True)
class Facts:
    """What Linux shows of a machine's memory at one moment; what a machine does not show is None or empty.

    `source` names where it was read; it takes no part in comparisons. `log` is the kernel log up to this moment;
    `boot_log` tells of the same boot, but may have been taken at a later moment.
    """

    iomem: tuple[Resource, ...]
    zones: tuple[ZoneInfo, ...]
    memory: MemoryBlocks
    nodes: Nodes | None = None
    params: HotplugParams = field(default_factory=HotplugParams)
    cmdline: Cmdline | None = None
    meminfo: Mapping[str, int] = field(default_factory=dict)
    vmstat: Mapping[str, int] = field(default_factory=dict)
    buddyinfo: tuple[BuddyZone, ...] = ()
    pagetypeinfo: tuple[NodePageTypes, ...] = ()
    dax: tuple[DaxDevice, ...] = ()
    release: str | None = None
    qemu: Qemu | None = None
    log: Dmesg | None = None
    boot_log: Dmesg | None = None
    cpuinfo: Cpuinfo | None = field(default=None, compare=False)
    """What the CPUs are; it takes no part in comparisons."""
    hidden: bool = False
    """Whether /proc/iomem shows no addresses: then `iomem` is what zones and memory blocks tell."""
    pages: tuple[PageRun, ...] = field(default=(), compare=False)
    """What pages are used for, where that can be read; it takes no part in comparisons either."""
    source: str = field(default="", compare=False)
    arch: Arch | None = field(default=None, compare=False)
    """The architecture of a machine of which only a part was read."""
    assumed: frozenset[str] = field(default=frozenset(), compare=False)
    """What of that machine was not told: the paths of files, and keys of ``[machine]``."""

    boot_memory: tuple[NodeRange, ...] = field(default=(), compare=False)
    """What memblock of such a machine is taken to have had."""
    late: tuple[Span, ...] = field(default=(), compare=False)
    """Memory of such a machine that is taken to have been plugged after boot, in bytes."""

    def zone(self, nid: int, name: str) -> ZoneInfo | None:
        """The zone `name` of a node, populated or not."""
        return next((zone for zone in self.zones if zone.node == nid and zone.name == name), None)

    @property
    def page_size(self) -> int | None:
        """Bytes of a page: zones end, in pages, where online memory ends, in bytes. None where neither shows.

        Both ends are rounded up differently (to a section, a block), by less than a factor of two.
        """
        online = [self.memory.span(block).end for block in self.memory.blocks if block.state == "online"]
        ram = [resource.end + 1 for resource in iomem.system_ram(self.iomem)]
        pages = max((zone.end_pfn or 0 for zone in self.zones), default=0)
        if not online or not ram or not pages:
            return None
        return min(PAGE_SIZES, key=lambda size: abs(log2(min(max(online), max(ram)) / pages) - log2(size)))


def observe(source: Source, *, only: Collection[int] | None = None) -> Facts:
    """Read everything that a source shows; what pages are, on a live machine, of the blocks of `only` if named.

    Raises :class:`BadInput` naming the file that is missing, empty, cut off or not what a kernel prints: /proc/iomem,
    /proc/zoneinfo and the memory blocks must be there; in a capture also what every capture holds. What a sysroot or a
    report lacks of them is empty: :func:`memhp.target.seen.inferred.complete` computes it.
    """
    for path in _EVERY_CAPTURE_HAS if source.kind == "capture" else ():
        source.read(path)
    for path in _NOT_EMPTY if source.kind == "capture" else ():
        if source.get(path) is not None:
            source.read(path)
    zones = zoneinfo.parse(shown, where=source.where(ZONEINFO)) if (shown := _text(source, ZONEINFO)) else ()
    some = source.kind in _MAY_LACK and source.get(BLOCK_SIZE) is None
    memory = MemoryBlocks(0, ()) if some else memory_blocks.read(source)
    resources = _text(source, IOMEM)
    hidden = hides_addresses(resources) and source.kind != "capture"
    if hidden:
        told = _hidden_memory(zones, memory)
    else:
        told = iomem.parse(resources, where=source.where(IOMEM)) if resources else ()
    found = Facts(
        iomem=told,
        hidden=hidden and bool(told),
        zones=zones,
        memory=memory,
        nodes=nodes.read(source),
        params=params.read(source),
        cmdline=None if (text := source.get("/proc/cmdline")) is None else cmdline.parse(text),
        cpuinfo=_parsed(source, "/proc/cpuinfo", cpuinfo.parse),
        meminfo=_parsed(source, "/proc/meminfo", counters.parse_meminfo) or {},
        vmstat=_parsed(source, "/proc/vmstat", counters.parse_vmstat) or {},
        buddyinfo=_parsed(source, "/proc/buddyinfo", buddyinfo.parse) or (),
        pagetypeinfo=_parsed(source, "/proc/pagetypeinfo", pagetypeinfo.parse) or (),
        dax=devices.read_dax(source),
        qemu=devices.read_qemu(source),
        log=None if (text := source.get(DMESG)) is None else dmesg.parse(text),
        boot_log=None if (text := source.boot_log()) is None else dmesg.parse(text),
        source=source.name,
    )
    found = replace(found, pages=kpageflags.read(source, found.memory, found.page_size or PAGE_SIZES[0], only))
    release = source.get(OSRELEASE)
    found = replace(found, release=release.strip() if release else _release(found))
    if source.kind != "capture":
        if not (found.iomem or found.zones or found.memory.blocks or found.boot_log):
            source.read(ZONEINFO)
        return found
    _check_blocks(source, found)
    linked = any(block.nodes for block in found.memory.blocks)
    return found if linked else replace(found, memory=link_nodes(found))


def _text(source: Source, path: str) -> str:
    """The text of a file; "" where it is missing and may be."""
    return source.read(path) if source.kind not in _MAY_LACK or source.get(path) is not None else ""


def _hidden_memory(zones: tuple[ZoneInfo, ...], memory: MemoryBlocks) -> tuple[Resource, ...]:
    page = page_size_of(zones, memory)
    return system_ram(zones, memory, page) if page is not None else ()


def _parsed(source: Source, path: str, parse: Parser[T_co]) -> T_co | None:
    text = source.get(path)
    return parse(text, where=source.where(path)) if text else None


def _release(facts: Facts) -> str | None:
    """The kernel's release as its log tells it, or as the name of the image that QEMU was given."""
    if facts.boot_log is not None and facts.boot_log.release:
        return facts.boot_log.release
    image = facts.qemu.option("-kernel") if facts.qemu is not None else None
    return next((part for part in (image or "").split("/") if part[:1].isdecimal()), None)


def _check_blocks(source: Source, facts: Facts) -> None:
    """Every page of System RAM has a memory block: a list that lacks some was cut off.

    Unless the kernel died while it added them: the resource comes first, the blocks last.
    """
    size = facts.memory.block_size
    died = facts.log is not None and facts.log.after("Oops: ") is not None
    for ram in iomem.system_ram(facts.iomem):
        missing = [i for i in range(ram.start // size, ram.end // size + 1) if i not in facts.memory.by_index]
        if missing and not (died and len(missing) == ram.end // size + 1 - ram.start // size):
            raise BadInput(
                f"memory{missing[0]} is missing, though /proc/iomem has '{ram.line()}'",
                where=source.where("/sys/devices/system/memory"),
                fix="the list of memory blocks looks cut off: take it again",
            )


def link_nodes(facts: Facts) -> MemoryBlocks:
    """The memory blocks with the node that each belongs to, told by what else is known where a capture has no links."""
    linked = tuple(replace(block, nodes=block.nodes or _nodes_of(facts, block)) for block in facts.memory.blocks)
    return replace(facts.memory, blocks=linked)


def node_of_domain(facts: Facts, domain: int) -> int | None:
    """The node that Linux made of one of firmware's proximity domains (``pxm_to_node()``); None where nothing tells.

    Without a SRAT each domain that QEMU names is taken for the node of the same number.
    """
    ranges = facts.boot_log.srat if facts.boot_log is not None else ()
    if not ranges:
        return domain
    return next((each.nid for each in ranges if each.pxm == domain), None)


def _nodes_of(facts: Facts, block: MemoryBlock) -> tuple[int, ...]:
    """The nodes of a block: the only one; else the first that tells of the memory at boot, the zone that an online
    block is in, the device that the block is of, firmware's ranges.
    """
    if facts.nodes is None:
        return ()
    online = facts.nodes.states.get("online") or tuple(node.nid for node in facts.nodes.nodes)
    if len(online) == 1:
        return online
    span = facts.memory.span(block)
    log = facts.boot_log
    boot = {each.nid for each in log.early_node_ranges if each.span.overlaps(span)} if log else set()
    if boot:
        return tuple(sorted(boot))
    zones = _nodes_of_zones(facts, block)
    if len(zones) == 1:
        return tuple(zones)
    hints = list(_node_hints(facts, span))
    likely = [nid for nid in hints if nid in zones] if zones else [nid for nid in hints if nid in online]
    return (likely[0],) if likely else tuple(sorted(zones)[:1]) or (min(online),)


def _nodes_of_zones(facts: Facts, block: MemoryBlock) -> set[int]:
    """The nodes with a zone that an online block can be in: of its name, and around its addresses."""
    if block.zone is None:
        return set()
    page, span = facts.page_size or 4096, facts.memory.span(block)
    return {
        zone.node
        for zone in facts.zones
        if zone.name == block.zone
        and zone.start_pfn is not None
        and Span(zone.start_pfn * page, (zone.start_pfn + zone.spanned) * page).covers(span)
    }


def _node_hints(facts: Facts, span: Span) -> Iterator[int]:
    """The nodes of what a range of memory belongs to, the surest first; at last the one that is taken for memory of
    which a device says nothing (``memory_add_physaddr_to_nid()``).
    """
    log = facts.boot_log
    for device in log.virtio_mem if log else ():
        if device.nid is not None and device.span.overlaps(span):
            yield device.nid
    for plugged in facts.qemu.devices if facts.qemu else ():
        if plugged.span.overlaps(span) and (nid := node_of_domain(facts, plugged.node)) is not None:
            yield nid
    for dax in facts.dax:
        if dax.span is not None and dax.span.overlaps(span) and dax.target_node is not None:
            yield dax.target_node
    for affinity in sorted(log.srat if log else (), key=lambda each: each.hotplug):
        if affinity.span.overlaps(span):
            yield affinity.nid
    yield 0
