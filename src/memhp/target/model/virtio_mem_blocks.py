"""Memory blocks of a virtio-mem device that a step names by address: its driver plugs or unplugs exactly these."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable, Mapping
from contextlib import suppress
from errno import EBUSY

from memhp.errors import KernelError
from memhp.linux.drivers.virtio.virtio_mem import virtio_mem_refresh_config
from memhp.linux.drivers.virtio.virtio_mem_bbm import (
    virtio_mem_bbm_offline_remove_and_unplug_bb,
    virtio_mem_bbm_plug_and_add_bb,
)
from memhp.linux.drivers.virtio.virtio_mem_sbm import virtio_mem_sbm_plug_and_add_mb
from memhp.linux.drivers.virtio.virtio_mem_sbm_unplug import virtio_mem_sbm_unplug_any_sb
from memhp.linux.drivers.virtio.virtio_mem_shared import virtio_mem_retry
from memhp.linux.drivers.virtio.virtio_mem_state import PLACE, VirtioMem
from memhp.linux.state import Kernel
from memhp.spans import Span


def device_at(devices: Mapping[str, VirtioMem], span: Span) -> VirtioMem | None:
    """The device with a driver that manages a range of addresses."""
    return next((vm for vm in devices.values() if not vm.removing and vm.region.covers(span)), None)


def block_unit(k: Kernel, vm: VirtioMem) -> int:
    """Bytes that a device's driver adds to Linux at a time."""
    return k.memory_block_size if vm.in_sbm else vm.bbm.bb_size


def plug_blocks(k: Kernel, vm: VirtioMem, parts: Iterable[Span]) -> None:
    """Have the driver plug and add these parts of the device, each from the start of a memory block or big block.

    As much must be requested of the device. Raises what a request or adding raises.
    """
    assert vm.mode is not None
    for part in parts:
        block_id = part.start // block_unit(k, vm)
        while vm.mode.blocks.next_id <= block_id:
            vm.mode.blocks.prepare_next()
        if vm.in_sbm:
            virtio_mem_sbm_plug_and_add_mb(k, vm, block_id, part.size // vm.sbm.sb_size)
        else:
            virtio_mem_bbm_plug_and_add_bb(k, vm, block_id)


def request(k: Kernel, vm: VirtioMem, size: int, top: int) -> None:
    """The host requests a size, with memory usable up to the address `top`, and the driver takes note of it."""
    vm.device.requested_size = size
    vm.device.usable_region_size = max(vm.device.usable_region_size, size, top - vm.addr)
    virtio_mem_refresh_config(k, vm)


def grow(k: Kernel, vm: VirtioMem, span: Span) -> None:
    """The host requests so much more, and the driver happens to plug it there. Raises what that raises."""
    request(k, vm, vm.device.plugged_size + span.size, span.end)
    unit = block_unit(k, vm)
    plug_blocks(k, vm, (Span(at, at + unit) for at in range(span.start, span.end, unit)))


def shrink(k: Kernel, vm: VirtioMem, span: Span) -> None:
    """The host requests so much less, and the driver happens to unplug it there, as far as it can.

    Raises EBUSY when some of it is in use.
    """
    before = vm.device.plugged.covered(*span)
    request(k, vm, vm.device.plugged_size - before, span.end)
    unit = block_unit(k, vm)
    for block_id in reversed(range(span.start // unit, span.end // unit)):
        (_unplug_memory_block if vm.in_sbm else _unplug_big_block)(k, vm, block_id)
    left = vm.device.plugged.covered(*span)
    if left:
        virtio_mem_retry(k, vm)
        text = f"{left:#x} bytes of the device are in use"
        raise KernelError(EBUSY, text, place=f"{PLACE}:virtio_mem_unplug_request")


def _unplug_memory_block(k: Kernel, vm: VirtioMem, mb_id: int) -> None:
    with k.hw.locked(vm.hotplug_mutex):
        virtio_mem_sbm_unplug_any_sb(k, vm, mb_id, vm.sbm.sbs_per_mb)


def _unplug_big_block(k: Kernel, vm: VirtioMem, bb_id: int) -> None:
    with suppress(KernelError):
        virtio_mem_bbm_offline_remove_and_unplug_bb(k, vm, bb_id)
