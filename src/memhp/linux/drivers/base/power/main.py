"""Putting all devices to sleep and waking them up: drivers/base/power/main.c."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from memhp.errors import KernelError
from memhp.linux.state import Kernel

KERNEL_FILE = "drivers/base/power/main.c"
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
    """``dpm_list``."""

    devices: list[PmDevice] = field(default_factory=list)
    """In the order in which they were registered."""


def dpm_suspend(k: Kernel, state: SuspendState) -> None:
    """Suspend all devices, those that were registered last first.

    Raises what a driver refuses with; the devices that were asleep by then are awake again.
    """
    asleep: list[str] = []
    for device in reversed(k.statics(DpmList).devices):
        try:
            device.suspend(k, state)
        except KernelError:
            dpm_resume(k, asleep)
            raise
        asleep.append(device.name)


def dpm_resume(k: Kernel, names: list[str] | None = None) -> None:
    """Wake up all devices, or those of some names, in the order in which they were registered."""
    for device in k.statics(DpmList).devices:
        if names is None or device.name in names:
            device.resume(k)
