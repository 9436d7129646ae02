"""The virtio-mem devices that a real machine was seen with: each appears, and its driver plugs what was plugged there.

Which sub-blocks of a partly plugged memory block were plugged, and what kept the driver from unplugging those that were
plugged beyond the requested size, stands in no facts: the first ones of the block are taken, and each of those too many
holds a page of an unknown user. Nor does it stand there why a device has less plugged than was requested, unless so
much is offline that the driver adds no more: the host's request is not repeated then.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from memhp.facts.observed import Facts
from memhp.facts.virtio_mem import VirtioMemDevice as Seen
from memhp.facts.virtio_mem import virtio_mem_devices
from memhp.hw.devices.backing import MachineBacking
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.acpi.numa.srat import Srat
from memhp.linux.drivers.virtio.virtio_mem import virtio_mem_probe
from memhp.linux.drivers.virtio.virtio_mem_shared import virtio_mem_could_add_memory, virtio_mem_retry
from memhp.linux.drivers.virtio.virtio_mem_state import Params, VirtioMem
from memhp.linux.kernel.resource import iter_resources, remove_resource
from memhp.linux.mm.page_alloc import take_pages_off_buddy
from memhp.linux.mmzone import ZoneType
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.target.model.session import Session
from memhp.target.model.virtio_mem_blocks import block_unit, plug_blocks, request

UNKNOWN = "unknown"
"""The tag of pages that must be in use, by whom nobody knows."""


def attach_seen(session: Session, facts: Facts) -> None:
    """Every device appears and gets plugged what was plugged, while no memory that is added goes online by itself."""
    k = session.k
    if not k.config.has_virtio_mem:
        return
    for seen in virtio_mem_devices(facts):
        for _, res in list(iter_resources(k.iomem_resource)):
            if (res.start, res.end + 1, res.name) == (*seen.span, seen.name):
                remove_resource(res)
        extent = k.port.virtio_mem_extent
        domain = _domain(k, 0 if seen.node is None else seen.node)
        geometry = Geometry(seen.span.start, seen.span.size, seen.block_size, domain, usable_extent=extent)
        device = VirtioMemDevice(geometry, MachineBacking(k.hw, seen.id or seen.name))
        params = Params(force_bbm=bool(seen.big_block), bbm_block_size=seen.big_block)
        vm = session.devices[seen.id or seen.name] = virtio_mem_probe(k, device, seen.name, params)
        session.seen.add(seen.id or seen.name)
        k.hw.advance(0)
        top = max((span.end for span in seen.added), default=seen.span.start)
        parts = list(_plugged(seen, block_unit(k, vm)))
        request(k, vm, sum(part.size for part in parts), top)
        plug_blocks(k, vm, parts)
        session.plugged.extend(seen.added)


def _domain(k: Kernel, nid: int) -> int:
    """The proximity domain that a device names whose driver found this node."""
    return next((domain for domain, node in k.statics(Srat).pxm_to_node_map.items() if node == nid), nid)


def settle_seen(session: Session, facts: Facts) -> None:
    """Once memory is online as it was: what holds the surplus, and the size that the host last asked for."""
    for seen in virtio_mem_devices(facts):
        vm = session.devices.get(seen.id or seen.name)
        if vm is not None:
            _hold(session.k, vm, vm.device.plugged_size - seen.requested)
            waits = not virtio_mem_could_add_memory(session.k, vm, block_unit(session.k, vm))
            wanted = seen.requested if waits else min(seen.requested, vm.device.plugged_size)
            request(session.k, vm, wanted, vm.addr)
            virtio_mem_retry(session.k, vm)
    session.k.hw.advance(0)


def _plugged(seen: Seen, unit: int) -> Iterator[Span]:
    """What is plugged of each unit that is added: its start."""
    for span in seen.added:
        for at in range(span.start, span.end, unit):
            yield Span(at, at + unit - seen.unplugged.covered(at, at + unit))


def _hold(k: Kernel, vm: VirtioMem, surplus: int) -> None:
    """Use a page in as many sub-blocks as the driver should have unplugged and did not, the first ones there are."""
    unit = (vm.sbm.sb_size if vm.in_sbm else vm.bbm.bb_size) >> k.config.page_shift
    left = surplus >> k.config.page_shift
    for span in vm.device.plugged:
        pfns = Span(span.start >> k.config.page_shift, span.end >> k.config.page_shift)
        for at in range(pfns.start, pfns.end, unit):
            zone = k.zone_of(at)
            if left <= 0 or zone is None:
                continue
            use = Use.PINNED if zone.type is ZoneType.MOVABLE else Use.KERNEL
            if take_pages_off_buddy(k, Span(at, at + 1), Owner(use, UNKNOWN), "mm/page_alloc.c:__alloc_pages"):
                left -= unit
