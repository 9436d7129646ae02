"""Going through the zones of all online nodes, under no lock: mm/mmzone.c.

What is held in between is a pointer to a zone. Its node may go offline meanwhile, and its ``pg_data_t`` with all zones
stays where it is: it is never freed.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from memhp.errors import KernelBug
from memhp.linux.mmzone import Node, Zone
from memhp.linux.nodemask import __next_node
from memhp.linux.place import here, kernel_function, of_file
from memhp.linux.state import Kernel

KERNEL_FILE = "mm/mmzone.c"


def _node_zones(pgdat: Node) -> list[Zone]:
    """``pgdat->node_zones``, lowest first."""
    return [zone for _, zone in sorted(pgdat.zones.items())]


@kernel_function("mm/memory_hotplug.c:try_offline_node")
def reset_pgdat(k: Kernel, nid: int) -> None:
    """``memset(pgdat, 0, sizeof(*pgdat))``."""
    k.hw.writes(k.nodes[nid].zone_pgdat)
    k.nodes[nid].zeroed = True


def first_online_pgdat(k: Kernel) -> Node:
    """``NODE_DATA()`` of the first node."""
    nid = __next_node(k, -1)
    assert nid is not None
    return k.nodes[nid]


def next_online_pgdat(k: Kernel, pgdat: Node | None) -> Node | None:
    """``NODE_DATA()`` of the next node that is online; None behind the last. KernelBug: the pointer is NULL."""
    if pgdat is None:
        raise KernelBug("Unable to handle kernel NULL pointer dereference at node_id of no pgdat", place=here())
    nid = __next_node(k, pgdat.nid)
    return k.nodes[nid] if nid is not None else None


def next_zone(k: Kernel, zone: Zone) -> Zone | None:
    """The zone behind this one, of its node or of the next that is online; None behind the last."""
    node = k.nodes[zone.nid]
    pgdat = None if node.zeroed else node
    for each in _node_zones(pgdat) if pgdat is not None else ():
        if each.type > zone.type:
            return each
    pgdat = next_online_pgdat(k, pgdat)
    return _node_zones(pgdat)[0] if pgdat is not None else None


@of_file("include/linux/mmzone.h")
def for_each_online_pgdat(k: Kernel) -> Iterator[Node]:
    """Every online node."""
    pgdat: Node | None = first_online_pgdat(k)
    while pgdat is not None:
        yield pgdat
        pgdat = next_online_pgdat(k, pgdat)


@of_file("include/linux/mmzone.h")
def for_each_zone(k: Kernel) -> Iterator[Zone]:
    """Every zone of every online node."""
    zone: Zone | None = _node_zones(first_online_pgdat(k))[0]
    while zone is not None:
        yield zone
        zone = next_zone(k, zone)
