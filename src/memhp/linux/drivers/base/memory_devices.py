"""Memory block devices: which there are, how they come and go: ``drivers/base/memory.c``.

Neighbouring blocks that are alike are one run of ``Kernel.memory_blocks``; functions that the kernel calls block by
block take a run where they can.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import itertools
from collections.abc import Iterator
from dataclasses import replace
from errno import EEXIST, EINVAL, ENOMEM

from memhp.errors import KernelBug, KernelError, KernelPanic
from memhp.linux.drivers.acpi.glue import acpi_unbind_one
from memhp.linux.drivers.base.block_size import memory_block_size_bytes
from memhp.linux.drivers.base.memory_groups import memory_group
from memhp.linux.drivers.base.memory_lookup import (
    MEMORY_BLOCKS,
    memblk_nr_poison,
    num_poisoned_pages_sub,
    unregister_memory_blocks,
)
from memhp.linux.drivers.base.node import (
    register_memory_blocks_under_node_hotplug,
    unregister_memory_block_under_nodes,
)
from memhp.linux.kernel.panic import warn
from memhp.linux.lib.kobject_uevent import block_uevents
from memhp.linux.mm.memory_hotplug_policy import zone_intersects
from memhp.linux.mm.sparse import pfn_valid
from memhp.linux.mmzone import GROUPS_BLOCKS, MemoryBlock, ZoneType
from memhp.linux.place import here, of_file
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import is_aligned

KERNEL_FILE = "drivers/base/memory.c"
ADD = f"{KERNEL_FILE}:add_memory_block"
LINK = "drivers/base/node.c:link_mem_sections"


def memory_dev_init(k: Kernel) -> None:
    """Give every block that a section of boot memory lies in its device, online; its nodes come after.

    A kernel without ``CONFIG_MEMORY_HOTPLUG`` has no such devices: drivers/base/Makefile leaves the file out.
    """
    if not k.memory_block_size:
        k.memory_block_size = memory_block_size_bytes(k.config, k.max_pfn << k.config.page_shift)
    size = k.memory_block_size
    if size & (size - 1) or size < k.config.section_size:
        raise KernelPanic(f"Memory block size not suitable: {size:#x}", place=here())
    sections = size >> k.config.section_size_bits
    for start, end, _ in k.mem_section if k.config.memory_hotplug else ():
        k.memory_blocks.set(start // sections, -(-end // sections), MemoryBlock("online", None))


def memory_block_add_nid_early(k: Kernel, blocks: Span, nid: int) -> None:
    """Note the node of boot blocks, and their zone if it is the only one; none where nodes share a block."""
    for start, end, old in list(k.memory_blocks.runs(*blocks)):
        if old.nid is None:
            for first, last, zone in _early_zones(k, Span(start, end), nid):
                k.memory_blocks.set(first, last, replace(old, nid=nid, zone=zone))
        elif old.nid != nid:
            k.memory_blocks.set(start, end, replace(old, nid=nid, zone=None))


def _early_zones(k: Kernel, blocks: Span, nid: int) -> Iterator[tuple[int, int, ZoneType | None]]:
    """``early_node_zone_for_memory_block()`` for a run: cut where a zone of the node starts or ends."""
    per = k.pages_per_block
    zones = [zone for zone in k.nodes[nid].zones.values() if zone.populated]
    cuts = {blocks.start, blocks.end}
    for zone in zones:
        for pfn in (zone.start_pfn, zone.end_pfn):
            cuts |= {cut for cut in (pfn // per, pfn // per + 1) if cut in blocks}
    for first, last in itertools.pairwise(sorted(cuts)):
        found = [zone.type for zone in zones if zone_intersects(zone, first * per, (last - first) * per)]
        yield first, last, found[0] if len(found) == 1 else None


def create_memory_block_devices(
    k: Kernel, start: int, size: int, nid: int | None, *, altmap: bool = False, group: int | None = None
) -> None:
    """Make offline block devices for a range of bytes; where one fails, those made before it go again.

    `nid` is None while the node is still to be noted. Raises EINVAL for a range not made of blocks, EEXIST, ENOMEM.
    """
    if not is_aligned(start | size, k.memory_block_size):
        warn(k, here(), once=True)
        raise KernelError(EINVAL, f"[{start:#x}-{start + size:#x}) is not made of memory blocks", place=here())
    blocks = Span(start // k.memory_block_size, (start + size) // k.memory_block_size)
    taken = next(k.memory_blocks.runs(*blocks), None)
    made = blocks.start
    for first, count in k.hw.batches(blocks.start, blocks.end if taken is None else taken[0]):
        if k.hw.may_fail(ADD):
            if altmap and k.config.profile.block_altmap == "before-registration":
                warn(k, f"{KERNEL_FILE}:memory_block_release")
            taken = None
            break
        k.memory_blocks.publish(first, first + count, MemoryBlock("offline", nid, altmap=altmap, group=group))
        _of_group(k, group, count)
        _pass_device_locks(k, first, first + count)
        block_uevents(k, "add", first, first + count)
        made = first + count
    if made == blocks.end:
        return
    for first, count in k.hw.batches(blocks.start, made):
        remove_memory_block(k, first, first + count, group)
    if taken is None:
        raise KernelError(ENOMEM, f"no memory for the device of memory block {made}", place=ADD)
    raise KernelError(EEXIST, f"memory block {made} is there already", place=ADD)


def remove_memory_block_devices(k: Kernel, start: int, size: int) -> None:
    """Remove the block devices of a range of bytes, with their links below nodes.

    Kernels that find the nodes by the pages leave the links when ``pfn_valid()`` does not know the pages any more.
    """
    if not is_aligned(start | size, k.memory_block_size):
        warn(k, here(), once=True)
        return
    blocks = Span(start // k.memory_block_size, (start + size) // k.memory_block_size)
    if not k.memory_blocks.covers(*blocks):
        warn(k, here(), once=True)
    for first, count in k.hw.batches(*blocks):
        for run_start, run_end, block in list(k.memory_blocks.runs(first, first + count)):
            for block_id in range(run_start, run_end):
                acpi_unbind_one(k, block_id)
            if k.config.profile.block_nodes == "stored" or pfn_valid(k, block_pfns(k, run_start).start):
                for block_id in range(run_start, run_end):
                    unregister_memory_block_under_nodes(k.node_states, block.nid, block_id)
            num_poisoned_pages_sub(k, memblk_nr_poison(k, run_start, run_end))
            remove_memory_block(k, run_start, run_end, block.group)


def _of_group(k: Kernel, group: int | None, count: int) -> None:
    """So many blocks more, or fewer, belong to a memory group."""
    if group is not None:
        of = memory_group(k, group)
        k.hw.atomic(GROUPS_BLOCKS)
        of.memory_blocks += count
        of.links += 1


def remove_memory_block(k: Kernel, start_block: int, end_block: int, group: int | None) -> None:
    """Take blocks, of a memory group or none, out of the index and unregister their devices; each is freed with its
    last reference.
    """
    k.memory_blocks.withdraw(start_block, end_block)
    _of_group(k, group, start_block - end_block)
    block_uevents(k, "remove", start_block, end_block)
    _pass_device_locks(k, start_block, end_block)
    unregister_memory_blocks(k, start_block, end_block)


def _pass_device_locks(k: Kernel, start_block: int, end_block: int) -> None:
    """Take each block's device lock once, as ``__device_attach()`` and ``device_del()`` do: only others can hold it."""
    if not k.hw.whole_tables:
        for block_id in range(start_block, end_block):
            with k.hw.locked(device_lock(block_id), ordered=False):
                pass


def device_lock(block_id: int) -> str:
    """The name of a block's ``device_lock()``, which has no place in the order of locks (``device_initialize()``)."""
    return f"memory{block_id}.device_lock"


@of_file("drivers/base/node.c")
def register_memory_blocks_under_node(k: Kernel, nid: int, start: int, size: int) -> None:
    """Note the node of hot-added blocks in a range of bytes, and link them below its device.

    Raises :class:`KernelBug` in kernels that cannot bear a link that an earlier removal has left.
    """
    blocks = Span(start // k.memory_block_size, -(-(start + size) // k.memory_block_size))
    left = next(k.node_states.devices[nid].runs(*blocks), None) if nid in k.node_states.devices else None
    if left is not None and k.config.profile.block_nodes == "by-page":
        raise KernelBug(f"BUG_ON: node {nid} has a link to memory{left.start} already", place=LINK)
    for first, last, block in list(k.memory_blocks.runs(*blocks)):
        memory_block_add_nid(k, Span(first, last), replace(block, nid=nid))
        register_memory_blocks_under_node_hotplug(k.node_states, nid, first, last)


def memory_block_add_nid(k: Kernel, blocks: Span, noted: MemoryBlock) -> None:
    """Note the node of blocks that others may have found by now."""
    k.hw.writes(MEMORY_BLOCKS)
    k.memory_blocks.set(*blocks, noted)


def walk_memory_blocks(k: Kernel, start: int, size: int) -> Iterator[int]:
    """The ids of the blocks that a range of bytes overlaps, ascending; what is there may change on the way."""
    if not size:
        return
    for block_id in range(start // k.memory_block_size, (start + size - 1) // k.memory_block_size + 1):
        if k.memory_blocks.get(block_id) is not None:
            yield block_id


def block_pfns(k: Kernel, block_id: int) -> Span:
    """The pages of a block."""
    return Span(block_id * k.pages_per_block, (block_id + 1) * k.pages_per_block)
