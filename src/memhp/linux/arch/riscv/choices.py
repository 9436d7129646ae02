"""What riscv decides for itself: the choices that its code reads."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from memhp.linux.choices import Arch, Area, OwnRootTables

if TYPE_CHECKING:
    from memhp.linux.config import Config


@dataclass(frozen=True, kw_only=True)
class RiscvProfile(OwnRootTables):
    """riscv: the posting of May 2023, mainline since 6.11."""

    arch: ClassVar[Arch] = "riscv64"

    vmemmap_leaves: Literal["base", "huge"]
    """Which leaves ``arch/*/mm: vmemmap_populate()`` tries for a whole section."""
    vmemmap_altmap: Literal["any-leaf", "none"]
    """Which leaves take their storage from an altmap. x86 drops it for base pages
    (``arch/x86/mm/init_64.c:vmemmap_populate``); riscv v1 and arm64 before 5.9 drop it always."""
    vmemmap_check_pmd: Literal["leaf", "anything"]
    """Which PMD entry ``vmemmap_check_pmd()`` takes for struct pages that are there: a leaf (x86, all by 7.2), or a
    table as well, whatever is in it (riscv, arm64)."""
    mappable_range: Literal["everything", "direct-map"]
    """What ``arch_get_mappable_range()`` answers: the weak default of ``mm/memory_hotplug.c``, or the direct map."""
    pgd_preallocated: tuple[Area, ...]
    """Areas whose root entries boot fills: ``arch/riscv/mm/init.c:pgtable_cache_init`` (v1:
    ``prepare_memory_hotplug``); ``arch/x86/mm/init_64.c:preallocate_vmalloc_pages`` (5.9). KASAN's only if built."""
    storage_freed: Literal["before-clear", "after-clear", "after-flush"]
    """When the frames behind a removed vmemmap leaf are freed, against clearing it and against the flush that
    belongs to it: x86 ``remove_pte_table``, arm64 V5; riscv ``remove_pte_mapping``; arm64 ``unmap_hotplug_*``."""
    table_freed: Literal["before-clear", "after-flush"]
    """When an emptied table is freed: before the entry that points to it is cleared (riscv, x86), or after that and
    after ``__flush_tlb_kernel_pgtable()`` (arm64)."""
    leaf_flush: Literal["none", "each-range"]
    """``flush_tlb_kernel_range()`` for every leaf as it goes: of all it maps (arm64 V6, V7), of its first page
    (5.7), of its first page in the vmemmap only (7.2, 6.12.y)."""
    end_flush: Literal["none", "all"]
    """The flush at the end: of everything (riscv ``remove_pgd_mapping``, x86 ``remove_pagetable``), or of the range,
    and for the direct map only (arm64 ``unmap_hotplug_range``, with `leaf_flush` each-page-of-vmemmap)."""
    remove_extra_flush: bool
    """Whether ``arch_remove_memory()`` flushes everything once more when all is done (riscv mainline)."""
    add_flush: Literal["none", "before-add-pages", "end"]
    """Where ``arch_add_memory()`` flushes everything: nowhere; between direct map and ``__add_pages()`` (riscv v1);
    at the end, on failure too (riscv mainline)."""
    layout: Literal["6.4", "6.12", "7.2"]
    """``6.4``: Sv39 direct map at 0xffffffd800000000, ``vmemmap`` is VMEMMAP_START whatever the start of RAM. ``6.12``:
    Sv39 direct map larger, ``vmemmap_start_pfn`` is the section that RAM starts in (f754f27e98f8, 6.12.y). ``7.2``:
    it is aligned to the largest folio, 16 GiB, where the build has HVO (``VMEMMAP_ADDR_ALIGN``)."""
    folded_levels: Literal["indexed", "skipped"]
    """Whether the removal walk adds the index of a level that is folded: v1 does at P4D and PUD, so under Sv39 and
    Sv48 it reads behind the root table; mainline asks ``pgtable_l5_enabled`` and ``pgtable_l4_enabled`` first."""
    map_size: Literal["physical", "below-root"]
    """Which leaves ``best_map_size()`` finds for the direct map: up to that of a root entry, going by the physical
    address alone (6.4), or below the root, and only where the virtual address is aligned too (6.12)."""


def riscv(config: "Config") -> RiscvProfile:
    """The record of a configuration's profile. Raises :class:`BadInput` where that has none."""
    return config.profile.record(RiscvProfile)
