"""The folder ``power`` of a device without power management of its own: ``drivers/base/power/sysfs.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field
from errno import EINVAL, EIO
from typing import NoReturn

from memhp.errors import KernelError
from memhp.linux.place import here
from memhp.linux.state import Kernel

KERNEL_FILE = "drivers/base/power/sysfs.c"


@dataclass
class RuntimePower:
    """What was written to ``control``."""

    forbidden: dict[str, bool] = field(default_factory=dict)
    """By device, once something was written: whether its ``power.runtime_auto`` is off."""


def control_show(k: Kernel, device: str) -> str:
    """Whether runtime power management is left to itself."""
    return "on\n" if k.statics(RuntimePower).forbidden.get(device) else "auto\n"


def control_store(k: Kernel, device: str, text: str) -> None:
    """Write to ``control``. Raises EINVAL for anything but ``auto`` and ``on``."""
    word = text.removesuffix("\n")
    with k.hw.locked(f"{device}.device_lock", ordered=False):
        if word not in ("auto", "on"):
            raise KernelError(EINVAL, f"{text!r} is neither auto nor on", place=here())
        k.statics(RuntimePower).forbidden[device] = word == "on"


def autosuspend_delay_ms_show() -> NoReturn:
    """No device of memory suspends itself: EIO."""
    raise KernelError(EIO, "the device does not suspend itself", place=here())


def autosuspend_delay_ms_store(text: str) -> NoReturn:
    """Whatever is written, EIO too."""
    raise KernelError(EIO, f"{text!r} for a device that does not suspend itself", place=here())


def dpm_sysfs_remove(k: Kernel, start_block: int, end_block: int) -> None:
    """The folders go with memory blocks; others of that name begin anew."""
    forbidden = k.statics(RuntimePower).forbidden
    for block_id in range(start_block, end_block):
        forbidden.pop(f"memory{block_id}", None)
