"""Kernel versions and patch revisions as named, typed choices, read where the decision is made.

A :class:`Profile` holds what all architectures share and one small record for each architecture that has memory
hotplug in that kernel. Nothing else in the package compares versions: code asks for the choice by name. A variant
that never shipped (a race repaired or not) is ``dataclasses.replace`` of one of these.

``linux-6.12`` is the stable series as distributions carry it, so fixes that went back to 6.12.y count as present.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, replace
from typing import Literal

from memhp.errors import BadInput

Arch = Literal["riscv64", "arm64", "x86_64"]
ARCHES: tuple[Arch, ...] = ("riscv64", "arm64", "x86_64")

Area = Literal["modules", "vmalloc", "vmemmap", "direct map", "kasan"]

VmemmapLeaves = Literal["base", "huge", "huge-if-4k-pages", "huge-if-pmd-sections"]
VmemmapFallback = Literal["base", "base-unless-altmap", "none"]
VmemmapAltmap = Literal["any-leaf", "huge-leaf-only", "none"]
DirectMapLeaves = Literal["largest", "base-if-set-direct-map", "base-unless-bbml2"]
PgdPolicy = Literal["none", "sync", "preallocate"]
FreeEmptyTables = Literal["always", "never", "if-no-vmalloc-overlap", "floor-ceiling"]
UnmapFlush = Literal["end", "entry-before-free", "pte-table-and-end"]
TableFlush = Literal["none", "entry-before-free"]
FlushScope = Literal["all", "kernel-range"]
PageTableLock = Literal["none", "init_mm.page_table_lock"]
Section = Literal["__init", "__meminit"]
BootmemRemove = Literal["unchecked", "notifier", "notifier-and-split-check"]
PtdumpLock = Literal["none", "mem_hotplug_lock"]
VmapHugeLock = Literal["none", "init_mm.mmap_lock", "no-huge-vmap-with-ptdump"]


@dataclass(frozen=True)
class ArchProfile:
    """What one architecture's hotplug code decides: the fields that all three have."""

    vmemmap_leaves: VmemmapLeaves
    """Which leaves ``vmemmap_populate()`` tries: ``arch/*/mm``; ``huge-if-4k-pages`` is arm64 since 6.5
    (``CONFIG_ARM64_4K_PAGES``), ``huge-if-pmd-sections`` arm64 before (``ARM64_KERNEL_USES_PMD_MAPS``, or
    ``ARM64_SWAPPER_USES_SECTION_MAPS``: 4K pages as well). A range of less than a section always gets base pages
    from 5.13 on x86 and from 6.12.y on arm64 (see `vmemmap_subsection`)."""
    vmemmap_fallback: VmemmapFallback
    """What happens when no PMD-sized chunk is free: base pages; base pages, but ``-ENOMEM`` when the chunk was to
    come from an altmap (``mm/sparse-vmemmap.c:vmemmap_populate_hugepages``); or ``-ENOMEM`` (arm64 before 5.9)."""
    vmemmap_altmap: VmemmapAltmap
    """Which leaves may take their storage from an altmap: x86 drops the altmap for base pages
    (``arch/x86/mm/init_64.c:vmemmap_populate``)."""
    vmemmap_subsection: Literal["base", "same"]
    """Leaves for a range of less than a section: base pages, or whatever a whole section gets."""
    pgd_policy: PgdPolicy
    """How a root entry that appears in init_mm reaches the other processes: not at all (arm64, whose kernel half is
    one table, needs nothing), copied by ``sync_global_pgds()``, or never needed as it exists from boot."""
    pgd_preallocated: tuple[Area, ...]
    """Areas whose root entries are filled at boot: ``arch/riscv/mm/init.c:pgtable_cache_init`` (mainline) or
    ``prepare_memory_hotplug`` (v1); ``arch/x86/mm/init_64.c:preallocate_vmalloc_pages`` (5.9 on)."""
    pgd_shared: bool
    """Whether all processes share one kernel root table (arm64 TTBR1), so that nothing is ever copied."""
    vmalloc_fault: bool
    """Whether the page-fault handler copies a missing root entry of the vmalloc area: riscv before
    ``arch/riscv/mm/fault.c`` lost ``vmalloc_fault()`` (6.6), x86-64 before 5.8."""
    free_empty_tables: FreeEmptyTables
    """When an emptied table of the vmemmap goes back: the point that the arm64 revisions differ in."""
    remove_passes: Literal[1, 2]
    """Whether leaves and tables go in one descent (riscv, x86, arm64 V5) or tables in a second one (arm64 V6 on)."""
    unmap_flush: UnmapFlush
    """When the translation of a removed leaf is flushed: once at the end, after its storage was freed (riscv); each
    one before its storage is freed, the direct map once as a range (arm64 ``unmap_hotplug_*``); after each PTE table
    and at the end, after the storage was freed (x86 ``remove_pte_table``, ``remove_pagetable``)."""
    table_flush: TableFlush
    """Whether the walk caches are flushed for an entry that pointed to a table before that table is freed
    (arm64 ``__flush_tlb_kernel_pgtable``) or the table is freed first (riscv, x86)."""
    flush_scope: FlushScope
    """``flush_tlb_all()`` or ``flush_tlb_kernel_range()``."""
    add_flush: bool
    """Whether ``arch_add_memory()`` ends with a flush (riscv: it may cache invalid entries)."""
    remove_extra_flush: bool
    """Whether ``arch_remove_memory()`` flushes once more after the direct map went (riscv mainline)."""
    remove_lock: PageTableLock
    """The lock around each cleared entry on removal."""
    populate_lock: PageTableLock
    """The lock around each entry set by the direct-map code on hot-add (x86 ``phys_*_init``)."""
    page_table_section: Section
    """Where the functions that build the direct map live; ``__init`` code is gone after boot (riscv before patch 2
    of the 2023 series)."""
    bootmem_remove: BootmemRemove
    """Whether boot memory may go offline: arm64 refuses it in ``prevent_bootmem_remove_notifier`` (5.7), and since
    6.19 also any range whose edges split a leaf of direct map or vmemmap (``can_unmap_without_split``)."""
    ptdump_lock: PtdumpLock
    """Whether the page-table dump holds the hotplug lock (arm64 since the V2 series; all since
    ``mm/ptdump.c:ptdump_walk_pgd`` calls ``get_online_mems()``, 6.17 and 6.12.y)."""
    direct_map_leaves: DirectMapLeaves
    """Leaves of the direct map: the largest that fit; base pages when single pages may change
    (arm64 ``can_set_direct_map()``); or base pages only if the CPU cannot split live blocks, BBML2
    (arm64 7.2 ``force_pte_mapping()``)."""
    page_block_advice: bool
    """Whether firmware may advise a memory block size (``drivers/base/memory.c:memory_block_advised_max_size``)."""


@dataclass(frozen=True)
class RiscvProfile(ArchProfile):
    """riscv: the posting of May 2023, mainline since 6.11."""

    layout: Literal["6.4", "6.12", "7.2"]
    """``6.4``: vmemmap not offset by a whole section (``vmemmap`` = start minus ``phys_ram_base``); ``6.12``: offset by
    the start of RAM rounded down to a section; ``7.2``: rounded down to what the largest folio wants
    (``VMEMMAP_ADDR_ALIGN``)."""


@dataclass(frozen=True)
class Arm64Profile(ArchProfile):
    """arm64: hot-add since 5.0, hot-remove as posted in 2019 and as merged in 5.7."""

    layout: Literal["5.3", "5.4", "5.11", "6.12"]
    """``5.3``: direct map in the upper half; ``5.4``: flipped, 52-bit; ``5.11``: vmemmap a quarter smaller at a fixed
    end (``-2 MiB`` gap becomes a power-of-two region); ``6.12``: vmemmap ends 1 GiB below the top, LPA2, 2 GiB of
    modules."""
    section_size: Literal["1G", "128M-or-512M"]
    """1 GiB before f0b13ee23241 (5.12), then 128 MiB, or 512 MiB with 64K pages."""
    split_kernel_leaf: bool
    """Whether ``set_memory_*`` may split a live leaf of the direct map (7.2 ``split_kernel_leaf_mapping``)."""
    vmap_huge_lock: VmapHugeLock
    """What keeps ptdump away from a PMD table that a huge vmap frees: no huge vmap in kernels with ptdump
    (7ba36eccb3f8, 5.3), or the lock of init_mm (fa93b45fd397, 6.18)."""
    lpa2: bool
    """Whether 52-bit addresses exist with 4K and 16K pages (6.9)."""
    contiguous_vmemmap_unmap: Literal["unsupported"] = "unsupported"
    """The contiguous hint in a vmemmap leaf is a warning on removal in every version."""


@dataclass(frozen=True)
class X86Profile(ArchProfile):
    """x86-64."""

    layout: Literal["5.13", "6.12"]
    """The fixed bases are the same; ``6.12`` ends the direct map at ``PHYSMEM_END``, which KASLR lowers."""
    free_pud_tables: Literal["5-level-only"]
    """``remove_p4d_table()`` frees a PUD table only with five levels; with four it stays for good."""
    vmemmap_partial_pmd: bool
    """Whether a PMD leaf shared by neighbouring sections is freed when the last user goes
    (``vmemmap_use_sub_pmd``, ``PAGE_UNUSED``; 5.13)."""
    block_size_hypervisor: Literal["hypervisor-type", "cpuid-bit"]
    """How ``probe_memory_block_size()`` tells a guest from bare metal: the detected hypervisor, or the CPUID bit."""
    vmemmap_huge_per_leaf_loop: Literal["arch", "generic"]
    """Where the loop over PMD leaves lives: ``arch/x86/mm/init_64.c`` or ``mm/sparse-vmemmap.c`` (6.1)."""


MemblockOrder = Literal["memblock-first", "arch-first"]
MemmapOnMemory = Literal["none", "one-block", "many-blocks"]
PluggableEnd = Literal["none", "MAX_PHYSMEM_BITS+1", "MAX_PHYSMEM_BITS", "PHYSMEM_END"]
IsolateMark = Literal["migratetype", "pageblock-bit"]
NodeNotifier = Literal["memory-notifier", "node-notifier"]
NewNode = Literal["after-add", "before-add"]


@dataclass(frozen=True)
class Profile:
    """One kernel: its name, what it stands for, its generic choices, and one record for each architecture it has."""

    name: str
    release: str
    """The kernel release, or the one that the series was posted against."""
    source: str
    """What it stands for: a release, or a mail series with its date."""
    riscv: RiscvProfile | None
    arm64: Arm64Profile | None
    x86: X86Profile | None
    memblock_order: MemblockOrder
    """Whether ``try_remove_memory()`` forgets the range in memblock before or after ``arch_remove_memory()``
    (f1037ec0cc8a; patch 1 of the arm64 series)."""
    memmap_on_memory: MemmapOnMemory
    """``mm/memory_hotplug.c:mhp_supports_memmap_on_memory``: absent (before 5.13); for exactly one memory block whose
    memmap fills whole PMDs and leaves whole pageblocks (5.13); for many blocks, one altmap each, with ``force`` and
    without the PMD rule where the architecture says so (6.6)."""
    auto_movable: bool
    """Whether ``memory_hotplug.online_policy=auto-movable`` and memory groups exist (5.15)."""
    present_early_pages: bool
    """Whether zones count ``present_early_pages`` (5.15, for auto-movable)."""
    memory_groups: bool
    """Whether static and dynamic memory groups exist (028fc57a1c36, 5.15)."""
    pluggable_end: PluggableEnd
    """The end of ``mhp_get_pluggable_range()``: unchecked (before 5.12), one bit too many (5.12), the architecture's
    limit, or the end of what the direct map can hold (6.12; ``DIRECT_MAP_PHYSMEM_END`` in 6.13)."""
    isolate_mark: IsolateMark
    """How an isolated pageblock is marked: its migratetype is overwritten, or a bit of its own (6.17)."""
    node_notifier: NodeNotifier
    """Who hears that a node gets its first or loses its last memory: memory notifier fields, or the node notifier
    chain, which may refuse (6.17)."""
    new_node: NewNode
    """Whether a new node is set online after the memory was added (no way back) or before it, with a roll-back."""
    boot_vmemmap: Literal["sparse-buffer", "per-leaf"]
    """Whether boot takes the vmemmap of a node from one buffer (``sparse_buffer_init``) or leaf by leaf (7.2)."""
    offline_hole_check: Literal["skip-invalid", "trust-range"]
    """Whether ``scan_movable_pages()`` skips pages without a valid section (removed in 7.2)."""
    debug_pagealloc_map_online: bool
    """Whether ``online_pages_range()`` maps pages for debug_pagealloc before it frees them (6.14)."""
    virtio_mem: tuple[Arch, ...]
    """Architectures for which ``drivers/virtio/Kconfig`` offers VIRTIO_MEM."""

    def arch(self, arch: Arch) -> ArchProfile:
        """The record of an architecture. Raises :class:`BadInput` when this kernel has no memory hotplug there."""
        record = {"riscv64": self.riscv, "arm64": self.arm64, "x86_64": self.x86}.get(arch)
        if record is None:
            has = ", ".join(self.arches)
            raise BadInput(f"{self.name} has no memory hotplug on {arch}", where="profile", fix=f"it has {has}")
        return record

    @property
    def arches(self) -> tuple[Arch, ...]:
        """The architectures on which this kernel has memory hotplug."""
        have = {"riscv64": self.riscv, "arm64": self.arm64, "x86_64": self.x86}
        return tuple(arch for arch in ARCHES if have[arch] is not None)


_RISCV_MAINLINE = RiscvProfile(
    layout="6.12",
    vmemmap_leaves="huge",
    vmemmap_fallback="base-unless-altmap",
    vmemmap_altmap="any-leaf",
    vmemmap_subsection="same",
    pgd_policy="preallocate",
    pgd_preallocated=("vmalloc", "modules", "vmemmap", "direct map", "kasan"),
    pgd_shared=False,
    vmalloc_fault=False,
    free_empty_tables="always",
    remove_passes=1,
    unmap_flush="end",
    table_flush="none",
    flush_scope="all",
    add_flush=True,
    remove_extra_flush=True,
    remove_lock="none",
    populate_lock="none",
    page_table_section="__meminit",
    bootmem_remove="unchecked",
    ptdump_lock="mem_hotplug_lock",
    direct_map_leaves="largest",
    page_block_advice=False,
)

_RISCV_V1 = replace(
    _RISCV_MAINLINE,
    layout="6.4",
    vmemmap_leaves="base",
    vmemmap_fallback="base",
    pgd_preallocated=("vmalloc", "vmemmap", "direct map"),
    remove_extra_flush=False,
    remove_lock="init_mm.page_table_lock",
    ptdump_lock="none",
)

_ARM64_5_13 = Arm64Profile(
    layout="5.11",
    section_size="128M-or-512M",
    split_kernel_leaf=False,
    vmap_huge_lock="no-huge-vmap-with-ptdump",
    lpa2=False,
    vmemmap_leaves="huge-if-pmd-sections",
    vmemmap_fallback="base",
    vmemmap_altmap="any-leaf",
    vmemmap_subsection="same",
    pgd_policy="none",
    pgd_preallocated=(),
    pgd_shared=True,
    vmalloc_fault=False,
    free_empty_tables="floor-ceiling",
    remove_passes=2,
    unmap_flush="entry-before-free",
    table_flush="entry-before-free",
    flush_scope="kernel-range",
    add_flush=False,
    remove_extra_flush=False,
    remove_lock="none",
    populate_lock="none",
    page_table_section="__meminit",
    bootmem_remove="notifier",
    ptdump_lock="mem_hotplug_lock",
    direct_map_leaves="base-if-set-direct-map",
    page_block_advice=False,
)

_ARM64_V5 = replace(
    _ARM64_5_13,
    layout="5.3",
    section_size="1G",
    vmemmap_fallback="none",
    vmemmap_altmap="none",
    free_empty_tables="always",
    remove_passes=1,
    remove_lock="init_mm.page_table_lock",
    bootmem_remove="unchecked",
)

_ARM64_V6 = replace(_ARM64_V5, free_empty_tables="never", remove_passes=2, remove_lock="none")

_ARM64_V7 = replace(_ARM64_V6, layout="5.4", free_empty_tables="if-no-vmalloc-overlap")

_ARM64_6_12 = replace(
    _ARM64_5_13,
    layout="6.12",
    lpa2=True,
    vmemmap_leaves="huge-if-4k-pages",
    vmemmap_fallback="base-unless-altmap",
    vmemmap_subsection="base",
)

_X86_5_13 = X86Profile(
    layout="5.13",
    free_pud_tables="5-level-only",
    vmemmap_partial_pmd=True,
    block_size_hypervisor="hypervisor-type",
    vmemmap_huge_per_leaf_loop="arch",
    vmemmap_leaves="huge",
    vmemmap_fallback="base-unless-altmap",
    vmemmap_altmap="huge-leaf-only",
    vmemmap_subsection="base",
    pgd_policy="sync",
    pgd_preallocated=("vmalloc",),
    pgd_shared=False,
    vmalloc_fault=False,
    free_empty_tables="always",
    remove_passes=1,
    unmap_flush="pte-table-and-end",
    table_flush="none",
    flush_scope="all",
    add_flush=False,
    remove_extra_flush=False,
    remove_lock="init_mm.page_table_lock",
    populate_lock="init_mm.page_table_lock",
    page_table_section="__meminit",
    bootmem_remove="unchecked",
    ptdump_lock="none",
    direct_map_leaves="largest",
    page_block_advice=False,
)

_X86_6_12 = replace(
    _X86_5_13,
    layout="6.12",
    block_size_hypervisor="cpuid-bit",
    vmemmap_huge_per_leaf_loop="generic",
    ptdump_lock="mem_hotplug_lock",
)

_LINUX_5_13 = Profile(
    name="linux-5.13",
    release="5.13",
    source="Linux 5.13, June 2021",
    riscv=None,
    arm64=_ARM64_5_13,
    x86=_X86_5_13,
    memblock_order="arch-first",
    memmap_on_memory="one-block",
    auto_movable=False,
    present_early_pages=False,
    memory_groups=False,
    pluggable_end="MAX_PHYSMEM_BITS+1",
    isolate_mark="migratetype",
    node_notifier="memory-notifier",
    new_node="after-add",
    boot_vmemmap="sparse-buffer",
    offline_hole_check="skip-invalid",
    debug_pagealloc_map_online=False,
    virtio_mem=("arm64", "x86_64"),
)

_LINUX_6_12 = replace(
    _LINUX_5_13,
    name="linux-6.12",
    release="6.12",
    source="Linux 6.12.y, December 2024 on",
    riscv=_RISCV_MAINLINE,
    arm64=_ARM64_6_12,
    x86=_X86_6_12,
    memmap_on_memory="many-blocks",
    auto_movable=True,
    present_early_pages=True,
    memory_groups=True,
    pluggable_end="PHYSMEM_END",
    virtio_mem=("riscv64", "arm64", "x86_64"),
)

_LINUX_7_2 = replace(
    _LINUX_6_12,
    name="linux-7.2",
    release="7.2",
    source="Linux 7.2.y",
    riscv=replace(_RISCV_MAINLINE, layout="7.2"),
    arm64=replace(
        _ARM64_6_12,
        split_kernel_leaf=True,
        vmap_huge_lock="init_mm.mmap_lock",
        bootmem_remove="notifier-and-split-check",
        direct_map_leaves="base-unless-bbml2",
    ),
    x86=replace(_X86_6_12, page_block_advice=True),
    isolate_mark="pageblock-bit",
    node_notifier="node-notifier",
    new_node="before-add",
    boot_vmemmap="per-leaf",
    offline_hole_check="trust-range",
    debug_pagealloc_map_online=True,
)

_ARM64_HOTREMOVE_V5 = replace(
    _LINUX_5_13,
    name="arm64-hotremove-v5",
    release="5.2",
    source="[PATCH V5 0/3] arm64/mm: Enable memory hot remove, May 2019",
    arm64=_ARM64_V5,
    x86=None,
    memmap_on_memory="none",
    pluggable_end="none",
    virtio_mem=(),
)

_RISCV_HOTPLUG_V1 = replace(
    _LINUX_6_12,
    name="riscv-hotplug-v1",
    release="6.4",
    source="[PATCH 0/7] riscv: Memory Hot(Un)Plug support, 12 May 2023",
    riscv=_RISCV_V1,
    arm64=None,
    x86=None,
    memmap_on_memory="none",
    pluggable_end="MAX_PHYSMEM_BITS",
    virtio_mem=("riscv64",),
)

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        _RISCV_HOTPLUG_V1,
        _ARM64_HOTREMOVE_V5,
        replace(
            _ARM64_HOTREMOVE_V5,
            name="arm64-hotremove-v6",
            source="[PATCH V6 0/3] arm64/mm: Enable memory hot remove, June 2019",
            arm64=_ARM64_V6,
        ),
        replace(
            _ARM64_HOTREMOVE_V5,
            name="arm64-hotremove-v7",
            release="5.3",
            source="[PATCH V7 0/3] arm64/mm: Enable memory hot remove, 3 September 2019, on arm64 for-next/core",
            arm64=_ARM64_V7,
        ),
        _LINUX_5_13,
        _LINUX_6_12,
        _LINUX_7_2,
    )
}
"""Every profile by its name."""


def profile(name: str) -> Profile:
    """The profile of that name. Raises :class:`BadInput` that lists the names there are."""
    if name not in PROFILES:
        raise BadInput(f"no kernel profile {name!r}", where="profile", fix=f"one of {', '.join(PROFILES)}")
    return PROFILES[name]
