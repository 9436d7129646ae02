"""Fixes in the drivers of hotplug and in architectures: drivers/base, virtio_mem, dax, acpi; arm64, riscv, x86.

As in :mod:`memhp.claims.fix_table`.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.claims import fix_witnesses, fix_witnesses_devices, fix_witnesses_memory, page_table_counts
from memhp.claims.fix import Called, Fix, Rehearsed
from memhp.linux.release import since

DEVICE_MAX_PFN = (
    "x86/mm/init: Handle the special case of device private pages in add_pages(), to not increase max_pfn and trigger "
    "dma_addressing_limited() bounce buffers"
)

FAR_DAX = (
    {"do": "new-process", "process": "old"},
    {"do": "dax", "at": "0x200000000000", "size": "2G", "mode": "devdax", "align": "2M"},
)
SEEN_BY_OLD = Rehearsed({"preset": "x86-vm", "memory": "2G"}, FAR_DAX, {"profile": "6.12.47"}, {"profile": "6.12.48"})
REFERENCES = "references to devices are taken as each kernel should take them"

REMOVE_ERRORS = ({"virtio_mem_remove_errors": "given-up"}, {"virtio_mem_remove_errors": "retried"})

DRIVERS: tuple[Fix, ...] = (
    Fix(
        since("5.3", True, "device-dax: fix memory and resource leak if hotplug fails", ("5.2.7",)),
        "A dax device whose memory could not be added keeps its range for good.",
        "shown",
        witness=Called(
            fix_witnesses_devices.kmem_memory_is_refused,
            "x86_64",
            {"kmem_failed_add": "kept"},
            {"kmem_failed_add": "released"},
        ),
    ),
    Fix(
        since(
            "5.4",
            True,
            "drivers/base/memory.c: don't access uninitialized memmaps in soft_offline_page_store()",
            ("5.3.8",),
        ),
        "Writing an address of offline memory to soft_offline_page is an oops.",
        "not modelled",
        "soft offlining is not",
    ),
    Fix(
        since("5.6", True, "drivers/base/memory.c: indicate all memory blocks as removable", ("5.5.14",)),
        "Tools read `removable`, which walks struct pages without a lock, and believe it.",
        "not modelled",
        "the file is not",
    ),
    Fix(
        since("5.11", True, "device-dax: Fix range release", ("5.10.5",)),
        "Removing a range of a dax device removes the others as well.",
        "not modelled",
        "ranges come and go with their device here",
    ),
    Fix(
        since("5.12", True, "drivers/base/memory: don't store phys_device in memory blocks", ("5.10.24",)),
        "phys_device tells a number that means nothing outside s390.",
        "not modelled",
        "the file is not",
    ),
    Fix(
        since(
            "5.19",
            True,
            "drivers/base/memory: fix an unlikely reference counting issue in __add_memory_block()",
            ("5.18.3",),
        ),
        "A block that does not get into the index is put once too often.",
        "not modelled",
        REFERENCES,
    ),
    Fix(
        since("5.19", True, "drivers/base/node.c: fix compaction sysfs file leak", ("5.18.3",)),
        "A node that goes leaves its compact file behind.",
        "not modelled",
        "the file is not",
    ),
    Fix(
        since("6.3", True, "dax/kmem: Fix leak of memory-hotplug resources", ("6.1.16",)),
        "After kmem is unbound its child resource stays, and the range cannot be used again.",
        "not modelled",
        "every kernel here releases it",
    ),
    Fix(
        since("6.5", True, "dax: Fix dax_mapping_release() use after free", ("6.1.39",)),
        "Unbinding a dax device frees what the last of its mappings in sysfs still needs.",
        "not modelled",
        "those directories of sysfs are not",
    ),
    Fix(
        since("6.5", True, "dax/kmem: Pass valid argument to memory_group_register_static", ("6.1.39",)),
        "The memory group of a dax device may have as many pages as the device has bytes: auto-movable miscounts.",
        "shown",
        broken_since="5.15",
        witness=Called(fix_witnesses.kmem_group, "x86_64", {"kmem_group_size": "bytes"}, {"kmem_group_size": "pages"}),
    ),
    Fix(
        since("6.6", True, "virtio-mem: keep retrying on offline_and_remove_memory() errors in Sub Block Mode (SBM)"),
        "A block that is unplugged, but could not be removed, stays for good.",
        "shown",
        witness=Called(fix_witnesses.virtio_mem_sub_blocks_stuck, "x86_64", *REMOVE_ERRORS),
    ),
    Fix(
        since("6.6", True, "virtio-mem: convert most offline_and_remove_memory() errors to -EBUSY"),
        "An error of a notifier ends virtio-mem's work on the device.",
        "shown",
        witness=Called(fix_witnesses.virtio_mem_big_blocks_stuck, "x86_64", *REMOVE_ERRORS),
    ),
    Fix(
        since("6.6", True, "virtio-mem: remove unsafe unplug in Big Block Mode (BBM)"),
        "With bbm_safe_unplug off, memory is offlined for ever while it is in use.",
        "not modelled",
        "the parameter is not: its default is what is left",
    ),
    Fix(
        since("6.12", True, "device-dax: correct pgoff align in dax_set_mapping()", ("6.1.113", "6.11.4")),
        "A memory error in a dax device kills by a wrong address.",
        "not modelled",
        "mappings of device-dax by processes are not",
    ),
    Fix(
        since("6.12", True, "resource: fix region_intersects() vs add_memory_driver_managed()", ("6.1.113", "6.11.3")),
        "RAM below a device's own resource is not seen as RAM: a device mapping over it takes its direct map away.",
        "shown",
        witness=Called(
            fix_witnesses_devices.device_over_memory_in_a_window,
            "arm64",
            {"region_intersects": "top-level"},
            {"region_intersects": "descends"},
        ),
    ),
    Fix(
        since(
            "6.18",
            True,
            "drivers/base/node: handle error properly in register_one_node()",
            ("6.1.156", "6.12.53"),
        ),
        "A new node whose device could not be made is used as if it had one.",
        "not modelled",
        "that failure is a BUG here until 7.2, as add_memory_resource() has it",
    ),
    Fix(
        since("6.18", True, "drivers/base/node: fix double free in register_one_node()", ("6.1.156", "6.12.53")),
        "The same failure frees the node's device twice.",
        "not modelled",
        REFERENCES,
    ),
    Fix(
        since("7.1", True, "drivers/base/memory: fix memory block reference leak in poison accounting", ("6.12.92",)),
        "A block that ever had a bad page is never freed.",
        "shown",
        broken_since="6.2",
        witness=Called(
            fix_witnesses_memory.poisoned_block_goes,
            "x86_64",
            {"poison_reference": "kept"},
            {"poison_reference": "put"},
        ),
    ),
    Fix(
        since(
            "7.2",
            True,
            "drivers/base/memory: set mem->altmap after successful device registration",
            ("6.12.95", "7.1.2"),
        ),
        "A block that hosts its own struct pages and gets no device is a WARNING.",
        "shown",
        broken_since="6.8",
        witness=Called(
            fix_witnesses_memory.block_with_its_own_memmap_gets_no_device,
            "x86_64",
            {"block_altmap": "before-registration"},
            {"block_altmap": "after-registration"},
            options={"memmap_on_memory": "Y"},
        ),
    ),
    Fix(
        since("7.2", True, "dax/kmem: account for partial discontiguous resource upon removal", ("6.12.97",)),
        "Unbinding kmem from a device of several ranges, one of which had failed, trips over it.",
        "shown",
        witness=Called(
            fix_witnesses.kmem_without_a_range,
            "x86_64",
            {"kmem_absent_ranges": "removed"},
            {"kmem_absent_ranges": "passed-over"},
        ),
    ),
)

ARCHITECTURES: tuple[Fix, ...] = (
    Fix(
        since("5.12", True, "arm64/mm: Fix pfn_valid() for ZONE_DEVICE based memory", ("5.10.24",)),
        "arm64: pfn_valid() denies the struct pages of device memory, so that nobody can use it.",
        "shown",
        witness=Called(
            fix_witnesses.page_of_a_device_is_invalid,
            "arm64",
            {"pfn_valid": "memblock"},
            {"pfn_valid": "memblock-if-early"},
        ),
    ),
    Fix(
        since("5.10", True, "arm64/mm: Validate hotplug range before creating linear mapping", ("5.9.9",)),
        "arm64: memory beyond what the direct map can hold is mapped somewhere else.",
        "shown",
        witness=Called(
            fix_witnesses_memory.memory_where_none_can_be_mapped,
            "arm64",
            {"mappable_range": "everything", "pluggable_end": "none"},
            {"mappable_range": "direct-map", "pluggable_end": "MAX_PHYSMEM_BITS"},
        ),
    ),
    Fix(
        since("5.12", True, "arm64: mm: correct the inside linear map range during hotplug check", ("5.10.28",)),
        "arm64 with KASLR: where the direct map starts below address 0, all memory that is added is refused.",
        "shown",
        witness=Called(
            fix_witnesses_memory.memory_under_a_random_direct_map,
            "arm64",
            {"mappable_range": "direct-map-unless-it-wraps"},
            {"mappable_range": "direct-map"},
        ),
        broken_since="5.10",
    ),
    Fix(
        since("5.12", True, "arm64: mte: Map hotplugged memory as Normal Tagged", ("5.10.24",)),
        "arm64: hot-added memory has no tags; programs with MTE fault.",
        "not modelled",
        "kernels before 5.13 are modelled as far as mail series stand on them",
    ),
    Fix(
        since(
            "5.18",
            True,
            "arm[64]/memremap: don't abuse pfn_valid() to ensure presence of linear map",
            ("5.17.9",),
        ),
        "arm64: a reserved area that is not in the direct map is taken for mapped.",
        "not modelled",
        "memremap() by firmware's drivers is not",
    ),
    Fix(
        since("6.3", True, "arm64: mm: hugetlb: Disable HUGETLB_PAGE_OPTIMIZE_VMEMMAP", ("6.1.16",)),
        "arm64: changing live vmemmap entries without break-before-make.",
        "not modelled",
        "the option is off on arm64 here",
    ),
    Fix(
        since(
            "6.11",
            True,
            "x86/kaslr: Expose and use the end of the physical memory address space",
            ("6.1.110", "6.10.10"),
        ),
        "x86 with KASLR: memory that the direct map does not reach is mapped in the vmalloc area.",
        "shown",
        witness=Called(
            fix_witnesses_memory.memory_behind_a_short_direct_map,
            "x86_64",
            {"pluggable_end": "MAX_PHYSMEM_BITS"},
            {"pluggable_end": "PHYSMEM_END"},
            options={"bases": fix_witnesses_memory.SHORT},
        ),
    ),
    Fix(
        since("6.13", True, "arm64: mm: Fix zone_dma_limit calculation", ("6.12.5",)),
        "arm64: allocations for DMA come from ZONE_DMA where any memory would do.",
        "not modelled",
        "the limit of DMA is only read for the zones, which were right",
        broken_since="6.12",
    ),
    Fix(
        since(
            "6.14", True, "arm64: mm: Populate vmemmap at the page level if not section aligned", ("6.1.132", "6.12.20")
        ),
        "arm64: removing part of a section takes struct pages of the rest of it away.",
        "shown",
        witness=Called(
            fix_witnesses.part_of_a_section_goes,
            "arm64",
            {"vmemmap_subsection": "same"},
            {"vmemmap_subsection": "base"},
        ),
    ),
    Fix(
        since("6.15", True, "arm64: mm: Correct the update of max_pfn", ("6.1.135", "6.12.24")),
        "arm64: adding memory below the highest lowers max_pfn; /proc/kpagecount ends there. riscv64 still does so.",
        "shown",
        witness=Called(
            fix_witnesses_memory.lower_memory_comes_last, "arm64", {"max_pfn": "last-added"}, {"max_pfn": "highest"}
        ),
    ),
    Fix(
        since("6.15", True, DEVICE_MAX_PFN, ("6.1.141", "6.12.31")),
        "x86-64: a GPU's memory raises max_pfn, so that devices of fewer address bits use bounce buffers: slow DMA.",
        "shown",
        witness=Called(
            fix_witnesses_memory.memory_of_a_device_comes, "x86_64", {"max_pfn": "always"}, {"max_pfn": "unless-device"}
        ),
    ),
    Fix(
        since("7.1", True, "arm64: mm: call pagetable dtor when freeing hot-removed page tables", ("6.18.36",)),
        "arm64: PageTables goes on counting what removal freed; a bad page with DEBUG_VM before 6.17.",
        "shown",
        broken_since="6.16",
        witness=Called(page_table_counts.kept, "arm64", {"table_dtor": "none"}, {"table_dtor": "all"}, release="7.2"),
    ),
    Fix(
        since("6.13", True, "riscv: mm: Do not call pmd dtor on vmemmap page table teardown", ("6.12.6",)),
        "riscv64: removing memory takes a table's lock that was never made: an oops.",
        "shown",
        broken_since="6.11",
        witness=Called(page_table_counts.breached, "riscv64", {"table_dtor": "pte-pmd"}, {"table_dtor": "pte-own-pmd"}),
    ),
    Fix(
        since("6.8", True, "riscv: Sparse-Memory/vmemmap out-of-bounds fix", ("6.7.9",)),
        "riscv64: where RAM starts high, struct pages lie outside the vmemmap area.",
        "shown",
        witness=Called(fix_witnesses_memory.ram_starts_high, "riscv64", {"layout": "6.4"}, {"layout": "6.8"}),
    ),
    Fix(
        since("6.13", True, "riscv: mm: Fix the out of bound issue of vmemmap address", ("6.12.10",)),
        "riscv64: where RAM starts within a section, struct pages of what is before it lie outside the vmemmap.",
        "shown",
        broken_since="6.8",
        witness=Called(
            fix_witnesses_memory.ram_starts_within_a_section, "riscv64", {"layout": "6.8"}, {"layout": "6.13"}
        ),
    ),
    Fix(
        since("7.2", True, "riscv: mm: Fix out-of-bounds page-table walk during memory hot-remove", ("6.12.103",)),
        "riscv64: removal walks past the end of a page table, and finds nothing to remove.",
        "shown",
        broken_since="6.11",
        witness=Rehearsed(
            {"preset": "riscv-vm", "va_bits": 39},
            ({"do": "plug", "size": "128M", "online": "movable"}, {"do": "unplug"}),
            {"profile": "6.12", "choices": {"folded_levels": "indexed"}},
            {"profile": "6.12", "choices": {"folded_levels": "skipped"}},
        ),
    ),
    Fix(
        since("7.1", True, "arm64/mm: Enable batched TLB flush in unmap_hotplug_range()", ("6.1.176", "6.12.86")),
        "arm64: removing 1 GiB of 4K pages broadcasts 262144 invalidations: removal takes very long.",
        "shown",
        broken_since="5.7",
        witness=Called(
            fix_witnesses.flushes_of_removal,
            "arm64",
            {"leaf_flush": "each-page", "end_flush": "none"},
            {"leaf_flush": "each-range-of-vmemmap", "end_flush": "direct-map-range"},
        ),
    ),
    Fix(
        since("7.2", True, "arm64/mm: Optimize TLB flush in unmap_hotplug_[pmd|pud]_range()", ("6.12.97",)),
        "arm64: one invalidation for each page that a leaf of the vmemmap maps, where one would do.",
        "shown",
        broken_since="5.7",
        witness=Called(
            fix_witnesses.flushes_of_a_leaf,
            "arm64",
            {"leaf_flush": "each-range-of-vmemmap", "end_flush": "direct-map-range"},
            {"leaf_flush": "each-page-of-vmemmap", "end_flush": "direct-map-range"},
        ),
    ),
    Fix(
        since(
            "6.17",
            True,
            "x86/mm/64: define ARCH_PAGE_TABLE_SYNC_MASK and arch_sync_kernel_mappings()",
            ("6.1.151", "6.12.46"),
        ),
        "x86-64: struct pages of far memory are unknown to processes that were there before: an oops.",
        "shown",
        broken_since="5.19",
        witness=SEEN_BY_OLD,
    ),
    Fix(
        since("6.17", True, "mm: introduce and use {pgd,p4d}_populate_kernel()", ("6.1.153", "6.12.48")),
        "x86-64: the same; it is the other half of that fix.",
        "shown",
        broken_since="5.19",
        witness=SEEN_BY_OLD,
    ),
)
