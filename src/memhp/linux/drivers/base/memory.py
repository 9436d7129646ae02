"""``/sys/devices/system/memory``: ``drivers/base/memory.c``. What its files say is here; the rest by its kernel name.

Blocks as devices are in `memory_devices`, their state machine in `memory_state`, memory groups in `memory_groups`.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EINVAL

from memhp.errors import KernelError
from memhp.linux.config import OnlineType
from memhp.linux.drivers.base.memory_devices import (
    block_pfns,
    create_memory_block_devices,
    memory_dev_init,
    register_memory_blocks_under_node,
    remove_memory_block_devices,
    walk_memory_blocks,
)
from memhp.linux.drivers.base.memory_groups import (
    memory_group_register_dynamic,
    memory_group_register_static,
    memory_group_unregister,
)
from memhp.linux.drivers.base.memory_state import (
    device_offline,
    device_online,
    memblk_nr_poison,
    memory_block,
    memory_block_offline,
    memory_block_online,
    memory_group_of,
    mhp_online_type_from_str,
    nr_vmemmap_pages,
    state_store,
)
from memhp.linux.drivers.base.notify import memory_notify, node_notify
from memhp.linux.mm.memory_hotplug_zone import zone_for_pfn_range
from memhp.linux.state import Kernel

__all__ = [
    "auto_online_blocks_store",
    "block_pfns",
    "create_memory_block_devices",
    "device_offline",
    "device_online",
    "memblk_nr_poison",
    "memory_block",
    "memory_block_offline",
    "memory_block_online",
    "memory_dev_init",
    "memory_group_of",
    "memory_group_register_dynamic",
    "memory_group_register_static",
    "memory_group_unregister",
    "memory_notify",
    "mhp_online_type_from_str",
    "node_notify",
    "nr_vmemmap_pages",
    "register_memory_blocks_under_node",
    "remove_memory_block_devices",
    "state_store",
    "valid_zones",
    "walk_memory_blocks",
]


def auto_online_blocks_store(k: Kernel, text: str) -> None:
    """Write to ``auto_online_blocks``. Raises EINVAL."""
    online_type = mhp_online_type_from_str(text.removesuffix("\n"))
    if online_type is None:
        raise KernelError(EINVAL, f"{text!r} is no online type", place="drivers/base/memory.c:auto_online_blocks_store")
    k.auto_online_blocks = online_type


def valid_zones(k: Kernel, block_id: int) -> str:
    """What ``valid_zones`` says: of an online block its zone, ``none`` for several; else those that it could go to.

    The first of these is where plain ``online`` puts it now. drivers/base/memory.c:valid_zones_show.
    """
    block = memory_block(k, block_id)
    if block.state == "online":
        return block.zone.title if block.zone is not None else "none"
    assert block.nid is not None
    pfns = block_pfns(k, block_id)
    names: list[str] = []
    kinds: tuple[OnlineType, ...] = ("online", "online_kernel", "online_movable")
    for kind in kinds:
        zone = zone_for_pfn_range(k, kind, block.nid, memory_group_of(k, block), pfns.start, pfns.size)
        if not names or zone.name != names[0]:
            names.append(zone.name)
    return " ".join(names)
