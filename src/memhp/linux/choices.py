"""The choices in which kernels differ, with the history of those that all architectures share.

Every field stands for a decision at one place in the kernel. Those of an architecture stand with it, in
``arch/*/choices.py``; here are the ones that generic code asks of each, without their history.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import ClassVar, Literal, TypeVar

from memhp.errors import BadInput, slip_of
from memhp.linux.arch.registry import ARCHES, Arch, modules, port
from memhp.linux.choice import Choices, choice, hints, unknown_choice
from memhp.linux.choices_devices import DeviceChoices
from memhp.linux.choices_fixes import FixChoices
from memhp.linux.choices_repairs import RepairChoices
from memhp.linux.release import first, since

__all__ = ["ARCHES", "Arch", "ArchProfile", "Area", "OwnRootTables", "Profile", "generic_choices"]

Area = Literal["vmalloc", "modules", "vmemmap", "direct map", "kasan"]

VmemmapLeaves = Literal["base", "huge", "huge-if-4k-pages"]
VmemmapFallback = Literal["base", "base-unless-altmap", "none"]
AltmapFallback = Literal["fail", "ram", "draft-helper"]
TableDtor = Literal["none", "all", "constructed"]
"""For which of the tables that it frees a function runs the destructor; `constructed` asks ``PageTable()``."""
PgdPolicy = Literal["none", "sync", "preallocate"]
PgdList = Literal["before-copy", "after-copy", "one-lock"]
BlockReference = Literal["none", "held"]
PfnWalkLock = Literal["none", "mem_hotplug_lock"]
PtdumpLock = Literal["none", "mem_hotplug_lock"]

MemblockOrder = Literal["memblock-first", "arch-first"]
MemmapOnMemory = Literal["none", "one-block", "one-block-or-force", "many-blocks"]
PluggableEnd = Literal["none", "MAX_PHYSMEM_BITS", "PHYSMEM_END"]
IsolateMark = Literal["migratetype", "pageblock-bit"]
NodeNotifier = Literal["memory-notifier", "node-notifier"]
NewNode = Literal["after-add", "before-add"]
MovableWatermark = Literal["share", "capped"]
LowmemReserve = Literal["with-watermarks", "with-managed-pages"]
ResourceSplit = Literal["children-stay", "children-move", "children-move-after"]


@dataclass(frozen=True, kw_only=True)
class ArchProfile(Choices):
    """What one architecture's hotplug code decides: the choices that generic code asks of every architecture.

    A record of a port adds those that its own code reads, or narrows what one may be to what it can do.
    """

    arch: ClassVar[Arch]
    """The architecture that the record is for."""
    pgd_shared: ClassVar[bool] = False
    """Whether all processes share the kernel's root table (arm64 TTBR1)."""

    hotplug_since: ClassVar[str] = ""
    """The first release with memory hotplug on it; empty where every known one has it."""
    known_since: ClassVar[str] = ""
    """The first release with it whose code was read, where that is a later one."""

    vmemmap_leaves: VmemmapLeaves
    vmemmap_fallback: VmemmapFallback
    altmap_fallback: AltmapFallback
    page_table_section: Literal["__init", "__meminit"]
    ptdump_lock: PtdumpLock
    huge_vmalloc: bool
    optimize_dax_vmemmap: bool
    virtio_mem: bool

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
    pgd_list: PgdList
    pgd_preallocated: tuple[Area, ...]
    vmalloc_fault: bool

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
class Profile(DeviceChoices, FixChoices, RepairChoices):
    """One kernel: its name, what it stands for, its generic choices, and a record for each architecture it has."""

    name: str
    release: str
    """The kernel release, or the one that a series was posted against."""
    source: str
    """What it stands for: a release, or a mail series with its date."""
    records: tuple[ArchProfile, ...]
    """The records of the architectures on which this kernel has memory hotplug."""
    memblock_order: MemblockOrder = choice(
        "Whether ``try_remove_memory()`` forgets the range in memblock before ``arch_remove_memory()`` or after; "
        "patch 1 of the arm64 series, which went in ahead of the rest.",
        first("memblock-first"),
        since("5.4", "arch-first", "mm/hotplug: reorder memblock_[free|remove]() calls in try_remove_memory()"),
    )
    memmap_on_memory: MemmapOnMemory = choice(
        "``mhp_supports_memmap_on_memory()``: absent; for exactly one memory block whose memmap fills whole PMDs "
        "and leaves whole pageblocks; the same, or ``force``; for many blocks with an altmap each.",
        first("none"),
        since("5.13", "one-block", "mm,memory_hotplug: allocate memmap from the added memory range"),
        since(
            "6.6",
            "one-block-or-force",
            "mm/memory_hotplug: support memmap_on_memory when memmap is not aligned to pageblocks",
        ),
        since("6.8", "many-blocks", "mm/memory_hotplug: split memmap_on_memory requests across memblocks"),
    )
    auto_movable: bool = choice(
        "Whether ``online_policy=auto-movable`` exists, and with it memory groups and ``present_early_pages``.",
        first(False),
        since("5.15", True, 'mm/memory_hotplug: introduce "auto-movable" online policy'),
    )
    pluggable_end: PluggableEnd = choice(
        "The end of ``mhp_get_pluggable_range()``: not checked; the architecture's limit; what the direct map can "
        "hold (``DIRECT_MAP_PHYSMEM_END``).",
        first("none"),
        since("5.12", "MAX_PHYSMEM_BITS", "mm/memory_hotplug: prevalidate the address range being added with platform"),
        since(
            "6.11",
            "PHYSMEM_END",
            "x86/kaslr: Expose and use the end of the physical memory address space",
            ("6.1.110", "6.10.10"),
        ),
    )
    pageblock_cap: Literal["MAX_PAGE_ORDER", "PAGE_BLOCK_MAX_ORDER"] = choice(
        "What bounds a pageblock: the buddy's largest order, or an order that the build chooses.",
        first("MAX_PAGE_ORDER"),
        since("6.16", "PAGE_BLOCK_MAX_ORDER", "mm: add CONFIG_PAGE_BLOCK_ORDER to select page block order"),
    )
    isolate_mark: IsolateMark = choice(
        "How an isolated pageblock is marked: in place of its migratetype, or in a bit of its own.",
        first("migratetype"),
        since("6.17", "pageblock-bit", "mm/page_isolation: make page isolation a standalone bit"),
    )
    node_notifier: NodeNotifier = choice(
        "Who hears that a node gets its first memory or loses its last: fields of the memory notifier, or a chain "
        "of its own that may refuse.",
        first("memory-notifier"),
        since("6.17", "node-notifier", "mm,memory_hotplug: implement numa node notifier"),
    )
    new_node: NewNode = choice(
        "Whether ``add_memory_resource()`` sets a new node online after the memory is in (``BUG_ON()`` if that "
        "fails), or before, with a way back.",
        first("after-add"),
        since("6.18", "before-add", "mm/memory_hotplug: activate node before adding new memory blocks"),
    )
    zone_shrink: Literal["on-remove", "on-offline"] = choice(
        "Whether zone and node shrink in ``__remove_pages()``, section by section, or when memory goes offline.",
        first("on-remove"),
        since("5.5", "on-offline", "mm/memory_hotplug: shrink zones when offlining memory"),
    )
    device_sections: Literal["untold", "told"] = choice(
        "Whether ``pfn_to_online_page()`` looks for a device's mapping in sections that RAM and a device share.",
        first("untold"),
        since("5.12", "told", "mm: teach pfn_to_online_page() about ZONE_DEVICE section collisions"),
    )
    section_usage: Literal["freed-at-once", "freed-after-grace-period"] = choice(
        "Whether the usage map of a section that goes is freed while ``pfn_valid()`` may read it, and before the "
        "section is invalid, or after that and by RCU, which ``pfn_valid()`` holds.",
        first("freed-at-once"),
        since(
            "6.8",
            "freed-after-grace-period",
            "mm/sparsemem: fix race in accessing memory_section->usage",
            ("6.1.76", "6.6.15"),
        ),
    )
    block_zone: Literal["looked-up", "stored"] = choice(
        "Whether ``offline_pages()`` finds out itself that a block lies in one zone only, or "
        "``memory_block_offline()`` reads it from the block.",
        first("looked-up"),
        since("5.18", "stored", "drivers/base/memory: determine and store zone for single-zone memory blocks"),
    )
    block_nodes: Literal["by-page", "stored"] = choice(
        "Whether removal finds the nodes that a block is linked below by its pages, and only if ``pfn_valid()`` "
        "says that they are there, or by the node stored in it.",
        first("by-page"),
        since("5.4", "stored", "drivers/base/node.c: simplify unregister_memory_block_under_nodes()"),
    )
    online_hwpoison: Literal["allowed", "refused"] = choice(
        "Whether a block that lost pages to memory errors may go online again.",
        first("allowed"),
        since("6.2", "refused", "mm/hwpoison: introduce per-memory_block hwpoison counter"),
    )
    node_poison_counts: bool = choice(
        "Whether each node counts its poisoned pages by what came of them, for its folder ``memory_failure``.",
        first(False),
        since("6.3", True, "mm: memory-failure: Add memory failure stats to sysfs"),
    )
    crash_hotplug: bool = choice(
        "Whether ``crash_hotplug`` says if a crash kernel is told of memory that comes and goes, on architectures that "
        "can do so.",
        first(False),
        since("6.6", True, "crash: memory and CPU hotplug sysfs attributes"),
    )
    block_lock: Literal["pages", "whole"] = choice(
        "Under ``mem_hotplug_lock`` when a block goes online or offline: only ``online_pages()`` and "
        "``offline_pages()``, or what is done to the pages that hold its own memmap and to counters as well.",
        first("pages"),
        since("6.7", "whole", "mm/memory_hotplug: add missing mem_hotplug_lock", ("6.1.72",)),
    )
    create_failure_altmap: Literal["forgotten", "passed"] = choice(
        "Whether ``arch_remove_memory()`` hears of the altmap when the block device of memory that hosts its own "
        "memmap could not be made; else what never was the buddy's is freed to it.",
        first("forgotten"),
        since("6.7", "passed", "mm/memory_hotplug: fix error handling in add_memory_resource()", ("6.1.72",)),
        since("6.8", "forgotten", "mm/memory_hotplug: split memmap_on_memory requests across memblocks"),
        since("7.2", "passed", "mm/memory_hotplug: fix incorrect altmap passing in error path", ("6.12.97",)),
    )
    devices_removed: Literal["under-lock", "before-lock"] = choice(
        "Whether ``try_remove_memory()`` removes the block devices under ``mem_hotplug_lock`` or before it takes it.",
        first("under-lock"),
        since("5.6", "before-lock", "mm/memory_hotplug: fix remove_memory() lockdep splat", ("5.4.19",)),
        since("6.8", "under-lock", "mm/memory_hotplug: split memmap_on_memory requests across memblocks"),
    )
    hotplugged_pages: Literal["reserved", "offline"] = choice(
        "What marks struct pages of memory that goes online until the buddy gets them: ``PageReserved`` or "
        "``PageOffline`` (``move_pfn_range_to_zone()``).",
        first("reserved"),
        since(
            "6.11",
            "offline",
            "mm/memory_hotplug: initialize memmap of !ZONE_DEVICE with PageOffline() instead of PageReserved()",
        ),
    )
    prepare_online: bool = choice(
        "Whether ``memory_block_online()`` asks the notifiers before it touches the block: ``MEM_PREPARE_ONLINE``.",
        first(False),
        since("6.9", True, "mm/memory_hotplug: introduce MEM_PREPARE_ONLINE/MEM_FINISH_OFFLINE notifiers"),
        since("6.19", False, "mm/memory_hotplug: remove MEM_PREPARE_ONLINE/MEM_FINISH_OFFLINE notifiers"),
    )
    contig_hugetlb: Literal["first-pass", "never", "second-pass"] = choice(
        "Whether the search for a gigantic page's place takes ranges with smaller huge pages, which have to move: like "
        "any other, not at all, or once no other can be had (``alloc_contig_frozen_pages()``).",
        first("first-pass"),
        since(
            "6.3",
            "never",
            "mm: page_alloc: skip regions with hugetlbfs pages when allocating 1G pages",
            ("6.1.26",),
        ),
        since("7.0", "second-pass", "page_alloc: allow migration of smaller hugepages during contig_alloc"),
    )
    boot_block_nodes: Literal["by-node", "by-region"] = choice(
        "In which order boot links memory blocks and nodes, so that the last is ``mem->nid``: node by node, or as the "
        "memory comes (``register_memory_blocks_under_nodes()``).",
        first("by-node"),
        since("6.17", "by-region", "drivers/base/node: optimize memory block registration to reduce boot time"),
    )
    resource_split: ResourceSplit = choice(
        "What becomes of resources above the hole when ``release_mem_region_adjustable()`` cuts one in two: they "
        "stay with the lower half, and forbid the cut, or go with the upper, before the lower shrinks (a repair: after "
        "it).",
        first("children-stay"),
        since("6.18", "children-move", "resource: improve child resource handling in release_mem_region_adjustable()"),
    )
    boot_vmemmap: Literal["sparse-buffer", "per-leaf"] = choice(
        "Whether boot takes a node's vmemmap from one buffer (``sparse_buffer_init()``) or leaf by leaf.",
        first("sparse-buffer"),
        since("7.2", "per-leaf", "mm/sparse: remove sparse buffer pre-allocation mechanism"),
    )
    zonelist_local: Literal["always", "with-memory"] = choice(
        "Whether the fallback order of a node without memory begins with itself (``find_next_best_node()``).",
        first("always"),
        since("6.7", "with-memory", "mm: page_alloc: skip memoryless nodes entirely"),
    )
    movable_watermark: MovableWatermark = choice(
        "Whether ZONE_MOVABLE takes a share of min_free_kbytes as its watermark, or a small one of its own and "
        "leaves the share to the zones below (``__setup_per_zone_wmarks()``).",
        first("share"),
        since("6.6", "capped", "mm/page_alloc: fix min_free_kbytes calculation regarding ZONE_MOVABLE"),
    )
    mirror_lacking: Literal["movable", "ignored"] = choice(
        "What ``kernelcore=mirror`` does where firmware mirrors nothing: all memory from 4 GiB on is ZONE_MOVABLE, or "
        "nothing.",
        first("movable"),
        since("6.6", "ignored", "mm: disable kernelcore=mirror when no mirror memory"),
    )
    deferred_pages: Literal["of-zone", "of-node", "at-boot"] = choice(
        "Which struct pages ``deferred_init_memmap()`` initialises for the highest zone of a node: those in its span, "
        "or all that are left; or, in no kernel, none where zones overlap, as boot did.",
        first("of-zone"),
        since("6.18", "of-node", "mm/mm_init: deferred_init_memmap: use a job per zone"),
    )
    lowmem_reserve: LowmemReserve = choice(
        "Whether ``lowmem_reserve[]`` is only worked out anew together with the watermarks, or in "
        "``adjust_managed_page_count()`` too.",
        first("with-watermarks"),
        since(
            "6.13",
            "with-managed-pages",
            "mm: page_alloc: fix missed updates of lowmem_reserve in adjust_managed_page_count",
        ),
    )
    vmap_huge_lock: Literal["none", "init_mm.mmap_lock"] = choice(
        "What a huge vmap holds while it frees the table that it replaces: nothing, or the lock that ptdump takes "
        "(``vmap_try_huge_pmd()``).",
        first("none"),
        since(
            "7.2",
            "init_mm.mmap_lock",
            "mm/vmalloc: acquire init_mm lock on huge vmap to avoid ptdump UAF",
            ("6.12.105",),
        ),
    )
    ptdump_mmap_lock: Literal["none", "read", "write"] = choice(
        "How ptdump takes init_mm's mmap lock: not at all (arm64 before the generic ``mm/ptdump.c``); shared; alone.",
        first("none"),
        since("5.7", "read", "mm: add generic ptdump"),
        since("6.0", "write", "mm: pagewalk: Fix race between unmap and page walker", ("5.19.8",)),
    )
    memmap_counters: bool = choice(
        "Whether ``/proc/vmstat`` has ``nr_memmap_pages`` and ``nr_memmap_boot_pages``.",
        first(False),
        since("6.11", True, "mm: report per-page metadata information"),
    )
    block_reference: BlockReference = choice(
        "Whether ``find_memory_block_by_id()`` takes a reference on the device that it finds: every kernel does.",
        first("held"),
    )
    pfn_walk_lock: PfnWalkLock = choice(
        "What those who go from page to page with ``pfn_to_online_page()`` hold while they look at a struct page: "
        "nothing in any kernel (``fs/proc/page.c``), or ``get_online_mems()``.",
        first("none"),
    )

    @property
    def memmap_on_one_block(self) -> bool:
        """Whether added memory can hold its own struct pages only where it is one memory block."""
        return self.memmap_on_memory in {"one-block", "one-block-or-force"}

    def arch(self, arch: Arch) -> ArchProfile:
        """The record of an architecture. Raises :class:`BadInput` where none is known of this kernel."""
        for record in self.records:
            if record.arch == arch:
                return record
        have = ", ".join(self.arches)
        since_when = port(arch).record.known_since
        if since_when:
            text = f"memory hotplug of {self.name} on {arch} is not known"
            raise BadInput(text, where="profile", fix=f"it is from {since_when} on")
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
                raise no_choice_of([arch], name)
        generic = {name: value for name, value in choices.items() if name in shared}
        return self.with_choices(**generic).with_arch(
            record.with_choices(**{name: value for name, value in choices.items() if name in own})
        )


@cache
def records() -> tuple[type[ArchProfile], ...]:
    """The types of the records in which a kernel keeps the choices of each architecture, in the registry's order."""
    return tuple(each.RECORD for each in modules("choices"))


def generic_choices() -> tuple[str, ...]:
    """The choices of a :class:`Profile` that are no architecture's."""
    return tuple(field.name for field in fields(Profile) if field.name not in DESCRIPTION)


def no_choice_of(arches: Collection[Arch], name: str) -> BadInput:
    """The error about a name that is no choice of these architectures, nor one that all share."""
    every = {choice for record in records() for choice in hints(record)}
    having = {choice: [record.arch for record in records() if choice in hints(record)] for choice in every}
    known = {choice for choice, have in having.items() if not set(have).isdisjoint(arches)}.union(generic_choices())
    if name in having:
        return BadInput(
            f"is no choice of {' or '.join(arches)}", where=name, fix=f"it is one of {' and '.join(having[name])}"
        )
    near = None if slip_of(name, known) else slip_of(name, having)
    if near:
        fix = f"did you mean {near}, a choice of {' and '.join(having[near])}?"
        return BadInput("there is no such choice", where=name, fix=fix)
    return unknown_choice(name, known)


DESCRIPTION = ("name", "release", "source", "records")
"""Fields of a :class:`Profile` that say which kernel it is."""
