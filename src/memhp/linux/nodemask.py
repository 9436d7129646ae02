"""Nodes that come and go before the eyes of CPUs that hold no lock: include/linux/nodemask.h."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.state import Kernel

KERNEL_FILE = "include/linux/nodemask.h"
N_ONLINE = "node_states[N_ONLINE]"
"""The bitmap by which who goes through nodes meets who adds and removes them."""


def node_set_online(k: Kernel, nid: int) -> None:
    """The node is online. The bit is set atomically, so that no plain write is announced."""
    k.hw.atomic(N_ONLINE)
    _bits(k).add(nid)


def node_set_offline(k: Kernel, nid: int) -> None:
    """The node is offline: who goes through nodes now does not come to it; who is there goes on. Atomic as well."""
    k.hw.atomic(N_ONLINE)
    _bits(k).discard(nid)


def __next_node(k: Kernel, nid: int) -> int | None:
    """The first node that is online behind `nid`; None: there is none. Words of the bitmap are read whole."""
    k.hw.reads(N_ONLINE)
    return min((each for each in _bits(k) if each > nid), default=None)


def _bits(k: Kernel) -> set[int]:
    """The bitmap, past what announces plain accesses to it (:class:`memhp.explore.doors.containers.AnnouncedSet`)."""
    online = k.node_states.online
    return getattr(online, "items", online)
