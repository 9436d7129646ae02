"""The claims about altmaps and ``include/linux/memremap.h``, each with its answer and what it is held against."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.claims import altmap, zone_device
from memhp.claims.claim import MODEL_ONLY, Claim, captures, guests, postings, sources, unbuilt

ALTMAP = "altmap in vmemmap_populate_basepages, March 2020"
MEMREMAP = "include/linux/memremap.h, May 2021"

CLAIMS = (
    Claim(
        id="alt-1", source=ALTMAP, known="reproduced",
        text="base-page vmemmap can take its storage from an altmap, as arm64 16K and 64K need",
        answer="Yes: all of it lies on the device, and nothing in RAM.",
        decide=altmap.device_storage, command="memhp rehearse examples/devdax-arm64-64k.toml",
        held_against=(
            *captures("arm64-6.12.107+deb13-arm64-16k-kmem-map-pmem-mom1"),
            *sources("mm/sparse-vmemmap.c:vmemmap_populate_basepages"),
        ),
    ),
    Claim(
        id="alt-2", source=ALTMAP, known="reproduced",
        text="fallback differs: x86 fails, powerpc falls back but never crosses the altmap's end",
        answer="Both policies are shown on an x86-64 machine, powerpc's as the choice that it is: no powerpc page "
        "table stands behind it. With half the room one fails, the other takes the rest from RAM.",
        decide=altmap.fallbacks, command="memhp claims alt-2 --json",
        held_against=sources("mm/sparse-vmemmap.c:altmap_alloc_block_buf"),
    ),
    Claim(
        id="alt-3", source=ALTMAP, known="refuted",
        text="the helper drafted in the mail takes storage from the altmap, and falls back if told to",
        answer="It charges the altmap and then takes RAM all the same, as nothing returns what the altmap gave; RAM is "
        "lost when the device goes. Its powerpc caller does not compile either: it gives vmemmap_alloc_block() four "
        "arguments, and has two. With a return in the right place it does what it is for.",
        decide=altmap.draft_helper, command="memhp rehearse examples/altmap-draft-helper.toml",
        held_against=postings("Re: [PATCH V2 1/2] mm/sparsemem: Enable vmem_altmap support"),
    ),
    Claim(
        id="alt-4", source=ALTMAP, known="in part",
        text="the consolidation drafted in the reply maps struct pages by PMD and by base page",
        answer="By PMD it does. By base pages it sets one entry in each PMD, as the loop steps from PMD to PMD; and it "
        "hands a pmd_t pointer, not yet set, where a pud_t pointer belongs. No altmap is asked yet, which the mail "
        "says, so that a device's accounts go below zero.",
        decide=altmap.draft_consolidated, command="memhp rehearse examples/altmap-draft-consolidated.toml",
        held_against=postings("[PATCH] arm64/mm: Consolidate vmemmap_populate()"),
    ),
    Claim(
        id="alt-5", source=ALTMAP, known="answered",
        text="could s390 or RISC-V share the population of base pages from an altmap?",
        answer="RISC-V could and does: vmemmap_populate() there is the generic code, which takes PMDs first and base "
        "pages where they do not fit. s390 keeps a walker of its own, arch/s390/mm/vmem.c, which allocates each page "
        "through vmemmap_alloc_block_buf() with the altmap: the helper is shared, the walk is not.",
        decide=altmap.shared_by_others, command="memhp claims alt-5",
        held_against=sources("mm/sparse-vmemmap.c:vmemmap_populate_basepages"),
    ),
    Claim(
        id="zd-1", source=MEMREMAP, known="reproduced",
        text="vmem_altmap: base_pfn, end_pfn, reserve, free, align, alloc",
        answer="Allocations are aligned to their size by what align counts as lost, and all is given back.",
        decide=zone_device.altmap_accounts, command="memhp rehearse examples/pmem-to-ram.toml",
        held_against=guests("riscv64-7.2.13+deb14-riscv64-kmem-map-pmem-mom1"),
    ),
    Claim(
        id="zd-2", source=MEMREMAP, known="in part",
        text="dev_pagemap: types, ranges, ops, reference and completion",
        answer="Whoever holds a reference finds its struct pages, for every type, one range and two. Pages that DMA "
        "holds were waited for until 5.17, and are not today.",
        decide=zone_device.life_cycle, command="memhp explore pagemap-lookup-vs-unmap --variant kill-only",
        held_against=sources("mm/memremap.c:memunmap_pages", "mm/memremap.c:get_dev_pagemap"),
    ),
    Claim(
        id="zd-3", source=MEMREMAP, known="answered",
        text="memremap_compat_align",
        answer="2 MiB, a sub-section, in every configuration of 5.7 and later but powerpc's; a page in kernels without "
        "ZONE_DEVICE. The arm64 series of 2019 are older than it.",
        decide=zone_device.compat_align, command="memhp claims zd-3 --json",
        held_against=MODEL_ONLY,
    ),
    Claim(
        id="zd-4", source=MEMREMAP, known="open",
        text="migrate_to_ram: a fault on a PRIVATE page brings it back, and its owner alone may see it",
        answer="Nobody has built a driver of private memory as the neighbour. The life of such a mapping is in zd-2.",
        decide=unbuilt, command="memhp claims zd-4", held_against=MODEL_ONLY,
    ),
    Claim(
        id="zd-5", source=MEMREMAP, known="open",
        text="FS_DAX: a wakeup when a page is no longer pinned, for truncation to wait for",
        answer="Nobody has built it: file systems are not modelled.",
        decide=unbuilt, command="memhp claims zd-5", held_against=MODEL_ONLY,
    ),
    Claim(
        id="zd-6", source=MEMREMAP, known="open",
        text="PCI_P2PDMA: a BAR gets struct pages",
        answer="Nobody has built a PCI device whose BAR it would be. References on such a mapping are in zd-2.",
        decide=unbuilt, command="memhp claims zd-6", held_against=MODEL_ONLY,
    ),
)  # fmt: skip
