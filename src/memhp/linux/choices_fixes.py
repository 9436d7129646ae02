"""The choices of generic hotplug code that stand for a mistake and the fix that kernels have, and for nothing else."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from typing import Literal

from memhp.linux.choice import Choices, choice
from memhp.linux.release import first, since

_LOCKDEP = "mm/memory_hotplug: fix remove_memory() lockdep splat"
_MANY_BLOCKS = "mm/memory_hotplug: split memmap_on_memory requests across memblocks"


@dataclass(frozen=True, kw_only=True)
class FixChoices(Choices):
    """What generic code did wrong, and since when it does not."""

    sysfs_lock: Literal["waits", "tries"] = choice(
        "Whether a write to a file of sysfs waits for ``device_hotplug_lock``, while removal waits for the write, or "
        "starts again where it is taken (``lock_device_hotplug_sysfs()``).",
        first("waits"),
        since("3.12", "tries", "driver core / ACPI: Avoid device hot remove locking issues"),
    )
    table_recheck: Literal["none", "under-lock"] = choice(
        "Whether who has allocated a table looks once more if it is still wanted, when it has "
        "``init_mm.page_table_lock`` (``__pmd_alloc()``): every kernel does.",
        first("under-lock"),
    )
    zone_pfn: Literal["32-bit", "64-bit"] = choice(
        "What ``zone_for_pfn_range()`` takes the first page's number for: ``unsigned``, which numbers from 2^32 on do "
        "not fit, or ``unsigned long``.",
        first("32-bit"),
        since("5.15", "64-bit", 'mm/memory_hotplug: use "unsigned long" for PFN in zone_for_pfn_range()', ("5.14.6",)),
    )
    pmd_dtor: Literal["asserts", "as-any"] = choice(
        "Whether the destructor of a PMD table asserts that no PTE table is deposited in it (``pmd_ptlock_free()``), "
        "which a table that had no constructor may fail; or is the same for every table (``pagetable_dtor()``).",
        first("asserts"),
        since("6.14", "as-any", "mm: pgtable: introduce pagetable_dtor()"),
    )
    refused_removal: Literal["returns", "unlocks"] = choice(
        "Whether ``try_remove_memory()`` lets ``mem_hotplug_lock`` go when a block is online, before it took it.",
        first("returns"),
        since("5.6", "unlocks", _LOCKDEP, ("5.4.19",)),
        since("5.9", "returns", "mm/memory_hotplug: fix unpaired mem_hotplug_begin/done", ("5.7.17",)),
    )
    node_removal: Literal["by-span", "by-blocks"] = choice(
        "Whether ``try_offline_node()`` keeps a node whose span has sections that are its own, which only memory that "
        "was online is in, or one that has a span or a memory block.",
        first("by-span"),
        since("5.4", "by-blocks", "mm/memory_hotplug: fix try_offline_node()", ("5.3.12",)),
    )
    pgdat_reset: Literal["when-offline", "when-online"] = choice(
        "When a node's ``pg_data_t`` is made what it was before there was memory: as the node goes offline, while who "
        "goes through zones may have come to one of it; or when it is used again.",
        first("when-offline"),
        since("4.0", "when-online", "mm/memory hotplug: postpone the reset of obsolete pgdat"),
    )
    node_span: Literal["by-page", "from-zero", "by-zone"] = choice(
        "How a node's span shrinks: by its pages, one by one (``shrink_pgdat_span()``); by its zones, of which those "
        "that are empty count as beginning at 0; or by those that are not empty.",
        first("by-page"),
        since(
            "5.4",
            "from-zero",
            "mm/memory_hotplug: don't access uninitialized memmaps in shrink_pgdat_span()",
            ("5.3.13",),
        ),
        since("5.4", "by-zone", "mm/memory_hotplug: fix updating the node span", ("5.3.13",)),
    )
    shrink_reads: Literal["valid", "online"] = choice(
        "Which struct pages are read as zones and nodes shrink: all that are valid, of which those of memory that "
        "never was online say anything; or those of online sections.",
        first("valid"),
        since(
            "5.4",
            "online",
            "mm/memory_hotplug: don't access uninitialized memmaps in shrink_zone_span()",
            ("5.3.14",),
        ),
    )  # fmt: skip
    span_lock: Literal["span_seqlock", "none"] = choice(
        "What who resizes a zone writes so that readers of its span look again (``zone_span_writelock()``).",
        first("span_seqlock"),
        since("5.14", "none", "mm,memory_hotplug: drop unneeded locking"),
    )
    zonelist_update: Literal["spinlock", "zonelist_update_seq"] = choice(
        "What ``__build_all_zonelists()`` holds: a spin lock that nobody else takes, or a seqlock by which allocations "
        "that find nothing tell whether to begin again.",
        first("spinlock"),
        since(
            "6.0",
            "zonelist_update_seq",
            "mm/page_alloc: fix race condition between build_all_zonelists and page allocation",
            ("5.15.72", "5.19.13"),
        ),
    )
    section_usage_null: Literal["followed", "tested"] = choice(
        "Whether ``pfn_section_valid()`` looks for a usage map that is not there any more (``ms->usage`` is NULL).",
        first("followed"),
        since(
            "6.10",
            "tested",
            "mm: prevent derefencing NULL ptr in pfn_section_valid()",
            ("6.1.100", "6.6.41", "6.9.10"),
        ),
    )
    early_usage: Literal["by-section", "by-page"] = choice(
        "How ``section_deactivate()`` tells that a usage map is boot's and no slab object: by the section, which is "
        "not early any more once it was removed and added again, or by the page that the map lies in.",
        first("by-section"),
        since(
            "5.5",
            "by-page",
            "mm/memory_hotplug: don't free usage map when removing a re-added early section",
            ("5.4.14",),
        ),
    )
    early_memmap: Literal["by-part", "whole"] = choice(
        "Which struct pages ``section_deactivate()`` frees when a part of an early section goes: those of the part, "
        "which ``section_activate()`` does not make again, or none before the last part goes.",
        first("by-part"),
        since("5.9", "whole", "mm/sparse: never partially remove memmap for early section"),
    )
    isolate_ends: Literal["in-turn", "own-type", "wanted-type"] = choice(
        "For what ``isolate_single_pageblock()`` asks if the first and the last pageblock can be isolated, before "
        "those between: for the migrate type that they have, so that those of CMA are, or for the one that is wanted. "
        "Before there is such a function they are isolated in turn, for the one that is wanted.",
        first("in-turn"),
        since("5.19", "own-type", "mm: make alloc_contig_range work at pageblock granularity"),
        since(
            "6.0", "wanted-type", "mm/page_isolation: fix isolate_single_pageblock() isolation behavior", ("5.19.14",)
        ),
    )
    poison_reference: Literal["kept", "put"] = choice(
        "Whether who counts a poisoned page for its block gives the reference on the block back.",
        first("kept"),
        since("7.1", "put", "drivers/base/memory: fix memory block reference leak in poison accounting", ("6.12.92",)),
    )
    removal_reference: Literal["none", "kept", "put"] = choice(
        "What becomes of the reference with which ``remove_memory_blocks_and_altmaps()`` finds a block: there is no "
        "such function yet, it is kept, or given back.",
        first("none"),
        since("6.8", "kept", _MANY_BLOCKS),
        since("7.1", "put", "mm/memory_hotplug: fix memory block reference leak on remove", ("6.12.92",)),
    )
    block_altmap: Literal["before-registration", "after-registration"] = choice(
        "When ``add_memory_block()`` notes a block's altmap: before it registers the device, whose release function "
        "warns of one that is still noted, or after.",
        first("after-registration"),
        since("6.8", "before-registration", _MANY_BLOCKS),
        since(
            "7.2",
            "after-registration",
            "drivers/base/memory: set mem->altmap after successful device registration",
            ("6.12.95", "7.1.2"),
        ),
    )
    proc_page: Literal["valid", "online"] = choice(
        "Of which pages ``/proc/kpagecount`` and its like read the struct page: of all that are valid, or that are "
        "online.",
        first("valid"),
        since("5.4", "online", "fs/proc/page.c: don't access uninitialized memmaps in fs/proc/page.c", ("5.3.8",)),
    )
    poisoned_page: Literal["valid", "online"] = choice(
        "Of which pages ``memory_failure()`` reads the struct page: of all that are valid, or that are online.",
        first("valid"),
        since(
            "5.4",
            "online",
            "mm/memory-failure.c: don't access uninitialized memmaps in memory_failure()",
            ("5.3.8",),
        ),
    )
    poison_pcp_lock: Literal["none", "pcp_batch_high_lock"] = choice(
        "What ``__page_handle_poison()`` holds while it takes a free page, or one of a free huge page, out of use: "
        "nothing, so that the page may be in a list of a CPU again, or the lock under which there are no such lists, "
        "from ``zone_pcp_disable()`` on.",
        first("none"),
        since("5.14", "pcp_batch_high_lock", "mm/hwpoison: disable pcp for page_handle_poison()"),
        since(
            "6.9",
            "none",
            "mm/memory-failure: fix deadlock when hugetlb_optimize_vmemmap is enabled",
            ("6.1.88", "6.6.29", "6.8.8"),
        ),
        since("7.2", "pcp_batch_high_lock", "mm/memory-failure: use zone_pcp_disable() for poison handling"),
    )
    pcplists: Literal["drained-once", "drained-again", "disabled"] = choice(
        "What ``offline_pages()`` does about free pages in lists of CPUs: empties them when all is isolated, and so "
        "waits for ever for a page that is put there a moment later; empties them again as long as pages are not free; "
        "or keeps them empty, from ``zone_pcp_disable()`` to ``zone_pcp_enable()``.",
        first("drained-once"),
        since("5.9", "drained-again", "mm/memory_hotplug: drain per-cpu pages again during memory offline"),
        since("5.11", "disabled", "mm, page_alloc: disable pcplists during memory offline"),
    )
    unmapped_zone: Literal["range", "first-page"] = choice(
        "Whose zone ``memunmap_pages()`` takes for that of a device's memory: that of the first page of the range, "
        "or of the first that is the device's own.",
        first("range"),
        since("5.4", "first-page", "mm/memunmap: don't access uninitialized memmap in memunmap_pages()", ("5.3.8",)),
    )
    dax_metadata: Literal["unchecked", "refused"] = choice(
        "Whether ``memory_failure()`` asks if a page of a device's mapping is one of its own, or goes on with pages "
        "that hold the mapping's struct pages and have none.",
        first("unchecked"),
        since("5.12", "refused", "mm: fix memory_failure() handling of dax-namespace metadata", ("5.10.20",)),
    )
    kmem_failed_add: Literal["kept", "released"] = choice(
        "What becomes of kmem's resource around a range whose memory could not be added.",
        first("kept"),
        since("5.3", "released", "device-dax: fix memory and resource leak if hotplug fails", ("5.2.7",)),
    )
    boot_tail: Literal["up-to-the-end", "whole-section"] = choice(
        "How far boot initialises struct pages of the section that RAM ends in.",
        first("up-to-the-end"),
        since(
            "5.6",
            "whole-section",
            "mm/page_alloc.c: fix uninitialized memmaps on a partially populated last section",
            ("5.4.19",),
        ),
    )
    boot_links: Literal["by-span", "by-memory"] = choice(
        "Which memory blocks boot links below a node: all that its span meets, as if they were hot-added, or those "
        "with memory of its own.",
        first("by-span"),
        since("5.9", "by-memory", "mm: don't rely on system state to detect hot-plug operations", ("5.8.13",)),
    )
    region_intersects: Literal["top-level", "descends"] = choice(
        "Whether ``region_intersects()`` finds resources below others that are no match.",
        first("top-level"),
        since(
            "6.12",
            "descends",
            "resource: fix region_intersects() vs add_memory_driver_managed()",
            ("6.1.113", "6.11.3"),
        ),
    )
