"""Removal has memblock forget the memory before or after the architecture's part, and ``pfn_valid()`` asks memblock.

With arm64's ``pfn_valid()`` of the time, pages that memblock has forgotten are not valid any more, though their struct
pages are there still. Kernels that find a block's nodes by its pages then find none: the link below the node stays,
and who adds the memory again runs into it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.explore.case import Case, Configuration, Variant, configurations, mainline
from memhp.explore.cases.actors import laws_hold
from memhp.explore.cases.near_dimm import add_near, boot_near, remove_near
from memhp.explore.doors.run import KernelProgram

SERIES = (*configurations("arm64-hotremove-v6"), *configurations("arm64-hotremove-v7"))
"""V5 of the series breaks another law first (flush-before-free)."""
FIRST = {"memblock_order": "memblock-first"}
BLOCKS = {"rodata_full": False}


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM is in and offline; one CPU removes it, another adds it."""
    k = boot_near(variant.config(configuration))
    add_near(k)
    return KernelProgram(k, (remove_near, add_near), ("hot-remove", "hot-add"), check=laws_hold)


CASE = Case(
    name="memblock-order",
    actors="try_remove_memory(), and who adds the memory again; arm64 pfn_valid() through memblock",
    build=build,
    geometry="one memory block",
    variants=(
        Variant(
            "memblock-first",
            "memblock forgets the memory, then blocks, struct pages and direct map go: before patch 1 of the series",
            "broken",
            SERIES,
            generic=FIRST,
            options=BLOCKS,
        ),
        Variant(
            "arch-first",
            "memblock forgets the memory after arch_remove_memory()",
            "repaired",
            (*SERIES, *configurations("linux-5.13", "arm64"), *mainline("arm64")),
            options=BLOCKS,
        ),
        Variant(
            "sections",
            "memblock first, but pfn_valid() asks sections only, as since 5.14",
            "repaired",
            SERIES,
            choices={"pfn_valid": "sections"},
            generic=FIRST,
            options=BLOCKS,
        ),
        Variant(
            "stored-node",
            "memblock first, but a block knows its node, as since 5.4",
            "repaired",
            SERIES,
            generic={**FIRST, "block_nodes": "stored"},
            options=BLOCKS,
        ),
    ),
)
