"""Memory of a virtio-mem device added to Linux and removed from it: drivers/virtio/virtio_mem.c.

None of this is called with the hotplug mutex held: onlining takes it. Addresses and sizes are bytes.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EBUSY, ENOMEM

from memhp.errors import KernelBug, KernelError
from memhp.linux.drivers.virtio.virtio_mem_shared import add_offline_size, virtio_mem_retry
from memhp.linux.drivers.virtio.virtio_mem_state import PLACE, RESOURCE_NAME, VirtioMem, dev_log
from memhp.linux.kernel.panic import warn
from memhp.linux.mm.memory_hotplug_add import MHP_MERGE_RESOURCE, MHP_NID_IS_MGID, add_memory_driver_managed
from memhp.linux.mm.memory_hotplug_remove import offline_and_remove_memory, remove_memory
from memhp.linux.state import Kernel

KERNEL_FILE = "drivers/virtio/virtio_mem.c"


def virtio_mem_add_memory(k: Kernel, vm: VirtioMem, addr: int, size: int) -> None:
    """Add memory, which may go online at once. Raises what ``add_memory_driver_managed()`` raises."""
    dev_log(k, vm, f"adding memory: {addr:#x} - {addr + size - 1:#x}", "debug")
    add_offline_size(k, vm, size)
    nid, flags = vm.nid, MHP_MERGE_RESOURCE
    if vm.mgid is not None:
        nid, flags = vm.mgid, flags | MHP_NID_IS_MGID
    try:
        add_memory_driver_managed(k, nid, addr, size, RESOURCE_NAME, flags)
    except KernelError as error:
        add_offline_size(k, vm, -size)
        dev_log(k, vm, f"adding memory failed: {-error.errno}", "warn")
        raise


def virtio_mem_remove_memory(k: Kernel, vm: VirtioMem, addr: int, size: int) -> None:
    """Remove memory that is offline. Raises :class:`KernelBug` when that fails, as its callers have it."""
    dev_log(k, vm, f"removing memory: {addr:#x} - {addr + size - 1:#x}", "debug")
    try:
        remove_memory(k, addr, size)
    except KernelError as error:
        dev_log(k, vm, f"removing memory failed: {-error.errno}", "debug")
        raise KernelBug(f"BUG_ON: {error.reason}", place=f"{PLACE}:virtio_mem_sbm_remove_mb") from error
    add_offline_size(k, vm, -size)
    virtio_mem_retry(k, vm)


def virtio_mem_offline_and_remove_memory(k: Kernel, vm: VirtioMem, addr: int, size: int) -> None:
    """Offline and remove memory of which the driver keeps all that is online. Raises ENOMEM or EBUSY."""
    place = f"{PLACE}:virtio_mem_offline_and_remove_memory"
    dev_log(k, vm, f"offlining and removing memory: {addr:#x} - {addr + size - 1:#x}", "debug")
    try:
        offline_and_remove_memory(k, addr, size)
    except KernelError as error:
        dev_log(k, vm, f"offlining and removing memory failed: {-error.errno}", "debug")
        if k.config.profile.virtio_mem_remove_errors == "given-up":
            raise
        if error.errno not in (ENOMEM, EBUSY):
            warn(k, place, once=True)
        errno = ENOMEM if error.errno == ENOMEM else EBUSY
        raise KernelError(errno, error.reason, place=place, advice=error.advice) from error
    add_offline_size(k, vm, -size)
    virtio_mem_retry(k, vm)
