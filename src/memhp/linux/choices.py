"""The choices in which kernels differ: names and types. `profiles` says which kernel made which.

Every field stands for a decision at one place in the kernel, named in its docstring. A release after it is the first
that has the later choice.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal, TypeVar

from memhp.errors import BadInput
from memhp.linux.arch.registry import ARCHES, Arch
from memhp.linux.choice import Choices, hints, unknown_choice

__all__ = ["ARCHES", "Arch", "ArchProfile", "Area", "OwnRootTables", "Profile", "generic_choices"]

Area = Literal["vmalloc", "modules", "vmemmap", "direct map", "kasan"]

VmemmapLeaves = Literal["base", "huge", "huge-if-4k-pages"]
VmemmapFallback = Literal["base", "base-unless-altmap", "none"]
AltmapFallback = Literal["fail", "ram", "draft-helper"]
PgdPolicy = Literal["none", "sync", "preallocate"]
PgdList = Literal["before-copy", "after-copy", "one-lock"]
BlockReference = Literal["none", "held"]
PfnWalkLock = Literal["none", "mem_hotplug_lock"]
PgmapDrain = Literal["none", "kill", "kill-and-wait"]
PtdumpLock = Literal["none", "mem_hotplug_lock"]

MemblockOrder = Literal["memblock-first", "arch-first"]
MemmapOnMemory = Literal["none", "one-block", "many-blocks"]
PluggableEnd = Literal["none", "MAX_PHYSMEM_BITS", "PHYSMEM_END"]
IsolateMark = Literal["migratetype", "pageblock-bit"]
NodeNotifier = Literal["memory-notifier", "node-notifier"]
NewNode = Literal["after-add", "before-add"]
MovableWatermark = Literal["share", "capped"]
LowmemReserve = Literal["with-watermarks", "with-managed-pages"]


@dataclass(frozen=True, kw_only=True)
class ArchProfile(Choices):
    """What one architecture's hotplug code decides: the choices that generic code asks of every architecture.

    A record of a port adds those that its own code reads, or narrows what one may be to what it can do.
    """

    arch: ClassVar[Arch]
    """The architecture that the record is for."""
    pgd_shared: ClassVar[bool] = False
    """Whether all processes share the kernel's root table (arm64 TTBR1)."""

    vmemmap_leaves: VmemmapLeaves
    """Which leaves ``arch/*/mm: vmemmap_populate()`` tries for a whole section."""
    vmemmap_fallback: VmemmapFallback
    """When no PMD-sized chunk is free: base pages; base pages unless an altmap was to supply it, then ``-ENOMEM``
    (``mm/sparse-vmemmap.c:vmemmap_populate_hugepages``, x86 before it); always ``-ENOMEM`` (arm64 before 5.11)."""
    altmap_fallback: AltmapFallback
    """What happens when an altmap cannot supply a leaf: ``-ENOMEM`` (x86, arm64, riscv); RAM instead, as for a leaf
    that reaches beyond the altmap's range (powerpc ``__vmemmap_populate()``, ``altmap_cross_boundary()``). Or a helper
    drafted in March 2020, ``vmemmap_alloc_block_buf(size, node, altmap, fallback)``, which takes RAM all the same."""
    page_table_section: Literal["__init", "__meminit"]
    """Where the functions live that build the direct map: ``__init`` code is gone after boot (riscv before patch 2
    of the series)."""
    ptdump_lock: PtdumpLock
    """Whether the page-table dump keeps hotplug out: arm64 from patch 2 of the series on, all since
    ``mm/ptdump.c:ptdump_walk_pgd`` calls ``get_online_mems()`` (7.2, 6.12.y)."""
    huge_vmalloc: bool
    """Whether ``vmalloc_huge()`` may use PMD leaves (``HAVE_ARCH_HUGE_VMALLOC``: arm64, x86-64 5.19)."""
    optimize_dax_vmemmap: bool
    """Whether alike struct pages of a dax device's large pages share storage: 4917f55b4ef9, 5.19 on x86-64; riscv
    since 6.5 (``ARCH_WANT_OPTIMIZE_DAX_VMEMMAP``)."""
    virtio_mem: bool
    """Whether ``drivers/virtio/Kconfig`` has VIRTIO_MEM for it."""

    @property
    def areas_filled_at_boot(self) -> tuple[Area, ...]:
        """Areas whose root entries boot fills, so that no process lacks one of them."""
        return ()

    @property
    def syncs_root_entries(self) -> bool:
        """Whether a root entry that appears in init_mm is copied to every process."""
        return False

    @property
    def fixes_vmalloc_faults(self) -> bool:
        """Whether a fault in the vmalloc area copies the root entry that is missing."""
        return False


@dataclass(frozen=True, kw_only=True)
class OwnRootTables(ArchProfile):
    """An architecture on which every process has a root table of its own, with the kernel's half in it."""

    pgd_policy: PgdPolicy
    """How a root entry that appears in init_mm reaches other processes: nothing does it (arm64 needs nothing, its
    kernel half is one table for all: `pgd_shared`), ``sync_global_pgds()``, or it exists from boot on."""
    pgd_list: PgdList
    """When a new root table is entered where ``sync_global_pgds()`` looks for it, against the copy of init_mm's kernel
    half: under ``pgd_lock`` together with it (x86 ``pgd_alloc()``), or before or after it, which no kernel does. riscv
    copies without a lock and has no such list, as nothing there walks it."""
    pgd_preallocated: tuple[Area, ...]
    """Areas whose root entries boot fills: ``arch/riscv/mm/init.c:pgtable_cache_init`` (v1:
    ``prepare_memory_hotplug``); ``arch/x86/mm/init_64.c:preallocate_vmalloc_pages`` (5.9). KASAN's only if built."""
    vmalloc_fault: bool
    """Whether a fault in the vmalloc area copies the missing root entry (riscv before it preallocated, x86-64 before
    5.8; in no profile here, as riscv v1 stops using it: patch 7)."""

    @property
    def areas_filled_at_boot(self) -> tuple[Area, ...]:
        """None without a policy about root entries."""
        return () if self.pgd_policy == "none" else self.pgd_preallocated

    @property
    def syncs_root_entries(self) -> bool:
        """``sync_global_pgds()``."""
        return self.pgd_policy == "sync"

    @property
    def fixes_vmalloc_faults(self) -> bool:
        """``vmalloc_fault()``."""
        return self.vmalloc_fault


Record = TypeVar("Record", bound=ArchProfile)


@dataclass(frozen=True, kw_only=True)
class Profile(Choices):
    """One kernel: its name, what it stands for, its generic choices, and a record for each architecture it has."""

    name: str
    release: str
    """The kernel release, or the one that a series was posted against."""
    source: str
    """What it stands for: a release, or a mail series with its date."""
    records: tuple[ArchProfile, ...]
    """The records of the architectures on which this kernel has memory hotplug."""
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
    vmap_huge_lock: Literal["none", "init_mm.mmap_lock"]
    """What a huge vmap holds while it frees the table that it replaces: nothing, or the lock that ptdump takes
    (``mm/vmalloc.c:vmap_try_huge_pmd``, 7.2, 6.12.y)."""
    ptdump_mmap_lock: Literal["none", "read", "write"]
    """How ptdump takes init_mm's mmap lock: not at all (arm64 before the generic ``mm/ptdump.c`` of 5.7); shared; alone
    (8782fb61cc84, 6.0)."""
    memmap_counters: bool
    """Whether ``/proc/vmstat`` has ``nr_memmap_pages`` and ``nr_memmap_boot_pages`` (by 6.12)."""
    dax_compound_pages: bool
    """Whether device-dax asks for compound pages of its alignment (14606001efb4, 5.17)."""
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
    virtio_mem_sleep: Literal["refused", "by-feature"]
    """Whether ``virtio_mem_freeze()`` lets no machine sleep, or only forbids hibernation and, where plugged memory does
    not outlive it (``VIRTIO_MEM_F_PERSISTENT_SUSPEND``), suspend to RAM (6.10)."""
    virtio_mem_unplugged_inaccessible: bool
    """Whether the driver takes ``VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE`` (5.17)."""

    def arch(self, arch: Arch) -> ArchProfile:
        """The record of an architecture. Raises :class:`BadInput` when this kernel has no memory hotplug there."""
        for record in self.records:
            if record.arch == arch:
                return record
        have = ", ".join(self.arches)
        raise BadInput(f"{self.name} has no memory hotplug on {arch}", where="profile", fix=f"it has {have}")

    def record(self, kind: type[Record]) -> Record:
        """The same by the type of the record."""
        record = self.arch(kind.arch)
        assert isinstance(record, kind)
        return record

    @property
    def arches(self) -> tuple[Arch, ...]:
        """The architectures on which this kernel has memory hotplug."""
        have = {record.arch for record in self.records}
        return tuple(arch for arch in ARCHES if arch in have)

    def with_arch(self, record: ArchProfile) -> "Profile":
        """The same kernel with another record of an architecture."""
        return replace(self, records=tuple(record if record.arch == each.arch else each for each in self.records))

    def choosing(self, arch: Arch, choices: Mapping[str, object]) -> "Profile":
        """The same kernel with some choices changed: that architecture's own, or those that all share.

        Lists stand for tuples. Raises :class:`BadInput` for a choice that there is not, or a value that it cannot have.
        """
        record = self.arch(arch)
        own, shared = hints(type(record)), generic_choices()
        for name in choices:
            if name not in own and name not in shared:
                raise unknown_choice(name, {*own, *shared})
        generic = {name: value for name, value in choices.items() if name in shared}
        return self.with_choices(**generic).with_arch(
            record.with_choices(**{name: value for name, value in choices.items() if name in own})
        )


def generic_choices() -> tuple[str, ...]:
    """The choices of a :class:`Profile` that are no architecture's."""
    return tuple(field.name for field in fields(Profile) if field.name not in DESCRIPTION)


DESCRIPTION = ("name", "release", "source", "records")
"""Fields of a :class:`Profile` that say which kernel it is."""
