"""Fixes in generic memory hotplug: mm/memory_hotplug.c, mm/sparse*.c, mm/memremap.c, mm/page_isolation.c and their kin.

Those of kernels before 5.13 are in `fix_table_old`.

Titles and point releases are those of the stable series' changelogs. The first release with a fix is told by pull
requests, and by when stable series took it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.claims import fix_witnesses, fix_witnesses_memory
from memhp.claims.fix import Called, Fix, Raced, Rehearsed
from memhp.explore.cases import (
    block_online_vs_device,
    hotadd_allocation_failure,
    pfn_valid_vs_remove,
    ptdump_vs_hot_remove,
    ptdump_vs_vmalloc_huge,
)
from memhp.linux.release import since

INSIDE = "what it mends leaves no trace in what is modelled"
SELF_HOSTED = {"memmap_on_memory": "Y"}
UNCOUNTED = "that count is not modelled"
POISONED = (
    {"do": "plug", "size": "1G", "at": "8G", "online": "movable"},
    {"do": "poison", "at": "8G"},
    {"do": "offline", "at": "8G", "size": "128M"},
    {"do": "online", "at": "8G", "size": "128M", "zone": "movable", "expect": "EHWPOISON"},
)

HOTPLUG: tuple[Fix, ...] = (
    Fix(
        since("5.15", True, 'mm/memory_hotplug: use "unsigned long" for PFN in zone_for_pfn_range()', ("5.14.6",)),
        "Memory above 16 TiB of 4K pages goes to the zone of the memory 16 TiB below it: ZONE_DMA32, say.",
        "shown",
        witness=Called(
            fix_witnesses_memory.memory_far_up_goes_online, "x86_64", {"zone_pfn": "32-bit"}, {"zone_pfn": "64-bit"}
        ),
    ),
    Fix(
        since("5.19", True, "mm/memremap: fix missing call to untrack_pfn() in pagemap_range()", ("5.18.3",)),
        "A device mapping that fails leaves an entry in x86's list of memory types.",
        "not modelled",
        "x86's list of memory types is not",
    ),
    Fix(
        since("5.19", True, "mm: sparsemem: fix missing higher order allocation splitting", ("5.18.13",)),
        "Pages behind a large vmemmap leaf cannot be freed one by one: a bad page, or a leak.",
        "not modelled",
        "allocations here can always be freed in parts",
        broken_since="5.18",
    ),
    Fix(
        since("6.0", True, "mm: pagewalk: Fix race between unmap and page walker", ("5.19.8",)),
        "The page-table dump reads tables that vmap frees at the same time.",
        "not modelled",
        "the race of the dump with huge vmap needs the other side's lock as well",
    ),
    Fix(
        since("6.1", True, "mm/memremap.c: map FS_DAX device memory as decrypted", ("6.0.9",)),
        "x86-64 with encrypted memory: what a file system writes to pmem cannot be read after a reboot.",
        "not modelled",
        "encryption of memory is not",
    ),
    Fix(
        since(
            "6.0",
            True,
            "mm/memremap: fix memunmap_pages() race with get_dev_pagemap()",
            ("5.15.61", "5.18.18", "5.19.2"),
        ),
        "Who looks up a page of a device whose driver goes counts in a per-CPU counter that was freed.",
        "not reachable",
        "percpu_ref_kill() marks the count as dead before it, and the switch to atomic, whose reference is waited for, "
        "lets an RCU grace period pass: whoever looks later does not touch the counter",
        broken_since="5.10",
    ),
    Fix(
        since("6.0", True, "mm/page_isolation: fix isolate_single_pageblock() isolation behavior", ("5.19.14",)),
        "Wanting a gigantic page takes pageblocks from CMA for good, though there is none to be had.",
        "shown",
        broken_since="5.19",
        witness=Called(
            fix_witnesses.gigantic_page_where_cma_begins,
            "x86_64",
            {"isolate_ends": "own-type"},
            {"isolate_ends": "wanted-type"},
        ),
    ),
    Fix(
        since("6.2", True, "mm/hwpoison: introduce per-memory_block hwpoison counter"),
        "A block with a bad page goes online again after offline, and the page is used.",
        "shown",
        witness=Rehearsed({"preset": "x86-vm", "memory": "2G"}, POISONED, {"profile": "6.1"}, {"profile": "6.2"}),
    ),
    Fix(
        since(
            "6.7",
            True,
            "mm/memory_hotplug: use pfn math in place of direct struct page manipulation",
            ("6.1.64", "6.5.13"),
        ),
        "Without a virtual memmap, offlining steps off the end of a section's struct pages.",
        "not reachable",
        "all builds here have SPARSEMEM_VMEMMAP",
    ),
    Fix(
        since("6.7", True, "mm/memory_hotplug: add missing mem_hotplug_lock", ("6.1.72",)),
        "A block that hosts its own struct pages goes online while a device is bound: the node's span gets lost.",
        "shown",
        broken_since="5.13",
        witness=Raced(
            block_online_vs_device.CASE,
            ("pages-locked", "x86_64-4K-48-linux-6.6"),
            ("block-locked", "x86_64-4K-48-linux-6.12"),
        ),
    ),
    Fix(
        since("6.7", True, "mm/memory_hotplug: fix error handling in add_memory_resource()", ("6.1.72",)),
        "A block that hosts its own struct pages and gets no device frees them to the buddy, as RAM: a BUG.",
        "shown",
        broken_since="5.13",
        witness=Raced(
            hotadd_allocation_failure.CASE,
            ("altmap-forgotten", "arm64-4K-48-linux-5.13"),
            ("memmap-on-memory", "arm64-4K-48-linux-7.2"),
        ),
    ),
    Fix(
        since("6.8", True, "mm/sparsemem: fix race in accessing memory_section->usage", ("6.1.76", "6.6.15")),
        "Who asks pfn_valid() while a section goes reads a usage map that is freed.",
        "shown",
        witness=Raced(
            pfn_valid_vs_remove.CASE,
            ("freed-at-once", "x86_64-4K-48-linux-6.12"),
            ("grace-period", "x86_64-4K-48-linux-6.12"),
        ),
    ),
    Fix(
        since(
            "6.10",
            True,
            "mm: prevent derefencing NULL ptr in pfn_section_valid()",
            ("6.1.100", "6.6.41", "6.9.10"),
        ),
        "Who asks pfn_valid() while a section goes follows the NULL in place of its usage map.",
        "shown",
        broken_since="6.8",
        witness=Raced(
            pfn_valid_vs_remove.CASE,
            ("null-not-tested", "x86_64-4K-48-linux-6.12"),
            ("grace-period", "x86_64-4K-48-linux-6.12"),
        ),
    ),
    Fix(
        since("6.14", True, "mm: memory-hotplug: check folio ref count first in do_migrate_range", ("6.12.19",)),
        "Offlining works on a folio that is freed under it.",
        "not modelled",
        "folios have no references of their own here",
    ),
    Fix(
        since(
            "6.14",
            True,
            "hwpoison, memory_hotplug: lock folio before unmap hwpoisoned folio",
            ("6.1.140", "6.12.19"),
        ),
        "Offlining a block with a bad page trips over an assertion.",
        "not modelled",
        "folio locks are not",
    ),
    Fix(
        since(
            "6.17",
            True,
            "mm/memory_hotplug: fix hwpoisoned large folio handling in do_migrate_range()",
            ("6.12.86",),
        ),
        "Offlining a block with a bad page in a large folio unmaps the wrong page.",
        "not modelled",
        "bad pages are single here",
    ),
    Fix(
        since("6.17", True, "mm/ptdump: take the memory hotplug lock inside ptdump_walk_pgd()", ("6.1.149", "6.12.43")),
        "Reading the page-table dump while memory is removed follows freed tables.",
        "shown",
        witness=Raced(
            ptdump_vs_hot_remove.CASE,
            ("no-lock", "x86_64-4K-48-linux-6.12"),
            ("hotplug-lock", "x86_64-4K-48-linux-6.12"),
        ),
    ),
    Fix(
        since("7.2", True, "mm/vmalloc: acquire init_mm lock on huge vmap to avoid ptdump UAF", ("6.12.105",)),
        "Reading the page-table dump while a huge area is mapped follows a freed table.",
        "shown",
        witness=Raced(
            ptdump_vs_vmalloc_huge.CASE,
            ("no-lock", "riscv64-4K-48-linux-7.2"),
            ("init-mm-lock", "riscv64-4K-48-linux-7.2"),
        ),
    ),
    Fix(
        since("7.1", True, "mm/memory_hotplug: fix memory block reference leak on remove", ("6.12.92",)),
        "The device of a block that hosts its own struct pages is never freed.",
        "shown",
        broken_since="6.8",
        witness=Called(
            fix_witnesses_memory.block_with_its_own_memmap_goes,
            "x86_64",
            {"removal_reference": "kept"},
            {"removal_reference": "put"},
            options=SELF_HOSTED,
        ),
    ),
    Fix(
        since("7.2", True, "mm/memory_hotplug: fix incorrect altmap passing in error path", ("6.12.97",)),
        "A block that hosts its own struct pages and gets no device frees them to the buddy, as RAM: a BUG.",
        "shown",
        broken_since="6.8",
        witness=Called(
            fix_witnesses_memory.block_with_its_own_memmap_gets_no_device,
            "x86_64",
            {"create_failure_altmap": "forgotten"},
            {"create_failure_altmap": "passed"},
            options=SELF_HOSTED,
        ),
    ),
    Fix(
        since("7.2", True, "mm/mm_init: fix uninitialized struct pages for ZONE_DEVICE", ("6.12.97",)),
        "Struct pages at the edge of a device's memory hold what was there before.",
        "not modelled",
        INSIDE,
    ),
    Fix(
        since("7.2", True, "mm/mm_init: fix pageblock migratetype for ZONE_DEVICE compound pages", ("6.12.101",)),
        "Pageblocks of a device's memory keep no migrate type.",
        "not modelled",
        INSIDE,
    ),
    Fix(
        since("6.17", True, "mm: fix accounting of memmap pages", ("6.12.46",)),
        "nr_memmap and nr_memmap_boot in /proc/vmstat mistake whose struct pages are allocated and freed.",
        "not modelled",
        UNCOUNTED,
        broken_since="6.11",
    ),
    Fix(
        since("7.2", True, "mm/sparse-vmemmap: fix vmemmap accounting underflow", ("6.12.101",)),
        "nr_memmap in /proc/vmstat wraps around.",
        "not modelled",
        UNCOUNTED,
        broken_since="6.11",
    ),
    Fix(
        since("7.2", True, "mm/sparse-vmemmap: fix DAX vmemmap accounting with optimization", ("6.12.101",)),
        "nr_memmap in /proc/vmstat is too high with device-dax of large pages.",
        "not modelled",
        UNCOUNTED,
        broken_since="6.11",
    ),
    Fix(
        since(
            "6.13",
            True,
            "mm/page_alloc: don't call pfn_to_page() on possibly non-existent PFN in split_large_buddy()",
            ("6.12.7",),
        ),
        "Freeing the last pages of memory looks at a struct page beyond its end.",
        "not reachable",
        "all builds here have SPARSEMEM_VMEMMAP, where the address alone harms nobody",
    ),
    Fix(
        since("6.3", True, "mm: page_alloc: skip regions with hugetlbfs pages when allocating 1G pages", ("6.1.26",)),
        "Allocating a gigantic page moves other huge pages, and takes very long or fails.",
        "shown",
        witness=Called(
            fix_witnesses.gigantic_page_among_huge_ones,
            "x86_64",
            {"contig_hugetlb": "first-pass"},
            {"contig_hugetlb": "never"},
        ),
    ),
    Fix(
        since("6.8", True, "mm/memory_hotplug: fix memmap_on_memory sysfs value retrieval", ("6.6.13",)),
        "The parameter memmap_on_memory reads as N whatever it is.",
        "not reachable",
        "only big-endian kernels take an int for a bool wrongly",
        broken_since="6.6",
    ),
    Fix(
        since("7.2", True, "mm/ptdump: always stabilise against page table freeing using init_mm", ("6.12.105",)),
        "Reading the page-table dump of another address space follows tables of the kernel that are freed.",
        "not modelled",
        "only the dump of init_mm is modelled",
    ),
    Fix(
        since("7.2", True, "mm/mm_init: handle alloc_percpu failure in free_area_init_core_hotplug", ("6.12.110",)),
        "A new node for whose counters there was no memory is used without them: an oops.",
        "not modelled",
        "counters of nodes take no memory of their own here",
    ),
)
