"""Adding memory: ``mm/memory_hotplug.c`` from ``register_memory_resource()`` to ``add_memory_driver_managed()``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import E2BIG, EEXIST, EINVAL, ENODEV, ENOMEM

from memhp.errors import KernelBug, KernelError
from memhp.linux.drivers.base.memory_devices import (
    create_memory_block_devices,
    register_memory_blocks_under_node,
    walk_memory_blocks,
)
from memhp.linux.drivers.base.memory_groups import memory_group_find_by_id
from memhp.linux.drivers.base.memory_state import device_online
from memhp.linux.drivers.base.node import register_node, unregister_node
from memhp.linux.drivers.firmware.memmap import firmware_map_add_hotplug
from memhp.linux.kernel.panic import warn
from memhp.linux.kernel.resource import (
    IORESOURCE_BUSY,
    IORESOURCE_SYSRAM_DRIVER_MANAGED,
    IORESOURCE_SYSTEM_RAM,
    Resource,
    merge_system_ram_resource,
    release_resource,
    request_region,
)
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.memblock import MEMBLOCK_DRIVER_MANAGED, MEMBLOCK_NONE
from memhp.linux.mm.memory_hotplug_memmap import (
    memmap_on_memory_obstacle,
    memory_block_memmap_on_memory_pages,
    mhp_supports_memmap_on_memory,
)
from memhp.linux.mm.memory_hotplug_pages import mhp_range_allowed
from memhp.linux.mm.memory_hotplug_remove import (
    altmap_free,
    check_hotplug_memory_range,
    remove_memory_blocks_and_altmaps,
)
from memhp.linux.mm.mm_init import free_area_init_core_hotplug
from memhp.linux.mm.page_alloc import build_all_zonelists
from memhp.linux.nodemask import node_set_offline, node_set_online
from memhp.linux.place import here
from memhp.linux.state import Kernel

KERNEL_FILE = "mm/memory_hotplug.c"
MHP_NONE = 0
MHP_MERGE_RESOURCE = 1 << 0
"""The resource may be merged with its neighbours: its driver finds its memory without it."""
MHP_MEMMAP_ON_MEMORY = 1 << 1
"""Struct pages may lie in the memory itself."""
MHP_NID_IS_MGID = 1 << 2
"""The node id is the id of a memory group."""

SYSTEM_RAM = "System RAM"


def add_memory(k: Kernel, nid: int, start: int, size: int, flags: int = MHP_NONE) -> None:
    """Add System RAM that firmware announced. Raises E2BIG, EEXIST, and what :func:`add_memory_resource` raises."""
    with k.hw.locked("device_hotplug_lock"):
        __add_memory(k, nid, start, size, flags)


def __add_memory(k: Kernel, nid: int, start: int, size: int, flags: int = MHP_NONE) -> None:
    """:func:`add_memory` for those who hold ``device_hotplug_lock``."""
    _add_registered(k, nid, register_memory_resource(k, start, size, SYSTEM_RAM), flags)


def add_memory_driver_managed(
    k: Kernel, nid: int, start: int, size: int, resource_name: str, flags: int = MHP_NONE
) -> None:
    """Add memory that only its driver knows of, named ``System RAM (driver)``: no entry in firmware's memory map.

    Raises EINVAL for another name, else as :func:`add_memory`.
    """
    if not (resource_name.startswith("System RAM (") and resource_name.endswith(")")):
        place = here()
        text = f"{resource_name!r} is no name for driver-managed memory"
        raise KernelError(EINVAL, text, place=place, advice="call it System RAM (driver)")
    with k.hw.locked("device_hotplug_lock"):
        _add_registered(k, nid, register_memory_resource(k, start, size, resource_name), flags)


def _add_registered(k: Kernel, nid: int, res: Resource, flags: int) -> None:
    try:
        add_memory_resource(k, nid, res, flags)
    except KernelError:
        with k.hw.locked("resource_lock"):
            release_resource(res)
        raise


def register_memory_resource(k: Kernel, start: int, size: int, resource_name: str) -> Resource:
    """Claim a range of bytes as busy System RAM. Raises E2BIG outside what may be plugged, EEXIST when it is taken."""
    if not mhp_range_allowed(k, start, size, need_mapping=True):
        text = f"[{start:#x}-{start + size:#x}) is outside what the kernel can map"
        raise KernelError(E2BIG, text, place=here(), advice="plug it at a lower address")
    flags = IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY
    if resource_name != SYSTEM_RAM:
        flags |= IORESOURCE_SYSRAM_DRIVER_MANAGED
    try:
        with k.hw.locked("resource_lock"):
            return request_region(k.iomem_resource, start, size, resource_name, flags)
    except KernelError as error:
        k.hw.log(f"Unable to reserve System RAM region: {start:016x}->{start + size:016x}", "debug")
        raise KernelError(EEXIST, error.reason, place=here(), advice=error.advice) from error


def add_memory_resource(k: Kernel, nid: int, res: Resource, flags: int) -> None:
    """Add the memory of a claimed resource: sections, struct pages, direct map, block devices; online it if so set.

    Raises EINVAL for a range not made of memory blocks, an unknown node or group, and where 5.13 cannot keep struct
    pages in the memory as asked; ENODEV in a kernel that has none of this (``CONFIG_MEMORY_HOTPLUG``); else what the
    steps raise, each undone as far as the kernel undoes it.
    """
    if not k.config.memory_hotplug:
        text = "this kernel was built without CONFIG_MEMORY_HOTPLUG: no driver adds memory"
        raise KernelError(ENODEV, text, place=here())
    start, size = res.start, res.size
    check_hotplug_memory_range(k, start, size)
    group = None
    if flags & MHP_NID_IS_MGID:
        found = memory_group_find_by_id(k, nid)
        if found is None:
            raise KernelError(EINVAL, f"there is no memory group {nid}", place=here())
        group, nid = nid, found.nid
    if nid not in k.node_states.possible:
        text = f"node {nid} was absent from the node_possible_map"
        warn(k, here(), text)
        raise KernelError(EINVAL, text, place=here(), advice=f"possible: {sorted(k.node_states.possible)}")
    with k.hw.locked("mem_hotplug_lock"):
        _add_under_lock(k, nid, group, res, flags)
    if flags & MHP_MERGE_RESOURCE:
        with k.hw.locked("resource_lock"):
            merge_system_ram_resource(res)
    if k.auto_online_blocks != "offline":
        _online_memory_blocks(k, start, size)


def _add_under_lock(k: Kernel, nid: int, group: int | None, res: Resource, flags: int) -> None:
    start, size = res.start, res.size
    if k.config.has_memblock:
        driver_managed = res.flags & IORESOURCE_SYSRAM_DRIVER_MANAGED
        k.memblock.memblock_add_node(start, size, nid, MEMBLOCK_DRIVER_MANAGED if driver_managed else MEMBLOCK_NONE)
    before_add = k.config.profile.new_node == "before-add"
    node_registered = False
    try:
        new_node = __try_online_node(k, nid, set_node_online=False)
        if new_node and before_add:
            _register_new_node(k, nid)
            node_registered = True
        _add_blocks(k, nid, group, start, size, flags)
    except KernelError:
        if node_registered:
            node_set_offline(k, nid)
            unregister_node(k.node_states, nid)
        if k.config.has_memblock:
            k.memblock.memblock_remove(start, size)
        raise
    if new_node and not before_add:
        try:
            _register_new_node(k, nid)
        except KernelError as error:
            raise KernelBug(f"BUG_ON: {error.reason}", place=here()) from error
    register_memory_blocks_under_node(k, nid, start, size)
    if res.name == SYSTEM_RAM:
        firmware_map_add_hotplug(k, start, start + size, SYSTEM_RAM)


def _register_new_node(k: Kernel, nid: int) -> None:
    """Set a node online and give it its device. Raises ENOMEM; the node is offline again then, but for old kernels."""
    place = "drivers/base/node.c:register_node"
    node_set_online(k, nid)
    if k.hw.may_fail(place):
        if k.config.profile.new_node == "before-add":
            warn(k, here())
            node_set_offline(k, nid)
        raise KernelError(ENOMEM, f"no memory for the device of node {nid}", place=place)
    register_node(k.node_states, nid, k.hw)


def __try_online_node(k: Kernel, nid: int, *, set_node_online: bool) -> bool:
    """Make a node ready for memory: whether it was offline. Raises ENOMEM."""
    if nid in k.node_states.online:
        return False
    if k.hw.may_fail(here()):
        k.hw.log(f"Cannot online node {nid} due to NULL pgdat", "err")
        raise KernelError(ENOMEM, f"no memory for node {nid}", place=here())
    free_area_init_core_hotplug(k, nid)
    build_all_zonelists(k, nid)
    if set_node_online:
        node_set_online(k, nid)
        register_node(k.node_states, nid, k.hw)
    return True


def try_online_node(k: Kernel, nid: int) -> bool:
    """Online a node without memory, for a CPU that comes up on it: whether it was offline."""
    with k.hw.locked("mem_hotplug_lock"):
        return __try_online_node(k, nid, set_node_online=True)


def _add_blocks(k: Kernel, nid: int, group: int | None, start: int, size: int, flags: int) -> None:
    """Struct pages, direct map and block devices, with altmaps if asked for and possible."""
    supported = bool(flags & MHP_MEMMAP_ON_MEMORY) and mhp_supports_memmap_on_memory(k, size)
    if flags & MHP_MEMMAP_ON_MEMORY and not supported and k.config.profile.memmap_on_one_block:
        raise KernelError(
            EINVAL,
            memmap_on_memory_obstacle(k.config, k.memory_block_size, size),
            place=here(),
            advice="ask mhp_supports_memmap_on_memory() before passing MHP_MEMMAP_ON_MEMORY, as ACPI does",
        )
    if supported:
        create_altmaps_and_memory_blocks(k, nid, group, start, size)
        return
    k.port.arch_add_memory(k, nid, start, size)
    try:
        create_memory_block_devices(k, start, size, _nid_at_creation(k, nid), group=group)
    except KernelError:
        k.port.arch_remove_memory(k, start, size)
        raise


def _nid_at_creation(k: Kernel, nid: int) -> int | None:
    """What a new block knows of its node: kernels that register new nodes first tell it at once, others later."""
    return nid if k.config.profile.new_node == "before-add" else None


def create_altmaps_and_memory_blocks(k: Kernel, nid: int, group: int | None, start: int, size: int) -> None:
    """Add a range block by block, each with its struct pages at its own start; if one fails, those before it go too."""
    for at in range(start, start + size, k.memory_block_size):
        try:
            _create_altmap_and_memory_block(k, nid, group, at)
        except KernelError:
            if at != start:
                remove_memory_blocks_and_altmaps(k, start, at - start)
            raise


def _create_altmap_and_memory_block(k: Kernel, nid: int, group: int | None, start: int) -> None:
    if k.hw.may_fail(here()):
        raise KernelError(ENOMEM, "no memory for an altmap", place=here())
    base_pfn = start >> k.config.page_shift
    many = k.config.profile.memmap_on_memory == "many-blocks"
    passed = k.config.profile.create_failure_altmap == "passed"
    free = memory_block_memmap_on_memory_pages(k.config, k.memory_block_size) if many else k.pages_per_block
    altmap = VmemAltmap(base_pfn=base_pfn, end_pfn=base_pfn + k.pages_per_block - 1, free=free)
    try:
        k.port.arch_add_memory(k, nid, start, k.memory_block_size, altmap)
        if not many:
            altmap.free = altmap.alloc
        try:
            create_memory_block_devices(
                k, start, k.memory_block_size, _nid_at_creation(k, nid), altmap=True, group=group
            )
        except KernelError:
            k.port.arch_remove_memory(k, start, k.memory_block_size, altmap if passed else None)
            raise
    except KernelError:
        if k.config.profile.new_node == "before-add":
            altmap_free(k, altmap)
        raise
    k.altmaps[start // k.memory_block_size] = altmap


def _online_memory_blocks(k: Kernel, start: int, size: int) -> None:
    """Online new blocks as ``auto_online_blocks`` says, up to the first that refuses; the add has succeeded by then."""
    for block_id in walk_memory_blocks(k, start, size):
        try:
            if not device_online(k, block_id, k.auto_online_blocks):
                return
        except KernelError:
            return
