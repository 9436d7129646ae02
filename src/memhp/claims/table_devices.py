"""The claims about altmaps and ``include/linux/memremap.h``, each with its answer and what it is held against."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.claims import altmap, device_pages, zone_device
from memhp.claims.claim import Claim, captures, guests, postings, sources

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
        answer="It charges the altmap and then takes RAM all the same, which is lost when the device goes, as nothing "
        "returns what the altmap gave; with a return in the right place it does what it is for. Its powerpc caller "
        "does not compile either: it gives vmemmap_alloc_block() four arguments, and has two.",
        decide=altmap.draft_helper, command="memhp rehearse examples/altmap-draft-helper.toml",
        held_against=postings("Re: [PATCH V2 1/2] mm/sparsemem: Enable vmem_altmap support"),
    ),
    Claim(
        id="alt-4", source=ALTMAP, known="in part",
        text="the consolidation drafted in the reply maps struct pages by PMD and by base page",
        answer="By PMD it does, but for a pmd_t pointer, not yet set, that it hands on where a pud_t pointer belongs; "
        "by base pages it sets one entry in each PMD, as the loop steps from PMD to PMD. No altmap is asked yet, which "
        "the mail says, so that a device's accounts go below zero.",
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
        held_against=(
            *captures(
                "riscv64-6.12.107+deb13-riscv64-kmem-map-pmem-mom1",
                "x86_64-6.12.107+deb13-cloud-amd64-kmem-map-pmem-mom1",
            ),
            *guests("riscv64-7.2.13+deb14-riscv64-kmem-map-pmem-mom1"),
        ),
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
        held_against=sources("mm/memremap.c:memremap_compat_align", "include/linux/memremap.h:memremap_compat_align"),
    ),
    Claim(
        id="zd-4", source=MEMREMAP, known="in part",
        text="migrate_to_ram: a fault on a PRIVATE page brings it back, and its owner alone may see it",
        answer="Yes: the CPU's touch, DMA's pin and another device's fault bring it back, its owner finds it where it "
        "is; a page of RAM that is pinned does not leave, and a driver that leaves pages behind waits for ever when it "
        "goes. But riscv64 of 6.12 hands out addresses at the end of 56 bits, whose struct pages lie outside the "
        "vmemmap.",
        decide=device_pages.private, command="memhp claims zd-4 --json",
        held_against=sources(
            "lib/test_hmm.c:dmirror_devmem_fault", "mm/migrate_device.c:migrate_vma_check_page",
            "mm/hmm.c:hmm_vma_handle_pte", "mm/memory.c:do_swap_page", "kernel/resource.c:gfr_start",
        ),
    ),
    Claim(
        id="zd-5", source=MEMREMAP, known="in part",
        text="FS_DAX: a wakeup when a page is no longer pinned, for truncation to wait for",
        answer="Truncation takes pages out of page tables, then sleeps until the last reference wakes it: nothing is "
        "lost, while without the wait DMA writes another file's block; long-term pins are refused. The end of a file "
        "at unmount is waited for since 6.15 (dax_break_layout_final()); 6.12 warns, and struct pages go under DMA.",
        decide=device_pages.idle, command="memhp explore dax-dma-vs-truncate --variant no-wait",
        held_against=sources(
            "fs/dax.c:dax_layout_busy_page_range", "fs/dax.c:dax_busy_page", "fs/ext4/inode.c:ext4_evict_inode",
            "mm/memremap.c:free_zone_device_folio",
        ),
    ),
    Claim(
        id="zd-6", source=MEMREMAP, known="reproduced",
        text="PCI_P2PDMA: a BAR gets struct pages",
        answer="It does, in ZONE_DEVICE and with an uncached direct map, if it is made of whole sub-sections: a BAR "
        "below 2 MiB is refused. Each page that user space takes holds a reference on the mapping, so that unbinding "
        "waits for DMA, as it does not for FS_DAX and GENERIC memory.",
        decide=device_pages.bar, command="memhp explore p2pdma-dma-vs-unbind --variant uncounted",
        held_against=sources(
            "drivers/pci/p2pdma.c:pci_p2pdma_add_resource", "drivers/pci/p2pdma.c:p2pmem_alloc_mmap",
            "mm/memory_hotplug.c:check_pfn_span",
        ),
    ),
)  # fmt: skip
