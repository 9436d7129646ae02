"""Requests to a virtio-mem device, and what the driver makes of the answers: drivers/virtio/virtio_mem.c.

NACK is ``EAGAIN``, BUSY ``ETXTBSY``, ERROR ``EINVAL``; an answer that does not belong to the request is ``ENOMEM``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EAGAIN, EINVAL, ENOMEM, ETXTBSY

from memhp.errors import KernelError
from memhp.hw.devices.virtio_mem_wire import MAX_BLOCKS, Request, RequestType, Response, ResponseType
from memhp.linux.drivers.virtio.virtio_mem_shared import config_changed, set_config_changed
from memhp.linux.drivers.virtio.virtio_mem_state import PLACE, VirtioMem, dev_log
from memhp.linux.state import Kernel

KERNEL_FILE = "drivers/virtio/virtio_mem.c"
ERRNO = {
    (RequestType.PLUG, ResponseType.NACK): EAGAIN,
    (RequestType.PLUG, ResponseType.BUSY): ETXTBSY,
    (RequestType.PLUG, ResponseType.ERROR): EINVAL,
    (RequestType.UNPLUG, ResponseType.BUSY): ETXTBSY,
    (RequestType.UNPLUG, ResponseType.ERROR): EINVAL,
    (RequestType.UNPLUG_ALL, ResponseType.BUSY): ETXTBSY,
}
DOING = {RequestType.PLUG: "plugging", RequestType.UNPLUG: "unplugging"}


def virtio_mem_send_request(k: Kernel, vm: VirtioMem, request: Request) -> Response:
    """Put a request into the queue and wait for the response; time passes and interrupts come meanwhile."""
    data, delay = vm.device.handle(request.pack())
    if delay:
        k.hw.advance(delay)
    return Response.unpack(data)


def virtio_mem_send_plug_request(k: Kernel, vm: VirtioMem, addr: int, size: int) -> None:
    """Have the device plug `size` bytes from `addr` on. Raises EAGAIN, ETXTBSY, EINVAL, ENOMEM."""
    _send(k, vm, RequestType.PLUG, addr, size)
    vm.plugged_size += size


def virtio_mem_send_unplug_request(k: Kernel, vm: VirtioMem, addr: int, size: int) -> None:
    """Have the device unplug `size` bytes from `addr` on. Raises EAGAIN, ETXTBSY, EINVAL, ENOMEM."""
    _send(k, vm, RequestType.UNPLUG, addr, size)
    vm.plugged_size -= size


def _send(k: Kernel, vm: VirtioMem, kind: RequestType, addr: int, size: int) -> None:
    place = f"{PLACE}:virtio_mem_send_{kind.name.lower()}_request"
    if config_changed(k, vm):
        raise KernelError(EAGAIN, "the configuration of the device changed", place=place)
    dev_log(k, vm, f"{DOING[kind]} memory: {addr:#x} - {addr + size - 1:#x}", "debug")
    nb_blocks = (size // vm.device_block_size) & MAX_BLOCKS
    answer = virtio_mem_send_request(k, vm, Request(kind, addr, nb_blocks)).type
    if answer is not ResponseType.ACK:
        errno = ERRNO.get((kind, answer), ENOMEM)
        dev_log(k, vm, f"{DOING[kind]} memory failed: {-errno}", "debug")
        text = f"the device answers {answer.name} to {kind.name} of {nb_blocks} blocks at {addr:#x}"
        raise KernelError(errno, text, place=place)


def virtio_mem_send_unplug_all_request(k: Kernel, vm: VirtioMem) -> None:
    """Have the device unplug everything; its usable region may have shrunk then. Raises ETXTBSY, ENOMEM."""
    dev_log(k, vm, "unplugging all memory", "debug")
    answer = virtio_mem_send_request(k, vm, Request(RequestType.UNPLUG_ALL)).type
    if answer is not ResponseType.ACK:
        errno = ERRNO.get((RequestType.UNPLUG_ALL, answer), ENOMEM)
        dev_log(k, vm, f"unplugging all memory failed: {-errno}", "debug")
        text = f"the device answers {answer.name} to UNPLUG_ALL"
        raise KernelError(errno, text, place=f"{PLACE}:virtio_mem_send_unplug_all_request")
    vm.unplug_all_required = False
    vm.plugged_size = 0
    set_config_changed(k, vm, changed=True)
