"""What arm64 decides for itself, and in which kernel how: the choices that its code reads."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from memhp.linux.choice import choice
from memhp.linux.choices import AltmapFallback, Arch, ArchProfile, PtdumpLock, TableDtor, VmemmapFallback
from memhp.linux.release import first, only, since

if TYPE_CHECKING:
    from memhp.linux.config import Config

_BATCHED = "arm64/mm: Enable batched TLB flush in unmap_hotplug_range()"
_GENERIC_PMD = "arm64/mm: drop vmemmap_pmd helpers and use generic code"
_LARGE = "arm64: mm: support large block mapping when rodata=full"


@dataclass(frozen=True, kw_only=True)
class Arm64Profile(ArchProfile):
    """arm64: hot-remove as posted in 2019 and as merged in 5.7."""

    arch: ClassVar[Arch] = "arm64"
    pgd_shared: ClassVar[bool] = True

    vmemmap_leaves: Literal["base", "huge", "huge-if-4k-pages"] = choice(
        "Which leaves ``vmemmap_populate()`` tries for a whole section: base pages, PMDs, or those where pages are "
        "4K (``ARM64_KERNEL_USES_PMD_MAPS``).",
        first("huge-if-4k-pages"),
    )
    vmemmap_fallback: VmemmapFallback = choice(
        "What ``vmemmap_populate()`` does when no PMD-sized chunk is free: base pages; base pages unless an altmap "
        "was to supply it, then ``-ENOMEM`` (``vmemmap_populate_hugepages()``); always ``-ENOMEM`` (before 5.11).",
        first("none"),
        since("5.11", "base", "arm64/mm: add fallback option to allocate virtually contiguous memory"),
        since("6.2", "base-unless-altmap", "mm/sparse-vmemmap: generalise vmemmap_populate_hugepages()"),
    )
    altmap_fallback: AltmapFallback = choice(
        "What happens when an altmap cannot supply a leaf: ``-ENOMEM``; RAM instead (powerpc "
        "``altmap_cross_boundary()``); or a helper drafted in March 2020, which charges the altmap and takes RAM.",
        first("fail"),
    )
    vmemmap_altmap: Literal["any-leaf", "none"] = choice(
        "Whether leaves of the vmemmap take their storage from an altmap.",
        first("none"),
        since("5.9", "any-leaf", "arm64/mm: enable vmem_altmap support for vmemmap mappings"),
    )
    vmemmap_subsection: Literal["base", "same"] = choice(
        "Leaves for less than a section: base pages, or the same as for a whole one, which removal of a part tears.",
        first("same"),
        since(
            "6.14",
            "base",
            "arm64: mm: Populate vmemmap at the page level if not section aligned",
            ("6.1.132", "6.12.20"),
        ),
    )  # fmt: skip
    vmemmap_check_pmd: Literal["leaf", "anything"] = choice(
        "Which PMD entry ``vmemmap_check_pmd()`` takes for struct pages that are there: a leaf, or a table as well, "
        "whatever is in it.",
        first("anything"),
        since("7.2", "leaf", _GENERIC_PMD),
    )
    direct_map_leaves: Literal["largest", "base-if-set-direct-map", "base-unless-bbml2"] = choice(
        "Leaves of the direct map: the largest that fit; base pages where single pages may change "
        "(``can_set_direct_map()``); base pages unless all CPUs can split live blocks, BBML2 "
        "(``force_pte_mapping()``).",
        first("base-if-set-direct-map"),
        since("6.18", "base-unless-bbml2", _LARGE),
    )
    mappable_range: Literal["everything", "direct-map-unless-it-wraps", "direct-map"] = choice(
        "What memory may be added (``arch_get_mappable_range()``): any, what lies in the direct map, or none where "
        "that starts at random and below address 0.",
        first("everything"),
        since("5.10", "direct-map-unless-it-wraps", "arm64/mm: Validate hotplug range before creating linear mapping"),
        since("5.12", "direct-map", "arm64: mm: correct the inside linear map range during hotplug check"),
    )
    free_empty_tables: Literal["always", "never", "if-no-vmalloc-overlap", "floor-ceiling"] = choice(
        "Which emptied tables go back: those of the vmemmap always, never, or where no root entry is vmalloc's too; "
        "or all that translate nothing outside of the area (floor and ceiling). The choice that the series turned "
        "on.",
        first("floor-ceiling"),
    )
    table_ctor: bool = choice(
        "Whether tables of the direct map that are made after boot have their constructor run "
        "(``__pgd_pgtable_alloc()``). None of the vmemmap's has.",
        first(False),
        since("6.16", True, "arm64: mm: always call PTE/PMD ctor in __create_pgd_mapping()"),
    )
    table_dtor: TableDtor = choice(
        "Which tables have their destructor run as memory goes (``free_hotplug_pgtable_page()``): none, all, or those "
        "that the constructor was run for, as no kernel does (a repair).",
        first("none"),
        since("7.1", "all", "arm64: mm: call pagetable dtor when freeing hot-removed page tables", ("6.18.36",)),
    )
    shared_table: Literal["on-demand", "at-boot"] = choice(
        "When the table is made that vmalloc area and vmemmap have in common: by whichever needs it first, in every "
        "kernel (a repair: at boot).",
        first("on-demand"),
    )
    remove_passes: Literal[1, 2] = choice(
        "Leaves and tables in one descent (V5 of the series), or tables in a second (V6 on).", first(2)
    )
    storage_freed: Literal["before-clear", "after-flush"] = choice(
        "When the frames behind a vmemmap leaf are freed: before it is cleared (V5), or after that and after the "
        "flush that `leaf_flush` makes.",
        first("after-flush"),
    )
    leaf_flush: Literal["none", "each-range", "each-page", "each-range-of-vmemmap", "each-page-of-vmemmap"] = choice(
        "``flush_tlb_kernel_range()`` for each leaf that goes: of all it maps (V6, V7), of its first page, or "
        "either in the vmemmap only, where `end_flush` does for the direct map.",
        first("each-page"),
        since("7.1", "each-range-of-vmemmap", _BATCHED, ("6.1.176", "6.12.86")),
        since(
            "7.2",
            "each-page-of-vmemmap",
            "arm64/mm: Optimize TLB flush in unmap_hotplug_[pmd|pud]_range()",
            ("6.12.97",),
        ),
    )  # fmt: skip
    pte_table_flush: Literal["none", "range"] = choice(
        "A flush after each run of base-page leaves in one table, of that range (V5, which forgets blocks).",
        first("none"),
    )
    end_flush: Literal["none", "direct-map-range"] = choice(
        "The flush when all leaves of the direct map are gone, of the range (``unmap_hotplug_range()``).",
        first("none"),
        since("7.1", "direct-map-range", _BATCHED, ("6.1.176", "6.12.86")),
    )
    remove_lock: Literal["none", "whole-range"] = choice(
        "``init_mm.page_table_lock`` around the whole removal (V5), or not.", first("none")
    )
    rodata_words: Literal["full-on-off", "on-noalias-off"] = choice(
        "What ``rodata=`` may be: ``on`` leaves the direct map alone and ``full``, the default, does not; or ``on`` is "
        "what ``full`` was, and ``noalias`` what ``on`` was.",
        first("full-on-off"),
        since("6.18", "on-noalias-off", "arm64: refactor the rodata=xxx"),
    )
    bootmem_remove: Literal["unchecked", "notifier", "notifier-and-split-check"] = choice(
        "Whether boot memory may go offline: ``prevent_bootmem_remove_notifier()`` refuses it, later also any range "
        "with an edge inside a leaf of direct map or vmemmap (``can_unmap_without_split()``).",
        first("unchecked"),
        since("5.7", "notifier", "arm64/mm: Enable memory hot remove"),
        since("7.1", "notifier-and-split-check", "arm64/mm: Reject memory removal that splits a kernel leaf mapping"),
    )
    layout: Literal["5.3", "5.4", "5.11", "5.17", "6.4", "6.5", "6.9"] = choice(
        "The address space. 5.3: direct map in the upper half. 5.4: flipped, 52 bits with 64K pages. 5.11: vmemmap "
        "on a power of two. 5.17: no BPF region. 6.4: boot maps count for the fixmap. 6.5: 2 GiB of modules. 6.9: "
        "vmemmap ends 1 GiB below the top, 52 bits with every page size.",
        first("5.3"),
        since("5.4", "5.4", "arm64: mm: Flip kernel VA space"),
        since("5.11", "5.11", "arm64: mm: make vmemmap region a projection of the linear region"),
        since("5.17", "5.17", "arm64/bpf: Remove 128MB limit for BPF JIT programs", ("5.16.4",)),
        since("6.4", "6.4", "arm64: add FIXADDR_TOT_{START,SIZE}"),
        since("6.5", "6.5", "arm64: module: rework module VA range selection"),
        since("6.9", "6.9", "arm64: mm: Move PCI I/O emulation region above the vmemmap region"),
    )
    section_size: Literal["1G", "128M-or-512M"] = choice(
        "``SECTION_SIZE_BITS``: 1 GiB, or 128 MiB and with 64K pages 512 MiB.",
        first("1G"),
        since("5.12", "128M-or-512M", "arm64/sparsemem: reduce SECTION_SIZE_BITS"),
    )
    dma_zone: Literal["none", "at-most-32-bit", "32-bit-if-ram-below"] = choice(
        "How far ZONE_DMA reaches: there is none, and ZONE_DMA32 ends 4 GiB above the 4 GiB boundary below RAM; as "
        "far as firmware says, never above 4 GiB; above that only where RAM starts there (``zone_sizes_init()``).",
        first("none"),
        since("5.5", "at-most-32-bit", "arm64: use both ZONE_DMA and ZONE_DMA32"),
        since("6.12", "32-bit-if-ram-below", "dma: replace zone_dma_bits by zone_dma_limit"),
    )
    pfn_valid: Literal["memblock", "memblock-if-early", "sections"] = choice(
        "What ``pfn_valid()`` asks: memblock; memblock for sections of boot memory; sections only.",
        first("memblock"),
        since("5.12", "memblock-if-early", "arm64/mm: Fix pfn_valid() for ZONE_DEVICE based memory", ("5.10.24",)),
        since("5.14", "sections", "arm64: drop pfn_valid_within() and simplify pfn_valid()"),
    )
    linear_map_random: bool = choice(
        "Whether the linear map may start at random below the first RAM where it is larger than what physical "
        "addresses span (``arm64_memblock_init()``).",
        first(True),
        since("6.16", False, "arm64/mm: Remove randomization of the linear map"),
    )
    present_invalid: bool = choice(
        "Whether a page that leaves the direct map keeps a mark in its entry, ``PTE_PRESENT_INVALID``, by which "
        "``pte_present()`` knows it, and a flush is saved when it comes back; else only ``PTE_VALID`` is cleared.",
        first(False),
        since("7.1", True, "arm64: mm: Handle invalid large leaf mappings correctly", ("6.18.24", "6.19.14", "7.0.1")),
    )
    split_kernel_leaf: bool = choice(
        "Whether ``set_memory_*()`` may split a live leaf of the direct map (``split_kernel_leaf_mapping()``).",
        first(False),
        since("6.18", True, _LARGE),
    )
    can_unmap_lock: Literal["none", "pgtable_split_lock"] = choice(
        "What ``can_unmap_without_split()`` holds while it looks at leaves: nothing in every kernel (a repair: what "
        "they are split under).",
        first("none"),
    )
    can_unmap_range: Literal["told", "block"] = choice(
        "Whose edges ``can_unmap_without_split()`` looks at: those of what goes offline, without the struct pages that "
        "a block keeps at its start, in every kernel; or those of whole blocks (a repair).",
        first("told"),
    )
    vmap_huge_with_ptdump: bool = choice(
        "Whether huge vmap stays on in a kernel with ptdump.",
        first(False),
        since("6.18", True, "arm64: Enable vmalloc-huge with ptdump"),
    )
    vmemmap_populate: Literal["merged", "draft-consolidated"] = choice(
        "``vmemmap_populate()`` as merged, or as drafted in March 2020 for large and for base pages in one: without "
        "an altmap as yet, and where leaves are base pages with one of them for each PMD entry.",
        first("merged"),
    )
    create_may_fail: bool = choice(
        "Whether ``__create_pgd_mapping()`` returns ``-ENOMEM``, or runs into ``BUG_ON()``.",
        first(False),
        since("6.19", True, "arm64/mm: Allow __create_pgd_mapping() to propagate pgtable_alloc() errors", ("6.18.2",)),
    )
    create_lock: Literal["none", "fixmap_lock"] = choice(
        "What ``__create_pgd_mapping()`` holds.",
        first("none"),
        since("5.18", "fixmap_lock", "arm64/mm: avoid fixmap race condition when create pud mapping", ("5.15.33",)),
    )
    block_over_table: Literal["keep", "descend"] = choice(
        "What ``init_pmd()`` and ``alloc_init_pud()`` do with a table where a block would fit: nothing, as "
        "``pmd_set_huge()`` refuses, or map within it.",
        first("keep"),
        since("7.2", "descend", "arm64: mm: Preserve existing table mappings when mapping DRAM"),
    )
    max_pfn: Literal["last-added", "highest"] = choice(
        "What ``arch_add_memory()`` makes of ``max_pfn``: the end of what it adds, or of the highest memory so far.",
        first("last-added"),
        since("6.15", "highest", "arm64: mm: Correct the update of max_pfn", ("6.1.135", "6.12.24")),
    )
    kernel_prot: Literal["5.2", "5.10", "5.14", "6.1.167", "6.5", "7.0", "7.2"] = choice(
        "Attributes of kernel leaves (``pgtable-prot.h``). 5.2: MT_NORMAL is number 4, leaves are dirty. 5.10: it "
        "is number 0, leaves are clean, RAM in the direct map is Normal-Tagged. 5.14: device memory is number 3. "
        "6.1.167: dirty again. 6.5: clean, blocks of the vmemmap writable. 7.0: dirty but for these. 7.2: these too.",
        first("5.2"),
        since("5.10", "5.10", "arm64: mte: Use Normal Tagged attributes for the linear map"),
        since("5.14", "5.14", "arm64: mm: Remove unused support for Normal-WT memory type"),
        only("6.1.167", "6.1.167", "arm64: mm: Add PTE_DIRTY back to PAGE_KERNEL* to fix kexec/hibernation"),
        since("6.5", "6.5", "arm64: add PTE_WRITE to PROT_SECT_NORMAL"),
        since("7.0", "7.0", "arm64: mm: Add PTE_DIRTY back to PAGE_KERNEL* to fix kexec/hibernation", ("6.12.78",)),
        since("7.2", "7.2", _GENERIC_PMD),
    )  # fmt: skip
    table_attributes: Literal["none", "XN", "XN-AF"] = choice(
        "What table entries carry: nothing; UXNTable, and PXNTable in the direct map; the access flag too, for "
        "FEAT_HAFT.",
        first("none"),
        since("5.13", "XN", "arm64: mm: use XN table mapping attributes for the linear region"),
        since("6.13", "XN-AF", "arm64: Add support for FEAT_HAFT"),
    )
    range_flush: Literal["by-page", "by-range"] = choice(
        "Whether ``flush_tlb_kernel_range()`` uses the range operations of CPUs that have them.",
        first("by-page"),
        since("6.13", "by-range", "arm64: optimize flush tlb kernel range"),
    )
    page_table_section: Literal["__init", "__meminit"] = choice(
        "Where the functions live that build the direct map: ``__init`` code is gone after boot.", first("__meminit")
    )
    ptdump_lock: PtdumpLock = choice(
        "Whether the page-table dump keeps hotplug out with ``get_online_mems()``; from patch 2 of the series on.",
        first("mem_hotplug_lock"),
    )
    huge_vmalloc: bool = choice(
        "Whether ``vmalloc_huge()`` may use PMD leaves (``HAVE_ARCH_HUGE_VMALLOC``).",
        first(False),
        since("5.19", True, "arm64: mm: support huge vmalloc mappings"),
    )
    optimize_dax_vmemmap: bool = choice(
        "Whether alike struct pages of a dax device's large pages share storage.",
        first(False),
        since("5.19", True, "mm/sparse-vmemmap: improve memory savings for compound devmaps"),
        since("6.4", False, "mm/vmemmap/devdax: fix kernel crash when probing devdax devices", ("6.3.5",)),
    )  # fmt: skip
    virtio_mem: bool = choice(
        "Whether ``drivers/virtio/Kconfig`` has VIRTIO_MEM for it.",
        first(False),
        since("5.18", True, "drivers/virtio: Enable virtio mem for ARM64"),
    )


RECORD = Arm64Profile


def arm64(config: "Config") -> Arm64Profile:
    """The record of a configuration's profile. Raises :class:`BadInput` where that has none."""
    return config.profile.record(Arm64Profile)
