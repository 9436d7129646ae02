"""The choices in which kernels differ: names and types. `profiles` says which kernel made which.

Every field stands for a decision at one place in the kernel, named in its docstring. A release after it is the first
that has the later choice.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, replace
from typing import Any, Literal

from memhp.errors import BadInput

Arch = Literal["riscv64", "arm64", "x86_64"]
ARCHES: tuple[Arch, ...] = ("riscv64", "arm64", "x86_64")
RECORDS: dict[Arch, str] = {"riscv64": "riscv", "arm64": "arm64", "x86_64": "x86"}
"""The field of a :class:`Profile` that holds an architecture's record."""

Area = Literal["vmalloc", "modules", "vmemmap", "direct map", "kasan"]

VmemmapLeaves = Literal["base", "huge", "huge-if-4k-pages"]
VmemmapFallback = Literal["base", "base-unless-altmap", "none"]
AltmapFallback = Literal["fail", "ram", "draft-helper"]
VmemmapAltmap = Literal["any-leaf", "huge-leaf", "none"]
DirectMapLeaves = Literal["largest", "base-if-set-direct-map", "base-unless-bbml2"]
PgdPolicy = Literal["none", "sync", "preallocate"]
PgdList = Literal["before-copy", "after-copy", "one-lock"]
FreeEmptyTables = Literal["always", "never", "if-no-vmalloc-overlap", "floor-ceiling"]
StorageFreed = Literal["before-clear", "after-clear", "after-flush"]
TableFreed = Literal["before-clear", "after-flush"]
LeafFlush = Literal["none", "each-range", "each-page", "each-page-of-vmemmap"]
EndFlush = Literal["none", "all", "direct-map-range"]
AddFlush = Literal["none", "before-add-pages", "end"]
PageTableLock = Literal["none", "each-entry", "whole-range"]
BootmemRemove = Literal["unchecked", "notifier", "notifier-and-split-check"]
BlockReference = Literal["none", "held"]
PfnWalkLock = Literal["none", "mem_hotplug_lock"]
PgmapDrain = Literal["none", "kill", "kill-and-wait"]
PtdumpLock = Literal["none", "mem_hotplug_lock"]
MappableRange = Literal["everything", "direct-map"]

MemblockOrder = Literal["memblock-first", "arch-first"]
MemmapOnMemory = Literal["none", "one-block", "many-blocks"]
PluggableEnd = Literal["none", "MAX_PHYSMEM_BITS", "PHYSMEM_END"]
IsolateMark = Literal["migratetype", "pageblock-bit"]
NodeNotifier = Literal["memory-notifier", "node-notifier"]
NewNode = Literal["after-add", "before-add"]
MovableWatermark = Literal["share", "capped"]
LowmemReserve = Literal["with-watermarks", "with-managed-pages"]
DmaZone = Literal["none", "at-most-32-bit", "32-bit-if-ram-below"]


@dataclass(frozen=True)
class ArchProfile:
    """What one architecture's hotplug code decides: the fields that all three have."""

    vmemmap_leaves: VmemmapLeaves
    """Which leaves ``arch/*/mm: vmemmap_populate()`` tries for a whole section."""
    vmemmap_fallback: VmemmapFallback
    """When no PMD-sized chunk is free: base pages; base pages unless an altmap was to supply it, then ``-ENOMEM``
    (``mm/sparse-vmemmap.c:vmemmap_populate_hugepages``, x86 before it); always ``-ENOMEM`` (arm64 before 5.11)."""
    vmemmap_altmap: VmemmapAltmap
    """Which leaves take their storage from an altmap. x86 drops it for base pages
    (``arch/x86/mm/init_64.c:vmemmap_populate``); riscv v1 and arm64 before 5.9 drop it always."""
    altmap_fallback: AltmapFallback
    """What happens when an altmap cannot supply a leaf: ``-ENOMEM`` (x86, arm64, riscv); RAM instead, as for a leaf
    that reaches beyond the altmap's range (powerpc ``__vmemmap_populate()``, ``altmap_cross_boundary()``). Or a helper
    drafted in March 2020, ``vmemmap_alloc_block_buf(size, node, altmap, fallback)``, which takes RAM all the same."""
    vmemmap_subsection: Literal["base", "same"]
    """Leaves for less than a section: base pages (x86; arm64 7.2, 6.12.y), or the same as for a whole one."""
    vmemmap_check_pmd: Literal["leaf", "anything"]
    """Which PMD entry ``vmemmap_check_pmd()`` takes for struct pages that are there: a leaf (x86, all by 7.2), or a
    table as well, whatever is in it (riscv, arm64)."""
    direct_map_leaves: DirectMapLeaves
    """The largest that fit; base pages where single pages may change (arm64 ``can_set_direct_map()``, before 5.11
    spelt out in ``arch_add_memory()``); or base pages unless all CPUs can split live blocks, BBML2
    (arm64 7.2 ``force_pte_mapping()``)."""
    mappable_range: MappableRange
    """What ``arch_get_mappable_range()`` answers: the weak default of ``mm/memory_hotplug.c``, or the direct map."""
    pgd_policy: PgdPolicy
    """How a root entry that appears in init_mm reaches other processes: nothing does it (arm64 needs nothing, its
    kernel half is one table for all: `pgd_shared`), ``sync_global_pgds()``, or it exists from boot on."""
    pgd_list: PgdList
    """When a new root table is entered where ``sync_global_pgds()`` looks for it, against the copy of init_mm's kernel
    half: under ``pgd_lock`` together with it (x86 ``pgd_alloc()``), or before or after it, which no kernel does. riscv
    copies without a lock and has no such list, as nothing there walks it."""
    pgd_shared: bool
    """Whether all processes share the kernel's root table (arm64 TTBR1)."""
    pgd_preallocated: tuple[Area, ...]
    """Areas whose root entries boot fills: ``arch/riscv/mm/init.c:pgtable_cache_init`` (v1:
    ``prepare_memory_hotplug``); ``arch/x86/mm/init_64.c:preallocate_vmalloc_pages`` (5.9). KASAN's only if built."""
    vmalloc_fault: bool
    """Whether a fault in the vmalloc area copies the missing root entry (riscv before it preallocated, x86-64 before
    5.8; in no profile here, as riscv v1 stops using it: patch 7)."""
    free_empty_tables: FreeEmptyTables
    """Which emptied vmemmap tables go back: the choice that the arm64 series turned on. Tables of the direct map
    always do, under floor and ceiling where this says so."""
    remove_passes: Literal[1, 2]
    """Leaves and tables in one descent (riscv, x86, arm64 V5), or tables in a second (arm64 V6 on)."""
    storage_freed: StorageFreed
    """When the frames behind a removed vmemmap leaf are freed, against clearing it and against the flush that
    belongs to it: x86 ``remove_pte_table``, arm64 V5; riscv ``remove_pte_mapping``; arm64 ``unmap_hotplug_*``."""
    table_freed: TableFreed
    """When an emptied table is freed: before the entry that points to it is cleared (riscv, x86), or after that and
    after ``__flush_tlb_kernel_pgtable()`` (arm64)."""
    leaf_flush: LeafFlush
    """``flush_tlb_kernel_range()`` for every leaf as it goes: of all it maps (arm64 V6, V7), of its first page
    (5.7), of its first page in the vmemmap only (7.2, 6.12.y)."""
    pte_table_flush: Literal["none", "range", "all"]
    """A flush after each run of base-page leaves in one table: of that range (arm64 V5, which forgets blocks), or of
    everything (x86 ``remove_pte_table``)."""
    end_flush: EndFlush
    """The flush at the end: of everything (riscv ``remove_pgd_mapping``, x86 ``remove_pagetable``), or of the range,
    and for the direct map only (arm64 ``unmap_hotplug_range``, with `leaf_flush` each-page-of-vmemmap)."""
    remove_extra_flush: bool
    """Whether ``arch_remove_memory()`` flushes everything once more when all is done (riscv mainline)."""
    add_flush: AddFlush
    """Where ``arch_add_memory()`` flushes everything: nowhere; between direct map and ``__add_pages()`` (riscv v1);
    at the end, on failure too (riscv mainline)."""
    remove_lock: PageTableLock
    """``init_mm.page_table_lock`` on removal: around each cleared entry (x86), around the whole range (arm64 V5)."""
    populate_lock: PageTableLock
    """``init_mm.page_table_lock`` in the direct-map code on hot-add (x86 ``phys_*_init``)."""
    page_table_section: Literal["__init", "__meminit"]
    """Where the functions live that build the direct map: ``__init`` code is gone after boot (riscv before patch 2
    of the series)."""
    bootmem_remove: BootmemRemove
    """Whether boot memory may go offline. arm64 refuses it in ``prevent_bootmem_remove_notifier()`` (5.7), by 7.2 also
    any range with an edge inside a leaf of direct map or vmemmap (``can_unmap_without_split()``)."""
    ptdump_lock: PtdumpLock
    """Whether the page-table dump keeps hotplug out: arm64 from patch 2 of the series on, all since
    ``mm/ptdump.c:ptdump_walk_pgd`` calls ``get_online_mems()`` (7.2, 6.12.y)."""


@dataclass(frozen=True)
class RiscvProfile(ArchProfile):
    """riscv: the posting of May 2023, mainline since 6.11."""

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


@dataclass(frozen=True)
class Arm64Profile(ArchProfile):
    """arm64: hot-remove as posted in 2019 and as merged in 5.7."""

    layout: Literal["5.3", "5.4", "5.11", "6.12"]
    """``5.3``: direct map in the upper half; ``5.4``: flipped, 52-bit with 64K pages (b6d00d47e81a); ``5.11``: vmemmap
    on a power of two (8c96400d6a39, 9ad7c6d5e75b); ``6.12``: vmemmap ends 1 GiB below the top, 52-bit with all page
    sizes (6.9), modules 2 GiB (6.5)."""
    section_size: Literal["1G", "128M-or-512M"]
    """1 GiB; since 5.12 (f0b13ee23241) 128 MiB, or 512 MiB with 64K pages."""
    dma_zone: DmaZone
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


@dataclass(frozen=True)
class X86Profile(ArchProfile):
    """x86-64."""

    pud_free: Literal["clear-below-first", "detach-first"]
    """How ``pud_free_pmd_page()`` takes a PMD table away: its entries are copied to a page and cleared before it is
    unlinked; or it is unlinked, and its entries are read after the flush (by 7.2)."""
    block_size_advice: bool
    """Whether ``probe_memory_block_size()`` asks ``memory_block_advised_max_size()``: CXL windows set it (by 7.2)."""
    vmemmap_partial_pmd: bool
    """Whether a vmemmap PMD leaf that sections share goes with its last user (``vmemmap_use_sub_pmd()``, 5.13)."""


@dataclass(frozen=True)
class Profile:
    """One kernel: its name, what it stands for, its generic choices, and a record for each architecture it has."""

    name: str
    release: str
    """The kernel release, or the one that a series was posted against."""
    source: str
    """What it stands for: a release, or a mail series with its date."""
    riscv: RiscvProfile | None
    arm64: Arm64Profile | None
    x86: X86Profile | None
    memblock_order: MemblockOrder
    """Whether ``try_remove_memory()`` forgets the range in memblock before ``arch_remove_memory()`` or after
    (patch 1 of the arm64 series, which went in ahead of the rest)."""
    memmap_on_memory: MemmapOnMemory
    """``mhp_supports_memmap_on_memory()``: absent; for exactly one memory block whose memmap fills whole PMDs and
    leaves whole pageblocks (5.13); for many blocks with an altmap each (6.8), ``force`` included (6.6)."""
    auto_movable: bool
    """Whether ``online_policy=auto-movable`` exists, and with it memory groups and ``present_early_pages`` (5.15)."""
    pluggable_end: PluggableEnd
    """The end of ``mhp_get_pluggable_range()``: not checked (before 5.12); the architecture's limit; what the direct
    map can hold (ea72ce5da228, 6.11; by 7.2 named ``DIRECT_MAP_PHYSMEM_END``)."""
    pageblock_cap: Literal["MAX_PAGE_ORDER", "PAGE_BLOCK_MAX_ORDER"]
    """What bounds a pageblock: the buddy's largest order, or an order that the build chooses (by 7.2)."""
    isolate_mark: IsolateMark
    """How an isolated pageblock is marked: in place of its migratetype, or in a bit of its own (by 7.2)."""
    node_notifier: NodeNotifier
    """Who hears that a node gets its first memory or loses its last: fields of the memory notifier, or a chain of
    its own that may refuse (by 7.2)."""
    new_node: NewNode
    """Whether ``add_memory_resource()`` sets a new node online after the memory is in (``BUG_ON()`` if that fails), or
    before, with a way back (by 7.2)."""
    zone_shrink: Literal["on-remove", "on-offline"]
    """Whether zone and node shrink in ``__remove_pages()``, section by section, or when memory goes offline
    (feb6cd6a0f9f, 5.5)."""
    block_zone: Literal["looked-up", "stored"]
    """Whether ``offline_pages()`` finds out itself that a block lies in one zone only, or ``memory_block_offline()``
    reads it from the block (395f6081bad4, 5.18)."""
    block_nodes: Literal["by-page", "stored"]
    """Whether removal finds the nodes that a block is linked below by its pages, and only if ``pfn_valid()`` says that
    they are there, or by the node stored in it (d84f2f5a7552, 5.4)."""
    online_hwpoison: Literal["allowed", "refused"]
    """Whether a block that lost pages to memory errors may go online again (5033091de814, 6.2)."""
    prepare_online: bool
    """Whether ``memory_block_online()`` asks the notifiers before it touches the block: ``MEM_PREPARE_ONLINE`` (6.9,
    dropped by 7.2)."""
    resource_split: Literal["children-stay", "children-move"]
    """What becomes of resources above the hole when ``release_mem_region_adjustable()`` cuts one in two: they stay
    with the lower half, and forbid the cut, or go with the upper (by 7.2)."""
    boot_vmemmap: Literal["sparse-buffer", "per-leaf"]
    """Whether boot takes a node's vmemmap from one buffer (``sparse_buffer_init()``) or leaf by leaf (by 7.2)."""
    movable_watermark: MovableWatermark
    """Whether ZONE_MOVABLE takes a share of min_free_kbytes as its watermark, or a small one of its own and leaves
    the share to the zones below (6.6: ``__setup_per_zone_wmarks``)."""
    lowmem_reserve: LowmemReserve
    """Whether ``lowmem_reserve[]`` is only worked out anew together with the watermarks, or in
    ``adjust_managed_page_count()`` too (7.2)."""
    scan_movable_holes: Literal["skip", "trust-range"]
    """Whether ``scan_movable_pages()`` asks ``pfn_valid()`` for each page (dropped by 7.2: offlining has no holes)."""
    online_debug_pagealloc: bool
    """Whether ``online_pages_range()`` maps pages for debug_pagealloc before it frees them (by 7.2)."""
    vmap_huge_lock: Literal["none", "init_mm.mmap_lock"]
    """What a huge vmap holds while it frees the table that it replaces: nothing, or the lock that ptdump takes
    (``mm/vmalloc.c:vmap_try_huge_pmd``, 7.2, 6.12.y)."""
    ptdump_mmap_lock: Literal["none", "read", "write"]
    """How ptdump takes init_mm's mmap lock: not at all (arm64 before the generic ``mm/ptdump.c`` of 5.7); shared; alone
    (8782fb61cc84, 6.0)."""
    huge_vmalloc: tuple[Arch, ...]
    """Architectures where ``vmalloc_huge()`` may use PMD leaves (``HAVE_ARCH_HUGE_VMALLOC``: arm64, x86-64 5.19)."""
    memmap_counters: bool
    """Whether ``/proc/vmstat`` has ``nr_memmap_pages`` and ``nr_memmap_boot_pages`` (by 6.12)."""
    optimize_dax_vmemmap: tuple[Arch, ...]
    """Architectures where alike struct pages of a dax device's large pages share storage: 4917f55b4ef9, 5.19 on
    x86-64; riscv since 6.5 (``ARCH_WANT_OPTIMIZE_DAX_VMEMMAP``)."""
    pgmap_ref: Literal["each-page", "at-once"]
    """Who drops the references that pages hold on a device's mapping when it goes: each page, when nobody holds it any
    more, so that DMA delays ``memunmap_pages()``, and a caller may bring its own count with ``kill`` and ``cleanup``
    (5.13); or that function for all of them (by 6.12)."""
    pgmap_drain: PgmapDrain
    """What ``memunmap_pages()`` does about references before it unmaps: nothing, as there were none before
    ``get_dev_pagemap()`` (5c2c2587b132, 4.5); refuse new ones and wait when all is unmapped (a95c90f1e2c2, 4.20); wait
    before (50f44ee7248a, 5.3)."""
    block_reference: BlockReference
    """Whether ``find_memory_block_by_id()`` takes a reference on the device that it finds: every kernel does."""
    pfn_walk_lock: PfnWalkLock
    """What those who go from page to page with ``pfn_to_online_page()`` hold while they look at a struct page: nothing
    in any kernel (``fs/proc/page.c``), or ``get_online_mems()``."""
    kmem_tells_truncation: bool
    """Whether the kmem driver says how much of a device alignment to memory blocks loses (by 7.2)."""
    virtio_mem: tuple[Arch, ...]
    """Architectures with VIRTIO_MEM in ``drivers/virtio/Kconfig``."""
    virtio_mem_sleep: Literal["refused", "by-feature"]
    """Whether ``virtio_mem_freeze()`` lets no machine sleep, or only forbids hibernation and, where plugged memory does
    not outlive it (``VIRTIO_MEM_F_PERSISTENT_SUSPEND``), suspend to RAM (6.10)."""
    virtio_mem_unplugged_inaccessible: bool
    """Whether the driver takes ``VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE`` (5.17)."""

    def arch(self, arch: Arch) -> ArchProfile:
        """The record of an architecture. Raises :class:`BadInput` when this kernel has no memory hotplug there."""
        record: ArchProfile | None = getattr(self, RECORDS[arch])
        if record is None:
            have = ", ".join(self.arches)
            raise BadInput(f"{self.name} has no memory hotplug on {arch}", where="profile", fix=f"it has {have}")
        return record

    @property
    def arches(self) -> tuple[Arch, ...]:
        """The architectures on which this kernel has memory hotplug."""
        return tuple(arch for arch in ARCHES if getattr(self, RECORDS[arch]) is not None)

    def with_arch(self, arch: Arch, record: ArchProfile) -> "Profile":
        """The same kernel with another record of an architecture."""
        changed: dict[str, Any] = {RECORDS[arch]: record}
        return replace(self, **changed)
