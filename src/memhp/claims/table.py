"""Every claim and question, in the order of the documents. Modules named after a source add how it is decided."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.claims import (
    arm64_hotremove,
    memmap_alignment,
    memmap_on_memory,
    memmap_rollback,
    memmap_sections,
    riscv_hotplug,
)
from memhp.claims.claim import Claim

RISCV = "RISC-V memory hot(un)plug, v1, May 2023, and the replies"
ARM64 = "arm64 memory hot remove, V7, September 2019"
MEMMAP = "review of memmap_on_memory, March 2021, and the commit that merged it, May 2021"
ALTMAP = "altmap in vmemmap_populate_basepages, March 2020"
MEMREMAP = "include/linux/memremap.h, May 2021"

CLAIMS = (
    Claim("rv-1", RISCV, "arch_add_memory, arch_remove_memory and vmemmap_free are all that the port needs",
          riscv_hotplug.life_cycle, "memhp matrix --arch riscv64"),
    Claim("rv-2", RISCV, "a new root entry of init_mm must reach every process: by synchronisation or pre-allocation",
          riscv_hotplug.root_entries, "memhp rehearse examples/pgd-policies.toml"),
    Claim("rv-3", RISCV, "pre-allocating the tables below the root wastes about 128 pages",
          riscv_hotplug.preallocation, "memhp geometry --arch riscv64"),
    Claim("rv-4", RISCV, "v1 maps the vmemmap with base pages only; what do PMD leaves save?",
          riscv_hotplug.vmemmap_leaves, "memhp matrix --arch riscv64 --json"),
    Claim("rv-5", RISCV, "one function tears down direct map and vmemmap; only for the latter it frees what is mapped",
          riscv_hotplug.frames_conserved, "memhp rehearse examples/riscv-v1.toml"),
    Claim("rv-6", RISCV, "TLB: flushing everything with one big hammer; is that enough, and what does it cost?",
          riscv_hotplug.flushes, "memhp matrix --arch riscv64 --json"),
    Claim("rv-7", RISCV, "page-table functions must survive boot (__meminit instead of __init)",
          riscv_hotplug.discarded_code, "memhp rehearse examples/riscv-init-discarded.toml"),
    Claim("rv-8", RISCV, "section 128 MiB: which pageblock, which virtio-mem granularity does that give?",
          riscv_hotplug.granularity, "memhp geometry"),
    Claim("rv-9", RISCV, "is a maximum such as SRAT's needed to lay out the direct map?",
          riscv_hotplug.pluggable_range, "memhp geometry --arch riscv64"),
    Claim("rv-10", RISCV, "how do lock-less arm64 updates mix with code that takes page-table locks?"),
    Claim("rv-11", RISCV, "virtio-mem works on RISC-V"),
    Claim("a64-1", ARM64, "vmalloc() can race with hot-remove freeing page-table pages"),
    Claim("a64-2", ARM64, "vmalloc and vmemmap overlap only with 4K and 16K pages and 48-bit addresses",
          arm64_hotremove.overlap, "memhp geometry --profile arm64-hotremove-v7"),
    Claim("a64-3", ARM64, "not freeing tables where the two overlap leaves some empty, a minimal cost",
          arm64_hotremove.empty_tables, "memhp rehearse examples/arm64-v7-empty-tables.toml"),
    Claim("a64-4", ARM64, "hot-remove works for all page sizes, address widths and numbers of levels",
          arm64_hotremove.all_configurations, "memhp matrix --arch arm64"),
    Claim("a64-5", ARM64, "the page-table dump must hold the hotplug lock"),
    Claim("a64-6", ARM64, "memblock must forget the memory after arch_remove_memory, not before",
          arm64_hotremove.memblock_order, "memhp rehearse examples/memblock-order.toml"),
    Claim("a64-7", ARM64, "two passes: unmap all leaves, then free empty tables, without a page-table lock",
          arm64_hotremove.two_passes, "memhp matrix --arch arm64 --json"),
    Claim("mom-1", MEMMAP, "hot-add eats memory, about 2 MiB for 128 MiB; base pages when no huge chunk is free",
          memmap_on_memory.cost, "memhp rehearse examples/fragmented.toml"),
    Claim("mom-2", MEMMAP, "the system can even run out of memory before the new memory is online",
          memmap_on_memory.exhaustion, "memhp rehearse examples/too-large-a-step.toml"),
    Claim("mom-3", MEMMAP, "a movable-only node has its struct pages on other nodes",
          memmap_on_memory.off_node, "memhp rehearse examples/movable-only-node.toml"),
    Claim("mom-4", MEMMAP, "vmemmap pages at the start of a block are reserved, the rest goes to the buddy",
          memmap_on_memory.page_states, "memhp rehearse examples/self-hosted.toml"),
    Claim("mom-5", MEMMAP, "one memory block; vmemmap in whole PMDs; whole pageblocks left over",
          memmap_on_memory.conditions, "memhp geometry --memmap-on-memory"),
    Claim("mom-6", MEMMAP, "can the rest be misaligned when the vmemmap fills whole PMDs?",
          memmap_alignment.remaining_size, "memhp claims mom-6"),
    Claim("mom-7", MEMMAP, "what if the first section of a multi-section block goes before the others?",
          memmap_sections.first_section, "memhp rehearse examples/first-section.toml"),
    Claim("mom-8", MEMMAP, "memory cannot be removed in another granularity than it was added in",
          memmap_on_memory.granularity, "memhp rehearse examples/other-granularity.toml"),
    Claim("mom-9", MEMMAP, "online and offline account vmemmap pages apart, and roll back on failure",
          memmap_rollback.failures, "memhp rehearse examples/pinned-self-hosted.toml"),
    Claim("alt-1", ALTMAP, "base-page vmemmap can take its storage from an altmap, as arm64 16K and 64K need"),
    Claim("alt-2", ALTMAP, "fallback differs: x86 fails, powerpc falls back but never crosses the altmap's end"),
    Claim("alt-3", ALTMAP, "the helper drafted in the mail"),
    Claim("alt-4", ALTMAP, "the consolidation drafted in the reply"),
    Claim("zd-1", MEMREMAP, "vmem_altmap: base_pfn, end_pfn, reserve, free, align, alloc"),
    Claim("zd-2", MEMREMAP, "dev_pagemap: types, ranges, ops, reference and completion"),
    Claim("zd-3", MEMREMAP, "memremap_compat_align"),
)  # fmt: skip
