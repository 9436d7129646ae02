"""A memory block goes online by the auto-movable policy while a virtio-mem device that has nothing plugged is unbound.

The policy goes through the dynamic memory groups of all drivers (``walk_dynamic_memory_groups()``). It holds nothing
that would keep a driver from dropping its group meanwhile, and ``memory_group_unregister()`` frees a group at once.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable

from memhp.explore.case import Case, Configuration, Variant, mainline
from memhp.explore.cases.actors import laws_hold
from memhp.explore.cases.near_dimm import add_near, boot_near, near_dimm
from memhp.explore.doors.run import KernelProgram
from memhp.hw.devices.backing import MachineBacking
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.linux.drivers.base.memory_state import memory_block, state_store
from memhp.linux.drivers.virtio.virtio_mem import virtio_mem_probe, virtio_mem_remove
from memhp.linux.drivers.virtio.virtio_mem_fake_offline import OnlinePages
from memhp.linux.state import Kernel
from memhp.units import GiB, KiB

DEVICE_AT = 8 * GiB
WHERE = tuple(
    one
    for one in mainline()
    if one.va_bits == 48 and (one.arch, one.page_size) in {("x86_64", 4 * KiB), ("arm64", 64 * KiB)}
)
"""None of that code is an architecture's: one with small pages, and one with large ones."""
AUTO_MOVABLE = {"online_policy": "auto-movable"}


def write_online(k: Kernel) -> Hashable:
    """``echo online > /sys/devices/system/memory/memoryN/state`` of the DIMM's block: the zone that it comes to."""
    block_id = near_dimm(k).start // k.memory_block_size
    state_store(k, block_id, "online")
    return memory_block(k, block_id).zone


def unbind(k: Kernel) -> None:
    """``echo virtio1 > /sys/bus/virtio/drivers/virtio_mem/unbind``."""
    virtio_mem_remove(k, k.statics(OnlinePages).virtio_mem_devices[0])


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM's block is offline, and none of the device's memory is plugged: its group is empty."""
    k = boot_near(variant.config(configuration))
    add_near(k)
    block = k.memory_block_size
    geometry = Geometry(DEVICE_AT, 2 * block, block, usable_extent=k.port.virtio_mem_extent)
    virtio_mem_probe(k, VirtioMemDevice(geometry, MachineBacking(k.hw, "vm0")), "virtio1")
    k.hw.advance(0)
    return KernelProgram(k, (write_online, unbind), ("online", "unbind"), check=laws_hold)


CASE = Case(
    name="memory-groups-vs-unbind",
    actors="a DIMM's block goes online by the auto-movable policy; a virtio-mem device with nothing plugged is unbound",
    build=build,
    geometry="a virtio-mem device of two memory blocks",
    variants=(
        Variant(
            "as-it-is",
            "memory_group_unregister() frees a group at once, whoever goes through all groups",
            "broken",
            WHERE,
            options=AUTO_MOVABLE,
            finding="The auto-movable policy looks at memory groups that virtio-mem frees",
        ),
        Variant(
            "grace-period",
            "who goes through all groups is within RCU, and a group is freed after a grace period",
            "repaired",
            WHERE,
            generic={"memory_group_freed": "after-grace-period"},
            options=AUTO_MOVABLE,
        ),
    ),
)
