"""NUMA nodes: which state each is in, and the node devices with the memory blocks linked below them.

``include/linux/nodemask.h:node_states`` and ``drivers/base/node.c``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field
from errno import EEXIST
from typing import Any

from memhp.errors import KernelBug, KernelError
from memhp.linux.mm.memblock import Memblock
from memhp.linux.place import here
from memhp.spans import SpanMap, SpanSet

KERNEL_FILE = "drivers/base/node.c"


@dataclass
class NodeStates:
    """``node_states[]``, a set of node ids for each state, and ``node_devices[]``."""

    possible: set[int] = field(default_factory=lambda: {0})
    """``N_POSSIBLE``: nodes that may come online."""
    online: set[int] = field(default_factory=set)
    """``N_ONLINE``."""
    normal_memory: set[int] = field(default_factory=set)
    """``N_NORMAL_MEMORY``: nodes with online memory in a zone up to ZONE_NORMAL."""
    memory: set[int] = field(default_factory=set)
    """``N_MEMORY``: nodes with online memory of any kind."""
    cpus: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Node id → its CPUs, for every node that has some: ``N_CPU``."""
    devices: dict[int, SpanSet] = field(default_factory=dict)
    """Node id → ids of the memory blocks linked below its device, for every node that has a device."""


def register_node(states: NodeStates, nid: int) -> None:
    """``register_node()`` (6.12: ``register_one_node()``): a node gets its device. Raises EEXIST when it has one."""
    if nid in states.devices:
        raise KernelError(EEXIST, f"node {nid} has a device already", place=here())
    states.devices[nid] = SpanSet()


def unregister_node(states: NodeStates, nid: int) -> None:
    """``unregister_node()`` (6.12: ``unregister_one_node()``): the device goes; nothing happens without one."""
    states.devices.pop(nid, None)


def _blocks_below(states: NodeStates, nid: int, function: str) -> SpanSet:
    if nid not in states.devices:
        raise KernelBug(f"node {nid} has no device", place=f"drivers/base/node.c:{function}")
    return states.devices[nid]


def register_memory_blocks_under_node_hotplug(states: NodeStates, nid: int, start_block: int, end_block: int) -> None:
    """``register_memory_blocks_under_node_hotplug()``: link the hot-added blocks ``[start_block, end_block)`` and node.

    Raises :class:`KernelBug` when the node has no device, where the kernel follows a null pointer.
    """
    _blocks_below(states, nid, "do_register_memory_block_under_node").add(start_block, end_block)


def register_memory_blocks_under_nodes(
    states: NodeStates,
    mb: Memblock,
    blocks: SpanMap[Any],
    block_size: int,
    *,
    by_node: bool = False,
    by_span: bool = False,
) -> list[tuple[int, int, int]]:
    """``register_memory_blocks_under_nodes()``: at boot, link each block device with every node it has memory of.

    `blocks` maps the ids of block devices, `block_size` is in bytes. Gives ``(start_block, end_block, nid)`` of every
    run of links in the kernel's order; of several nodes of a block the last becomes ``mem->nid``
    (``memory_block_add_nid_early()``). Memory of a node that is not online is passed over. With `by_node` each node's
    blocks are linked as it gets its device, in the order of node ids: before 7.2. With `by_span` they are all those
    that lie between a node's first memory and its last, whosever they are: before 5.9.
    """
    linked = []
    regions = [(start, end, region.nid) for start, end, region in mb.memory]
    if by_span:
        regions = [
            (min(start for start, _, of in regions if of == nid), max(end for _, end, of in regions if of == nid), nid)
            for nid in {nid for _, _, nid in regions}
        ]
    for start, end, nid in sorted(regions, key=lambda each: each[2]) if by_node or by_span else regions:
        if nid in states.online:
            below = _blocks_below(states, nid, "do_register_memory_block_under_node")
            for first, last, _ in blocks.runs(start // block_size, -(-end // block_size)):
                below.add(first, last)
                linked.append((first, last, nid))
    return linked


def unregister_memory_block_under_nodes(states: NodeStates, nid: int | None, block: int) -> None:
    """``unregister_memory_block_under_nodes()``: drop the links of a block that goes away.

    `nid` is the block's own; None (``NUMA_NO_NODE``) for one without a node, which has no links.
    """
    if nid is not None:
        _blocks_below(states, nid, "unregister_memory_block_under_nodes").remove(block, block + 1)
