"""A patch to try with ``memhp explore sysfs-write-vs-remove --variant lock-waited-for --patch own_patch.py``.

The write to a block's state file does not wait for the lock that the block's removal holds: it only tries.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.explore.patch import replaces
from memhp.linux.state import Kernel


@replaces("drivers/base/core.c:lock_device_hotplug_sysfs")
def lock_device_hotplug_sysfs(k: Kernel) -> bool:
    """Whether the lock was to be had; where it was not, the system call starts again."""
    return k.hw.trylock("device_hotplug_lock")
