"""NUMA nodes: which state each is in, and the node devices with the memory blocks linked below them.

``include/linux/nodemask.h:node_states`` and ``drivers/base/node.c``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field
from errno import EEXIST
from functools import partial

from memhp.errors import KernelBug, KernelError
from memhp.hw.marked_map import MarkedSet
from memhp.hw.shared import Stepped, marked
from memhp.linux.place import here

KERNEL_FILE = "drivers/base/node.c"
N_ONLINE = "node_states[N_ONLINE]"
N_NORMAL_MEMORY = "node_states[N_NORMAL_MEMORY]"
N_MEMORY = "node_states[N_MEMORY]"


@dataclass
class NodeStates:
    """``node_states[]``, a set of node ids for each state, and ``node_devices[]``."""

    possible: set[int] = field(default_factory=lambda: {0})
    """``N_POSSIBLE``: nodes that may come online."""
    online: set[int] = field(default_factory=set, metadata=marked(N_ONLINE))
    """Nodes that are there. It and the next two are changed by :mod:`memhp.linux.nodemask`."""
    nr_online_nodes: int = 1
    """How many these are, as last counted: which everybody may look at, and nobody locks."""
    normal_memory: set[int] = field(default_factory=set, metadata=marked(N_NORMAL_MEMORY))
    """Nodes with online memory in a zone up to ZONE_NORMAL."""
    memory: set[int] = field(default_factory=set, metadata=marked(N_MEMORY))
    """Nodes with online memory of any kind."""
    cpus: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Node id → its CPUs, for every node that has some: ``N_CPU``."""
    devices: dict[int, MarkedSet] = field(default_factory=dict)
    """Node id → ids of the memory blocks linked below its device, for every node that has a device. Links are entered
    and taken out in one go: ``kernfs_rwsem`` (fs/kernfs/dir.c:kernfs_add_one).
    """


def register_node(states: NodeStates, nid: int, machine: Stepped) -> None:
    """``register_node()`` (6.12: ``register_one_node()``): a node gets its device. Raises EEXIST when it has one.

    Who links memory blocks below it does so in steps of `machine`.
    """
    if nid in states.devices:
        raise KernelError(EEXIST, f"node {nid} has a device already", place=here())
    links = MarkedSet(partial(_link, nid))
    links.belong(machine, "")
    states.devices[nid] = links


def unregister_node(states: NodeStates, nid: int) -> None:
    """``unregister_node()`` (6.12: ``unregister_one_node()``): the device goes; nothing happens without one."""
    states.devices.pop(nid, None)


def _link(nid: int, block: int) -> str:
    return f"node{nid}/memory{block}"


def _blocks_below(states: NodeStates, nid: int, function: str) -> MarkedSet:
    if nid not in states.devices:
        raise KernelBug(f"node {nid} has no device", place=f"drivers/base/node.c:{function}")
    return states.devices[nid]


def register_memory_blocks_under_node_hotplug(states: NodeStates, nid: int, start_block: int, end_block: int) -> None:
    """``register_memory_blocks_under_node_hotplug()``: link the hot-added blocks ``[start_block, end_block)`` and node.

    Raises :class:`KernelBug` when the node has no device, where the kernel follows a null pointer.
    """
    _blocks_below(states, nid, "do_register_memory_block_under_node").add(start_block, end_block)


def unregister_memory_block_under_nodes(states: NodeStates, nid: int | None, block: int) -> None:
    """``unregister_memory_block_under_nodes()``: drop the links of a block that goes away.

    `nid` is the block's own; None (``NUMA_NO_NODE``) for one without a node, which has no links.
    """
    if nid is not None:
        _blocks_below(states, nid, "unregister_memory_block_under_nodes").remove(block, block + 1)
