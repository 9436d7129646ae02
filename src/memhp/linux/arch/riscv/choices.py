"""What riscv decides for itself, and in which kernel how: the choices that its code reads."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from memhp.linux.choice import choice
from memhp.linux.choices import (
    AltmapFallback,
    Arch,
    Area,
    OwnRootTables,
    PgdList,
    PgdPolicy,
    PtdumpLock,
    VmemmapFallback,
)
from memhp.linux.release import first, since

if TYPE_CHECKING:
    from memhp.linux.config import Config


@dataclass(frozen=True, kw_only=True)
class RiscvProfile(OwnRootTables):
    """riscv: the posting of May 2023, mainline since 6.11."""

    arch: ClassVar[Arch] = "riscv64"
    hotplug_since: ClassVar[str] = "6.11"

    vmemmap_leaves: Literal["base", "huge"] = choice(
        "Which leaves ``vmemmap_populate()`` tries for a whole section: base pages or PMDs.",
        first("base"),
        since("6.11", "huge", "riscv: mm: Add support for ZONE_DEVICE"),
    )
    vmemmap_fallback: VmemmapFallback = choice(
        "What ``vmemmap_populate_hugepages()`` does when no PMD-sized chunk is free: base pages; base pages unless "
        "an altmap was to supply it, then ``-ENOMEM``; always ``-ENOMEM``, as arm64 once did.",
        first("base"),
        since("6.11", "base-unless-altmap", "riscv: mm: Properly forward vmemmap_populate() altmap parameter"),
    )
    altmap_fallback: AltmapFallback = choice(
        "What happens when an altmap cannot supply a leaf: ``-ENOMEM``; RAM instead (powerpc "
        "``altmap_cross_boundary()``); or a helper drafted in March 2020, which charges the altmap and takes RAM.",
        first("fail"),
    )
    vmemmap_altmap: Literal["any-leaf", "none"] = choice(
        "Whether leaves of the vmemmap take their storage from an altmap; v1 drops it.",
        first("none"),
        since("6.11", "any-leaf", "riscv: mm: Properly forward vmemmap_populate() altmap parameter"),
    )
    vmemmap_check_pmd: Literal["leaf", "anything"] = choice(
        "Which PMD entry ``vmemmap_check_pmd()`` takes for struct pages that are there: a leaf, or a table as well, "
        "whatever is in it.",
        first("anything"),
        since("7.2", "leaf", "riscv/mm: drop vmemmap_pmd helpers and use generic code"),
    )
    mappable_range: Literal["everything", "direct-map"] = choice(
        "What ``arch_get_mappable_range()`` answers: the weak default of ``mm/memory_hotplug.c``, or the direct map.",
        first("everything"),
        since("6.11", "direct-map", "riscv: mm: Add memory hotplugging support"),
    )
    pgd_policy: PgdPolicy = choice(
        "How a root entry that appears in init_mm reaches other processes: nothing does it, it is copied to each, "
        "or it exists from boot on.",
        first("preallocate"),
    )
    pgd_list: PgdList = choice(
        "When a new root table is entered where a copy to each process would find it: before or after the kernel's "
        "half is copied, or together under ``pgd_lock`` (x86). riscv has no such list, as nothing there walks it.",
        first("after-copy"),
    )
    pgd_preallocated: tuple[Area, ...] = choice(
        "Areas whose root entries boot fills: ``pgtable_cache_init()`` (v1: ``prepare_memory_hotplug()``). KASAN's "
        "only if built.",
        first(("vmalloc", "vmemmap", "direct map")),
        since(
            "6.11",
            ("vmalloc", "modules", "vmemmap", "direct map", "kasan"),
            "riscv: mm: Pre-allocate vmemmap/direct map/kasan PGD entries",
        ),
    )
    vmalloc_fault: bool = choice(
        "Whether a fault in the vmalloc area copies the missing root entry; v1 stops using it (patch 7).", first(False)
    )
    storage_freed: Literal["before-clear", "after-clear", "after-flush"] = choice(
        "When the frames behind a vmemmap leaf are freed: before it is cleared (x86), after "
        "(``remove_pte_mapping()``), or behind the flush.",
        first("after-clear"),
    )
    table_freed: Literal["before-clear", "after-flush"] = choice(
        "When an emptied table is freed: before the entry that points to it is cleared, or after that and the flush.",
        first("before-clear"),
    )
    table_ctor: Literal["pte-pmd", "all"] = choice(
        "Which tables of the direct map have their constructor run: PTE and PMD tables, or PUD and P4D tables as well "
        "(``alloc_pud_late()``, ``alloc_p4d_late()``). None of the vmemmap's has.",
        first("pte-pmd"),
        since("6.16", "all", "riscv: mm: call PUD/P4D ctor in special kernel pgtable alloc"),
    )
    table_dtor: Literal["none", "pte-pmd", "pte-own-pmd", "constructed"] = choice(
        "Which tables have their destructor run as memory goes: none; PTE and PMD tables, whosever they are; of PMD "
        "tables those of the direct map only (``free_pmd_table()``); or those that the constructor was run for, as no "
        "kernel does (a repair).",
        first("none"),
        since("6.11", "pte-pmd", "riscv: mm: Add memory hotplugging support"),
        since("6.13", "pte-own-pmd", "riscv: mm: Do not call pmd dtor on vmemmap page table teardown", ("6.12.6",)),
    )
    leaf_flush: Literal["none", "each-range"] = choice(
        "A flush for each leaf as it goes, and of everything for each table, as arm64 does; or none.", first("none")
    )
    end_flush: Literal["none", "all"] = choice(
        "The flush at the end of ``remove_pgd_mapping()``, of everything.", first("all")
    )
    remove_extra_flush: bool = choice(
        "Whether ``arch_remove_memory()`` flushes everything once more when all is done.",
        first(False),
        since("6.11", True, "riscv: mm: Add memory hotplugging support"),
    )
    add_flush: Literal["none", "before-add-pages", "end"] = choice(
        "Where ``arch_add_memory()`` flushes everything: nowhere; between direct map and ``__add_pages()`` (v1); at "
        "the end, on failure too.",
        first("before-add-pages"),
        since("6.11", "end", "riscv: mm: Add memory hotplugging support"),
    )
    layout: Literal["6.4", "6.8", "6.13", "7.1"] = choice(
        "The address space. 6.4: Sv39 direct map at 0xffffffd800000000, ``vmemmap`` is VMEMMAP_START whatever the "
        "start of RAM. 6.8: it begins with the struct page of the first page of RAM, though the section has others "
        "before it; Sv39 direct map larger (by 6.11). 6.13: with that of the first page of the section. 7.1: it is "
        "aligned to the largest folio, 16 GiB, where the build has HVO.",
        first("6.4"),
        since("6.8", "6.8", "riscv: Sparse-Memory/vmemmap out-of-bounds fix", ("6.7.9",)),
        since("6.13", "6.13", "riscv: mm: Fix the out of bound issue of vmemmap address", ("6.12.10",)),
        since("7.1", "7.1", "riscv/mm: align vmemmap to maximal folio size"),
    )
    max_pfn: Literal["last-added", "highest"] = choice(
        "What ``arch_add_memory()`` makes of ``max_pfn``: the end of what it adds, in every kernel (a repair: of the "
        "highest memory so far).",
        first("last-added"),
    )
    folded_levels: Literal["indexed", "skipped"] = choice(
        "Whether the removal walk adds the index of a level that is folded: from v1 until July 2026 at P4D and PUD, so "
        "that it reads behind the root table under Sv39 and Sv48; then it asks ``pgtable_l5_enabled`` and "
        "``pgtable_l4_enabled``.",
        first("indexed"),
        since(
            "7.2",
            "skipped",
            "riscv: mm: Fix out-of-bounds page-table walk during memory hot-remove",
            ("6.12.103",),
        ),
    )
    map_size: Literal["physical", "below-root"] = choice(
        "Which leaves ``best_map_size()`` finds for the direct map: up to that of a root entry, by the physical "
        "address alone, or below the root, and only where the virtual address is aligned too (that since 6.5).",
        first("physical"),
        since("6.7", "below-root", "riscv: Don't use PGD entries for the linear mapping"),
    )
    page_table_section: Literal["__init", "__meminit"] = choice(
        "Where the functions live that build the direct map: ``__init`` code is gone after boot (before patch 2).",
        first("__meminit"),
    )
    ptdump_lock: PtdumpLock = choice(
        "Whether the page-table dump keeps hotplug out with ``get_online_mems()``.",
        first("none"),
        since(
            "6.17",
            "mem_hotplug_lock",
            "mm/ptdump: take the memory hotplug lock inside ptdump_walk_pgd()",
            ("6.1.149", "6.12.43"),
        ),
    )
    huge_vmalloc: bool = choice(
        "Whether ``vmalloc_huge()`` may use PMD leaves (``HAVE_ARCH_HUGE_VMALLOC``).",
        first(True),
    )
    optimize_dax_vmemmap: bool = choice(
        "Whether alike struct pages of a dax device's large pages share storage (``ARCH_WANT_OPTIMIZE_DAX_VMEMMAP``).",
        first(False),
        since("6.5", True, "riscv: mm: Add support for ZONE_DEVICE"),
    )
    virtio_mem: bool = choice(
        "Whether ``drivers/virtio/Kconfig`` has VIRTIO_MEM for it.",
        first(True),
    )


RECORD = RiscvProfile


def riscv(config: "Config") -> RiscvProfile:
    """The record of a configuration's profile. Raises :class:`BadInput` where that has none."""
    return config.profile.record(RiscvProfile)
