"""Kernel versions and patch revisions as tables of the choices they made.

Nothing else in the package compares versions: code asks for the choice by name. A variant that never shipped (a race
repaired or not) is ``dataclasses.replace`` of one of these. ``linux-6.12`` is the stable series as distributions
carry it: fixes that went back to 6.12.y count as made.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

from memhp.errors import BadInput
from memhp.linux.arch.arm64.choices import Arm64Profile
from memhp.linux.arch.riscv.choices import RiscvProfile
from memhp.linux.arch.x86.choices import X86Profile
from memhp.linux.choices import ARCHES, Arch, Profile

__all__ = ["ARCHES", "MAINLINE", "PROFILES", "Arch", "Profile", "profile"]

MAINLINE = ("linux-6.12", "linux-7.2")
"""Names of the profiles of kernels as they are today."""

_RISCV_6_12 = RiscvProfile(
    layout="6.12",
    folded_levels="skipped",
    map_size="below-root",
    vmemmap_leaves="huge",
    vmemmap_fallback="base-unless-altmap",
    altmap_fallback="fail",
    vmemmap_altmap="any-leaf",
    vmemmap_check_pmd="anything",
    mappable_range="direct-map",
    pgd_policy="preallocate",
    pgd_list="after-copy",
    pgd_preallocated=("vmalloc", "modules", "vmemmap", "direct map", "kasan"),
    vmalloc_fault=False,
    storage_freed="after-clear",
    table_freed="before-clear",
    leaf_flush="none",
    end_flush="all",
    remove_extra_flush=True,
    add_flush="end",
    page_table_section="__meminit",
    ptdump_lock="mem_hotplug_lock",
    huge_vmalloc=True,
    optimize_dax_vmemmap=True,
    virtio_mem=True,
)

_RISCV_V1 = replace(
    _RISCV_6_12,
    layout="6.4",
    folded_levels="indexed",
    map_size="physical",
    vmemmap_leaves="base",
    vmemmap_fallback="base",
    vmemmap_altmap="none",
    mappable_range="everything",
    pgd_preallocated=("vmalloc", "vmemmap", "direct map"),
    remove_extra_flush=False,
    add_flush="before-add-pages",
    ptdump_lock="none",
    optimize_dax_vmemmap=False,
)

_ARM64_5_13 = Arm64Profile(
    layout="5.11",
    section_size="128M-or-512M",
    pfn_valid="memblock-if-early",
    dma_zone="at-most-32-bit",
    linear_map_random=True,
    split_kernel_leaf=False,
    vmap_huge_with_ptdump=False,
    vmemmap_populate="merged",
    create_may_fail=False,
    create_lock="none",
    block_over_table="keep",
    kernel_prot="5.10",
    table_attributes="XN",
    range_flush="by-page",
    vmemmap_leaves="huge-if-4k-pages",
    vmemmap_fallback="base",
    altmap_fallback="fail",
    vmemmap_altmap="any-leaf",
    vmemmap_subsection="same",
    vmemmap_check_pmd="anything",
    direct_map_leaves="base-if-set-direct-map",
    mappable_range="direct-map",
    free_empty_tables="floor-ceiling",
    remove_passes=2,
    storage_freed="after-flush",
    leaf_flush="each-page",
    pte_table_flush="none",
    end_flush="none",
    remove_lock="none",
    page_table_section="__meminit",
    bootmem_remove="notifier",
    ptdump_lock="mem_hotplug_lock",
    huge_vmalloc=False,
    optimize_dax_vmemmap=False,
    virtio_mem=True,
)

_ARM64_V6 = replace(
    _ARM64_5_13,
    layout="5.3",
    kernel_prot="5.2",
    table_attributes="none",
    section_size="1G",
    pfn_valid="memblock",
    dma_zone="none",
    vmemmap_fallback="none",
    vmemmap_altmap="none",
    mappable_range="everything",
    free_empty_tables="never",
    leaf_flush="each-range",
    bootmem_remove="unchecked",
    virtio_mem=False,
)

_ARM64_V5 = replace(
    _ARM64_V6,
    free_empty_tables="always",
    remove_passes=1,
    storage_freed="before-clear",
    leaf_flush="none",
    pte_table_flush="range",
    remove_lock="whole-range",
)

_ARM64_V7 = replace(_ARM64_V6, layout="5.4", free_empty_tables="if-no-vmalloc-overlap")

_ARM64_6_12 = replace(
    _ARM64_5_13,
    layout="6.12",
    pfn_valid="sections",
    create_lock="fixmap_lock",
    kernel_prot="6.12",
    dma_zone="32-bit-if-ram-below",
    vmemmap_fallback="base-unless-altmap",
    vmemmap_subsection="base",
    leaf_flush="each-page-of-vmemmap",
    end_flush="direct-map-range",
    huge_vmalloc=True,
)

_X86_5_13 = X86Profile(
    pud_free="clear-below-first",
    block_size_advice=False,
    vmemmap_partial_pmd=True,
    vmemmap_leaves="huge",
    vmemmap_fallback="base-unless-altmap",
    altmap_fallback="fail",
    pgd_policy="sync",
    pgd_list="one-lock",
    pgd_preallocated=("vmalloc",),
    vmalloc_fault=False,
    storage_freed="before-clear",
    table_freed="before-clear",
    leaf_flush="none",
    pte_table_flush="all",
    end_flush="all",
    remove_lock="each-entry",
    populate_lock="each-entry",
    page_table_section="__meminit",
    ptdump_lock="none",
    huge_vmalloc=False,
    optimize_dax_vmemmap=False,
    virtio_mem=True,
)

_X86_6_12 = replace(
    _X86_5_13,
    ptdump_lock="mem_hotplug_lock",
    huge_vmalloc=True,
    optimize_dax_vmemmap=True,
)

_LINUX_5_13 = Profile(
    name="linux-5.13",
    release="5.13",
    source="Linux 5.13, June 2021",
    memblock_order="arch-first",
    memmap_on_memory="one-block",
    auto_movable=False,
    pluggable_end="MAX_PHYSMEM_BITS",
    pageblock_cap="MAX_PAGE_ORDER",
    isolate_mark="migratetype",
    node_notifier="memory-notifier",
    new_node="after-add",
    zone_shrink="on-offline",
    block_zone="looked-up",
    block_nodes="stored",
    online_hwpoison="allowed",
    prepare_online=False,
    resource_split="children-stay",
    boot_vmemmap="sparse-buffer",
    movable_watermark="share",
    lowmem_reserve="with-watermarks",
    vmap_huge_lock="none",
    ptdump_mmap_lock="read",
    memmap_counters=False,
    pgmap_ref="each-page",
    pgmap_drain="kill-and-wait",
    block_reference="held",
    pfn_walk_lock="none",
    kmem_tells_truncation=False,
    virtio_mem_sleep="refused",
    virtio_mem_unplugged_inaccessible=False,
    records=(_ARM64_5_13, _X86_5_13),
    dax_compound_pages=False,
)

_LINUX_6_12 = replace(
    _LINUX_5_13,
    name="linux-6.12",
    release="6.12",
    source="Linux 6.12.y, November 2024 on",
    memmap_on_memory="many-blocks",
    auto_movable=True,
    pluggable_end="PHYSMEM_END",
    block_zone="stored",
    online_hwpoison="refused",
    prepare_online=True,
    movable_watermark="capped",
    vmap_huge_lock="init_mm.mmap_lock",
    ptdump_mmap_lock="write",
    memmap_counters=True,
    pgmap_ref="at-once",
    virtio_mem_sleep="by-feature",
    virtio_mem_unplugged_inaccessible=True,
    records=(_RISCV_6_12, _ARM64_6_12, _X86_6_12),
    dax_compound_pages=True,
)

_LINUX_7_2 = replace(
    _LINUX_6_12,
    name="linux-7.2",
    release="7.2",
    source="Linux 7.2.y",
    records=(
        replace(_RISCV_6_12, layout="7.2", vmemmap_check_pmd="leaf"),
        replace(
            _ARM64_6_12,
            linear_map_random=False,
            split_kernel_leaf=True,
            vmap_huge_with_ptdump=True,
            create_may_fail=True,
            block_over_table="descend",
            vmemmap_check_pmd="leaf",
            kernel_prot="7.2",
            table_attributes="XN-AF",
            range_flush="by-range",
            bootmem_remove="notifier-and-split-check",
            direct_map_leaves="base-unless-bbml2",
        ),
        replace(_X86_6_12, pud_free="detach-first", block_size_advice=True),
    ),
    pageblock_cap="PAGE_BLOCK_MAX_ORDER",
    isolate_mark="pageblock-bit",
    node_notifier="node-notifier",
    new_node="before-add",
    prepare_online=False,
    resource_split="children-move",
    boot_vmemmap="per-leaf",
    lowmem_reserve="with-managed-pages",
    kmem_tells_truncation=True,
)

_RISCV_HOTPLUG_V1 = replace(
    _LINUX_6_12,
    name="riscv-hotplug-v1",
    release="6.4",
    source="[PATCH 0/7] riscv: Memory Hot(Un)Plug support, 12 May 2023",
    memmap_on_memory="none",
    pluggable_end="MAX_PHYSMEM_BITS",
    movable_watermark="share",
    prepare_online=False,
    vmap_huge_lock="none",
    memmap_counters=False,
    virtio_mem_sleep="refused",
    records=(_RISCV_V1,),
)

_ARM64_HOTREMOVE_V5 = replace(
    _LINUX_5_13,
    name="arm64-hotremove-v5",
    release="5.2",
    source="[PATCH V5 0/3] arm64/mm: Enable memory hot remove, 29 May 2019",
    memmap_on_memory="none",
    pluggable_end="none",
    ptdump_mmap_lock="none",
    zone_shrink="on-remove",
    block_nodes="by-page",
    records=(_ARM64_V5,),
)

_ARM64_HOTREMOVE_V6 = replace(
    _ARM64_HOTREMOVE_V5,
    name="arm64-hotremove-v6",
    source="[PATCH V6 0/3] arm64/mm: Enable memory hot remove, 19 June 2019",
    records=(_ARM64_V6,),
)

_ARM64_HOTREMOVE_V7 = replace(
    _ARM64_HOTREMOVE_V5,
    name="arm64-hotremove-v7",
    release="5.4-rc",
    source="[PATCH V7 0/3] arm64/mm: Enable memory hot remove, 3 September 2019, on arm64 for-next/core",
    records=(_ARM64_V7,),
)

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        _RISCV_HOTPLUG_V1,
        _ARM64_HOTREMOVE_V5,
        _ARM64_HOTREMOVE_V6,
        _ARM64_HOTREMOVE_V7,
        _LINUX_5_13,
        _LINUX_6_12,
        _LINUX_7_2,
    )
}
"""Every profile by its name."""


def profile(name: str, *, where: str = "profile") -> Profile:
    """The profile of that name. Raises :class:`BadInput`, naming `where`, that lists the names there are."""
    if name not in PROFILES:
        raise BadInput(f"no kernel profile {name!r}", where=where, fix=f"one of {', '.join(PROFILES)}")
    return PROFILES[name]
