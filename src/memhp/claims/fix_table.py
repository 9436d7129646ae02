"""Fixes in generic memory hotplug: mm/memory_hotplug.c, mm/sparse*.c, mm/memremap.c, mm/page_isolation.c and their kin.

Titles and point releases are those of the stable series' changelogs. Where `between` stands, no source at hand tells
the first release with a fix, only that the one does not have it and the other does.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.claims import fix_witnesses
from memhp.claims.fix import Called, Fix, Raced, Rehearsed
from memhp.explore.cases import (
    hotadd_allocation_failure,
    memblock_order,
    pagemap_lookup_vs_unmap,
    pfn_valid_vs_remove,
    ptdump_vs_hot_remove,
    ptdump_vs_vmalloc_huge,
)
from memhp.linux.release import between, since

INSIDE = "what it mends leaves no trace in what is modelled"
UNCOUNTED = "that count is not modelled"
POISONED = (
    {"do": "plug", "size": "1G", "at": "8G", "online": "movable"},
    {"do": "poison", "at": "8G"},
    {"do": "offline", "at": "8G", "size": "128M"},
    {"do": "online", "at": "8G", "size": "128M", "zone": "movable", "expect": "EHWPOISON"},
)

HOTPLUG: tuple[Fix, ...] = (
    Fix(
        between("5.2", "5.3", True, "mm/devm_memremap_pages: fix final page put race"),
        "Unbinding a device while its pages are looked up frees struct pages that are still in use.",
        "shown",
        witness=Raced(
            pagemap_lookup_vs_unmap.CASE,
            ("kill-only", "arm64-4K-48-linux-5.13"),
            ("generic", "arm64-4K-48-linux-6.12"),
        ),
    ),
    Fix(
        between("5.2", "5.4", True, "mm/hotplug: reorder memblock_[free|remove]() calls in try_remove_memory()"),
        "Where pfn_valid() asks memblock, removal leaves links of block devices, and the next addition is a BUG.",
        "shown",
        witness=Raced(
            memblock_order.CASE,
            ("memblock-first", "arm64-4K-48-arm64-hotremove-v6"),
            ("arch-first", "arm64-4K-48-arm64-hotremove-v6"),
        ),
    ),
    Fix(
        between("5.2", "5.4", True, "mm/memory_hotplug: fix try_offline_node()", ("5.3.12",)),
        "A node stays online after its last memory went, or goes offline while a block of it is there.",
        "not modelled",
        "only the order since is: by block and by span",
    ),
    Fix(
        between(
            "5.2",
            "5.4",
            True,
            "mm/memory_hotplug: don't access uninitialized memmaps in shrink_pgdat_span()",
            ("5.3.13",),
        ),
        "Removal of memory that never was online reads struct pages that were never initialised: an oops.",
        "not modelled",
        "kernels that shrink on removal are modelled with zones that they can trust",
    ),
    Fix(
        between("5.2", "5.4", True, "mm/memory_hotplug: fix updating the node span", ("5.3.13",)),
        "A node's span goes wrong when its memory is removed out of order.",
        "not modelled",
        "the span is always worked out from the zones, as since",
    ),
    Fix(
        between("5.3", "5.5", True, "mm/memory_hotplug: shrink zones when offlining memory", ("5.4.9",)),
        "Removal of memory trusts zone links of pages that were never online, and shrinks the wrong zone.",
        "not modelled",
        "both orders are (choice zone_shrink), not pages with stale zone links",
    ),
    Fix(
        between(
            "5.4",
            "5.6",
            True,
            "mm/memory_hotplug: don't free usage map when removing a re-added early section",
            ("5.4.14",),
        ),
        "Boot memory that was removed, added and removed again frees what the slab never gave: a BUG.",
        "not modelled",
        "mem_section_usage takes no memory of its own here",
    ),
    Fix(
        between("5.4", "5.6", True, "mm/sparse.c: reset section's mem_map when fully deactivated", ("5.4.19",)),
        "Crash dumps walk struct pages of removed sections.",
        "not modelled",
        "the address in section_mem_map is not kept",
    ),
    Fix(
        between("5.4", "5.6", True, "mm/memory_hotplug: fix remove_memory() lockdep splat", ("5.4.19",)),
        "lockdep reports that removal waits under mem_hotplug_lock for users of a block's files, who take it.",
        "not reachable",
        "state_store() has device_hotplug_lock before it asks for the other, and starts again where removal has that",
    ),
    Fix(
        between("5.5", "5.7", True, "mm/sparse: fix kernel crash with pfn_section_valid check", ("5.5.14",)),
        "pfn_valid() of a section whose usage map went follows a null pointer.",
        "not modelled",
        "mem_section_usage is no pointer here",
        broken_since="5.5",
    ),
    Fix(
        between("5.7", "5.9", True, "mm/memory_hotplug.c: fix false softlockup during pfn range removal", ("5.7.7",)),
        "Removing much memory logs a soft lockup.",
        "not modelled",
        "nothing here is said of how long a loop runs",
    ),
    Fix(
        between("5.7", "5.9", True, "mm/memory_hotplug: fix unpaired mem_hotplug_begin/done", ("5.7.17",)),
        "An addition that fails early releases a lock that it never took.",
        "not modelled",
        "kernels before 5.13 are modelled as far as mail series stand on them",
    ),
    Fix(
        between("5.8", "5.10", True, "mm/memory_hotplug: drain per-cpu pages again during memory offline", ("5.8.11",)),
        "Offlining waits for ever for pages that wait on a CPU's free list.",
        "not modelled",
        "CPUs' own lists of free pages are not",
    ),
    Fix(
        between("5.10", "5.13", True, "mm/sparse: add the missing sparse_buffer_fini() in error branch", ("5.10.37",)),
        "A boot that runs short of memory for struct pages loses what is left of the buffer for them.",
        "not modelled",
        "the buffer is always given back, as since",
    ),
    Fix(
        since("5.12", True, "mm: teach pfn_to_online_page() about ZONE_DEVICE section collisions"),
        "Who goes from page to page takes a device's pages for RAM where a section has both.",
        "shown",
        witness=Called(
            fix_witnesses.page_of_a_device_is_online,
            "x86_64",
            {"device_sections": "untold"},
            {"device_sections": "told"},
        ),
    ),
    Fix(
        since("5.12", True, "mm/memory_hotplug: prevalidate the address range being added with platform"),
        "Memory beyond what the direct map can hold is added, and its mapping wraps around.",
        "not modelled",
        "both are (choice pluggable_end), but no address beyond the tables is mapped",
    ),
    Fix(
        between(
            "5.14", "5.16", True, 'mm/memory_hotplug: use "unsigned long" for PFN in zone_for_pfn_range()', ("5.14.6",)
        ),
        "Memory above 8 TiB of 4K pages goes to the wrong zone.",
        "not modelled",
        "numbers do not overflow here",
    ),
    Fix(
        between("5.18", "6.0", True, "mm/memremap: fix missing call to untrack_pfn() in pagemap_range()", ("5.18.3",)),
        "A device mapping that fails leaves an entry in x86's list of memory types.",
        "not modelled",
        "x86's list of memory types is not",
    ),
    Fix(
        between("5.18", "6.0", True, "mm: sparsemem: fix missing higher order allocation splitting", ("5.18.13",)),
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
        since("6.2", True, "mm/hwpoison: introduce per-memory_block hwpoison counter"),
        "A block with a bad page goes online again after offline, and the page is used.",
        "shown",
        witness=Rehearsed({"preset": "x86-vm", "memory": "2G"}, POISONED, {"profile": "6.1"}, {"profile": "6.2"}),
    ),
    Fix(
        between(
            "6.6",
            "6.8",
            True,
            "mm/memory_hotplug: use pfn math in place of direct struct page manipulation",
            ("6.1.64",),
        ),
        "Without a virtual memmap, offlining steps off the end of a section's struct pages.",
        "not reachable",
        "all builds here have SPARSEMEM_VMEMMAP",
    ),
    Fix(
        since("6.7", True, "mm/memory_hotplug: add missing mem_hotplug_lock", ("6.1.72",)),
        "Struct pages that a block hosts itself appear in a zone while others rely on the lock.",
        "not modelled",
        "both are (choice block_lock); no reader who relies on it is",
        broken_since="5.13",
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
        since("6.8", True, "mm/sparsemem: fix race in accessing memory_section->usage", ("6.1.76",)),
        "Who asks pfn_valid() while a section goes reads a usage map that is freed.",
        "shown",
        witness=Raced(
            pfn_valid_vs_remove.CASE,
            ("freed-at-once", "x86_64-4K-48-linux-6.12"),
            ("grace-period", "x86_64-4K-48-linux-6.12"),
        ),
    ),
    Fix(
        between(
            "6.12", "7.2", True, "mm: memory-hotplug: check folio ref count first in do_migrate_range", ("6.12.19",)
        ),
        "Offlining works on a folio that is freed under it.",
        "not modelled",
        "folios have no references of their own here",
    ),
    Fix(
        between(
            "6.12",
            "7.2",
            True,
            "hwpoison, memory_hotplug: lock folio before unmap hwpoisoned folio",
            ("6.1.140", "6.12.19"),
        ),
        "Offlining a block with a bad page trips over an assertion.",
        "not modelled",
        "folio locks are not",
    ),
    Fix(
        between(
            "6.12",
            "7.2",
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
        between(
            "6.12", "7.2", True, "mm/vmalloc: acquire init_mm lock on huge vmap to avoid ptdump UAF", ("6.12.105",)
        ),
        "Reading the page-table dump while a huge area is mapped follows a freed table.",
        "shown",
        witness=Raced(
            ptdump_vs_vmalloc_huge.CASE,
            ("no-lock", "riscv64-4K-48-linux-7.2"),
            ("init-mm-lock", "riscv64-4K-48-linux-7.2"),
        ),
    ),
    Fix(
        between("6.12", "7.2", True, "mm/memory_hotplug: fix memory block reference leak on remove", ("6.12.92",)),
        "A removed block's device is never freed.",
        "not modelled",
        UNCOUNTED,
    ),
    Fix(
        between("6.12", "7.2", True, "mm/memory_hotplug: fix incorrect altmap passing in error path", ("6.12.97",)),
        "A block that hosts its own struct pages and gets no device is taken back with the wrong pages.",
        "not modelled",
        "6.12 is modelled as 6.12.97 has it",
        broken_since="6.8",
    ),
    Fix(
        between("6.12", "7.2", True, "mm/mm_init: fix uninitialized struct pages for ZONE_DEVICE", ("6.12.97",)),
        "Struct pages at the edge of a device's memory hold what was there before.",
        "not modelled",
        INSIDE,
    ),
    Fix(
        between(
            "6.12", "7.2", True, "mm/mm_init: fix pageblock migratetype for ZONE_DEVICE compound pages", ("6.12.101",)
        ),
        "Pageblocks of a device's memory keep no migrate type.",
        "not modelled",
        INSIDE,
    ),
    Fix(
        between("6.12", "7.2", True, "mm/sparse-vmemmap: fix vmemmap accounting underflow", ("6.12.101",)),
        "nr_memmap in /proc/vmstat wraps around.",
        "not modelled",
        UNCOUNTED,
        broken_since="6.11",
    ),
    Fix(
        between("6.12", "7.2", True, "mm/sparse-vmemmap: fix DAX vmemmap accounting with optimization", ("6.12.101",)),
        "nr_memmap in /proc/vmstat is too high with device-dax of large pages.",
        "not modelled",
        UNCOUNTED,
        broken_since="6.11",
    ),
    Fix(
        between(
            "6.12",
            "7.2",
            True,
            "mm/page_alloc: don't call pfn_to_page() on possibly non-existent PFN in split_large_buddy()",
            ("6.12.7",),
        ),
        "Freeing the last pages of memory looks at a struct page beyond its end.",
        "not reachable",
        "all builds here have SPARSEMEM_VMEMMAP, where the address alone harms nobody",
    ),
    Fix(
        between(
            "6.1",
            "6.6",
            True,
            "mm: page_alloc: skip regions with hugetlbfs pages when allocating 1G pages",
            ("6.1.26",),
        ),
        "Allocating a gigantic page moves other huge pages, and takes very long or fails.",
        "shown",
        witness=Called(
            fix_witnesses.gigantic_page_among_huge_ones,
            "x86_64",
            {"contig_hugetlb": "first-pass"},
            {"contig_hugetlb": "never"},
        ),
    ),
)
