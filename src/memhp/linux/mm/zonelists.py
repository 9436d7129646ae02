"""Which zones an allocation may use, nearest first: the zonelists of mm/page_alloc.c."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Collection
from dataclasses import dataclass

from memhp.linux.mmzone import Zone, ZoneType
from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel

KERNEL_FILE = "mm/page_alloc.c"


@dataclass
class Mempolicy:
    """What mm/mempolicy.c is told of zones."""

    policy_zone: ZoneType = ZoneType.DMA
    """The highest zone but ZONE_MOVABLE that ever had pages."""


def node_order(k: Kernel, nid: int) -> list[int]:
    """Nodes in the order in which an allocation for `nid` tries them: ``find_next_best_node()``.

    All other nodes are equally far here; then the kernel goes on with the next higher ones, and the lower ones last.
    """
    return sorted(k.nodes, key=lambda other: (other < nid, other))


@kernel_function("mm/page_alloc.c:build_zonerefs_node")
def zonelist(k: Kernel, nid: int, highest: ZoneType, nodes: Collection[int] | None = None) -> list[Zone]:
    """Zones with managed pages up to `highest`, node by node, in each the highest first.

    Only those of `nodes`, where given: ``for_each_zone_zonelist_nodemask()``.
    """
    if len(k.nodes) == 1 and nodes is None:
        order = list(k.nodes)
    else:
        order = [each for each in node_order(k, nid) if nodes is None or each in nodes]
    zones = [
        zone
        for each in order
        for kind, zone in sorted(k.nodes[each].zones.items(), reverse=True)
        if kind <= highest
    ]
    k.reads_zones(zones, "managed_pages")
    return [zone for zone in zones if zone.managed]


def build_all_zonelists(k: Kernel, new: int | None = None) -> None:
    """Say what the fallback order is, as the kernel does when a zone gets its first pages or loses its last.

    Of every possible node; for the node `new`, which is not online yet, of that one only.
    mm/page_alloc.c:build_all_zonelists; the lists themselves are worked out when they are used.
    """
    online, memory = k.node_states.online, k.node_states.memory
    local_first = k.config.profile.zonelist_local == "always"
    for nid in sorted(k.node_states.possible | online) if new is None or new in online else [new]:
        order = [each for each in node_order(k, nid) if each in memory or (local_first and each == nid)]
        k.hw.log(f"Fallback order for Node {nid}: {''.join(f'{each} ' for each in order)}")
    zones = k.zones()
    k.reads_zones(zones, "managed_pages", "_watermark")
    total = sum(max(0, zone.managed - zone.watermark_high) for zone in zones)
    kinds = [zone.type for zone in zones if zone.managed and zone.type is not ZoneType.MOVABLE]
    k.hw.log(f"Built {len(online)} zonelists, mobility grouping on.  Total pages: {total}")
    policy = k.statics(Mempolicy)
    policy.policy_zone = max([policy.policy_zone, *kinds])
    k.hw.log(f"Policy zone: {policy.policy_zone.title}")
