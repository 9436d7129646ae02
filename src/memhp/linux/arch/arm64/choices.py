"""What arm64 decides for itself: the choices that its code reads."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from memhp.linux.choices import Arch, ArchProfile

if TYPE_CHECKING:
    from memhp.linux.config import Config


@dataclass(frozen=True, kw_only=True)
class Arm64Profile(ArchProfile):
    """arm64: hot-remove as posted in 2019 and as merged in 5.7."""

    arch: ClassVar[Arch] = "arm64"
    pgd_shared: ClassVar[bool] = True

    vmemmap_leaves: Literal["base", "huge", "huge-if-4k-pages"]
    """Which leaves ``arch/*/mm: vmemmap_populate()`` tries for a whole section."""
    vmemmap_altmap: Literal["any-leaf", "none"]
    """Which leaves take their storage from an altmap. x86 drops it for base pages
    (``arch/x86/mm/init_64.c:vmemmap_populate``); riscv v1 and arm64 before 5.9 drop it always."""
    vmemmap_subsection: Literal["base", "same"]
    """Leaves for less than a section: base pages (x86; arm64 7.2, 6.12.y), or the same as for a whole one."""
    vmemmap_check_pmd: Literal["leaf", "anything"]
    """Which PMD entry ``vmemmap_check_pmd()`` takes for struct pages that are there: a leaf (x86, all by 7.2), or a
    table as well, whatever is in it (riscv, arm64)."""
    direct_map_leaves: Literal["largest", "base-if-set-direct-map", "base-unless-bbml2"]
    """The largest that fit; base pages where single pages may change (arm64 ``can_set_direct_map()``, before 5.11
    spelt out in ``arch_add_memory()``); or base pages unless all CPUs can split live blocks, BBML2
    (arm64 7.2 ``force_pte_mapping()``)."""
    mappable_range: Literal["everything", "direct-map"]
    """What ``arch_get_mappable_range()`` answers: the weak default of ``mm/memory_hotplug.c``, or the direct map."""
    free_empty_tables: Literal["always", "never", "if-no-vmalloc-overlap", "floor-ceiling"]
    """Which emptied vmemmap tables go back: the choice that the arm64 series turned on. Tables of the direct map
    always do, under floor and ceiling where this says so."""
    remove_passes: Literal[1, 2]
    """Leaves and tables in one descent (riscv, x86, arm64 V5), or tables in a second (arm64 V6 on)."""
    storage_freed: Literal["before-clear", "after-flush"]
    """When the frames behind a removed vmemmap leaf are freed, against clearing it and against the flush that
    belongs to it: x86 ``remove_pte_table``, arm64 V5; riscv ``remove_pte_mapping``; arm64 ``unmap_hotplug_*``."""
    leaf_flush: Literal["none", "each-range", "each-page", "each-page-of-vmemmap"]
    """``flush_tlb_kernel_range()`` for every leaf as it goes: of all it maps (arm64 V6, V7), of its first page
    (5.7), of its first page in the vmemmap only (7.2, 6.12.y)."""
    pte_table_flush: Literal["none", "range"]
    """A flush after each run of base-page leaves in one table: of that range (arm64 V5, which forgets blocks), or of
    everything (x86 ``remove_pte_table``)."""
    end_flush: Literal["none", "direct-map-range"]
    """The flush at the end: of everything (riscv ``remove_pgd_mapping``, x86 ``remove_pagetable``), or of the range,
    and for the direct map only (arm64 ``unmap_hotplug_range``, with `leaf_flush` each-page-of-vmemmap)."""
    remove_lock: Literal["none", "whole-range"]
    """``init_mm.page_table_lock`` on removal: around each cleared entry (x86), around the whole range (arm64 V5)."""
    bootmem_remove: Literal["unchecked", "notifier", "notifier-and-split-check"]
    """Whether boot memory may go offline. arm64 refuses it in ``prevent_bootmem_remove_notifier()`` (5.7), by 7.2 also
    any range with an edge inside a leaf of direct map or vmemmap (``can_unmap_without_split()``)."""
    layout: Literal["5.3", "5.4", "5.11", "6.12"]
    """``5.3``: direct map in the upper half; ``5.4``: flipped, 52-bit with 64K pages (b6d00d47e81a); ``5.11``: vmemmap
    on a power of two (8c96400d6a39, 9ad7c6d5e75b); ``6.12``: vmemmap ends 1 GiB below the top, 52-bit with all page
    sizes (6.9), modules 2 GiB (6.5)."""
    section_size: Literal["1G", "128M-or-512M"]
    """1 GiB; since 5.12 (f0b13ee23241) 128 MiB, or 512 MiB with 64K pages."""
    dma_zone: Literal["none", "at-most-32-bit", "32-bit-if-ram-below"]
    """Whether there is a ZONE_DMA (5.5) and how far it may reach: as far as firmware says, but never above 4 GiB, or
    above that only where RAM starts there (6.12: ``zone_sizes_init``). Without it ZONE_DMA32 ends 4 GiB above the
    4 GiB boundary below the start of RAM."""
    pfn_valid: Literal["memblock", "memblock-if-early", "sections"]
    """What ``pfn_valid()`` asks: memblock; memblock for sections of boot memory (5.12); sections only (5.14)."""
    linear_map_random: bool
    """Whether the linear map may start at random below the first RAM where it is larger than what physical addresses
    span (``arm64_memblock_init()``; by 7.2 it starts with RAM)."""
    split_kernel_leaf: bool
    """Whether ``set_memory_*()`` may split a live leaf of the direct map (``split_kernel_leaf_mapping()``, by 7.2)."""
    vmap_huge_with_ptdump: bool
    """Whether huge vmap stays on in a kernel with ptdump (off since 7ba36eccb3f8, 5.3; on again by 7.2)."""
    vmemmap_populate: Literal["merged", "draft-consolidated"]
    """As merged, or as drafted in March 2020 for large and for base pages in one: without an altmap as yet, and where
    leaves are base pages with one of them for each PMD entry."""
    create_may_fail: bool
    """Whether ``__create_pgd_mapping()`` returns ``-ENOMEM`` (by 7.2), or runs into ``BUG_ON()``."""
    create_lock: Literal["none", "fixmap_lock"]
    """What ``__create_pgd_mapping()`` holds (6.12)."""
    block_over_table: Literal["keep", "descend"]
    """What ``init_pmd()`` and ``alloc_init_pud()`` do with a table where a block would fit: nothing, as
    ``pmd_set_huge()`` refuses, or map within it (by 7.2)."""
    kernel_prot: Literal["5.2", "5.10", "6.12", "7.2"]
    """Attributes of kernel leaves (``pgtable-prot.h``). ``5.2``: MT_NORMAL is number 4, leaves are dirty. ``5.10``:
    it is number 0 and leaves are clean; RAM in the direct map is Normal-Tagged (5.10, hot-added RAM 5.12). ``6.12``:
    dirty again (6.12.y), blocks of the vmemmap writable but clean. ``7.2``: those like any other."""
    table_attributes: Literal["none", "XN", "XN-AF"]
    """What table entries carry: nothing; UXNTable, and PXNTable in the direct map (5.13); the access flag too, for
    FEAT_HAFT (by 7.2)."""
    range_flush: Literal["by-page", "by-range"]
    """Whether ``flush_tlb_kernel_range()`` uses the range operations of CPUs that have them (by 7.2)."""


def arm64(config: "Config") -> Arm64Profile:
    """The record of a configuration's profile. Raises :class:`BadInput` where that has none."""
    return config.profile.record(Arm64Profile)
