"""A device appears or is to be ejected: ``drivers/acpi/scan.c``, from ``acpi_device_hotplug()`` on."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from contextlib import suppress
from errno import EBUSY, EPERM
from operator import attrgetter
from typing import Literal

from memhp.errors import KernelError
from memhp.linux.drivers.acpi.acpi_memhotplug import acpi_memory_device_add, acpi_memory_device_remove
from memhp.linux.drivers.acpi.device import AcpiDevice
from memhp.linux.drivers.base.memory_state import device_offline, device_online
from memhp.linux.mm.memory_hotplug_remove import online_type_of
from memhp.linux.place import here
from memhp.linux.state import Kernel

KERNEL_FILE = "drivers/acpi/scan.c"
Event = Literal["ACPI_NOTIFY_DEVICE_CHECK", "ACPI_NOTIFY_EJECT_REQUEST"]

EVENT = f"{KERNEL_FILE}:acpi_generic_hotplug_event"


def acpi_device_hotplug(
    k: Kernel,
    adev: AcpiDevice,
    event: Event,
    *,
    memmap_on_memory: bool | None = None,
    bus: Iterable[AcpiDevice] = (),
) -> None:
    """Firmware tells of a device: that it appeared, so that its driver takes it over; or that it is to be ejected.

    `bus` are the devices beside it, see :func:`acpi_scan_device_check`.

    An eject, which may also be asked for through ``…/eject``, takes all of it offline and removes it; the platform
    unplugs it then. `memmap_on_memory` and what is raised for a new device: see
    :func:`~memhp.linux.drivers.acpi.acpi_memhotplug.acpi_memory_device_add`. For an eject raises EPERM where that is
    disabled, and EBUSY when a memory block does not go offline.
    """
    with k.hw.locked("device_hotplug_lock"), k.hw.locked("acpi_scan_lock"):
        if event == "ACPI_NOTIFY_DEVICE_CHECK":
            acpi_scan_device_check(k, adev, bus, memmap_on_memory=memmap_on_memory)
        else:
            acpi_scan_hot_remove(k, adev)


def acpi_scan_device_check(
    k: Kernel, adev: AcpiDevice, bus: Iterable[AcpiDevice], *, memmap_on_memory: bool | None
) -> None:
    """A device appeared: it is enumerated, or all of its bus is, so that drivers try once more what they refused.

    What becomes of the others is only logged. Raises what :func:`acpi_memory_device_add` raises for the device itself.
    """
    others = [each for each in bus if each is not adev and each.driver_data is None]
    found = [adev, *others] if k.config.profile.acpi_device_check == "parent" else [adev]
    refusal: KernelError | None = None
    for each in sorted(found, key=attrgetter("name")):
        try:
            acpi_memory_device_add(k, each, memmap_on_memory=memmap_on_memory if each is adev else None)
        except KernelError as error:
            if each is adev:
                refusal = error
    if refusal is not None:
        raise refusal


def acpi_scan_hot_remove(k: Kernel, adev: AcpiDevice) -> None:
    """Take a device's memory away; see :func:`acpi_device_hotplug`."""
    if not adev.hotplug_enabled:
        k.hw.log(f"acpi {adev.name}: Eject disabled")
        advice = "write 1 to /sys/firmware/acpi/hotplug/memory/enabled"
        raise KernelError(EPERM, "Eject disabled", place=EVENT, advice=advice)
    acpi_scan_try_to_offline(k, adev)
    acpi_memory_device_remove(k, adev)


def acpi_scan_try_to_offline(k: Kernel, adev: AcpiDevice) -> None:
    """Take all memory blocks of a device offline, in two passes, as one may hold what another depends on.

    The first goes on after a refusal, the second ends at it; those that had gone by then are put online again, wherever
    plain ``online`` puts them, and EBUSY is raised.
    """
    if _acpi_bus_offline(k, adev, second_pass=False) is None:
        return
    refused = _acpi_bus_offline(k, adev, second_pass=True)
    if refused is None:
        return
    block_id, error = refused
    k.hw.log(f"memory memory{block_id}: Offline failed.", "warn")
    _acpi_bus_online(k, adev)
    why = ": ".join(filter(None, (f"memory{block_id}", error.reason, error.advice)))
    raise KernelError(EBUSY, "Offline failed", place=here(), advice=why) from error


def _acpi_bus_offline(k: Kernel, adev: AcpiDevice, *, second_pass: bool) -> tuple[int, KernelError] | None:
    """``acpi_bus_offline()``: the last memory block that refused, and why; None when none did."""
    refused: tuple[int, KernelError] | None = None
    for node in adev.physical_node_list:
        if second_pass and node.put_online:
            continue
        if not second_pass:
            node.put_online = False
        if k.config.profile.eject_undo == "zone-before":
            node.online_type = online_type_of(k, node.block_id)
        try:
            node.put_online = device_offline(k, node.block_id)
        except KernelError as error:
            refused = (node.block_id, error)
            if second_pass:
                break
    return refused


def _acpi_bus_online(k: Kernel, adev: AcpiDevice) -> None:
    """``acpi_bus_online()``: put online again what this eject took offline."""
    for node in adev.physical_node_list:
        if node.put_online:
            with suppress(KernelError):
                device_online(k, node.block_id, node.online_type)
            node.put_online = False
