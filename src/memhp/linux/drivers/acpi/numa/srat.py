"""Proximity domains of ACPI's SRAT and the nodes that Linux makes of them: drivers/acpi/numa/srat.c."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.state import Kernel

NUMA_NO_NODE = -1


def acpi_map_pxm_to_node(k: Kernel, pxm: int) -> int:
    """The node of a proximity domain, the lowest free one for a domain that is seen for the first time."""
    if pxm not in k.pxm_to_node_map:
        found = set(k.pxm_to_node_map.values())
        k.pxm_to_node_map[pxm] = next(nid for nid in range(len(found) + 1) if nid not in found)
    return k.pxm_to_node_map[pxm]


def pxm_to_node(k: Kernel, pxm: int) -> int:
    """The node of a proximity domain, NUMA_NO_NODE for one that firmware's tables do not name."""
    return k.pxm_to_node_map.get(pxm, NUMA_NO_NODE)
