"""What happened to virtio-mem devices between two moments of a real machine: the sizes that its host requested.

Where both moments tell a device's requested size, the device is resized as it was, and its driver chooses the blocks;
what of it was not unplugged although it was to be has a page of an unknown user. Resizing takes as long as the driver
may have had: until it tries no more within the longest of its waits.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from memhp.facts.observed import Facts
from memhp.facts.virtio_mem import VirtioMemDevice, virtio_mem_devices
from memhp.linux.mm.users import Kind
from memhp.scenario import schema
from memhp.spans import SpanSet

PATIENCE = 600
"""Seconds: twice the longest wait of the driver, ``VIRTIO_MEM_RETRY_TIMER_MAX_MS``."""


def told_devices(before: Facts, after: Facts) -> list[tuple[VirtioMemDevice, VirtioMemDevice]]:
    """Every device whose requested size stands in both moments, as it was and as it is."""
    now = {device.span: device for device in virtio_mem_devices(after) if device.told}
    return [(then, now[then.span]) for then in virtio_mem_devices(before) if then.told and then.span in now]


def told_regions(before: Facts, after: Facts) -> SpanSet:
    """The regions of these devices (bytes)."""
    return SpanSet(device.span for _, device in told_devices(before, after))


def resizes(before: Facts, after: Facts) -> Iterator[schema.StepKind]:
    """The steps that brought each of these devices from the size that it had to the one that it has."""
    for then, now in told_devices(before, after):
        if (then.requested, then.plugged) == (now.requested, now.plugged):
            continue
        yield from _holders(after, then, now)
        expect = "EBUSY" if now.plugged > now.requested else "ok"
        yield schema.Resize(to=now.requested, device=now.id or now.name, wait=PATIENCE, expect=expect)


def _holders(after: Facts, then: VirtioMemDevice, now: VirtioMemDevice) -> Iterator[schema.Allocate]:
    """A page in use in each sub-block that stays beyond the size requested: one in each block, then a second, ..."""
    surplus = (now.plugged - now.requested) // now.sub_block
    held = max(then.plugged - then.requested, 0) // now.sub_block
    size = after.memory.block_size
    blocks = [at for span in now.added for at in range(span.start, span.end, size)]
    places = [at + unit for unit in range(0, size, now.sub_block) for at in blocks]
    zones = {block.index: block.zone for block in after.memory.blocks}
    for at in places[held:surplus]:
        movable = zones.get(at // size) == "Movable"
        kind: Kind = "pinned" if movable else "kernel"
        page = after.page_size or 4096
        yield schema.Allocate(size=page, kind=kind, tag=f"unknown {at:#x}", at=at + now.sub_block - page)
