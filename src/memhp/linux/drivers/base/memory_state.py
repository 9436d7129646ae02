"""The state machine of a memory block: online, offline, and what sysfs makes of it.

``drivers/base/memory.c`` from ``memory_block_online()`` to ``state_store()``, with ``device_online()`` and
``device_offline()`` of drivers/base/core.c.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from errno import EINVAL, ENOENT
from typing import get_args

from memhp.errors import KernelBug, KernelError
from memhp.linux.config import OnlineType
from memhp.linux.drivers.base.core import DEVICE_HOTPLUG_LOCK, lock_device_hotplug_sysfs
from memhp.linux.drivers.base.memory_devices import block_pfns, device_lock
from memhp.linux.drivers.base.memory_groups import memory_group
from memhp.linux.drivers.base.memory_lookup import MEMORY_BLOCKS, forget_poison, memblk_nr_poison
from memhp.linux.drivers.base.notify import memory_notify
from memhp.linux.lib.kobject_uevent import block_uevents
from memhp.linux.lib.kstrtox import kstrtobool
from memhp.linux.mm.memory_hotplug_memmap import mhp_deinit_memmap_on_memory, mhp_init_memmap_on_memory
from memhp.linux.mm.memory_hotplug_offline import offline_pages
from memhp.linux.mm.memory_hotplug_online import online_pages
from memhp.linux.mm.memory_hotplug_zone import adjust_present_page_count, zone_for_pfn_range
from memhp.linux.mmzone import BlockState, MemoryBlock, MemoryGroup, Zone
from memhp.linux.place import here, kernel_function, of_file
from memhp.linux.state import Kernel
from memhp.units import format_count

KERNEL_FILE = "drivers/base/memory.c"
EHWPOISON = 133
"""Memory page has hardware error; Python's errno module has it from 3.14 on."""

LOCK = "mem_hotplug_lock"
FIND = f"{KERNEL_FILE}:find_memory_block_by_id"


@kernel_function(None)
def memory_block(k: Kernel, block_id: int) -> MemoryBlock:
    """The block of that id: ``find_memory_block_by_id()``. Raises ENOENT, as its folder is not there."""
    block = k.memory_blocks.lookup(block_id)
    if block is None:
        raise KernelError(ENOENT, f"there is no memory{block_id}", place=FIND)
    return block


@kernel_function(None)
def memory_group_of(k: Kernel, block: MemoryBlock) -> MemoryGroup | None:
    """``mem->group``."""
    return None if block.group is None else memory_group(k, block.group)


def nr_vmemmap_pages(k: Kernel, block_id: int) -> int:
    """Pages at the start of a block that are set aside for its own struct pages."""
    return k.altmaps[block_id].free if block_id in k.altmaps else 0


def memory_block_online(k: Kernel, block_id: int, online_type: OnlineType) -> None:
    """Online a block in the zone that type and policy choose. Raises EHWPOISON, and what ``online_pages()`` raises."""
    block = memory_block(k, block_id)
    if block.nid is None:
        raise KernelBug(f"BUG: memory{block_id} is onlined before its node is noted: NUMA_NO_NODE", place=here())
    if k.config.profile.online_hwpoison == "allowed":
        forget_poison(k, block_id)
    elif lost := memblk_nr_poison(k, block_id, block_id + 1):
        advice = "it stays offline until the machine boots again with that memory replaced"
        text = f"memory{block_id} has {format_count(lost, 'poisoned page')}"
        raise KernelError(EHWPOISON, text, place=here(), advice=advice)
    pfns = block_pfns(k, block_id)
    group = memory_group_of(k, block)
    zone = zone_for_pfn_range(k, online_type, block.nid, group, pfns.start, pfns.size)
    own = nr_vmemmap_pages(k, block_id)
    start, nr_pages = pfns.start + own, pfns.size - own
    with _whole(k):
        if k.config.profile.prepare_online:
            refusal = memory_notify(k, "MEM_PREPARE_ONLINE", start, nr_pages)
            if refusal:
                raise KernelError(refusal.errno, refusal.reason, place=here())
        try:
            _online(k, start, nr_pages, zone, group, own)
        except KernelError:
            if k.config.profile.prepare_online:
                memory_notify(k, "MEM_FINISH_OFFLINE", start, nr_pages)
            raise
        k.memory_blocks.set(block_id, block_id + 1, replace(memory_block(k, block_id), zone=zone.type))


def _online(k: Kernel, start_pfn: int, nr_pages: int, zone: Zone, group: MemoryGroup | None, own: int) -> None:
    """Initialise the pages that hold the block's struct pages, then online the rest."""
    if own:
        mhp_init_memmap_on_memory(k, start_pfn - own, own, zone)
    try:
        with _pages(k):
            online_pages(k, start_pfn, nr_pages, zone, group)
    except KernelError:
        if own:
            mhp_deinit_memmap_on_memory(k, start_pfn - own, own)
        raise
    if own:
        adjust_present_page_count(k, start_pfn - own, group, own)


def memory_block_offline(k: Kernel, block_id: int) -> None:
    """Offline a block. Raises EINVAL for one whose pages are in several zones, and what ``offline_pages()`` raises."""
    block = memory_block(k, block_id)
    zone = _stored_zone(k, block_id, block)
    group = memory_group_of(k, block)
    pfns = block_pfns(k, block_id)
    own = nr_vmemmap_pages(k, block_id)
    start, nr_pages = pfns.start + own, pfns.size - own
    with _whole(k):
        if own:
            adjust_present_page_count(k, pfns.start, group, -own)
        try:
            with _pages(k):
                offline_pages(k, start, nr_pages, zone, group)
        except KernelError:
            if own:
                adjust_present_page_count(k, pfns.start, group, own)
            raise
        if own:
            mhp_deinit_memmap_on_memory(k, pfns.start, own)
        k.memory_blocks.set(block_id, block_id + 1, replace(memory_block(k, block_id), zone=None))
        if k.config.profile.prepare_online:
            memory_notify(k, "MEM_FINISH_OFFLINE", start, nr_pages)


def _whole(k: Kernel) -> AbstractContextManager[None]:
    """``mem_hotplug_lock`` around all that happens to a block, in kernels that take it there."""
    return k.hw.locked(LOCK) if k.config.profile.block_lock == "whole" else nullcontext()


def _pages(k: Kernel) -> AbstractContextManager[None]:
    """The same around ``online_pages()`` and ``offline_pages()`` only."""
    return nullcontext() if k.config.profile.block_lock == "whole" else k.hw.locked(LOCK)


def _stored_zone(k: Kernel, block_id: int, block: MemoryBlock) -> Zone | None:
    """``mem->zone``; None in kernels that have ``offline_pages()`` look for it."""
    if k.config.profile.block_zone == "looked-up":
        return None
    if block.zone is None or block.nid is None:
        raise KernelError(
            EINVAL,
            f"memory{block_id} has pages of several zones",
            place=here(),
            advice="such a block of boot memory stays online",
        )
    return k.nodes[block.nid].zones[block.zone]


def _set_state(k: Kernel, block_id: int, state: BlockState) -> None:
    block = memory_block(k, block_id)
    k.hw.writes(MEMORY_BLOCKS)
    k.memory_blocks.set(block_id, block_id + 1, replace(block, state=state))


@of_file("drivers/base/core.c")
def device_online(k: Kernel, block_id: int, online_type: OnlineType = "offline") -> bool:
    """Online a block's device: False when it is online already, where the kernel returns 1.

    `online_type` is what the caller wrote to ``mem->online_type``: "offline" for nothing. One that finds the block
    online stays there, and counts for the next caller that writes nothing.
    """
    with k.hw.locked(device_lock(block_id), ordered=False):
        block = memory_block(k, block_id)
        wanted = block.online_type if online_type == "offline" else online_type
        online = block.state != "offline"
        _set_online_type(k, block_id, wanted if online else "offline")
        if online:
            return False
        memory_block_online(k, block_id, "online" if wanted == "offline" else wanted)
        _set_state(k, block_id, "online")
        block_uevents(k, "online", block_id, block_id + 1)
        return True


def _set_online_type(k: Kernel, block_id: int, online_type: OnlineType) -> None:
    """``mem->online_type``, which ``device_hotplug_lock`` protects; what goes by it clears it."""
    block = memory_block(k, block_id)
    if block.online_type != online_type:
        k.memory_blocks.set(block_id, block_id + 1, replace(block, online_type=online_type))


@of_file("drivers/base/core.c")
def device_offline(k: Kernel, block_id: int) -> bool:
    """Offline a block's device: False when it is offline already, where the kernel returns 1."""
    with k.hw.locked(device_lock(block_id), ordered=False):
        if memory_block(k, block_id).state == "offline":
            return False
        _set_state(k, block_id, "going-offline")
        try:
            memory_block_offline(k, block_id)
        except KernelError:
            _set_state(k, block_id, "online")
            raise
        _set_state(k, block_id, "offline")
        block_uevents(k, "offline", block_id, block_id + 1)
        return True


def state_store(k: Kernel, block_id: int, text: str) -> None:
    """Write to ``/sys/devices/system/memory/memoryN/state``. Raises EINVAL for no state, or the one it has already.

    That the system call starts again until it gets ``device_hotplug_lock`` cannot be told from waiting for it, unless
    somebody removes the block meanwhile: :func:`try_state_store`.
    """
    online_type = _online_type(text)
    with k.hw.locked(DEVICE_HOTPLUG_LOCK):
        _store(k, block_id, online_type)


@kernel_function(f"{KERNEL_FILE}:state_store")
def try_state_store(k: Kernel, block_id: int, text: str) -> bool:
    """The same as the file's operation: False where the system call is to start again."""
    online_type = _online_type(text)
    if not lock_device_hotplug_sysfs(k):
        return False
    try:
        _store(k, block_id, online_type)
    finally:
        k.hw.unlock(DEVICE_HOTPLUG_LOCK)
    return True


def _online_type(text: str) -> OnlineType:
    text = text.removesuffix("\n")
    online_type = mhp_online_type_from_str(text)
    if online_type is None:
        words = ", ".join(get_args(OnlineType))
        raise KernelError(EINVAL, f"{text!r} is no state", place=here(), advice=f"write one of {words}")
    return online_type


def _store(k: Kernel, block_id: int, online_type: OnlineType) -> None:
    changed = device_offline(k, block_id) if online_type == "offline" else device_online(k, block_id, online_type)
    if not changed:
        state = "offline" if online_type == "offline" else "online"
        raise KernelError(EINVAL, f"memory{block_id} is {state} already", place=here())


@of_file("drivers/base/core.c")
def online_store(k: Kernel, block_id: int, text: str) -> None:
    """Write to a block's ``online``, which is no error where it is so already. Raises EINVAL for no truth value."""
    wanted = kstrtobool(text)
    if wanted is None:
        raise KernelError(EINVAL, f"{text!r} is neither 0 nor 1", place=here())
    with k.hw.locked("device_hotplug_lock"):
        device_online(k, block_id) if wanted else device_offline(k, block_id)


def mhp_online_type_from_str(text: str) -> OnlineType | None:
    """The online type of that name, or None."""
    return next((each for each in get_args(OnlineType) if each == text), None)
