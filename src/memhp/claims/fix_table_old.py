"""Fixes in generic memory hotplug up to 5.12: what kernels before those that are known by name lacked.

Titles and point releases are those of the stable series' changelogs. The first release with a fix is told by pull
requests, and by when stable series took it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.claims import fix_witnesses, fix_witnesses_devices, fix_witnesses_memory
from memhp.claims.fix import Called, Fix, Raced
from memhp.explore.cases import memblock_order, pagemap_lookup_vs_unmap
from memhp.linux.release import since

BEFORE = "kernels before 5.13 are modelled as far as mail series stand on them"

OLD_HOTPLUG: tuple[Fix, ...] = (
    Fix(
        since("5.2", True, "mm/devm_memremap_pages: fix final page put race"),
        "Unbinding a device while its pages are looked up frees struct pages that are still in use.",
        "shown",
        witness=Raced(
            pagemap_lookup_vs_unmap.CASE,
            ("kill-only", "arm64-4K-48-linux-5.13"),
            ("generic", "arm64-4K-48-linux-6.12"),
        ),
    ),
    Fix(
        since("5.4", True, "mm/hotplug: reorder memblock_[free|remove]() calls in try_remove_memory()"),
        "Where pfn_valid() asks memblock, removal leaves links of block devices, and the next addition is a BUG.",
        "shown",
        witness=Raced(
            memblock_order.CASE,
            ("memblock-first", "arm64-4K-48-arm64-hotremove-v6"),
            ("arch-first", "arm64-4K-48-arm64-hotremove-v6"),
        ),
    ),
    Fix(
        since("5.4", True, "mm/memunmap: don't access uninitialized memmap in memunmap_pages()", ("5.3.8",)),
        "Unbinding a device that keeps pages for itself takes what is in their struct pages for a zone: an oops.",
        "shown",
        witness=Called(
            fix_witnesses_devices.device_with_metadata_goes,
            "x86_64",
            {"unmapped_zone": "range"},
            {"unmapped_zone": "first-page"},
        ),
    ),
    Fix(
        since("5.4", True, "mm/memory-failure.c: don't access uninitialized memmaps in memory_failure()", ("5.3.8",)),
        "A memory error in memory that never was online is an oops.",
        "shown",
        witness=Called(
            fix_witnesses_memory.offline_memory_goes_bad,
            "x86_64",
            {"poisoned_page": "valid"},
            {"poisoned_page": "online"},
        ),
    ),
    Fix(
        since("5.4", True, "fs/proc/page.c: don't access uninitialized memmaps in fs/proc/page.c", ("5.3.8",)),
        "Reading /proc/kpagecount of memory that never was online is an oops.",
        "shown",
        witness=Called(
            fix_witnesses_memory.offline_memory_is_counted, "x86_64", {"proc_page": "valid"}, {"proc_page": "online"}
        ),
    ),
    Fix(
        since("5.4", True, "mm/memory_hotplug: fix try_offline_node()", ("5.3.12",)),
        "A node whose memory never was online goes with the first of its blocks; removing the next is an oops.",
        "shown",
        witness=Called(
            fix_witnesses_memory.first_block_of_a_node_goes,
            "x86_64",
            {"node_removal": "by-span"},
            {"node_removal": "by-blocks"},
        ),
    ),
    Fix(
        since("5.4", True, "mm/memory_hotplug: don't access uninitialized memmaps in shrink_pgdat_span()", ("5.3.13",)),
        "Removal of memory that never was online reads struct pages that were never initialised: an oops.",
        "shown",
        witness=Called(
            fix_witnesses_memory.memory_beside_memory_never_online_goes,
            "x86_64",
            {"zone_shrink": "on-remove", "node_span": "by-page"},
            {"zone_shrink": "on-remove", "node_span": "by-zone"},
        ),
    ),
    Fix(
        since("5.4", True, "mm/memory_hotplug: fix updating the node span", ("5.3.13",)),
        "A node begins at page 0 once memory of it went offline.",
        "shown",
        witness=Called(
            fix_witnesses_memory.node_shrinks, "x86_64", {"node_span": "from-zero"}, {"node_span": "by-zone"}
        ),
    ),
    Fix(
        since("5.4", True, "mm/memory_hotplug: don't access uninitialized memmaps in shrink_zone_span()", ("5.3.14",)),
        "The same for the other memory of a zone: an oops.",
        "shown",
        witness=Called(
            fix_witnesses_memory.memory_beside_memory_never_online_goes,
            "x86_64",
            {"zone_shrink": "on-remove", "shrink_reads": "valid"},
            {"zone_shrink": "on-remove", "shrink_reads": "online"},
        ),
    ),
    Fix(
        since("5.5", True, "mm/memory_hotplug: shrink zones when offlining memory", ("5.4.9",)),
        "Removal of memory trusts zone links of pages that were never online, and shrinks the wrong zone.",
        "shown",
        witness=Called(
            fix_witnesses_memory.memory_never_online_goes,
            "x86_64",
            {"zone_shrink": "on-remove", "shrink_reads": "valid"},
            {"zone_shrink": "on-offline", "shrink_reads": "valid"},
        ),
    ),
    Fix(
        since(
            "5.5", True, "mm/memory_hotplug: don't free usage map when removing a re-added early section", ("5.4.14",)
        ),
        "Boot memory that was removed, added and removed again frees what the slab never gave: a BUG.",
        "shown",
        witness=Called(
            fix_witnesses_memory.boot_memory_goes_twice,
            "x86_64",
            {"early_usage": "by-section"},
            {"early_usage": "by-page"},
        ),
    ),
    Fix(
        since(
            "5.6", True, "mm/page_alloc.c: fix uninitialized memmaps on a partially populated last section", ("5.4.19",)
        ),
        "Where RAM ends within a section, who goes from page to page reads struct pages that boot never initialised.",
        "shown",
        witness=Called(
            fix_witnesses_memory.page_behind_the_end_of_ram,
            "x86_64",
            {"boot_tail": "up-to-the-end"},
            {"boot_tail": "whole-section"},
        ),
    ),
    Fix(
        since("5.6", True, "mm/sparse.c: reset section's mem_map when fully deactivated", ("5.4.19",)),
        "Crash dumps walk struct pages of removed sections.",
        "not modelled",
        "the address in section_mem_map is not kept",
    ),
    Fix(
        since("5.6", True, "mm/memory_hotplug: fix remove_memory() lockdep splat", ("5.4.19",)),
        "lockdep reports that removal waits under mem_hotplug_lock for users of a block's files, who take it.",
        "not reachable",
        "state_store() has device_hotplug_lock before it asks for the other, and starts again where removal has that",
    ),
    Fix(
        since("5.6", True, "mm/sparse: fix kernel crash with pfn_section_valid check", ("5.5.14",)),
        "pfn_valid() of a section whose usage map went follows a null pointer.",
        "not modelled",
        "mem_section_usage is no pointer here",
        broken_since="5.5",
    ),
    Fix(
        since("5.8", True, "mm/memory_hotplug.c: fix false softlockup during pfn range removal", ("5.7.7",)),
        "Removing much memory logs a soft lockup.",
        "not modelled",
        "nothing here is said of how long a loop runs",
    ),
    Fix(
        since("5.9", True, "mm/memory_hotplug: fix unpaired mem_hotplug_begin/done", ("5.7.17",)),
        "A removal that is refused, as a block is online, releases a lock that it never took.",
        "shown",
        broken_since="5.6",
        witness=Called(
            fix_witnesses_memory.online_memory_is_to_go,
            "x86_64",
            {"refused_removal": "unlocks"},
            {"refused_removal": "returns"},
        ),
    ),
    Fix(
        since("5.9", True, "mm/sparse: never partially remove memmap for early section"),
        "A device that shares a section with boot memory has no struct pages when its driver comes back: an oops.",
        "shown",
        broken_since="5.3",
        witness=Called(
            fix_witnesses.part_of_a_boot_section_comes_back,
            "x86_64",
            {"early_memmap": "by-part"},
            {"early_memmap": "whole"},
            options={"pse": False},
        ),
    ),
    Fix(
        since("5.9", True, "mm: don't rely on system state to detect hot-plug operations", ("5.8.13",)),
        "Where the memory of nodes is interleaved, memory blocks stand below nodes whose they are not.",
        "shown",
        witness=Called(
            fix_witnesses_memory.interleaved_nodes_boot,
            "x86_64",
            {"boot_links": "by-span"},
            {"boot_links": "by-memory"},
        ),
    ),
    Fix(
        since("5.9", True, "mm/memory_hotplug: drain per-cpu pages again during memory offline", ("5.8.11",)),
        "Offlining waits for ever for pages that wait on a CPU's free list.",
        "not modelled",
        "CPUs' own lists of free pages are not",
    ),
    Fix(
        since("5.13", True, "mm/sparse: add the missing sparse_buffer_fini() in error branch", ("5.10.37",)),
        "A boot that runs short of memory for struct pages loses what is left of the buffer for them.",
        "not modelled",
        "the buffer is always given back, as since",
    ),
    Fix(
        since("5.12", True, "mm: fix memory_failure() handling of dax-namespace metadata", ("5.10.20",)),
        "A memory error in pages that hold a dax device's struct pages is an oops.",
        "shown",
        witness=Called(
            fix_witnesses_devices.metadata_goes_bad,
            "x86_64",
            {"dax_metadata": "unchecked"},
            {"dax_metadata": "refused"},
        ),
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
)
