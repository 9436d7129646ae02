"""Putting all devices to sleep and waking them up: drivers/base/power/main.c."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from memhp.errors import KernelError
from memhp.linux.state import Kernel

KERNEL_FILE = "drivers/base/power/main.c"
DPM_LIST_MTX = "dpm_list_mtx"
SuspendState = Literal["freeze", "mem", "disk"]
"""What is written to ``/sys/power/state``: to idle, to RAM, to disk."""


@dataclass(frozen=True)
class PmDevice:
    """A device that sleeps when the machine does: ``dev_pm_ops`` of its driver."""

    name: str
    suspend: Callable[[Kernel, SuspendState], None]
    """Raises :class:`memhp.errors.KernelError` when the device must not sleep now."""
    resume: Callable[[Kernel], None]


@dataclass
class DpmList:
    """The devices that sleep."""

    dpm_list: list[PmDevice] = field(default_factory=list)
    """In the order in which they were registered."""


def device_pm_add(k: Kernel, device: PmDevice) -> None:
    """A device sleeps with the machine from now on."""
    with k.hw.locked(DPM_LIST_MTX):
        k.statics(DpmList).dpm_list.append(device)


def device_pm_remove(k: Kernel, name: str) -> None:
    """A device does not any more."""
    with k.hw.locked(DPM_LIST_MTX):
        devices = k.statics(DpmList)
        devices.dpm_list = [device for device in devices.dpm_list if device.name != name]


def dpm_suspend(k: Kernel, state: SuspendState) -> None:
    """Suspend all devices, those that were registered last first.

    Raises what a driver refuses with; the devices that were asleep by then are awake again.
    """
    asleep: list[str] = []
    for device in reversed(_registered(k)):
        try:
            device.suspend(k, state)
        except KernelError:
            dpm_resume(k, asleep)
            raise
        asleep.append(device.name)


def dpm_resume(k: Kernel, names: list[str] | None = None) -> None:
    """Wake up all devices, or those of some names, in the order in which they were registered."""
    for device in _registered(k):
        if names is None or device.name in names:
            device.resume(k)


def _registered(k: Kernel) -> list[PmDevice]:
    """The devices as they are; the lock over them is not held while one of them falls asleep or wakes up."""
    with k.hw.locked(DPM_LIST_MTX):
        return list(k.statics(DpmList).dpm_list)
