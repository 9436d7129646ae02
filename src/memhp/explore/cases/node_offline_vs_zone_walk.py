"""The last memory of a node goes while somebody goes through the zones of all online nodes.

Statistics, /proc/meminfo and reclaim do that all the time (``for_each_zone()``, ``for_each_online_pgdat()``), and hold
no lock: whoever has come to a zone finds the next one by its node, which may be offline by then, and online again.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable

from memhp.explore.case import Case, Configuration, Variant, mainline
from memhp.explore.cases.actors import laws_hold
from memhp.explore.cases.near_dimm import add_near, boot_near, remove_near
from memhp.explore.doors.run import KernelProgram
from memhp.linux.mm.mmzone import for_each_zone
from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel

EVERYWHERE = tuple(one for one in mainline() if one.va_bits == 48)
AGAIN = "reset-when-online-again"


def remove_and_add(k: Kernel) -> None:
    """The memory goes and comes back."""
    remove_near(k)
    add_near(k, nid=1)


@kernel_function("mm/show_mem.c:si_mem_available")
def si_mem_available(k: Kernel) -> Hashable:
    """Add up the low watermarks of all zones: ``MemAvailable`` of /proc/meminfo leaves them out."""
    return sum(zone.watermark_low for zone in for_each_zone(k))


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """A DIMM is all that node 1 has; its block is offline."""
    k = boot_near(variant.config(configuration), nodes=(0, 1))
    add_near(k, nid=1)
    goes = remove_and_add if variant.name == AGAIN else remove_near
    return KernelProgram(k, (goes, si_mem_available), ("hot-remove", "zone walk"), check=laws_hold)


CASE = Case(
    name="node-offline-vs-zone-walk",
    actors="who goes through all zones; the last memory of a node is removed",
    build=build,
    geometry="two nodes, of which the second has one DIMM; the low watermark of every zone is read",
    variants=(
        Variant(
            "reset-when-offline",
            "pg_data_t is zeroed when the node is offline: before 4.0",
            "broken",
            EVERYWHERE,
            generic={"pgdat_reset": "when-offline"},
            options={"rodata_full": False},
        ),
        Variant(
            "reset-when-online",
            "it stays as it is",
            "repaired",
            EVERYWHERE,
            options={"rodata_full": False},
        ),
        Variant(
            AGAIN,
            "it stays as it is until the node is used again, which it is at once",
            "repaired",
            EVERYWHERE,
            options={"rodata_full": False},
        ),
    ),
)
