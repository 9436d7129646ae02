"""What x86-64 decides for itself: the choices that its code reads."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from memhp.linux.choices import Arch, OwnRootTables

if TYPE_CHECKING:
    from memhp.linux.config import Config


@dataclass(frozen=True, kw_only=True)
class X86Profile(OwnRootTables):
    """x86-64."""

    arch: ClassVar[Arch] = "x86_64"

    vmemmap_leaves: Literal["base", "huge"]
    """Which leaves ``arch/*/mm: vmemmap_populate()`` tries for a whole section."""
    pgd_preallocated: tuple[Literal["vmalloc"], ...]
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
    pte_table_flush: Literal["none", "all"]
    """A flush after each run of base-page leaves in one table: of that range (arm64 V5, which forgets blocks), or of
    everything (x86 ``remove_pte_table``)."""
    end_flush: Literal["none", "all"]
    """The flush at the end: of everything (riscv ``remove_pgd_mapping``, x86 ``remove_pagetable``), or of the range,
    and for the direct map only (arm64 ``unmap_hotplug_range``, with `leaf_flush` each-page-of-vmemmap)."""
    remove_lock: Literal["none", "each-entry"]
    """``init_mm.page_table_lock`` on removal: around each cleared entry (x86), around the whole range (arm64 V5)."""
    populate_lock: Literal["none", "each-entry"]
    """``init_mm.page_table_lock`` in the direct-map code on hot-add (x86 ``phys_*_init``)."""
    pud_free: Literal["clear-below-first", "detach-first"]
    """How ``pud_free_pmd_page()`` takes a PMD table away: its entries are copied to a page and cleared before it is
    unlinked; or it is unlinked, and its entries are read after the flush (by 7.2)."""
    block_size_advice: bool
    """Whether ``probe_memory_block_size()`` asks ``memory_block_advised_max_size()``: CXL windows set it (by 7.2)."""
    vmemmap_partial_pmd: bool
    """Whether a vmemmap PMD leaf that sections share goes with its last user (``vmemmap_use_sub_pmd()``, 5.13)."""


def x86(config: "Config") -> X86Profile:
    """The record of a configuration's profile. Raises :class:`BadInput` where that has none."""
    return config.profile.record(X86Profile)
