"""The races of memory hotplug that the explorer decides: a module for each."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import BadInput, one_of
from memhp.explore.case import Case
from memhp.explore.case_file import own_case
from memhp.explore.cases import (
    allocation_vs_offline,
    block_online_vs_device,
    dax_dma_vs_truncate,
    free_before_flush,
    hotadd_allocation_failure,
    hv_backing_vs_online,
    memblock_order,
    memmap_first_section,
    memory_block_lookup,
    memory_error_vs_removal,
    memory_groups_vs_unbind,
    memory_vs_cpu_hotplug,
    node_offline_vs_zone_walk,
    online_vs_unplug,
    p2pdma_dma_vs_unbind,
    pagemap_lookup_vs_unmap,
    pfn_valid_vs_remove,
    pfn_walker_vs_offline,
    pgd_sync_existing_process,
    pgd_sync_new_process,
    ptdump_vs_hot_remove,
    ptdump_vs_vmalloc_huge,
    split_vs_remove,
    split_vs_walk,
    sysfs_write_vs_remove,
    two_hotplugs,
    two_table_allocs,
    vmalloc_fault,
    vmalloc_vs_hot_add,
    vmalloc_vs_hot_remove,
    zone_span_vs_allocation,
    zonelists_vs_allocation,
)

__all__ = ["CASES", "case"]

CASES: tuple[Case, ...] = (
    vmalloc_vs_hot_remove.CASE,
    vmalloc_vs_hot_add.CASE,
    ptdump_vs_hot_remove.CASE,
    ptdump_vs_vmalloc_huge.CASE,
    pgd_sync_existing_process.CASE,
    pgd_sync_new_process.CASE,
    vmalloc_fault.CASE,
    free_before_flush.CASE,
    split_vs_remove.CASE,
    split_vs_walk.CASE,
    pfn_walker_vs_offline.CASE,
    pfn_valid_vs_remove.CASE,
    pagemap_lookup_vs_unmap.CASE,
    p2pdma_dma_vs_unbind.CASE,
    dax_dma_vs_truncate.CASE,
    memblock_order.CASE,
    memmap_first_section.CASE,
    hotadd_allocation_failure.CASE,
    online_vs_unplug.CASE,
    two_hotplugs.CASE,
    memory_block_lookup.CASE,
    sysfs_write_vs_remove.CASE,
    block_online_vs_device.CASE,
    two_table_allocs.CASE,
    memory_error_vs_removal.CASE,
    node_offline_vs_zone_walk.CASE,
    allocation_vs_offline.CASE,
    memory_vs_cpu_hotplug.CASE,
    zone_span_vs_allocation.CASE,
    zonelists_vs_allocation.CASE,
    hv_backing_vs_online.CASE,
    memory_groups_vs_unbind.CASE,
)
"""Every case, in the order in which reports list them."""


def case(name: str) -> Case:
    """A case by name, or the one in a Python file (``FILE.py``). BadInput: there is none."""
    if name.endswith(".py"):
        return own_case(name)
    for one in CASES:
        if one.name == name:
            return one
    raise BadInput(f"there is no race {name!r}", where="NAME", fix=one_of(name, [one.name for one in CASES]))
