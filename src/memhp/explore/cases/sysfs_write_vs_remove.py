"""User space writes to the state file of a memory block that is removed.

Who writes is inside an operation of the file, for whose end the removal of the block's device waits under
``device_hotplug_lock``. The write asks for that lock too: it only tries, and where the lock is taken it leaves, and the
system call starts again.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable

from memhp.errors import KernelError
from memhp.explore.case import Case, Configuration, Variant, mainline
from memhp.explore.cases.actors import laws_hold
from memhp.explore.cases.near_dimm import add_near, boot_near, near_dimm, remove_near
from memhp.explore.doors.run import KernelProgram
from memhp.linux.drivers.base.memory_state import try_state_store
from memhp.linux.fs.kernfs.dir import KernfsNode, KernfsNodes
from memhp.linux.fs.kernfs.file import kernfs_fop_write_iter
from memhp.linux.state import Kernel

EVERYWHERE = tuple(one for one in mainline() if one.va_bits == 48)


def write_offline(k: Kernel) -> Hashable:
    """``echo offline > /sys/devices/system/memory/memoryN/state``: the file is open, the block is offline already."""
    (block_id,) = k.statics(KernfsNodes).state
    try:
        kernfs_fop_write_iter(
            k, k.statics(KernfsNodes).state[block_id], lambda: try_state_store(k, block_id, "offline")
        )
    except KernelError as error:
        return error.name
    return "ok"


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM is in and offline; it is removed while its block's state file, which is open, is written to."""
    k = boot_near(variant.config(configuration))
    add_near(k)
    block_id = near_dimm(k).start // k.memory_block_size
    k.statics(KernfsNodes).state[block_id] = KernfsNode(f"memory{block_id}/state")
    return KernelProgram(k, (remove_near, write_offline), ("hot-remove", "write to state"), check=laws_hold)


CASE = Case(
    name="sysfs-write-vs-remove",
    actors="a write to a memory block's state file; removal of the block, which waits for such writes",
    build=build,
    geometry="one memory block; the time for which the write sleeps before it starts again has no length",
    variants=(
        Variant(
            "lock-waited-for",
            "state_store() waits for device_hotplug_lock within the file's operation: before 3.12",
            "broken",
            EVERYWHERE,
            generic={"sysfs_lock": "waits"},
            options={"rodata_full": False},
        ),
        Variant(
            "trylock-and-restart",
            "lock_device_hotplug_sysfs() tries, and has the system call start again",
            "repaired",
            EVERYWHERE,
            options={"rodata_full": False},
        ),
    ),
)
