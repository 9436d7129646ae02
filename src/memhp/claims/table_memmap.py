"""The claims about memmap_on_memory, each with its answer and what it is held against."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.claims import (
    kasan_shadow,
    memmap_alignment,
    memmap_design,
    memmap_on_memory,
    memmap_rollback,
    memmap_sections,
)
from memhp.claims.claim import MODEL_ONLY, Claim, captures, guests, postings, sources

SOURCE = "review of memmap_on_memory, March 2021, and the commit that merged it, May 2021"
REVIEW = postings("review of memmap_on_memory, March 2021")

CLAIMS = (
    Claim(
        id="mom-1", source=SOURCE, known="reproduced",
        text="hot-add eats memory, about 2 MiB for 128 MiB; base pages when no huge chunk is free",
        answer="2 MiB of struct pages on x86-64, in one chunk or in 512 pages. What fragmentation adds is a table of "
        "PTEs for each 2 MiB of them.",
        decide=memmap_on_memory.cost, command="memhp rehearse examples/fragmented.toml",
        held_against=(
            *captures("x86_64-6.12.107+deb13-cloud-amd64-pc-dimm-default"),
            *sources("mm/sparse-vmemmap.c:vmemmap_populate_hugepages"),
        ),
    ),
    Claim(
        id="mom-2", source=SOURCE, known="reproduced",
        text="the system can even run out of memory before the new memory is online",
        answer="Yes. Struct pages fail with ENOMEM, and what is left is too little for anybody else; tables of the "
        "direct map are taken with GFP_KERNEL on arm64, which kills and then panics, with memmap_on_memory as well, "
        "as tables do not lie in the block.",
        decide=memmap_on_memory.exhaustion, command="memhp rehearse examples/too-large-a-step.toml",
        held_against=captures(
            "x86_64-6.12.117+deb13-cloud-amd64-plan-16000M", "x86_64-6.12.117+deb13-cloud-amd64-oom-halfway-x86",
            "arm64-6.12.117+deb13-cloud-arm64-oom-arm64-400G",
        ),
    ),
    Claim(
        id="mom-3", source=SOURCE, known="reproduced",
        text="a movable-only node has its struct pages on other nodes",
        answer="All of them, as nothing in the node may hold them; with memmap_on_memory none.",
        decide=memmap_on_memory.off_node, command="memhp rehearse examples/movable-only-node.toml",
        held_against=captures("x86_64-6.12.117+deb13-cloud-amd64-dimm-numa2-movablenode-kaslr"),
    ),
    Claim(
        id="mom-4", source=SOURCE, known="in part",
        text="vmemmap pages at the start of a block are reserved, the rest goes to the buddy, and "
        "pfn_to_online_page() is NULL for the former",
        answer="The pages are as described. But pfn_to_online_page() is NULL for them only while the block is offline: "
        "it asks about sections, and the section that they share with other pages is online with these.",
        decide=memmap_on_memory.page_states, command="memhp rehearse examples/self-hosted.toml",
        held_against=(
            *captures(
                "x86_64-7.2.13+deb14-amd64-pc-dimm-memmap", "x86_64-6.1.0-56-cloud-amd64-dimm-memmap-on-memory"
            ),
            *sources("mm/memory_hotplug.c:mhp_init_memmap_on_memory", "mm/memory_hotplug.c:pfn_to_online_page"),
        ),
    ),
    Claim(
        id="mom-5", source=SOURCE, known="in part",
        text="one memory block; vmemmap in whole PMDs; whole pageblocks left over",
        answer="These are the conditions of 5.13 to 6.7. Since 6.8 each block of a larger add hosts its own; whole "
        "PMDs and pageblocks are still asked for, and with force rounded up to.",
        decide=memmap_on_memory.conditions, command="memhp geometry --memmap-on-memory",
        held_against=(
            *captures(
                "x86_64-6.1.0-56-cloud-amd64-dimm-memmap-on-memory",
                "arm64-6.12.107+deb13-arm64-16k-virtio-mem-movable-memmap",
                "arm64-7.2.13+deb14-arm64-16k-kmem-map-pmem-momf",
            ),
            *sources("mm/memory_hotplug.c:mhp_supports_memmap_on_memory"),
        ),
    ),
    Claim(
        id="mom-6", source=SOURCE, known="answered",
        text="can the rest be misaligned when the vmemmap fills whole PMDs?",
        answer="Not with pageblocks of at most a PMD, which every kernel with huge pages has. Without, pageblocks are "
        "4 MiB and it can: 2 MiB of 128 MiB leave 126, which the separate check refuses.",
        decide=memmap_alignment.remaining_size, command="memhp claims mom-6",
        held_against=sources("mm/memory_hotplug.c:mhp_supports_memmap_on_memory"),
    ),
    Claim(
        id="mom-7", source=SOURCE, known="answered",
        text="what if the first section of a multi-section block goes before the others?",
        answer="The kernel takes no part of a block. If it did, the other sections' struct pages would be mapped to "
        "memory that is gone, and a reader would use them; from the last section to the first nothing breaks.",
        decide=memmap_sections.first_section, command="memhp rehearse examples/first-section.toml",
        held_against=sources("mm/memory_hotplug.c:check_hotplug_memory_range"),
    ),
    Claim(
        id="mom-8", source=SOURCE, known="in part",
        text="memory cannot be removed in another granularity than it was added in",
        answer="5.13 to 6.7 refuse more than one block at a time; since 6.8 each block has an altmap of its own, as "
        "the review suggests, and two are taken. But no one resource covers both, so that System RAM stays in "
        "/proc/iomem, and adding the memory again is EEXIST: a leak of the kernel (f-24), seen in a riscv64 guest of "
        "6.12.117.",
        decide=memmap_on_memory.granularity, command="memhp rehearse examples/two-adds-one-removal.toml",
        held_against=(
            *guests("riscv64-6.12.117+deb13-riscv64-two-blocks"),
            *sources(
                "mm/memory_hotplug.c:try_remove_memory", "mm/memory_hotplug.c:remove_memory_blocks_and_altmaps",
                "kernel/resource.c:release_mem_region_adjustable",
            ),
            *REVIEW,
        ),
    ),
    Claim(
        id="mom-9", source=SOURCE, known="in part",
        text="online and offline account vmemmap pages apart, and roll back on failure",
        answer="Every failure to go online or offline leaves the counters as they were. Adding is another matter: 5.13 "
        "frees the block's own struct pages to the buddy when its device cannot be made, until 6.7; on x86-64 a page "
        "table that cannot be had is fatal to this day, and a node's device was until 7.2.",
        decide=memmap_rollback.failures, command="memhp rehearse examples/pinned-self-hosted.toml",
        held_against=(
            *captures("x86_64-6.12.117+deb13-cloud-amd64-oom-lowpages-612"),
            *sources(
                "drivers/base/memory.c:memory_block_online", "drivers/base/memory.c:memory_block_offline",
                "mm/memory_hotplug.c:add_memory_resource",
            ),
        ),
    ),
    Claim(
        id="mom-10", source=SOURCE, known="answered",
        text="nr_vmemmap_pages handed to online_pages() and offline_pages(), or a start that skips them?",
        answer="The review had its way: callers skip them, and notifiers see what is left. From that follows what 7.2 "
        "does on arm64 with 4K pages: its notifier looks for leaves that would be split at the edges, finds the "
        "block's own struct pages in one, and refuses for ever (f-5), as it would not of the whole block, as posted.",
        decide=memmap_design.interface, command="memhp rehearse examples/arm64-self-hosted-stays.toml",
        held_against=(
            *REVIEW,
            *sources(
                "arch/arm64/mm/mmu.c:prevent_memory_remove_notifier", "drivers/base/memory.c:memory_block_offline"
            ),
        ),
    ),
    Claim(
        id="mom-11", source=SOURCE, known="answered",
        text="struct pages at the beginning of each section, or of the memory block?",
        answer="Both take the same; but by section no more than 126 MiB are in one piece, so that a block of 2 GiB has "
        "no room for a page of 1 GiB, and by block all but the start is. Merged is the latter, as the review says.",
        decide=memmap_design.place, command="memhp geometry --memmap-on-memory", held_against=REVIEW,
    ),
    Claim(
        id="mom-12", source=SOURCE, known="answered",
        text="hibernation does not save struct pages that lie in an offline block; is that harmless?",
        answer="saveable_page() asks pfn_to_online_page(), so they are not saved while the block is offline, and are "
        "when it is online. After resume the block may go online: mhp_init_memmap_on_memory() and online_pages() "
        "write every struct page of it anew.",
        decide=memmap_design.hibernation, command="memhp claims mom-12",
        held_against=sources("mm/memory_hotplug.c:pfn_to_online_page", "mm/memory_hotplug.c:mhp_init_memmap_on_memory"),
    ),
    Claim(
        id="mom-13", source=SOURCE, known="not decidable here",
        text="struct pages off-node cost 5 to 10 % of a kernel build",
        answer="Nothing here knows what a remote access costs. A machine of two nodes or more would tell: "
        "movable_node, a build bound to the movable node, with memmap_on_memory and without.",
        decide=memmap_design.off_node_slowdown, command="memhp claims mom-3", held_against=MODEL_ONLY,
    ),
    Claim(
        id="mom-14", source=SOURCE, known="reproduced",
        text="offline unaccounts vmemmap pages before offline_pages(), which asks whether zone and node are empty",
        answer="In the other order a node whose last block goes offline would stay in N_MEMORY, as the block's own "
        "struct pages still count: its kswapd would run, and allocations look into it. That a failure accounts them "
        "back is in mom-9.",
        decide=memmap_design.accounting, command="memhp claims mom-14",
        held_against=sources(
            "drivers/base/memory.c:memory_block_offline", "mm/memory_hotplug.c:offline_pages"
        ),
    ),
    Claim(
        id="mom-15", source=SOURCE, known="in part",
        text="KASAN's zero shadow comes and goes with the struct pages",
        answer="It does: kasan_add_zero_shadow() before the block's own struct pages are initialised, "
        "kasan_remove_zero_shadow() when they are not used any more, and nothing is left. But tables that empty are "
        "freed, and their entries cleared, with no flush before or after: a walk may still go through them (f-23).",
        decide=kasan_shadow.zero_shadow, command="memhp claims mom-15",
        held_against=sources(
            "mm/kasan/init.c:kasan_add_zero_shadow", "mm/kasan/init.c:kasan_remove_zero_shadow",
            "mm/kasan/init.c:kasan_free_pte", "mm/memory_hotplug.c:mhp_init_memmap_on_memory",
        ),
    ),
)  # fmt: skip
