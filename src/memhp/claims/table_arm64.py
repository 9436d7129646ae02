"""The claims of the arm64 hot-remove series, each with its answer and what it is held against."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.claims import arm64_hotremove, arm64_two_passes
from memhp.claims.claim import Claim, guests, postings, sources

SOURCE = "arm64 memory hot remove, V7, September 2019"

PAGE_TABLES = guests(
    "arm64-6.12.107+deb13-arm64-16k-virtio-mem-52bit", "arm64-6.12.107+deb13-arm64-virtio-mem-52bit",
    "arm64-6.12.107+deb13-arm64-virtio-mem-high-48bit", "arm64-7.2.13+deb14-arm64-virtio-mem-48bit",
)  # fmt: skip
REMOVAL = sources("arch/arm64/mm/mmu.c:unmap_hotplug_range", "arch/arm64/mm/mmu.c:free_empty_tables")
COVER = postings("[PATCH V7 0/3] arm64/mm: Enable memory hot remove")

CLAIMS = (
    Claim(
        id="a64-1", source=SOURCE, known="in part",
        text="vmalloc() can race with hot-remove freeing page-table pages",
        answer="Not in any layout of the time: wherever the two share a table, the fixmap, the kernel image or struct "
        "pages of boot memory keep it from getting empty. In layouts of 6.9 and later they can, with V5's rule; V6's, "
        "V7's and today's floor and ceiling are safe there.",
        decide=arm64_hotremove.race, command="memhp explore vmalloc-vs-hot-remove --variant V5",
        held_against=(*REMOVAL, *COVER),
    ),
    Claim(
        id="a64-2", source=SOURCE, known="in part",
        text="vmalloc and vmemmap overlap only with 4K and 16K pages and 48-bit addresses",
        answer="So they do in the layout that V7 was made for. In the one before, and in all since, other "
        "configurations do.",
        decide=arm64_hotremove.overlap, command="memhp geometry --profile arm64-hotremove-v7",
        held_against=(*PAGE_TABLES, *COVER),
    ),
    Claim(
        id="a64-3", source=SOURCE, known="reproduced",
        text="not freeing tables where the two overlap leaves some empty, a minimal cost",
        answer="One table for a block that came alone, whatever the page size. Mainline frees it.",
        decide=arm64_hotremove.empty_tables, command="memhp rehearse examples/arm64-v7-empty-tables.toml",
        held_against=(*PAGE_TABLES, *REMOVAL, *COVER),
    ),
    Claim(
        id="a64-4", source=SOURCE, known="reproduced",
        text="hot-remove works for all page sizes, address widths and numbers of levels",
        answer="Every law holds in all of them, and the page tables are as before.",
        decide=arm64_hotremove.all_configurations, command="memhp matrix --arch arm64",
        held_against=(*PAGE_TABLES, *REMOVAL),
    ),
    Claim(
        id="a64-5", source=SOURCE, known="reproduced",
        text="the page-table dump must hold the hotplug lock",
        answer="Without it the dump reads tables that were freed; with it the two come one after the other.",
        decide=arm64_hotremove.ptdump_lock, command="memhp explore ptdump-vs-hot-remove --variant no-lock",
        held_against=(*sources("mm/ptdump.c:ptdump_walk_pgd"), *COVER),
    ),
    Claim(
        id="a64-6", source=SOURCE, known="reproduced",
        text="memblock must forget the memory after arch_remove_memory, not before",
        answer="pfn_valid() asked memblock then, so that with the old order the block's links to its node stay, and "
        "the next hot-add at that place trips over them.",
        decide=arm64_hotremove.memblock_order, command="memhp rehearse examples/memblock-order.toml",
        held_against=(*sources("mm/memory_hotplug.c:try_remove_memory"), *COVER),
    ),
    Claim(
        id="a64-7", source=SOURCE, known="reproduced",
        text="two passes: unmap all leaves, then free empty tables, without a page-table lock",
        answer="So it is in V6, V7 and every kernel since; V5 had one pass under the lock. With 4K pages a GiB took "
        "some 266,000 invalidations, one for each page, until 6.12.86 and 7.2 made them one for the range.",
        decide=arm64_two_passes.two_passes, command="memhp matrix --arch arm64 --json",
        held_against=(*REMOVAL, *COVER),
    ),
    Claim(
        id="a64-8", source=SOURCE, known="answered",
        text="what did V2 to V4 do otherwise?",
        answer="V3 moved the flush from the end of the range to each table of base pages, a thousand times as many "
        "with 4K pages, and took the page-table lock once around all, where V2 took it for each entry; V4 and V5 "
        "change neither. So the change log of V7 has it, as the mails themselves were not at hand.",
        decide=arm64_two_passes.earlier, command="memhp geometry --profile arm64-hotremove-v5", held_against=COVER,
    ),
)  # fmt: skip
