"""Which states nodes are in, before the eyes of CPUs that hold no lock: include/linux/nodemask.h.

A state is a bitmap of nodes, whose bits are set, cleared and tested atomically, so that no access is plain; but how
many nodes are online is a variable as any other.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.drivers.base.node import N_MEMORY, N_NORMAL_MEMORY, N_ONLINE
from memhp.linux.state import Kernel

KERNEL_FILE = "include/linux/nodemask.h"
BITMAPS = {N_ONLINE: "online", N_NORMAL_MEMORY: "normal_memory", N_MEMORY: "memory"}
"""State → the field of :class:`memhp.linux.drivers.base.node.NodeStates` that has its nodes."""


def node_set_state(k: Kernel, nid: int, state: str) -> None:
    """The node is in this state from now on."""
    k.hw.atomic(state)
    getattr(k.node_states, BITMAPS[state]).add(nid)


def node_clear_state(k: Kernel, nid: int, state: str) -> None:
    """The node is in this state no more."""
    k.hw.atomic(state)
    getattr(k.node_states, BITMAPS[state]).discard(nid)


def node_set_online(k: Kernel, nid: int) -> None:
    """The node is online."""
    node_set_state(k, nid, N_ONLINE)
    k.node_states.nr_online_nodes = len(k.node_states.online)


def node_set_offline(k: Kernel, nid: int) -> None:
    """The node is offline: who goes through nodes now does not come to it; who is there goes on."""
    node_clear_state(k, nid, N_ONLINE)
    k.node_states.nr_online_nodes = len(k.node_states.online)


def __next_node(k: Kernel, nid: int) -> int | None:
    """The first node that is online behind `nid`; None: there is none. Words of the bitmap are read whole."""
    k.hw.reads(N_ONLINE)
    return min((each for each in k.node_states.online if each > nid), default=None)
