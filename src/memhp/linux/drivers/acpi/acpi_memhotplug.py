"""DIMMs: the driver of ACPI's memory devices: ``drivers/acpi/acpi_memhotplug.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import suppress
from errno import EEXIST, EINVAL, ENODEV, ENOMEM

from memhp.errors import KernelError
from memhp.linux.drivers.acpi.device import AcpiDevice, AcpiMemoryDevice, AcpiMemoryInfo
from memhp.linux.drivers.acpi.glue import acpi_bind_one, acpi_unbind_one
from memhp.linux.drivers.base.memory_devices import walk_memory_blocks
from memhp.linux.drivers.base.memory_groups import memory_group_register_static, memory_group_unregister
from memhp.linux.drivers.base.memory_state import device_offline
from memhp.linux.mm.memory_hotplug_add import MHP_MEMMAP_ON_MEMORY, MHP_NID_IS_MGID, MHP_NONE, __add_memory
from memhp.linux.mm.memory_hotplug_memmap import mhp_supports_memmap_on_memory
from memhp.linux.mm.memory_hotplug_remove import __remove_memory
from memhp.linux.mm.numa_memblks import memory_add_physaddr_to_nid
from memhp.linux.place import here
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "drivers/acpi/acpi_memhotplug.c"
ENABLE = f"{KERNEL_FILE}:acpi_memory_enable_device"


def acpi_memory_device_add(k: Kernel, adev: AcpiDevice, *, memmap_on_memory: bool | None = None) -> None:
    """A device has appeared: add its memory and bind its memory blocks to it.

    The driver asks for struct pages in the memory itself, in 5.13 where it is possible; `memmap_on_memory` says whether
    it does regardless. Raises EINVAL for a device without memory, ENODEV when a memory block cannot be bound, which
    leaves the memory in and the device without a driver, and EINVAL when no range could be added; what the first was
    refused with is its cause.
    """
    if k.hw.may_fail(here()):
        raise KernelError(ENOMEM, "no memory for the device", place=here())
    mem_device = AcpiMemoryDevice(_combined(adev.crs))
    adev.driver_data = mem_device
    try:
        _enable(k, adev, mem_device, memmap_on_memory)
    except KernelError:
        k.hw.log(f"acpi {adev.name}: acpi_memory_enable_device() error", "err")
        acpi_memory_device_free(k, adev)
        raise
    k.hw.log(f"acpi {adev.name}: Memory device configured by ACPI", "debug")


def _combined(ranges: tuple[Span, ...]) -> list[AcpiMemoryInfo]:
    """A device's ranges, those joined that follow each other: ``acpi_memory_get_resource()``."""
    found: list[AcpiMemoryInfo] = []
    for span in ranges:
        before = next((info for info in found if info.span.end == span.start), None)
        if before is not None:
            before.span = Span(before.span.start, span.end)
        else:
            found.append(AcpiMemoryInfo(span))
    return found


def _enable(k: Kernel, adev: AcpiDevice, mem_device: AcpiMemoryDevice, memmap_on_memory: bool | None) -> None:
    """``acpi_memory_enable_device()``."""
    infos = [info for info in mem_device.res_list if info.span]
    if not infos:
        k.hw.log(f"acpi {adev.name}: device is empty", "err")
        raise KernelError(EINVAL, "device is empty", place=ENABLE)
    nid, flags = adev.nid if adev.nid >= 0 else memory_add_physaddr_to_nid(k, infos[0].span.start), MHP_NONE
    if k.config.profile.auto_movable:
        total = sum(info.span.size for info in infos)
        mem_device.mgid = memory_group_register_static(k, nid, -(-total // k.config.page_size))
        nid, flags = mem_device.mgid, MHP_NID_IS_MGID
    refusal: KernelError | None = None
    for info in infos:
        if _worth_asking(k, info.span.size) if memmap_on_memory is None else memmap_on_memory:
            flags |= MHP_MEMMAP_ON_MEMORY
        try:
            __add_memory(k, nid, info.span.start, info.span.size, flags)
        except KernelError as error:
            if error.errno != EEXIST:
                refusal = refusal or error
                continue
        _bind(k, adev, info.span)
        info.enabled = True
    if not any(info.enabled for info in infos):
        k.hw.log(f"acpi {adev.name}: add_memory failed", "err")
        assert refusal is not None
        raise KernelError(EINVAL, "add_memory failed", place=ENABLE, advice=refusal.reason) from refusal


def _worth_asking(k: Kernel, size: int) -> bool:
    """Whether it asks for struct pages in the memory itself: 5.13 only where that is possible."""
    return not k.config.profile.memmap_on_one_block or mhp_supports_memmap_on_memory(k, size)


def _bind(k: Kernel, adev: AcpiDevice, span: Span) -> None:
    """``acpi_bind_memory_blocks()``; when one cannot be bound, none is, be it another device's."""
    try:
        for block_id in walk_memory_blocks(k, span.start, span.size):
            acpi_bind_one(k, block_id, adev)
    except KernelError as error:
        _unbind(k, span)
        advice = "the memory stays in, and no driver will take it out again"
        if k.config.profile.unbound_memory == "taken-out":
            for block_id in walk_memory_blocks(k, span.start, span.size):
                device_offline(k, block_id)
            __remove_memory(k, span.start, span.size)
            advice = "try again"
        raise KernelError(ENODEV, error.reason, place=ENABLE, advice=advice) from error


def _unbind(k: Kernel, span: Span) -> None:
    """``acpi_unbind_memory_blocks()``."""
    for block_id in walk_memory_blocks(k, span.start, span.size):
        acpi_unbind_one(k, block_id)


def acpi_memory_device_remove(k: Kernel, adev: AcpiDevice) -> None:
    """The driver lets a device go, whose memory blocks are all offline: its memory is removed.

    Raises :class:`memhp.errors.KernelBug` when that cannot be.
    """
    mem_device = adev.driver_data
    if mem_device is None:
        return
    for info in [info for info in mem_device.res_list if info.enabled]:
        _unbind(k, info.span)
        __remove_memory(k, info.span.start, info.span.size)
        mem_device.res_list.remove(info)
    acpi_memory_device_free(k, adev)


def acpi_memory_device_free(k: Kernel, adev: AcpiDevice) -> None:
    """Forget a device; its group stays while memory that was added belongs to it."""
    if adev.driver_data is not None and adev.driver_data.mgid is not None:
        with suppress(KernelError):
            memory_group_unregister(k, adev.driver_data.mgid)
    adev.driver_data = None
