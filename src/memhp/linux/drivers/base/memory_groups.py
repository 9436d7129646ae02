"""Memory groups: memory that comes and goes together, for the auto-movable policy: ``drivers/base/memory.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from errno import EBUSY, EINVAL
from itertools import count, filterfalse

from memhp.errors import KernelError
from memhp.hw.lifetime import kfree, use_object
from memhp.hw.shared import marked
from memhp.linux.kernel.rcu import kfree_rcu, rcu_read_lock
from memhp.linux.mmzone import MemoryGroup
from memhp.linux.place import here, kernel_function
from memhp.linux.state import MEMORY_GROUPS, Kernel

KERNEL_FILE = "drivers/base/memory.c"


@dataclass
class Freed:
    """Groups that are no more, where a pointer may still lead: by id, the last of each."""

    groups: dict[int, MemoryGroup] = field(default_factory=dict, metadata=marked(MEMORY_GROUPS))


def memory_group_register_static(k: Kernel, nid: int, max_pages: int) -> int:
    """A group for memory that is added and removed in one go, such as a DIMM: its id. Raises EINVAL."""
    if not max_pages:
        raise KernelError(EINVAL, "a static memory group of no pages", place=here())
    return _memory_group_register(k, MemoryGroup(nid, dynamic=False, max_pages=max_pages), here())


def memory_group_register_dynamic(k: Kernel, nid: int, unit_pages: int) -> int:
    """A group for memory that comes and goes in units, such as a virtio-mem device: its id.

    Raises EINVAL unless the unit is a power of two of at least one memory block.
    """
    if unit_pages < k.pages_per_block or unit_pages & (unit_pages - 1):
        text = f"{unit_pages} pages cannot be the unit of a memory group, a block has {k.pages_per_block}"
        raise KernelError(EINVAL, text, place=here())
    return _memory_group_register(k, MemoryGroup(nid, dynamic=True, unit_pages=unit_pages), here())


def _memory_group_register(k: Kernel, group: MemoryGroup, place: str) -> int:
    if group.nid not in k.node_states.possible:
        raise KernelError(EINVAL, f"node {group.nid} is not possible", place=place)
    k.hw.atomic(MEMORY_GROUPS)
    mgid = next(filterfalse(k.memory_groups.__contains__, count()))
    k.memory_groups[mgid] = group
    return mgid


def memory_group_unregister(k: Kernel, mgid: int) -> None:
    """Drop a group. Raises EINVAL when there is none of that id, EBUSY while memory blocks belong to it.

    Nothing keeps two from dropping one, nor others from still using it: that is for the driver whose group it is.
    """
    group = _load(k, mgid)
    if group is None:
        raise KernelError(EINVAL, f"there is no memory group {mgid}", place=here())
    use_object(k.hw, group.slab, here())
    if group.memory_blocks:
        raise KernelError(EBUSY, f"memory blocks belong to memory group {mgid}", place=here())
    k.hw.atomic(MEMORY_GROUPS)
    k.memory_groups.pop(mgid, None)
    k.statics(Freed).groups[mgid] = group
    if k.config.profile.memory_group_freed == "at-once":
        kfree(k.hw, group.slab, here())
    else:
        kfree_rcu(k.hw, group.slab, here())


def _load(k: Kernel, mgid: int) -> MemoryGroup | None:
    """``xa_load()``."""
    k.hw.reads(MEMORY_GROUPS)
    return k.memory_groups.get(mgid)


def memory_group_find_by_id(k: Kernel, mgid: int) -> MemoryGroup | None:
    """The group of that id, if there is one."""
    return _load(k, mgid)


def walk_dynamic_memory_groups(k: Kernel, nid: int | None, excluded: MemoryGroup | None) -> Iterator[MemoryGroup]:
    """The dynamic groups of a node, or of all nodes (None), without one of them, each as the walk comes to it.

    Nothing keeps a driver from dropping the group that is looked at: each is found under RCU, and used without, but in
    a kernel that frees groups after a grace period.
    """
    with nullcontext() if k.config.profile.memory_group_freed == "at-once" else rcu_read_lock(k.hw):
        found = _first_dynamic(k, 0)
        while found is not None:
            mgid, group = found
            if group is not excluded:
                use_object(k.hw, group.slab, here())
                if nid in (None, group.nid):
                    yield group
            found = _first_dynamic(k, mgid + 1)


def _first_dynamic(k: Kernel, start: int) -> tuple[int, MemoryGroup] | None:
    """The first dynamic group from that id on, by its mark: ``xa_find()``."""
    k.hw.reads(MEMORY_GROUPS)
    groups = k.memory_groups
    ids = range(start, max(groups, default=-1) + 1)
    return next(((mgid, groups[mgid]) for mgid in ids if mgid in groups and groups[mgid].dynamic), None)


@kernel_function(None)
def memory_group(k: Kernel, mgid: int) -> MemoryGroup:
    """The group that somebody holds on to: ``mem->group``. Breaks ``use-after-free`` when it is no more."""
    group = _load(k, mgid)
    if group is None:
        group = k.statics(Freed).groups[mgid]
        use_object(k.hw, group.slab, here())
    return group
