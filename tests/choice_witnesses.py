"""For every choice what shows it: the machines and steps on which each of its values looks different from the others.

A witness is a script of `choice_scripts` or the steps of a rehearsal, on one kernel. `given` are choices without which
this one decides nothing there: a fault in the vmalloc area, say, comes only where nothing filled its root entries.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from choice_scripts import seen_of
from choice_views import rehearsed
from kernels import VA_BITS
from memhp.linux.choice import Choices, hints, is_set, options
from memhp.linux.choices import Profile
from memhp.linux.config import Config
from memhp.linux.profiles import RECORDS, profile
from memhp.units import KiB

PRESET = {"x86_64": "x86-vm", "arm64": "arm64-vm", "riscv64": "riscv-vm", "loongarch64": "loongarch-4k-vm"}
Steps = tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Witness:
    """A kernel, and what is done on it."""

    arch: str
    do: str | Steps
    release: str = "6.12"
    stepped: bool = False
    """Whether every access is seen, one by one, and its order with it."""
    page: int = 4
    """Page size in KiB."""
    va_bits: int = 0
    given: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    """Build and boot options; of a rehearsal keys of its machine."""

    def shows(self, choice: str, value: object) -> str:
        """All that is seen with the choice made that way."""
        if isinstance(self.do, tuple):
            chosen = {name: list(each) if isinstance(each, tuple) else each for name, each in self.given.items()}
            chosen[choice] = list(value) if isinstance(value, tuple) else value
            machine = {"preset": PRESET[self.arch], "memory": "2G", "profile": self.release, **self.config}
            return rehearsed({**machine, "choices": chosen}, list(self.do))
        kernel = profile(self.release).choosing(self.arch, {**self.given, choice: value})
        va_bits = self.va_bits or VA_BITS[self.arch, self.page]
        return seen_of(
            Config(self.arch, kernel, self.page * KiB, va_bits, **self.config), self.do, stepped=self.stepped
        )


def x86(do: str | Steps, release: str = "6.12", **named: Any) -> Witness:
    return Witness("x86_64", do, release, **named)


def arm64(do: str | Steps, release: str = "6.12", **named: Any) -> Witness:
    return Witness("arm64", do, release, **named)


def riscv(do: str | Steps, release: str = "6.12", **named: Any) -> Witness:
    return Witness("riscv64", do, release, **named)


def loongarch(do: str | Steps, release: str = "7.2", **named: Any) -> Witness:
    return Witness("loongarch64", do, release, **named)


def every(do: str | Steps, **named: Any) -> tuple[Witness, ...]:
    return riscv(do, **named), arm64(do, **named), x86(do, **named)


def step(do: str, **named: Any) -> dict[str, Any]:
    return {"do": do, **named}


BY_PAGE = {"memblock_order": "memblock-first", "block_nodes": "by-page"}
"""Removal asks ``pfn_valid()`` when memblock has forgotten the memory."""
PLUG = step("plug", size="1G", online="movable")
NOT_BOUND = {"allocation": "acpi_bind_one"}
DEVDAX = (step("dax", at="8G", size="1G", mode="devdax", align="2M"),)
SHRINKS_ON_REMOVAL = {"zone_shrink": "on-remove"}
SELF_HOSTED = {"memmap_on_memory": "Y"}
LARGE = {"direct_map_leaves": "largest"}
"""Few leaves, so that few accesses show all."""

WITNESSES: dict[str, tuple[Witness, ...]] = {
    # What all architectures share.
    "pmd_dtor": (riscv("far_block", va_bits=57, given={"table_dtor": "pte-pmd"}),),
    "memblock_order": (arm64("remove", given={"block_nodes": "by-page", "pfn_valid": "memblock"}),),
    "memmap_on_memory": tuple(x86("life", config={"memmap_on_memory": mode}) for mode in ("Y", "force")),
    "auto_movable": (x86("boot"),),
    "pluggable_end": (arm64("geometry"),),
    "pageblock_cap": (x86("boot", config={"page_block_max_order": 5}),),
    "isolate_mark": (x86("isolated"),),
    "node_notifier": (x86("node", stepped=True),),
    "new_node": (x86("node", stepped=True), x86("node_fails")),
    "zone_shrink": (x86("offline"),),
    "device_sections": (x86("shared_section"),),
    "section_usage": (x86("asked_while_removed", stepped=True),),
    "span_lock": (x86("life", stepped=True),),
    "zonelist_update": (x86("life", stepped=True),),
    "section_usage_null": (x86("asked_without_usage", stepped=True),),
    "online_page_usage": (x86("count", stepped=True),),
    "pgdat_reset": (x86("node", stepped=True),),
    "block_zone": (x86((step("offline", blocks=[0], expect="EINVAL"),)),),
    "block_nodes": (arm64("remove", given={"memblock_order": "memblock-first", "pfn_valid": "memblock"}),),
    "online_hwpoison": (
        x86((PLUG, step("poison", at="4G"), step("offline", at="4G", size="128M"), step("online", zone="movable"))),
    ),
    "node_poison_counts": (x86((PLUG, step("poison", at="4G"))),),
    "crash_hotplug": (x86("boot"),),
    "block_lock": (x86("life", stepped=True),),
    "create_failure_altmap": (x86("no_device", "6.1", config={"memmap_on_memory": "Y"}),),
    "devices_removed": (x86("remove", stepped=True),),
    "hotplugged_pages": (x86("going_online"),),
    "virtio_mem_sub_block": (x86((step("virtio-mem", size="2G", requested="1030M"),)),),
    "virtio_mem_movable_first": (
        x86(
            (
                step("virtio-mem", size="512M", at="8G", requested="512M"),
                step("online", blocks=[64, 65], zone="movable"),
                step("online", blocks=[66, 67], zone="kernel"),
                step("resize", to="256M"),
            )
        ),
    ),
    "virtio_mem_remove_errors": (x86("unremovable"),),
    "hv_hot_add_chunk": (x86((step("hv-add", size="2G", at="0x2000000000"),), config={"memory": "70G"}),),
    "hv_online_page": (x86((step("hv-add", size="128M"), step("plug", size="256M", online="movable"))),),
    "prepare_online": (x86("life", stepped=True),),
    "contig_hugetlb": (x86("gigantic"), x86("gigantic_among_huge")),
    "boot_block_nodes": (x86("shared_block"),),
    "kmem_group_size": (x86("kmem_group"),),
    "kmem_absent_ranges": (x86("kmem_of_two_ranges"),),
    "resource_split": (x86("split_resource"), x86("split_refused")),
    "boot_vmemmap": (x86("boot"),),
    "zonelist_local": (x86("node"),),
    "movable_watermark": (x86("offline"),),
    "mirror_lacking": (x86((), config={"memory": "6G", "boot": {"kernelcore": "mirror"}}),),
    "deferred_pages": (
        x86(
            (),
            config={
                "memory": [{"start": 0, "size": "5G", "mirrored": True}, {"size": "1G"}],
                "boot": {"kernelcore": "mirror"},
            },
        ),
    ),
    "lowmem_reserve": (
        x86(
            (step("virtio-mem", size="1G", requested="256M"), step("resize", to="200M")),
            config={"boot": {"memhp_default_state": "online_movable"}},
        ),
    ),
    "failed_add": (x86("no_section"),),
    "poisoned_offline": (
        x86(
            (
                step("plug", size="128M", at="4G", online="kernel"),
                step("allocate", kind="pinned", size="8K", at="4G", tag="dma"),
                step("poison", at="4G", expect="EBUSY"),
                step("poison", at="0x100001000", expect="EBUSY"),
                step("offline", at="4G"),
            )
        ),
    ),
    "bootmem_offline": (x86((step("offline", blocks=[9]),)),),
    "poison_lookup": (x86("poison", stepped=True),),
    "eject_undo": (
        x86(
            (
                step("plug", size="256M", at="4G"),
                step("online", zone="movable", at="0x108000000", size="128M"),
                step("online", zone="kernel", at="4G", size="128M"),
                step("allocate", kind="kernel", size="4K", at="4G", tag="slab"),
                step("eject", expect="EBUSY"),
            )
        ),
    ),
    "ram_released": (
        x86(
            (
                step("plug", size="128M", at="4G"),
                step("plug", size="128M", at="0x108000000"),
                step("remove", at="4G", size="256M"),
            )
        ),
    ),
    "unbound_memory": (x86((step("plug", size="256M", at="4G", fault=NOT_BOUND, expect="ENODEV"),)),),
    "kasan_table_freed": (riscv("life", config={**SELF_HOSTED, "kasan": True}),),
    "cancel_heard": (x86("node_refused", "7.2"), x86("last_memory_refused", "7.2")),
    "virtio_mem_zone_lock": (x86("big_blocks", stepped=True),),
    "virtio_mem_count_lock": (x86("sub_blocks", stepped=True),),
    "p2pdma_pgmap_freed": (x86("pool_taken_away", stepped=True),),
    "first_zone": (x86("movable_comes_first"),),
    "hv_backed_meanwhile": (x86("backed_meanwhile"),),
    "memory_group_freed": (x86("group_dropped", stepped=True),),
    "vmap_huge_lock": (x86("huge_over_small", stepped=True),),
    "ptdump_mmap_lock": (x86("dump", stepped=True),),
    "memmap_counters": (x86("boot"),),
    "dax_compound_pages": (x86(DEVDAX),),
    "pgmap_ref": (x86("pinned"),),
    "pgmap_free": (x86("private_without_methods"),),
    "pgmap_order": (x86("huger_pages"),),
    "page_init_ref": (x86("taken_late"),),
    "dax_evict": (x86("file_ends"),),
    "dax_locks": (x86("align_is_written", stepped=True),),
    "device_fault": (x86("locked_page_is_touched"),),
    "dax_regions": (x86("two_regions"),),
    "percpu_switch": (x86("altmap", stepped=True),),
    "pgmap_drain": (x86("altmap", stepped=True), x86("referenced")),
    "block_reference": (x86("poison", stepped=True),),
    "pfn_walk_lock": (x86("count", stepped=True),),
    "kmem_tells_truncation": (x86((step("dax", size="1000M", at="0x104000000", mode="kmem"),)),),
    "acpi_device_check": (
        x86(
            (step("plug", size="64M", expect="EINVAL"), step("plug", size="1G", at="8G")),
        ),
    ),
    "virtio_mem_sleep": (x86((step("virtio-mem", size="1G", requested="512M"), step("suspend"))),),
    "virtio_mem_unplugged_inaccessible": (x86("features"),),
    # Mistakes and their repair.
    "sysfs_lock": (x86("sysfs_write", stepped=True),),
    "table_recheck": (x86("area", stepped=True),),
    "zone_pfn": (x86("fix:memory_far_up_goes_online"),),
    "refused_removal": (x86("fix:online_memory_is_to_go"),),
    "node_removal": (x86("fix:first_block_of_a_node_goes"),),
    "node_span": (
        x86("fix:node_shrinks"),
        x86("fix:memory_beside_memory_never_online_goes", given=SHRINKS_ON_REMOVAL),
    ),
    "shrink_reads": (x86("fix:memory_never_online_goes", given=SHRINKS_ON_REMOVAL),),
    "early_usage": (x86("fix:boot_memory_goes_twice"),),
    "early_memmap": (x86("fix:part_of_a_boot_section_comes_back", config={"pse": False}),),
    "pcplists": (x86("offline_in_vain", stepped=True),),
    "isolate_ends": (
        x86("fix:gigantic_page_where_cma_begins"),
        x86(
            (
                step("plug", size="128M", at="4G", online="kernel"),
                step("allocate", kind="kernel", size="4K", at="0x100400000", tag="third pageblock"),
                step("allocate", kind="kernel", size="4K", at="0x107e00000", tag="last pageblock"),
                step("offline", at="4G", size="128M", expect="EBUSY"),
            )
        ),
    ),
    "poison_reference": (x86("fix:poisoned_block_goes"),),
    "removal_reference": (
        x86("fix:block_with_its_own_memmap_goes", config=SELF_HOSTED),
        x86("life", stepped=True, config=SELF_HOSTED),
    ),
    "block_altmap": (x86("fix:block_with_its_own_memmap_gets_no_device", config=SELF_HOSTED),),
    "proc_page": (x86("fix:offline_memory_is_counted"),),
    "poisoned_page": (x86("fix:offline_memory_goes_bad"),),
    "poison_pcp_lock": (x86("huge_page_goes_bad", stepped=True),),
    "unmapped_zone": (x86("fix:device_with_metadata_goes"),),
    "dax_metadata": (x86("fix:metadata_goes_bad"),),
    "kmem_failed_add": (x86("fix:kmem_memory_is_refused"),),
    "boot_tail": (x86("fix:page_behind_the_end_of_ram"),),
    "boot_links": (x86("fix:interleaved_nodes_boot"),),
    "region_intersects": (arm64("fix:device_over_memory_in_a_window"),),
    # What each architecture decides, and generic code asks.
    "vmemmap_leaves": (*every("life"), arm64("life", page=16), loongarch("life")),
    "vmemmap_fallback": (*every("scarce"), *every("scarce_altmap"), loongarch("scarce")),
    "altmap_fallback": (*every("short_altmap"), *every("scarce_altmap"), loongarch("short_altmap")),
    "page_table_section": (*every("life"), loongarch("life")),
    "ptdump_lock": (*every("dump", stepped=True), loongarch("dump")),
    "huge_vmalloc": (riscv("huge_area"), arm64("huge_area", "7.2"), x86("huge_area"), loongarch("huge_area")),
    "optimize_dax_vmemmap": (*every(DEVDAX), loongarch("large_pages", config={"struct_page_size": 64})),
    "virtio_mem": (*every("geometry"), loongarch("geometry")),
    # riscv and x86: root tables of processes, removal in one descent.
    "pgd_policy": (riscv("far"), riscv("far", given={"pgd_preallocated": ()}), x86("far")),
    "pgd_list": (riscv("fork", stepped=True), x86("fork", stepped=True)),
    "pgd_preallocated": (riscv("boot", config={"kasan": True}), x86("boot")),
    "vmalloc_fault": tuple(make("area", given={"pgd_policy": "none"}) for make in (riscv, x86)),
    "storage_freed": (
        riscv("life", stepped=True),
        arm64("life", stepped=True, given=LARGE),
        x86("life", stepped=True),
    ),
    "table_freed": (riscv("scarce_life", stepped=True), x86("scarce_life", stepped=True)),
    "table_ctor": (riscv("far_block", va_bits=57), arm64("far_block")),
    "table_dtor": (
        riscv("far_block", va_bits=57, given={"table_ctor": "all"}),
        arm64("far_block", given={"table_ctor": True}),
        x86("far_block", given={"split_ctor": True}),
    ),
    "split_ctor": (x86("far_block"),),
    "low_page_failure": (x86("no_tables"),),
    "leaf_flush": (riscv("life"), arm64("life"), x86("life")),
    "end_flush": (riscv("life"), arm64("life"), x86("life")),
    "mappable_range": (riscv("geometry"), arm64("geometry"), arm64("fix:memory_under_a_random_direct_map")),
    "vmemmap_altmap": (riscv("altmap"), arm64("altmap"), loongarch("altmap")),
    "vmemmap_check_pmd": (riscv("torn_section"), arm64("torn_section", given={"vmemmap_subsection": "same"})),
    "pte_table_flush": (arm64("life"), x86("scarce_life")),
    "remove_lock": (arm64("life", stepped=True, given=LARGE), x86("life", stepped=True)),
    "layout": (riscv("geometry"), riscv("fix:ram_starts_within_a_section"), arm64("geometry")),
    "max_pfn": (
        riscv("fix:lower_memory_comes_last"),
        arm64("fix:lower_memory_comes_last"),
        x86("fix:memory_of_a_device_comes"),
    ),
    # riscv
    "remove_extra_flush": (riscv("life"),),
    "add_flush": (riscv("life"), riscv("life", stepped=True)),
    "folded_levels": (riscv("life"),),
    "map_size": (riscv("boot"),),
    # LoongArch
    "vmemmap_free": (loongarch("life"),),
    # arm64
    "vmemmap_subsection": (arm64("part_of_a_section"),),
    "direct_map_leaves": (arm64("life"), arm64("life", config={"bbml2": True})),
    "free_empty_tables": (
        arm64("far_life"),
        arm64("scarce_life", va_bits=39),
        arm64("shared_table"),
    ),
    "remove_passes": (arm64("life", stepped=True, given=LARGE),),
    "bootmem_remove": (
        arm64((step("offline", blocks=[9], expect="EPERM"),)),
        arm64("large_leaves", config={"rodata_full": False}),
    ),
    "rodata_words": (arm64("rodata_on"),),
    "section_size": (arm64("geometry"),),
    "dma_zone": (arm64("limits"),),
    "pfn_valid": (
        arm64("remove_boot", given={**BY_PAGE, "bootmem_remove": "unchecked"}),
        arm64("remove", given=BY_PAGE),
    ),
    "linear_map_random": (arm64("shared_table"),),
    "present_invalid": (arm64("hide"),),
    "split_kernel_leaf": (arm64("protect", "7.2", config={"bbml2": True}),),
    "shared_table": (arm64("shared_table"),),
    "can_unmap_lock": (arm64("block_of_a_run", "7.2", stepped=True, page=16, config={"bbml2": True}),),
    "can_unmap_range": (arm64("life", "7.2", config=SELF_HOSTED),),
    "vmap_huge_with_ptdump": (arm64("huge_area"),),
    "vmemmap_populate": (arm64("life", page=16),),
    "create_may_fail": (arm64("no_tables"),),
    "create_lock": (arm64("life", stepped=True, given=LARGE),),
    "block_over_table": (arm64("twice", config={"rodata_full": False}),),
    "kernel_prot": (arm64("life"), arm64("uncached")),
    "table_attributes": (arm64("life"),),
    "range_flush": (arm64("life", config={"tlb_range": True}),),
    # x86
    "populate_lock": (x86("life", stepped=True),),
    "pud_free": (x86("huger_over_small", stepped=True),),
    "pud_free_flush": (x86("huger_over_two", "7.2", config={"tce": True}),),
    "vmemmap_root_entries": (
        x86(
            (step("new-process", process="old"), step("dax", at="0x200000000000", size="2G", mode="devdax", align="2M"))
        ),
    ),
    "cpa_lock": (x86("protect", stepped=True, config={"debug_pagealloc": True}),),
    "broadcast_flush": (x86("life", config={"invlpgb": True}),),
    "translation_cache_extension": (
        x86("huger_over_small", "7.2", stepped=True, config={"tce": True}),
        x86("huger_over_two", "7.2", config={"tce": True}),
    ),
    "block_size_advice": (x86("geometry", config={"memory_block_advice": 256 << 20}),),
    "vmemmap_partial_pmd": (x86("life", config={"struct_page_size": 56}),),
    "vmemmap_mark": (x86("fix:block_that_begins_within_a_leaf_goes", config={"struct_page_size": 56}),),
}
"""By choice; of an architecture's own the witnesses on that architecture count."""

RECORD_TYPES: tuple[type[Choices], ...] = (Profile, *RECORDS)


def witnesses(record: type[Choices], choice: str) -> list[Witness]:
    """What shows a choice of a record."""
    arch = getattr(record, "arch", None) if record is not Profile else None
    return [each for each in WITNESSES.get(choice, ()) if arch in (None, each.arch)]


def values(hint: Any) -> list[Any]:
    """Every value of a choice; of a selection none, each alone, and all."""
    known = options(hint)
    if not is_set(hint):
        return list(known)
    return list(dict.fromkeys([(), *combinations(known, 1), known]))


def choices() -> list[tuple[type[Choices], str]]:
    """Every choice of every record."""
    return [(record, name) for record in RECORD_TYPES for name, hint in hints(record).items() if options(hint)]
