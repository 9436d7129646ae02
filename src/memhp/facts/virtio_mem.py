"""The virtio-mem devices of a machine and how much of each is plugged, as Linux, its log and QEMU show them."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from memhp.facts import iomem
from memhp.facts.devices import MemoryDevice
from memhp.facts.dmesg import VirtioMem as Said
from memhp.facts.iomem import Resource
from memhp.facts.observed import Facts, node_of_domain
from memhp.spans import Span, SpanSet
from memhp.units import MiB

DEVICE = re.compile(r"virtio\d+")
"""The resource that the driver claims for a device, below which memory is added (``virtio_mem_create_resource()``)."""

DEFAULT_BLOCK_SIZE = 2 * MiB


@dataclass(frozen=True)
class VirtioMemDevice:
    """A device at one moment. Sizes and addresses are bytes; what nothing tells is None."""

    name: str
    """The guest's name for it: ``virtio1``."""
    id: str
    """QEMU's name for it, or ""."""
    span: Span
    """Its region."""
    block_size: int
    """Of the device; 2 MiB where nothing tells."""
    node: int | None
    """The node that its driver found; where its log is lost, Linux's node for the domain that QEMU named."""
    sub_block: int
    """What the driver unplugs at least of an online block: by its log, or by the size of pageblocks."""
    big_block: int
    """What comes and goes at a time in big-block mode, 0 where the driver's log does not tell of that."""
    added: SpanSet
    """System RAM that the driver added."""
    plugged: int
    requested: int
    told: bool
    """Whether QEMU or the driver told what is requested; else it is taken to be what is added."""
    unplugged: SpanSet
    """What of the added memory is not plugged. Facts tell how much, and what each zone lacks of managed pages, but not
    where: it is taken to be at the ends of blocks, from a zone's highest block down, with a sub-block left in each."""


def virtio_mem_devices(facts: Facts) -> tuple[VirtioMemDevice, ...]:
    """The devices whose driver is bound, in the order of their addresses."""
    return tuple(_device(facts, res) for _, res in iomem.walk(facts.iomem) if DEVICE.fullmatch(res.name))


def _device(facts: Facts, res: Resource) -> VirtioMemDevice:
    qemu = _qemu(facts, res.span)
    log = facts.boot_log or facts.log
    said = next((one for one in log.virtio_mem if one.span == res.span), None) if log is not None else None
    block_size = _block_size(qemu, said)
    added = SpanSet(child.span for child in res.children if iomem.ram_driver(child) == "virtio_mem")
    sub_block = max(block_size, (said.subblock_size if said is not None else None) or _pageblock(facts))
    least = added.size // facts.memory.block_size * sub_block
    plugged, requested, told = _sizes(facts, res.name, qemu, least, added.size)
    return VirtioMemDevice(
        name=res.name,
        id=qemu.id if qemu is not None else "",
        span=res.span,
        block_size=block_size,
        node=_node(facts, qemu, said),
        sub_block=sub_block,
        big_block=(said.big_block_size if said is not None else None) or 0,
        added=added,
        plugged=plugged,
        requested=requested,
        told=told,
        unplugged=SpanSet(_ends(facts, added, sub_block, added.size - plugged)),
    )


def _node(facts: Facts, qemu: MemoryDevice | None, said: Said | None) -> int | None:
    if said is not None and said.nid is not None:
        return said.nid
    return node_of_domain(facts, qemu.node) if qemu is not None else None


def _qemu(facts: Facts, region: Span) -> MemoryDevice | None:
    devices = facts.qemu.devices if facts.qemu is not None else ()
    return next((one for one in devices if one.type == "virtio-mem" and one.span == region), None)


def _block_size(qemu: MemoryDevice | None, said: Said | None) -> int:
    if qemu is not None and qemu.block_size:
        return qemu.block_size
    return said.device_block_size if said is not None else DEFAULT_BLOCK_SIZE


def _pageblock(facts: Facts) -> int:
    """Bytes of a pageblock, 0 where nothing tells."""
    order = facts.pagetypeinfo[0].pageblock_order if facts.pagetypeinfo else None
    return 0 if order is None or facts.page_size is None else facts.page_size << order


def _sizes(facts: Facts, name: str, qemu: MemoryDevice | None, least: int, added: int) -> tuple[int, int, bool]:
    """Plugged and requested size, and whether they are told: as QEMU says; else what the driver last read as requested,
    if that can be plugged.
    """
    if qemu is not None:
        plugged = min(qemu.size, added)
        return plugged, plugged if qemu.requested_size is None else qemu.requested_size, True
    read = facts.log.virtio_mem_sizes if facts.log is not None else ()
    requested = [size for who, what, size in read if (who, what) == (name, "requested")]
    if not requested:
        return added, added, False
    return min(added, max(requested[-1], least)), requested[-1], True


def _ends(facts: Facts, added: SpanSet, sub_block: int, missing: int) -> Iterator[Span]:
    """So many bytes at the ends of added memory blocks: of those in a zone no more than it lacks of managed pages, but
    where more is missing than all zones lack. Zones of such blocks alone come first: all that they lack is missing.
    """
    size, page = facts.memory.block_size, facts.page_size or 0
    blocks = sorted((at for span in added for at in range(span.start, span.end, size)), reverse=True)
    zone_of = {at: _zone_of(facts, at // size) for at in blocks}
    present = {(zone.node, zone.name): zone.present * page for zone in facts.zones}
    lacks = {(zone.node, zone.name): zone.reserved * page for zone in facts.zones}
    online = Counter(zone_of.values())
    blocks.sort(key=lambda at: present.get(zone_of[at]) != online[zone_of[at]] * size)
    parts = dict.fromkeys(blocks, 0)
    for most in (lacks, {}):
        for at in blocks:
            zone = zone_of[at]
            part = max(0, min(missing, most.get(zone, missing), size - sub_block - parts[at]))
            parts[at] += part
            missing -= part
            if zone in lacks:
                lacks[zone] -= part
    yield from (Span(at + size - part, at + size) for at, part in parts.items() if part)


def _zone_of(facts: Facts, index: int) -> tuple[int, str]:
    """The node and the zone that a memory block is in; one that no machine has where it is offline or nothing tells."""
    block = facts.memory.by_index.get(index)
    return (block.nodes[0], block.zone) if block is not None and block.zone and block.nodes else (-1, "")
