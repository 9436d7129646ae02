"""Nodes that come and go before the eyes of CPUs that hold no lock: include/linux/nodemask.h."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.state import Kernel

KERNEL_FILE = "include/linux/nodemask.h"
N_ONLINE = "node_states[N_ONLINE]"
"""The bitmap by which who goes through nodes meets who adds and removes them: bits are set and cleared atomically, and
looked for in whole words."""


def node_set_online(k: Kernel, nid: int) -> None:
    """The node is online."""
    k.hw.atomic(N_ONLINE)
    k.node_states.online.add(nid)


def node_set_offline(k: Kernel, nid: int) -> None:
    """The node is offline: who goes through nodes now does not come to it; who is there goes on."""
    k.hw.atomic(N_ONLINE)
    k.node_states.online.discard(nid)
