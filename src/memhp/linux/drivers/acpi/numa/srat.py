"""Proximity domains of ACPI's SRAT and the nodes that Linux makes of them: drivers/acpi/numa/srat.c."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from dataclasses import dataclass, field

from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import MiB

KERNEL_FILE = "drivers/acpi/numa/srat.c"
NUMA_NO_NODE = -1
LEAST_ADVICE = 256 * MiB
"""What the CXL specification has windows aligned to, at least."""


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


def memory_block_advice(windows: Iterable[Span]) -> int:
    """The largest memory block that CXL windows (physical bytes) allow, bytes; 0 where none advises any.

    Each advises what its start and end are aligned to, if that is 256 MiB or more: ``acpi_parse_cfmws()`` and
    ``memory_block_advise_max_size()``.
    """
    aligned = (window.start | window.end for window in windows)
    advices = [bits & -bits for bits in aligned if not bits & (LEAST_ADVICE - 1)]
    return min(advices, default=0)


def pxm_to_node(k: Kernel, pxm: int) -> int:
    """The node of a proximity domain, NUMA_NO_NODE for one that firmware's tables do not name."""
    return k.statics(Srat).pxm_to_node_map.get(pxm, NUMA_NO_NODE)
