"""The step `reboot`: the machine starts anew, with whatever the platform has plugged still in its slots.

Firmware's memory map does not name it (``hw/i386/pc.c:pc_memory_init`` gives the BIOS no DIMM), so that the kernel that
boots adds all DIMMs once more while it enumerates ACPI's devices, as its command line says they go online; virtio-mem
devices have nothing plugged after a reset and get to the size that is requested again; a namespace in device-dax mode
has its driver again, kmem does not. What anybody had in use is gone, and so are poisoned pages and what Hyper-V added.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import BadInput, KernelError
from memhp.hw.devices.virtio_mem import Geometry
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.acpi.device import AcpiDevice
from memhp.linux.drivers.acpi.scan import acpi_device_hotplug
from memhp.linux.drivers.virtio.virtio_mem_state import Params
from memhp.linux.init import start_kernel
from memhp.scenario import schema
from memhp.target.model.dax import dax
from memhp.target.model.dax_region import siblings
from memhp.target.model.session import Session
from memhp.target.model.virtio_mem import take_over

MODES: dict[schema.DaxMode, schema.DaxMode] = {"raw": "raw", "devdax": "devdax", "kmem": "devdax"}
"""The driver that a region of persistent memory gets at boot, by the one that it had."""


def restart(session: Session) -> None:
    """A kernel boots on the bare machine; the session knows what its platform has plugged, which is not there yet.

    Raises :class:`BadInput` where nothing tells how the machine boots.
    """
    if session.spec is None:
        raise BadInput("this machine cannot boot again", where="do", fix="rehearse the scenario")
    session.k = start_kernel(session.spec)
    session.placed = None
    session.groups.clear()
    session.unit_groups.clear()


def reboot(session: Session, step: schema.Reboot) -> None:
    """Have the kernel that has booted find all devices. Raises what the first of them is refused with."""
    del step
    lost = [span for span in session.plugged if not any(span in adev.crs for adev in session.dimms)]
    session.plugged.clear()
    refusals = [*_dimms(session), *_virtio_mem(session), *_regions(session)]
    for span in lost:
        if not session.k.hw.memory.owners.covered(*session.frames(span)):
            session.notes.append(f"[{span.start:#x}-{span.end:#x}) is not there again: no device brings it")
    if refusals:
        raise refusals[0]


def _dimms(session: Session) -> list[KernelError]:
    """ACPI's devices in the order of their slots; those of one bus are enumerated together."""
    old, session.dimms = session.dimms, []
    refusals = []
    for adev in old:
        for span in adev.crs:
            session.k.hw.plug(session.frames(span), Owner(Use.DEVICE, "dimm"))
        new = AcpiDevice(adev.name, adev.crs, adev.nid)
        session.dimms.append(new)
        try:
            acpi_device_hotplug(session.k, new, "ACPI_NOTIFY_DEVICE_CHECK", bus=[])
            session.plugged.extend(new.crs)
        except KernelError as error:
            refusals.append(error)
    session.refused = [adev for adev in session.dimms if adev.driver_data is None]
    return refusals


def _virtio_mem(session: Session) -> list[KernelError]:
    old = {name: (vm.device.geometry, vm.device.requested_size, vm.params) for name, vm in session.devices.items()}
    session.devices.clear()
    return [error for name, had in old.items() if (error := _one(session, name, *had)) is not None]


def _one(session: Session, name: str, geometry: Geometry, requested: int, params: Params) -> KernelError | None:
    try:
        take_over(session, name, geometry, requested, params, [])
    except KernelError as error:
        return error
    return None


def _regions(session: Session) -> list[KernelError]:
    """Regions of persistent and of soft-reserved memory; those in no mode that lasts have no driver."""
    old = dict(session.regions)
    session.regions.clear()
    refusals = []
    for name, region in old.items():
        if siblings(session.regions, name):
            session.notes.append(f"{name} is gone: its region is one device again")
            continue
        lasts = MODES.get(region.mode, "none") if region.namespace else "none"
        step = schema.Dax(
            device=name,
            at=region.span.start,
            size=region.span.size,
            node=region.node,
            mode=lasts,
            namespace=region.namespace,
            map=region.info.mode if region.info is not None else None,
            align=region.dev.align if region.dev is not None else None,
        )
        if lasts != region.mode:
            session.notes.append(f"{name} is {lasts} again: nothing keeps what was bound to it but a script at boot")
        try:
            dax(session.k, session.regions, step, session.notes)
        except KernelError as error:
            refusals.append(error)
    return refusals
