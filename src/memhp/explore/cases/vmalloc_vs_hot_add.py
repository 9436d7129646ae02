"""Hot-add and vmalloc() both make the page table that they share, and one of the two tables is lost.

Where vmemmap and vmalloc area meet under one entry (:mod:`memhp.explore.cases.vmalloc_vs_hot_remove`), the table below
it may be made by either. vmap looks at the entry once more under ``init_mm.page_table_lock`` before it fills it; the
vmemmap's populate functions look, allocate, and fill, without it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.explore.case import Case, Configuration, Variant
from memhp.explore.cases.vmalloc_vs_hot_remove import (
    CHUNK,
    LAYOUTS,
    OPTIONS,
    boot,
    chunk_is_mapped,
    hot_add,
    populate_chunk,
)
from memhp.explore.doors.run import KernelProgram
from memhp.linux.mm.vmalloc import vfree

TABLE_THERE = "table-there"


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """The DIMM is added while per-CPU memory grows, for the first time or once more."""
    k = boot(variant.config(configuration), added=False)
    if variant.name == TABLE_THERE:
        populate_chunk(k)
        vfree(k, CHUNK)
    return KernelProgram(k, (hot_add, populate_chunk), ("hot-add", "percpu"), check=chunk_is_mapped)


SHARED = tuple(one for one in LAYOUTS if one.release == "linux-6.12" and not one.note)
"""Where the two may meet in a table that is not there since boot."""

CASE = Case(
    name="vmalloc-vs-hot-add",
    actors="per-CPU memory grows at the top of the vmalloc area; hot-add populates the vmemmap behind it",
    build=build,
    geometry="the machine of vmalloc-vs-hot-remove, before the DIMM is added",
    variants=(
        Variant(
            "first-table",
            "neither has made the table yet that both need",
            "broken",
            SHARED,
            options=OPTIONS,
            finding="Hot-add and vmalloc may both make the page table that they share",
        ),
        Variant(
            TABLE_THERE,
            "the table was made before, and mainline hot-remove leaves it",
            "repaired",
            SHARED,
            options=OPTIONS,
        ),
    ),
)
