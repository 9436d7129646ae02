"""Suspend to idle and to RAM, and hibernation: kernel/power/suspend.c and kernel/power/hibernate.c.

Of all that these do, here is what memory notices: power-management notifiers, and the drivers that manage memory. The
machine's clock, ``CLOCK_MONOTONIC``, stands still while it sleeps.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from typing import Literal

from memhp.errors import KernelError
from memhp.linux.drivers.base.power.main import dpm_resume, dpm_suspend
from memhp.linux.kernel.power.main import pm_notifier_call_chain, pm_notifier_call_chain_robust
from memhp.linux.place import here, of_file
from memhp.linux.state import Kernel

KERNEL_FILE = "kernel/power/suspend.c"
MEM_SLEEP_LABELS: dict[Literal["freeze", "mem"], str] = {"freeze": "s2idle", "mem": "deep"}
"""What is written to ``/sys/power/state``, and what the kernel calls it."""


def pm_suspend(k: Kernel, state: Literal["freeze", "mem"], asleep: Callable[[], None]) -> None:
    """Suspend to idle (`freeze`) or to RAM (`mem`); `asleep` is what the platform does before it wakes up again.

    Raises what a notifier or a driver refuses with: then the machine has not slept.
    """
    k.hw.log(f"PM: suspend entry ({MEM_SLEEP_LABELS[state]})")
    try:
        place = f"{KERNEL_FILE}:suspend_prepare"
        pm_notifier_call_chain_robust(k, "PM_SUSPEND_PREPARE", "PM_POST_SUSPEND", place)
        try:
            _enter(k, state, asleep)
        finally:
            pm_notifier_call_chain(k, "PM_POST_SUSPEND")
    finally:
        k.hw.log("PM: suspend exit")


def _enter(k: Kernel, state: Literal["freeze", "mem"], asleep: Callable[[], None]) -> None:
    """``suspend_devices_and_enter()``."""
    try:
        dpm_suspend(k, state)
    except KernelError:
        k.hw.log("PM: Some devices failed to suspend, or early wake event detected", "err")
        raise
    asleep()
    dpm_resume(k)


@of_file("kernel/power/hibernate.c")
def hibernate(k: Kernel, off: Callable[[], None]) -> None:
    """Suspend to disk; `off` is what the platform does from power-off until the image runs again.

    Raises what a notifier or a driver refuses with.
    """
    k.hw.log("PM: hibernation: hibernation entry")
    try:
        pm_notifier_call_chain_robust(k, "PM_HIBERNATION_PREPARE", "PM_POST_HIBERNATION", here())
        try:
            dpm_suspend(k, "disk")
            off()
            dpm_resume(k)
        finally:
            pm_notifier_call_chain(k, "PM_POST_HIBERNATION")
    finally:
        k.hw.log("PM: hibernation: hibernation exit")
