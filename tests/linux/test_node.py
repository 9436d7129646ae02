"""Node devices link the memory blocks that hold memory of the node: ``drivers/base/node.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno

import pytest

from memhp.errors import KernelBug, KernelError
from memhp.hw.shared import QUIET
from memhp.linux.drivers.base.node import (
    NodeStates,
    register_memory_blocks_under_node_hotplug,
    register_node,
    unregister_memory_block_under_nodes,
    unregister_node,
)


def nodes(*online: int) -> NodeStates:
    states = NodeStates(possible={0, 1, 2}, online=set(online))
    for nid in online:
        register_node(states, nid, QUIET)
    return states


def links(states: NodeStates) -> dict[int, list[int]]:
    return {nid: [block for span in below for block in range(*span)] for nid, below in states.devices.items()}


def test_hot_added_blocks_are_linked_with_one_node_until_they_go() -> None:
    states = nodes(0, 1)
    register_memory_blocks_under_node_hotplug(states, 1, 8, 12)
    unregister_memory_block_under_nodes(states, 1, 9)
    unregister_memory_block_under_nodes(states, None, 10)
    assert links(states) == {0: [], 1: [8, 10, 11]}


def test_a_node_has_one_device() -> None:
    states = nodes(0)
    with pytest.raises(KernelError) as error:
        register_node(states, 0, QUIET)
    assert error.value.errno == errno.EEXIST
    unregister_node(states, 0)
    unregister_node(states, 0)
    assert states.devices == {}


def test_linking_below_a_node_without_a_device_is_a_null_pointer() -> None:
    with pytest.raises(KernelBug):
        register_memory_blocks_under_node_hotplug(nodes(0), 1, 8, 9)
