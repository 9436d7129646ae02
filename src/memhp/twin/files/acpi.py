"""Memory devices of firmware, ``/sys/bus/acpi/devices``, and whether they may go: ``/sys/firmware/acpi/hotplug``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EINVAL, ENODEV

from memhp.errors import KernelError
from memhp.facts.source import ACPI_DEVICES, ACPI_MEMORY
from memhp.linux.drivers.acpi.device import AcpiDevice
from memhp.linux.lib.kstrtox import kstrtouint
from memhp.scenario import schema
from memhp.twin.machine import Twin
from memhp.twin.tree import Attribute, Entry, Folder, folder

HOTPLUG = "/sys/firmware/acpi/hotplug/memory"


def acpi_files(twin: Twin) -> dict[str, Entry]:
    """What ACPI tells of memory devices, and takes."""
    return {HOTPLUG: hotplug(twin), ACPI_DEVICES: devices(twin)}


def hotplug(twin: Twin) -> Folder:
    """``/sys/firmware/acpi/hotplug/memory``: whether DIMMs may be ejected, as ``drivers/acpi/sysfs.c`` has it."""

    def store(text: str) -> None:
        try:
            number = kstrtouint(text, base=10)
        except KernelError:
            number = -1
        if number not in (0, 1):
            place = "drivers/acpi/sysfs.c:enabled_store"
            raise KernelError(EINVAL, f"{text!r} is neither 0 nor 1", place=place)
        twin.eject_enabled = bool(number)

    return folder({"enabled": Attribute(0o644, lambda: f"{int(twin.eject_enabled)}\n", store)})


def devices(twin: Twin) -> Folder:
    """A folder a DIMM, where Linux has a link to one below ``/sys/devices``; no other device of ACPI is shown."""
    dimms = twin.session.dimms

    def find(name: str) -> AcpiDevice | None:
        return next((each for each in dimms if each.name == name), None)

    def child(name: str) -> Entry | None:
        return _device(twin, name) if find(name) else None

    def _device(twin: Twin, name: str) -> Folder:
        return Folder(lambda: FILES, lambda file: _file(twin, name, file), lambda: find(name) is not None)

    def _file(twin: Twin, name: str, file: str) -> Attribute | None:
        if file == "eject":
            return Attribute(0o200, None, lambda text: eject_store(twin, find(name), text))
        text = {"hid": f"{ACPI_MEMORY}\n", "modalias": f"acpi:{ACPI_MEMORY}:\n", "status": "15\n"}.get(file)
        return Attribute(0o444, lambda: text, fixed=True) if text is not None else None

    return Folder(lambda: [each.name for each in dimms], child)


FILES = ("eject", "hid", "modalias", "status")


def eject_store(twin: Twin, adev: AcpiDevice | None, text: str) -> None:
    """``drivers/acpi/device_sysfs.c:eject_store()``: the eject is scheduled; nobody hears how it ends but firmware."""
    place = "drivers/acpi/device_sysfs.c:eject_store"
    if not text.startswith("1"):
        raise KernelError(EINVAL, f"{text!r} is not 1", place=place)
    if adev is None or adev.driver_data is None or not twin.eject_enabled:
        raise KernelError(ENODEV, "nothing that handles the device lets it go", place=place)
    step = schema.Eject(at=adev.crs[0].start)
    twin.session.k.hw.arm(0, lambda: _ejected(twin, step))


def _ejected(twin: Twin, step: schema.Eject) -> None:
    """The work that was scheduled; a step that fails is in the record."""
    twin.do(step, where="eject")
