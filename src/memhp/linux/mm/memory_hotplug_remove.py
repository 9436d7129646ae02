"""Removing memory: ``mm/memory_hotplug.c`` from ``check_memblock_offlined_cb()`` to ``offline_and_remove_memory()``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import suppress
from errno import EBUSY, EINVAL, ENOMEM

from memhp.errors import KernelBug, KernelError
from memhp.linux.config import OnlineType
from memhp.linux.drivers.base.memory_devices import block_pfns, remove_memory_block_devices, walk_memory_blocks
from memhp.linux.drivers.base.memory_lookup import MEMORY_BLOCKS, find_memory_block_by_id, memory_block_put
from memhp.linux.drivers.base.memory_state import device_offline, device_online
from memhp.linux.drivers.base.node import unregister_node
from memhp.linux.drivers.firmware.memmap import firmware_map_remove
from memhp.linux.kernel.panic import warn
from memhp.linux.kernel.resource import (
    BUSY_SYSTEM_RAM,
    IORES_DESC_NONE,
    release_mem_region_adjustable,
    walk_iomem_res_desc,
)
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.memory_hotplug_offline import NO_HOTREMOVE
from memhp.linux.mm.mmzone import reset_pgdat
from memhp.linux.mm.sparse import pfn_to_online_page
from memhp.linux.mmzone import ZoneType
from memhp.linux.nodemask import node_set_offline
from memhp.linux.place import here
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import is_aligned

KERNEL_FILE = "mm/memory_hotplug.c"


def check_hotplug_memory_range(k: Kernel, start: int, size: int) -> None:
    """Raise EINVAL unless the range of bytes is made of whole memory blocks."""
    if size and is_aligned(start | size, k.memory_block_size):
        return
    text = f"Block size [{k.memory_block_size:#x}] unaligned hotplug range: start {start:#x}, size {size:#x}"
    k.hw.log(text, "err")
    advice = f"use a start and a size that are multiples of {k.memory_block_size:#x}"
    raise KernelError(EINVAL, text, place=here(), advice=advice)


def remove_memory(k: Kernel, start: int, size: int) -> None:
    """Remove memory whose blocks are all offline. Raises EBUSY when one is online or this kernel cannot
    (``include/linux/memory_hotplug.h``), and as :func:`try_remove_memory`.
    """
    if not k.config.memory_hotremove:
        raise KernelError(EBUSY, NO_HOTREMOVE, place=here())
    with k.hw.locked("device_hotplug_lock"):
        try_remove_memory(k, start, size)


def __remove_memory(k: Kernel, start: int, size: int) -> None:
    """Remove memory under ``device_hotplug_lock``. Raises :class:`KernelBug` when it cannot be.

    Does nothing in a kernel without ``CONFIG_MEMORY_HOTREMOVE`` (``include/linux/memory_hotplug.h``).
    """
    if not k.config.memory_hotremove:
        return
    try:
        try_remove_memory(k, start, size)
    except KernelError as error:
        raise KernelBug(f"BUG: {error.reason}", place=here()) from error


def try_remove_memory(k: Kernel, start: int, size: int) -> None:
    """Take memory out of the kernel: block devices, struct pages, direct map, memblock, resource, node.

    Raises EBUSY when a block is online, EINVAL when its struct pages lie in it and it was added otherwise than it is to
    be removed, :class:`KernelBug` for a range not made of blocks.
    """
    try:
        check_hotplug_memory_range(k, start, size)
    except KernelError as error:
        raise KernelBug(f"BUG_ON: {error.reason}", place=here()) from error
    blocks = Span(start // k.memory_block_size, (start + size) // k.memory_block_size)
    try:
        nid = _check_memblocks_offlined(k, blocks)
    except KernelError:
        if k.config.profile.refused_removal == "unlocks":
            k.hw.unlock("mem_hotplug_lock")
        raise
    one_block = k.config.profile.memmap_on_one_block
    if one_block:
        _check_granularity(k, start, size, blocks)
    with suppress(KernelError):
        firmware_map_remove(k, start, start + size, "System RAM")
    early = k.config.profile.devices_removed == "before-lock"
    altmaps = early and _memory_blocks_have_altmaps(k, blocks)
    if early:
        remove_memory_block_devices(k, start, size)
    with k.hw.locked("mem_hotplug_lock"):
        altmaps = altmaps if early else _memory_blocks_have_altmaps(k, blocks)
        if k.config.profile.memblock_order == "memblock-first":
            _memblock_remove(k, start, size)
        if altmaps:
            remove_memory_blocks_and_altmaps(k, start, size, devices=not early)
        else:
            if not early:
                remove_memory_block_devices(k, start, size)
            k.port.arch_remove_memory(k, start, size)
        if k.config.profile.memblock_order == "arch-first":
            _memblock_remove(k, start, size)
        with k.hw.locked("resource_lock"):
            _release_ram(k, start, size)
        if nid is not None:
            try_offline_node(k, nid)


def _release_ram(k: Kernel, start: int, size: int) -> None:
    """Give back the System RAM of what was removed: as one range, which several resources may stand for."""
    root, spans = k.iomem_resource, [(start, size)]
    if k.config.profile.ram_released == "each-resource":
        found = walk_iomem_res_desc(root, IORES_DESC_NONE, BUSY_SYSTEM_RAM, start, start + size - 1)
        spans = [(res.start, res.size) for res in found]
    for first, length in spans:
        release_mem_region_adjustable(root, first, length, split=k.config.profile.resource_split)


def _check_memblocks_offlined(k: Kernel, blocks: Span) -> int | None:
    """The node of the last block. Raises EBUSY at the first block that is not offline."""
    nid = None
    k.hw.reads(MEMORY_BLOCKS)
    for first, _, block in k.memory_blocks.runs(*blocks):
        if block.state != "offline":
            start = first * k.memory_block_size
            mem = f"[{start:#018x}-{start + k.memory_block_size - 1:#018x}]"
            text = f"removing memory fails, because memory {mem} is onlined"
            k.hw.log(text, "warn")
            raise KernelError(EBUSY, text, place=here(), advice=f"take memory{first} offline first")
        nid = block.nid
    return nid


def _check_granularity(k: Kernel, start: int, size: int, blocks: Span) -> None:
    """5.13: a block that hosts its own struct pages goes alone."""
    if size != k.memory_block_size and any(block.altmap for _, _, block in k.memory_blocks.runs(*blocks)):
        text = f"Refuse to remove {start:#x} - {start + size:#x},wrong granularity"
        k.hw.log(text, "warn")
        advice = f"remove memory blocks of {k.memory_block_size:#x} bytes one by one, as they were added"
        raise KernelError(EINVAL, text, place=here(), advice=advice)


def _memory_blocks_have_altmaps(k: Kernel, blocks: Span) -> bool:
    """Whether all blocks have an altmap. Raises EINVAL when only some have."""
    with_altmap = sum(last - first for first, last, block in k.memory_blocks.runs(*blocks) if block.altmap)
    if not with_altmap or k.config.memmap_on_memory == "N":
        return False
    if with_altmap != blocks.size:
        place = f"{KERNEL_FILE}:memory_blocks_have_altmaps"
        warn(k, place, once=True)
        text = f"{with_altmap} of {blocks.size} blocks host their own struct pages"
        raise KernelError(EINVAL, text, place=place, advice="remove memory as it was added")
    return True


def remove_memory_blocks_and_altmaps(k: Kernel, start: int, size: int, *, devices: bool = True) -> None:
    """Remove blocks that host their own struct pages, one by one, with their `devices` unless those have gone."""
    for at in range(start, start + size, k.memory_block_size):
        block_id = at // k.memory_block_size
        altmap = k.altmaps.pop(block_id, None)
        if altmap is None:
            warn(k, here(), once=True)
            continue
        if k.config.profile.removal_reference != "none":
            _drop_altmap(k, block_id)
        if devices:
            remove_memory_block_devices(k, at, k.memory_block_size)
        k.port.arch_remove_memory(k, at, k.memory_block_size, altmap)
        altmap_free(k, altmap)


def _drop_altmap(k: Kernel, block_id: int) -> None:
    """Find a block and take its altmap from it."""
    mem = find_memory_block_by_id(k, block_id)
    if mem is not None and k.config.profile.removal_reference == "put":
        memory_block_put(k, mem)


def altmap_free(k: Kernel, altmap: VmemAltmap) -> None:
    """Forget an altmap; all that it handed out should be back."""
    if altmap.alloc:
        warn(k, here(), "Altmap not fully unmapped")


def _memblock_remove(k: Kernel, start: int, size: int) -> None:
    if k.config.has_memblock:
        k.memblock.memblock_remove(start, size)


def try_offline_node(k: Kernel, nid: int) -> None:
    """Take a node offline that has no memory, no memory block and no CPU (all CPUs are on node 0 here)."""
    if k.config.profile.node_removal == "by-span":
        has_memory = _has_sections(k, nid)
    else:
        has_memory = bool(k.nodes[nid].spanned) or any(block.nid == nid for _, _, block in k.memory_blocks)
    if has_memory or nid == 0:
        return
    node_set_offline(k, nid)
    if k.config.profile.pgdat_reset == "when-offline":
        reset_pgdat(k, nid)
    unregister_node(k.node_states, nid)


def _has_sections(k: Kernel, nid: int) -> bool:
    """Whether a section in a node's span has struct pages that name the node, as those of online memory do."""
    node, per = k.nodes[nid], k.config.pages_per_section
    present = k.mem_section.runs(node.start_pfn // per, -(-node.end_pfn // per))
    pages = (ref for first, last, _ in present for _, _, ref in k.page_zone.runs(first * per, last * per))
    return any(ref.nid == nid for ref in pages)


def offline_and_remove_memory(k: Kernel, start: int, size: int) -> None:
    """Offline all blocks of a range of bytes and remove it; if one refuses, online again those that went before it."""
    if not size or not is_aligned(start | size, k.memory_block_size):
        text = f"[{start:#x}-{start + size:#x}) is not made of memory blocks of {k.memory_block_size:#x} bytes"
        raise KernelError(EINVAL, text, place=here())
    if k.hw.may_fail(here()):
        raise KernelError(ENOMEM, "no memory for the online types of the blocks", place=here())
    offlined: dict[int, OnlineType] = {}
    with k.hw.locked("device_hotplug_lock"):
        try:
            for block_id in walk_memory_blocks(k, start, size):
                online_type = online_type_of(k, block_id)
                if device_offline(k, block_id):
                    offlined[block_id] = online_type
            _remove_offlined(k, start, size)
        except KernelError:
            _reonline(k, offlined)
            raise


def online_type_of(k: Kernel, block_id: int) -> OnlineType:
    """How a block was onlined, by the zone of its first page (``try_offline_memory_block()``)."""
    pfn = block_pfns(k, block_id).start
    zone = k.page_zone.get(pfn)
    movable = pfn_to_online_page(k, pfn) and zone is not None and zone.type is ZoneType.MOVABLE
    return "online_movable" if movable else "online_kernel"


def _remove_offlined(k: Kernel, start: int, size: int) -> None:
    try:
        try_remove_memory(k, start, size)
    except KernelError as error:
        k.hw.log(f"offline_and_remove_memory: Failed to remove memory: {-error.errno}", "err")
        raise


def _reonline(k: Kernel, offlined: dict[int, OnlineType]) -> None:
    for block_id, online_type in offlined.items():
        try:
            device_online(k, block_id, online_type)
        except KernelError as error:
            k.hw.log(f"try_reonline_memory_block: Failed to re-online memory: {-error.errno}", "warn")
