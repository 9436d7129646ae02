"""Putting all devices to sleep and waking them up: drivers/base/power/main.c."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import KernelError
from memhp.linux.state import Kernel, SuspendState


def dpm_suspend(k: Kernel, state: SuspendState) -> None:
    """Suspend all devices, those that were registered last first.

    Raises what a driver refuses with; the devices that were asleep by then are awake again.
    """
    asleep: list[str] = []
    for device in reversed(k.dpm_list):
        try:
            device.suspend(k, state)
        except KernelError:
            dpm_resume(k, asleep)
            raise
        asleep.append(device.name)


def dpm_resume(k: Kernel, names: list[str] | None = None) -> None:
    """Wake up all devices, or those of some names, in the order in which they were registered."""
    for device in k.dpm_list:
        if names is None or device.name in names:
            device.resume(k)
