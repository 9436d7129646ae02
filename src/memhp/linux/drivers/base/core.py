"""Devices and the references that keep them: ``drivers/base/core.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field

from memhp.hw.lifetime import SlabObject, kfree, use_object
from memhp.hw.machine import Machine
from memhp.hw.shared import marked
from memhp.linux.place import here
from memhp.linux.state import Kernel

KERNEL_FILE = "drivers/base/core.c"


@dataclass(eq=False)
class Device:
    """``struct device``, with what it is embedded in; it starts with the reference that its registration holds."""

    slab: SlabObject
    release: str
    """Its release function, ``file:function``, which frees it."""
    refs: int = field(default=1, metadata=marked(lambda dev: dev.slab.name))


DEVICE_HOTPLUG_LOCK = "device_hotplug_lock"


def lock_device_hotplug_sysfs(k: Kernel) -> bool:
    """Take ``device_hotplug_lock`` within an operation of a file; False where the system call is to start again.

    Who has it may be removing the file's device, and wait for the operation to end.
    """
    if k.config.profile.sysfs_lock == "waits":
        k.hw.lock(DEVICE_HOTPLUG_LOCK)
        return True
    return k.hw.trylock(DEVICE_HOTPLUG_LOCK)


def get_device(hw: Machine, dev: Device) -> None:
    """Take a reference; whoever calls it must know that there is one already."""
    use_object(hw, dev.slab, here(), change=True)
    dev.refs += 1


def put_device(hw: Machine, dev: Device) -> None:
    """Drop a reference; with the last one the device is freed."""
    use_object(hw, dev.slab, here(), change=True)
    dev.refs -= 1
    if not dev.refs:
        kfree(hw, dev.slab, dev.release)


def device_unregister(hw: Machine, dev: Device) -> None:
    """The device is not to be found any more; it stays for as long as somebody has a reference."""
    put_device(hw, dev)
