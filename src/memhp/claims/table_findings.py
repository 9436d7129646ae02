"""What rehearsals turned up, each shown as it is and repaired: what a patch has to change, and what that costs.

The pages of docs/findings.md tell each at length. `reproduced` says that it is broken as it is and whole as repaired.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Sequence

from memhp.claims.claim import MODEL_ONLY, Claim, Evidence, Finding, captures, guests, judged, sources
from memhp.claims.fix import Called
from memhp.claims.repair import repair_row
from memhp.claims.table_repairs import REPAIRS
from memhp.claims.table_witnesses import WITNESSES

SOURCE = "docs/findings.md"


def decided(name: str, *kernels: str) -> Callable[[], Finding]:
    """How a finding of these kernels is decided: by its witness, on both sides."""

    def decide() -> Finding:
        witness = WITNESSES[name]
        shown = witness.show()
        verdict = judged(shown.holds)
        figure = f"as it is: {shown.before or 'nothing breaks'}; repaired: {shown.after or 'nothing breaks'}"
        called = f"{shown.before} → {shown.after or 'nothing breaks'}" if isinstance(witness, Called) else ""
        repair = repair_row(REPAIRS[name], shown.explored, called)
        return Finding(verdict, figure, dict.fromkeys(kernels, verdict), repair)

    return decide


def _finding(
    name: str, text: str, status: str, repair: str, command: str, evidence: Sequence[Evidence], *kernels: str
) -> Claim:
    return Claim(
        id=name, source=SOURCE, known="reproduced", text=text, status=status, answer=repair, command=command,
        held_against=tuple(evidence), decide=decided(name, *kernels),
    )  # fmt: skip


READ = "read in source"
SEEN = "seen in a guest"

CLAIMS = (
    _finding(
        "f-1", "riscv64 under Sv39 and Sv48 removes nothing: 6.11 to 7.1", f"{READ}, fixed in 7.2 and 6.12.103",
        "Ask pgtable_l5_enabled and pgtable_l4_enabled before indexing a level. It costs nothing.",
        "memhp rehearse examples/riscv-folded-levels.toml",
        sources("arch/riscv/mm/init.c:remove_p4d_mapping"), "linux-6.12.102",
    ),
    _finding(
        "f-2", "arm64 hot-remove V5 frees huge vmemmap storage that a TLB may still reach", f"{READ}, fixed in V6",
        "Flush each leaf before what it maps is freed: 8 invalidations for a GiB, one for each PMD; V6 flushed the "
        "range of each, 4096.",
        "memhp matrix --profile arm64-hotremove-v5", MODEL_ONLY, "arm64-hotremove-v5",
    ),
    _finding(
        "f-3", "riscv64 and x86-64 give frames back before the flush that covers them",
        f"{READ}, {SEEN}",
        "Gather storage and tables, flush once, free. No more flushes than today; the frames wait until the end of the "
        "call, some 1025 for 256 MiB, on a list through their own struct pages.",
        "memhp explore free-before-flush --variant riscv-order",
        (
            *guests("x86_64-7.2.13+deb14-cloud-amd64-flush-held"),
            *sources("arch/riscv/mm/init.c:remove_pgd_mapping", "arch/riscv/mm/init.c:free_vmemmap_storage"),
        ),
        "linux-7.2",
    ),
    _finding(
        "f-4", "an add that runs out of memory half-way leaves what it made", SEEN,
        "Take back the direct map where __add_pages() fails, and the sections before the one that failed: what "
        "removal does, with its flushes; no memory. On x86 look at what alloc_low_pages() returned, and link tables "
        "before they are filled, so that they are found.",
        "memhp explore hotadd-allocation-failure --variant two-blocks",
        captures(
            "x86_64-6.12.117+deb13-cloud-amd64-oom-lowpages-612", "x86_64-6.12.117+deb13-cloud-amd64-plan-16000M"
        ), "linux-7.2",
    ),
    _finding(
        "f-5", "arm64 7.2 with 4K pages never lets go of memory that hosts its own struct pages", f"{READ}, {SEEN}",
        "Ask can_unmap_without_split() about the whole block, struct pages and all (mom-10), not about what the "
        "notifier is told of: no flush, no memory. Such blocks go as in 6.12, and a leaf is still not split.",
        "memhp rehearse examples/arm64-self-hosted-stays.toml",
        (
            *guests("arm64-7.2.13+deb14-cloud-arm64-self-hosted-stays"),
            *sources("arch/arm64/mm/mmu.c:prevent_memory_remove_notifier"),
        ),
        "linux-7.2",
    ),
    _finding(
        "f-6", "a page that memory errors took lets its block go offline, whoever uses it", f"{READ}, {SEEN}",
        "Pass over a poisoned page only if nobody holds it: a look at its reference count, where isolation looks at "
        "it anyway. Such a block then refuses with EBUSY until its user lets go.",
        "memhp rehearse examples/page-kinds.toml", (
            *guests(
                "x86_64-7.2.13+deb14-cloud-amd64-poisoned-and-pinned",
                "x86_64-7.2.13+deb14-cloud-amd64-poisoned-and-pinned-file",
            ),
            *captures("x86_64-6.12.117+deb13-cloud-amd64-poison-612"),
        ),
        "linux-7.2",
    ),
    _finding(
        "f-7", "a DIMM that could not be ejected may come back in another zone", f"{READ}, {SEEN}",
        "Remember the zone of each block, as offline_and_remove_memory() does: a byte a block, for as long as the "
        "eject lasts.",
        "memhp rehearse examples/dimm-eject.toml",
        (
            *guests("x86_64-7.2.13+deb14-cloud-amd64-dimm-comes-back"),
            *captures("x86_64-6.12.107+deb13-cloud-amd64-pc-dimm-default"),
        ),
        "linux-7.2",
    ),
    _finding(
        "f-8", "who goes through pages by PFN may find their struct pages gone", f"{READ}, {SEEN}",
        "Hold get_online_mems() over pfn_to_online_page() and what is done with its answer: a per-CPU read lock for "
        "each stretch of pages.",
        "memhp explore pfn-walker-vs-offline --variant no-lock",
        (*guests("x86_64-7.2.13+deb14-cloud-amd64-page-reader-held"), *sources("fs/proc/page.c:kpagecount_read")),
        "linux-7.2",
    ),
    _finding(
        "f-9", "virtio-mem asks for the zone of a page that may be going offline", f"{READ}, {SEEN}",
        "Ask under the device's hotplug mutex: it is taken once more for each big block that is looked at.",
        "memhp explore online-vs-unplug --variant big-block-shrink-online-BUSY",
        guests("x86_64-7.2.13+deb14-cloud-amd64-big-block-held"), "linux-7.2",
    ),
    _finding(
        "f-10", "a device's struct pages go while DMA holds its pages", f"{READ}, {SEEN}",
        "Have each page drop its reference when it is let go, as until 5.17: an atomic operation for each page that "
        "is freed.",
        "memhp explore pagemap-lookup-vs-unmap --variant dma-at-once", (
            *guests("x86_64-7.2.13+deb14-cloud-amd64-device-pinned", "x86_64-6.12.117+deb13-cloud-amd64-device-pinned"),
            *sources("mm/memremap.c:memunmap_pages"),
        ),
        "linux-7.2",
    ),
    _finding(
        "f-11", "a memory error may be counted for a memory block that is freed already", f"{READ}, {SEEN}",
        "Look the block up under device_hotplug_lock, or free it behind a grace period: a mutex in memory_failure().",
        "memhp explore memory-block-lookup --variant lookup-unlocked",
        (
            *guests(
                "x86_64-7.2.13+deb14-cloud-amd64-poison-counter-held", "x86_64-7.2.13-kasan-poison-counter-held",
            ),
            *sources("drivers/base/memory.c:find_memory_block_by_id"),
        ),
        "linux-7.2",
    ),
    _finding(
        "f-12", "hot-add and vmalloc may both make the page table that they share", READ,
        "Make the table that both share at boot: one page at most. Or fill the entry by compare and exchange.",
        "memhp explore vmalloc-vs-hot-add --variant first-table",
        sources("mm/sparse-vmemmap.c:vmemmap_populate_hugepages"), "linux-6.12",
    ),
    _finding(
        "f-13", "a run of leaves that is being split may lose its last memory block", f"{READ}, {SEEN}",
        "Look at the block's leaves under pgtable_split_lock: a mutex for each block that goes offline.",
        "memhp explore split-vs-remove --variant split-refused-last-block",
        (
            *guests("arm64-7.2.13+deb14-arm64-16k-split-held"),
            *sources("arch/arm64/mm/mmu.c:split_contpmd", "arch/arm64/mm/mmu.c:can_unmap_without_split"),
        ),
        "linux-7.2",
    ),
    _finding(
        "f-14", "on riscv64 and x86-64 nothing keeps part of a boot leaf from being removed", f"{READ}, {SEEN}",
        "Refuse to take boot memory offline, as arm64's notifier does: a walk over the block's sections.",
        "memhp explore split-vs-remove --variant riscv-as-it-is",
        (
            *guests("x86_64-7.2.13+deb14-cloud-amd64-part-of-a-boot-leaf"),
            *sources("arch/x86/mm/init_64.c:remove_pud_table", "arch/riscv/mm/init.c:remove_pud_mapping"),
        ),
        "linux-7.2",
    ),
    _finding(
        "f-15", "on arm64 servers with BBML2 hot-added memory larger than a block never goes offline in 7.2",
        f"{READ}, {SEEN}",
        "Ask about what is removed when it is removed, not about each block as it goes offline: no flush, no memory. "
        "Without the check altogether, as here, memory goes as in 6.12.",
        "memhp rehearse examples/arm64-bbml2-stays.toml",
        (
            *guests("arm64-7.2.13+deb14-cloud-arm64-bbml2"),
            *sources("arch/arm64/mm/mmu.c:prevent_memory_remove_notifier"),
        ),
        "linux-7.2",
    ),
    _finding(
        "f-16", "LoongArch keeps a leaf of struct pages for every stretch of memory that was ever there",
        f"{READ}, {SEEN}",
        "Free a leaf when no section under it is left, which vmemmap_free() has to look for; the flush is one for "
        "each leaf.",
        "memhp matrix --profile linux-7.2 --arch loongarch64",
        captures("loongarch64-7.2.13+deb14-loong64-dimm-leak-loop"), "linux-7.2",
    ),
    _finding(
        "f-17", "on AMD CPUs with EFER.TCE 7.2 frees page tables that a walk may still go through", READ,
        "Flush all that the PUD entry translated, which is beyond the limit for single pages: one full flush for each "
        "gigabyte in place of one page.", "memhp claims f-17",
        (
            *guests("x86_64-7.2.13+deb14-cloud-amd64-tables-of-a-gigabyte"),
            *sources("arch/x86/mm/pgtable.c:pud_free_pmd_page"),
        ),
        "linux-7.2",
    ),
    _finding(
        "f-18", "counts of page tables drift as memory comes and goes", f"{READ}, {SEEN}",
        "Run the destructor for the tables that a constructor was run for, and for no others (rv-16): who frees a "
        "table knows whose area it was in. It costs nothing.",
        "memhp claims f-18",
        (
            *guests("arm64-7.2.13+deb14-cloud-arm64-table-counts", "riscv64-7.2.13+deb14-riscv64-table-counts"),
            *sources("arch/riscv/mm/init.c:free_pte_table", "arch/arm64/mm/mmu.c:free_hotplug_pgtable_page"),
        ),
        "linux-7.2",
    ),
    _finding(
        "f-19", "a resource inside removed memory would be left with a parent that is freed", f"{READ}, {SEEN}",
        "Shrink the lower half before the children of the upper move: nothing is lost where that is refused, and it "
        "costs nothing.", "memhp claims f-19",
        (
            *guests("x86_64-7.2.13+deb14-cloud-amd64-resource-split", "x86_64-7.2.13-kasan-resource-split"),
            *sources("kernel/resource.c:release_mem_region_adjustable"),
        ),
        "linux-7.2",
    ),
    _finding(
        "f-20", "notifiers are told of plans cancelled that they never heard of", f"{READ}, {SEEN}",
        "Cancel on the chains that were asked: memory_notify() only if node_notify() did not refuse. It costs "
        "nothing.", "memhp claims f-20",
        (
            *guests("x86_64-7.2.13+deb14-cloud-amd64-node-notifier-refuses"),
            *sources("mm/memory_hotplug.c:online_pages", "mm/memory_hotplug.c:offline_pages"),
        ),
        "linux-7.2",
    ),
    _finding(
        "f-21", "on riscv64 memory that comes below the highest hides what is above it from /proc/kpagecount",
        f"{READ}, {SEEN}",
        "Raise max_pfn only, as x86-64 does and arm64 since 6.12.24. It costs nothing.",
        "memhp claims f-21",
        (*guests("riscv64-7.2.13+deb14-riscv64-lower-comes-last"), *sources("arch/riscv/mm/init.c:arch_add_memory")),
        "linux-7.2",
    ),
    _finding(
        "f-22", "riscv64 of 6.12 gives a device's private memory addresses that have no vmemmap",
        f"{READ}, {SEEN}, fixed in 7.2",
        "End the search for free addresses where the vmemmap does (DIRECT_MAP_PHYSMEM_END), as 7.2 does. It costs "
        "nothing.",
        "memhp claims f-22",
        (
            *guests(
                "riscv64-6.12.117+deb13-riscv64-private-memory", "riscv64-7.2.13+deb14-riscv64-private-memory",
            ),
            *sources("kernel/resource.c:gfr_start"),
        ),
        "linux-6.12",
    ),
    _finding(
        "f-23", "KASAN frees tables of shadow that a walk may still go through", f"{READ}, {SEEN}",
        "Clear the entries, flush everything, then free the tables: one full flush for each block that hosts its "
        "struct pages, in kernels with KASAN only. On arm64 flush_tlb_kernel_range() is not enough, as it leaves "
        "table pointers alone.",
        "memhp claims f-23",
        (*guests("x86_64-7.2.13-kasan-shadow-table-freed"), *sources("mm/kasan/init.c:kasan_free_pte")), "linux-7.2",
    ),
    _finding(
        "f-24", "memory that was added by several calls and is removed by one leaves its System RAM behind",
        f"{READ}, {SEEN}",
        "Release each busy resource in the range, not the range as one: a walk over the resources that it meets, and "
        "no memory.",
        "memhp rehearse examples/two-adds-one-removal.toml",
        (
            *guests("riscv64-6.12.117+deb13-riscv64-two-blocks"),
            *sources("mm/memory_hotplug.c:try_remove_memory", "kernel/resource.c:release_mem_region_adjustable"),
        ),
        "linux-7.2",
    ),
    _finding(
        "f-25", "a DIMM whose memory blocks could not be bound goes while its memory is in use", f"{READ}, {SEEN}",
        "Take the memory offline and remove it where acpi_bind_one() fails, in acpi_memory_enable_device(): it is new "
        "and goes. It costs nothing where nothing fails.",
        "memhp rehearse examples/dimm-not-bound.toml",
        (
            *guests("x86_64-7.2.13-fault-injection-dimm-not-bound"),
            *sources(
                "drivers/acpi/acpi_memhotplug.c:acpi_memory_enable_device", "drivers/acpi/scan.c:acpi_scan_hot_remove",
            ),
        ),
        "linux-7.2",
    ),
    _finding(
        "f-26", "kernelcore=mirror leaves the kernel one section of mirrored memory from 4 GiB on",
        f"{READ}, {SEEN}",
        "Defer no struct pages of a node whose zones overlap: defer_init() answers no under mirrored_kernelcore. Boot "
        "initialises them one after the other then, as kernels without DEFERRED_STRUCT_PAGE_INIT do.",
        "memhp rehearse examples/mirrored-memory.toml",
        (
            *guests("arm64-7.2.13+deb14-cloud-arm64-mirrored", "arm64-6.12.117+deb13-cloud-arm64-mirrored"),
            *sources("mm/mm_init.c:defer_init", "mm/mm_init.c:deferred_init_memmap"),
        ),
        "linux-7.2",
    ),
    _finding(
        "f-27", "pfn_to_online_page() may look at a usage map that is freed", READ,
        "Hold RCU from online_section() on until ms->usage has been looked at, as pfn_valid() does: no lock, no "
        "memory.",
        "memhp explore pfn-valid-vs-remove --variant online-page-unlocked",
        sources("mm/memory_hotplug.c:pfn_to_online_page", "include/linux/mmzone.h:pfn_section_valid"), "linux-7.2",
    ),
    _finding(
        "f-28", "virtio-mem counts blocks that it adds without the mutex over the counters",
        f"{READ}, {SEEN}",
        "Take the hotplug mutex around the change of state in virtio_mem_sbm_plug_and_add_mb(): once for each block "
        "that is added, and it may have to wait until another block is online or offline.",
        "memhp explore online-vs-unplug --variant sub-block-grow-online-ACK",
        (
            *guests("x86_64-7.2.13+deb14-cloud-amd64-block-count-held"),
            *sources(
                "drivers/virtio/virtio_mem.c:virtio_mem_sbm_plug_and_add_mb",
                "drivers/virtio/virtio_mem.c:virtio_mem_sbm_set_mb_state",
            ),
        ),
        "linux-7.2",
    ),
    _finding(
        "f-29", "nobody writes the seqlock under which a zone's span is read", READ,
        "Write zone->span_seqlock where a zone is resized, as until 5.13: two increments for each block that goes "
        "online or offline. Or read the span without it, and say that a check may be wrong.",
        "memhp explore zone-span-vs-allocation --variant span-unlocked",
        sources("mm/memory_hotplug.c:resize_zone_range", "mm/page_alloc.c:page_outside_zone_boundaries"), "linux-7.2",
    ),
    _finding(
        "f-30", "a BAR's mapping is freed while the pool hands out its pages", READ,
        "Free the structure with the mapping in pci_p2pdma_release(), after its synchronize_rcu(), and not by devres "
        "before: no lock, and no grace period more.",
        "memhp explore p2pdma-dma-vs-unbind --variant taken",
        sources(
            "drivers/pci/p2pdma.c:pci_p2pdma_add_resource", "drivers/pci/p2pdma.c:pci_p2pdma_release",
            "drivers/pci/p2pdma.c:pci_alloc_p2pmem", "drivers/base/devres.c:release_nodes",
        ),
        "linux-7.2",
    ),
    _finding(
        "f-31", "the kernel's own pages may come from ZONE_MOVABLE", READ,
        "Look on from ac->preferred_zoneref for a zone up to ac->highest_zoneidx where get_page_from_freelist() "
        "begins, as it does for every zone behind that: one comparison for each allocation.",
        "memhp explore zonelists-vs-allocation --variant online-seqlock",
        sources(
            "mm/page_alloc.c:get_page_from_freelist", "mm/page_alloc.c:__alloc_pages_direct_reclaim",
            "mm/page_alloc.c:__build_all_zonelists",
        ),
        "linux-7.2",
    ),
    _finding(
        "f-32", "pages that Hyper-V's host backs while their block goes online stay out of use", READ,
        "Have hv_memory_notifier(), on MEM_ONLINE, give the buddy what is backed of the block by then: a look at each "
        "of its pages under ha_lock, of which the driver takes one already.",
        "memhp explore hv-backing-vs-online --variant as-it-is",
        sources(
            "drivers/hv/hv_balloon.c:handle_pg_range", "drivers/hv/hv_balloon.c:hv_online_page",
            "mm/memory_hotplug.c:online_pages_range",
        ),
        "linux-7.2",
    ),
    _finding(
        "f-33", "the auto-movable policy looks at memory groups that virtio-mem frees", READ,
        "Have walk_dynamic_memory_groups() hold RCU from the first group to the last, and memory_group_unregister() "
        "free by kfree_rcu(): no lock, nobody waits, and a struct rcu_head more in each group.",
        "memhp explore memory-groups-vs-unbind --variant as-it-is",
        sources(
            "drivers/base/memory.c:walk_dynamic_memory_groups", "drivers/base/memory.c:memory_group_unregister",
            "drivers/virtio/virtio_mem.c:virtio_mem_deinit_hotplug",
            "mm/memory_hotplug.c:auto_movable_can_online_movable",
        ),
        "linux-7.2",
    ),
)  # fmt: skip
