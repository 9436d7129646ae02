"""What x86-64 decides for itself, and in which kernel how: the choices that its code reads."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from memhp.linux.choice import choice
from memhp.linux.choices import (
    AltmapFallback,
    Arch,
    OwnRootTables,
    PgdList,
    PgdPolicy,
    PtdumpLock,
    VmemmapFallback,
)
from memhp.linux.release import first, only, since

if TYPE_CHECKING:
    from memhp.linux.config import Config


_DEVICE_MAX_PFN = (
    "x86/mm/init: Handle the special case of device private pages in add_pages(), to not increase max_pfn and trigger "
    "dma_addressing_limited() bounce buffers"
)


@dataclass(frozen=True, kw_only=True)
class X86Profile(OwnRootTables):
    """x86-64."""

    arch: ClassVar[Arch] = "x86_64"

    vmemmap_leaves: Literal["base", "huge"] = choice(
        "Which leaves ``vmemmap_populate()`` tries for a whole section: base pages or PMDs.", first("huge")
    )
    vmemmap_fallback: VmemmapFallback = choice(
        "What ``vmemmap_populate()`` does when no PMD-sized chunk is free: base pages; base pages unless an altmap "
        "was to supply it, then ``-ENOMEM``; always ``-ENOMEM``, as arm64 once did.",
        first("base-unless-altmap"),
    )
    vmemmap_partial_pmd: bool = choice(
        "Whether a vmemmap PMD leaf that sections share goes with its last user: what of it nobody came to use is "
        "marked from the first on (``vmemmap_use_new_sub_pmd()``). Else it goes only once all of it was in use.",
        first(False),
        since("5.13", True, "x86/vmemmap: handle unpopulated sub-pmd ranges"),
    )
    vmemmap_mark: Literal["behind-start", "before-start"] = choice(
        "Where ``vmemmap_use_new_sub_pmd()`` marks what nobody uses of a leaf that struct pages begin within: behind "
        "their start, where their initialisation overwrites the mark, or before it.",
        first("behind-start"),
        since("5.18", "before-start", "x86/mm: Fix marking of unused sub-pmd ranges", ("5.15.41", "5.17.9")),
    )
    altmap_fallback: AltmapFallback = choice(
        "What happens when an altmap cannot supply a leaf: ``-ENOMEM``; RAM instead (powerpc "
        "``altmap_cross_boundary()``); or a helper drafted in March 2020, which charges the altmap and takes RAM.",
        first("fail"),
    )
    pgd_policy: PgdPolicy = choice(
        "How a root entry that appears in init_mm reaches other processes: nothing does it, ``sync_global_pgds()``, "
        "or it exists from boot on.",
        first("sync"),
    )
    pgd_list: PgdList = choice(
        "When a new root table is entered where ``sync_global_pgds()`` looks for it, against the copy of the "
        "kernel's half: together with it under ``pgd_lock`` (``pgd_alloc()``), or before or after it, which no "
        "kernel does.",
        first("one-lock"),
    )
    pgd_preallocated: tuple[Literal["vmalloc"], ...] = choice(
        "Areas whose root entries boot fills: ``preallocate_vmalloc_pages()``.",
        first(()),
        since("5.9", ("vmalloc",), "x86/mm: Pre-allocate P4D/PUD pages for vmalloc area"),
    )
    vmemmap_root_entries: Literal["after-section", "each-entry"] = choice(
        "When root entries of the vmemmap reach other processes: after ``vmemmap_populate()`` of a section, which "
        "``vmemmap_populate_compound_pages()`` does not call; or each as it is made (``pgd_populate_kernel()``).",
        first("after-section"),
        since("6.17", "each-entry", "mm: introduce and use {pgd,p4d}_populate_kernel()", ("6.1.153", "6.12.48")),
    )
    vmalloc_fault: bool = choice(
        "Whether a fault in the vmalloc area copies the missing root entry.",
        first(True),
        since("5.8", False, "x86/mm: Remove vmalloc faulting"),
    )
    storage_freed: Literal["before-clear", "after-clear", "after-flush"] = choice(
        "When the frames behind a vmemmap leaf are freed: before it is cleared (``remove_pte_table()``), after, or "
        "behind the flush.",
        first("before-clear"),
    )
    table_freed: Literal["before-clear", "after-flush"] = choice(
        "When an emptied table is freed: before the entry that points to it is cleared, or after that and the flush.",
        first("before-clear"),
    )
    low_page_failure: Literal["unseen", "returned"] = choice(
        "What becomes of a page that ``alloc_low_pages()`` does not get after boot: its callers take NULL for a table, "
        "in every kernel; or ``-ENOMEM`` goes up to ``arch_add_memory()``, and tables are linked before they are "
        "filled, so that what was made can be taken back (a repair).",
        first("unseen"),
    )
    split_ctor: bool = choice(
        "Whether the table that a leaf of the direct map is split into has its constructor run "
        "(``pte_alloc_one_kernel()``). None from ``alloc_low_pages()`` has, and none of the vmemmap's.",
        first(False),
        since("7.1", True, "x86/mm/pat: Convert split_large_page() to use ptdescs"),
    )
    table_dtor: Literal["none", "constructed"] = choice(
        "Which tables have their destructor run as memory goes (``free_pagetable()``): none, or those that the "
        "constructor was run for, as no kernel does (a repair).",
        first("none"),
    )
    leaf_flush: Literal["none", "each-range"] = choice(
        "A flush for each leaf as it goes, and of everything for each table, as arm64 does; or none.", first("none")
    )
    pte_table_flush: Literal["none", "all"] = choice(
        "A flush of everything after each run of base-page leaves in one table (``remove_pte_table()``).", first("all")
    )
    end_flush: Literal["none", "all"] = choice(
        "The flush at the end of ``remove_pagetable()``, of everything.", first("all")
    )
    remove_lock: Literal["none", "each-entry"] = choice(
        "``init_mm.page_table_lock`` on removal, around each cleared entry.", first("each-entry")
    )
    populate_lock: Literal["none", "each-entry"] = choice(
        "``init_mm.page_table_lock`` on hot-add, around each entry of the direct map (``phys_*_init()``).",
        first("each-entry"),
    )
    pud_free: Literal["clear-below-first", "detach-first"] = choice(
        "How ``pud_free_pmd_page()`` takes a PMD table away: its entries are copied to a page and cleared before it "
        "is unlinked; or it is unlinked, and its entries are read after the flush.",
        first("clear-below-first"),
        only("7.2.10", "detach-first", "x86/mm: Drop unnecessary PMD page copy when freeing"),
    )
    pud_free_flush: Literal["page", "range"] = choice(
        "How much ``pud_free_pmd_page()`` flushes before it frees tables: one page in every kernel (a repair: all that "
        "the PUD entry translated).",
        first("page"),
    )
    cpa_lock: Literal["unless-debug-pagealloc", "always"] = choice(
        "Whether ``cpa_lock`` keeps those who change attributes of pages apart under ``debug_pagealloc=on`` too.",
        first("unless-debug-pagealloc"),
        only("7.2.7", "always", "x86/mm/pat: Don't gate cpa_lock on debug_pagealloc_enabled()"),
    )
    broadcast_flush: bool = choice(
        "Whether the kernel flushes with INVLPGB on CPUs that have it, in place of IPIs.",
        first(False),
        since("6.15", True, "x86/mm: Use INVLPGB for kernel TLB flushes"),
    )
    translation_cache_extension: bool = choice(
        "Whether the kernel sets EFER.TCE on CPUs that have it, so that INVLPG drops no more cached pointers to tables "
        "than those on the way to its address.",
        first(False),
        since("6.15", True, "x86/mm: Enable AMD translation cache extensions"),
    )
    block_size_advice: bool = choice(
        "Whether ``probe_memory_block_size()`` asks ``memory_block_advised_max_size()``: CXL windows set it.",
        first(False),
        since("6.16", True, "x86: probe memory block size advisement value during mm init"),
    )
    max_pfn: Literal["always", "unless-device"] = choice(
        "Whether ``add_pages()`` raises ``max_pfn`` for all memory, or for none that belongs to a device (a pgmap).",
        first("always"),
        since("6.15", "unless-device", _DEVICE_MAX_PFN, ("6.1.141", "6.12.31")),
    )
    page_table_section: Literal["__init", "__meminit"] = choice(
        "Where the functions live that build the direct map: ``__init`` code is gone after boot.", first("__meminit")
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
        first(False),
        since("5.19", True, "x86: Support huge vmalloc mappings"),
    )
    optimize_dax_vmemmap: bool = choice(
        "Whether alike struct pages of a dax device's large pages share storage.",
        first(False),
        since("5.19", True, "mm/sparse-vmemmap: improve memory savings for compound devmaps"),
    )
    virtio_mem: bool = choice("Whether ``drivers/virtio/Kconfig`` has VIRTIO_MEM for it.", first(True))


RECORD = X86Profile


def x86(config: "Config") -> X86Profile:
    """The record of a configuration's profile. Raises :class:`BadInput` where that has none."""
    return config.profile.record(X86Profile)
