"""Proximity domains of ACPI's SRAT and the nodes that Linux makes of them: drivers/acpi/numa/srat.c."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field

from memhp.linux.state import Kernel

KERNEL_FILE = "drivers/acpi/numa/srat.c"
NUMA_NO_NODE = -1


@dataclass
class Srat:
    """What firmware's tables say of proximity."""

    pxm_to_node_map: dict[int, int] = field(default_factory=dict)
    """Proximity domain → node."""


def acpi_map_pxm_to_node(k: Kernel, pxm: int) -> int:
    """The node of a proximity domain, the lowest free one for a domain that is seen for the first time."""
    nodes = k.statics(Srat).pxm_to_node_map
    if pxm not in nodes:
        found = set(nodes.values())
        nodes[pxm] = next(nid for nid in range(len(found) + 1) if nid not in found)
    return nodes[pxm]


def pxm_to_node(k: Kernel, pxm: int) -> int:
    """The node of a proximity domain, NUMA_NO_NODE for one that firmware's tables do not name."""
    return k.statics(Srat).pxm_to_node_map.get(pxm, NUMA_NO_NODE)
