"""The claims of the RISC-V series and its replies, each with its answer and what it is held against."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.claims import page_table_counts, riscv_hotplug, riscv_machine, riscv_series
from memhp.claims.claim import MODEL_ONLY, Claim, captures, guests, postings, sources

SOURCE = "RISC-V memory hot(un)plug, v1, May 2023, and the replies"

PAGE_TABLES = guests(
    "riscv64-7.2.13+deb14-riscv64-virtio-mem-vhost-sv39",
    "riscv64-6.12.107+deb13-riscv64-virtio-mem-vhost-sv48",
    "riscv64-6.12.107+deb13-riscv64-virtio-mem-vhost-sv57",
    "riscv64-7.2.13+deb14-riscv64-virtio-mem-vhost-sv57",
)
"""Page tables of guests before, with and after hot-added memory."""

REMOVAL = sources("arch/riscv/mm/init.c:remove_pgd_mapping", "arch/riscv/mm/init.c:remove_p4d_mapping")
V1_PATCH_4 = postings("[PATCH 4/7] riscv: mm: Add memory hot add/remove support")

CLAIMS = (
    Claim(
        id="rv-1", source=SOURCE, known="in part",
        text="arch_add_memory, arch_remove_memory and vmemmap_free are all that the port needs",
        answer="Yes, but the three as posted remove nothing under Sv39 and Sv48, as the walk indexes levels that are "
        "folded away; so do all releases from 6.11 until July 2026 (7.2, 6.12.103). Guests of 6.12.107 and 7.2.13 end "
        "with the page tables that they began with, in every mode.",
        decide=riscv_hotplug.life_cycle, command="memhp matrix --arch riscv64",
        held_against=(*PAGE_TABLES, *REMOVAL, *V1_PATCH_4),
    ),
    Claim(
        id="rv-2", source=SOURCE, known="in part",
        text="a new root entry of init_mm must reach every process: by synchronisation or pre-allocation",
        answer="Without either, a process that is older than the memory faults on it; with either none does, whatever "
        "the order with a fork, if synchronisation copies and lists a new table under one lock. As posted a "
        "pre-allocated entry excludes a leaf of its size: under Sv39 an aligned GiB added at once is mapped "
        "by nothing, until 6.11.",
        decide=riscv_hotplug.root_entries, command="memhp rehearse examples/pgd-policies.toml",
        held_against=(*PAGE_TABLES, *sources(
            "arch/riscv/mm/init.c:preallocate_pgd_pages_range", "arch/riscv/include/asm/pgalloc.h:pgd_alloc"
        )),
    ),
    Claim(
        id="rv-3", source=SOURCE, known="reproduced",
        text="pre-allocating the tables below the root wastes about 128 pages",
        answer="Yes: 128 to 132 for vmemmap and direct map as posted, of which a small machine uses two to five; today "
        "eight more under Sv39, whose direct map has grown. Patch 7 adds 64 for vmalloc, which the cover letter "
        "does not count.",
        decide=riscv_hotplug.preallocation, command="memhp geometry --arch riscv64",
        held_against=(*PAGE_TABLES, *sources("arch/riscv/mm/init.c:preallocate_pgd_pages_range")),
    ),
    Claim(
        id="rv-4", source=SOURCE, known="reproduced",
        text="v1 maps the vmemmap with base pages only; PMD leaves, as in mainline, save entries and tables",
        answer="Each 128 MiB takes 512 entries and a table of their own as posted, and one leaf since v2. The storage "
        "is the same.",
        decide=riscv_hotplug.vmemmap_leaves, command="memhp matrix --arch riscv64 --json",
        held_against=(*PAGE_TABLES, *postings("[PATCH v2 0/8] riscv: Memory Hot(Un)Plug support")),
    ),
    Claim(
        id="rv-5", source=SOURCE, known="in part",
        text="one function tears down direct map and vmemmap; only for the latter it frees what is mapped",
        answer="So it does where it finds anything: under Sv57 nothing is lost, while under Sv39 and Sv48 it finds "
        "nothing, and the struct pages of what goes are lost with their tables, until the mend of July 2026. "
        "Guests of 6.12.107 and 7.2.13 gain 256 leaves of direct map and 4 of vmemmap for 512 MiB, under Sv48 and "
        "Sv57 a PMD table too, and lose each of them, in every mode.",
        decide=riscv_hotplug.frames_conserved, command="memhp rehearse examples/riscv-v1.toml",
        held_against=(*PAGE_TABLES, *REMOVAL, *V1_PATCH_4),
    ),
    Claim(
        id="rv-6", source=SOURCE, known="refuted",
        text="TLB: one big hammer that flushes everything is enough",
        answer="Its reach is, its place is not: v1, 6.12 and 7.2 give storage and tables back before it falls, so that "
        "somebody may have a frame that a CPU still translates to. One flush before anything is freed is enough, and "
        "no more flushes; x86-64 has riscv64's order, arm64 flushes first.",
        decide=riscv_hotplug.flushes, command="memhp explore free-before-flush --variant riscv-order",
        held_against=(
            *REMOVAL, *sources("arch/riscv/mm/init.c:free_vmemmap_storage", "arch/riscv/mm/init.c:free_pte_table"),
            *V1_PATCH_4,
        ),
    ),
    Claim(
        id="rv-7", source=SOURCE, known="reproduced",
        text="page-table functions must survive boot (__meminit instead of __init)",
        answer="Yes. The first hot-add after boot calls code that is gone.",
        decide=riscv_machine.discarded_code, command="memhp rehearse examples/riscv-init-discarded.toml",
        held_against=postings("[PATCH 2/7] riscv: mm: Change attribute from __init to __meminit for page functions"),
    ),
    Claim(
        id="rv-8", source=SOURCE, known="in part",
        text="a section is 128 MiB, the smallest DIMM; a pageblock, virtio-mem's unit, is 1024 pages",
        answer="The section is 128 MiB, and so is what virtio-mem adds at a time. The pageblock is 2 MiB and not 4, as "
        "with huge pages its order is that of a PMD (v2 of the series says so); kernels without them have 4 MiB.",
        decide=riscv_machine.granularity, command="memhp geometry",
        held_against=(
            *guests("6.12.117+deb13-riscv64", "7.2.13+deb14-riscv64"),
            *captures("riscv64-6.12.107+deb13-riscv64-virtio-mem-vhost-default"),
        ),
    ),
    Claim(
        id="rv-9", source=SOURCE, known="in part",
        text="something like SRAT's max_possible_pfn is required on RISC-V",
        answer="Not for the layout, which is fixed by the paging mode; what v1 lacked is a check of the range, without "
        "which memory is mapped into KASAN's shadow (mainline says E2BIG). For DMA it would help: bounce buffers are "
        "set up for boot RAM above 4 GiB, and a guest that grows beyond has none; only x86-64 asks max_possible_pfn.",
        decide=riscv_machine.pluggable_range, command="memhp geometry --arch riscv64",
        held_against=sources("arch/riscv/mm/init.c:arch_get_mappable_range", "mm/memory_hotplug.c:mhp_range_allowed"),
    ),
    Claim(
        id="rv-10", source=SOURCE, known="answered",
        text="how do lock-less arm64 updates mix with code that takes page-table locks?",
        answer="They do not meet: mem_hotplug_lock keeps adds and removals apart and the dump out, and arm64 removes "
        "only what was added, whole leaves of it, and no table that vmalloc shares. With any one of these rules off "
        "there is a schedule that goes wrong.",
        decide=riscv_machine.neighbours, command="memhp explore split-vs-remove --variant split-refused",
        held_against=sources(
            "arch/arm64/mm/mmu.c:prevent_memory_remove_notifier", "arch/arm64/mm/mmu.c:free_empty_tables",
            "mm/ptdump.c:ptdump_walk_pgd",
        ),
    ),
    Claim(
        id="rv-11", source=SOURCE, known="reproduced",
        text="virtio-mem works on RISC-V",
        answer="Guests of 6.12.117 and 7.2.13 grew and shrank by memhp's device and did, request by request, what the "
        "modelled driver does, which gets every size on each kernel. Under Sv39 and Sv48 the memory that went stays "
        "mapped before the mend of July 2026 (rv-1).",
        decide=riscv_machine.virtio_mem, command="memhp rehearse examples/virtio-mem-riscv.toml",
        held_against=guests("6.12.117+deb13-riscv64", "7.2.13+deb14-riscv64"),
    ),
    Claim(
        id="rv-12", source=SOURCE, known="answered",
        text="pre-allocation against explicit synchronisation: what does each cost?",
        answer="Synchronisation stores every new root entry into every process, under pgd_lock, at each hot-add that "
        "needs one, which holds that lock for some 16 ms with 10,000 processes if each store misses the caches. "
        "Pre-allocation is some 200 tables once, and nothing after.",
        decide=riscv_series.sync_cost, command="memhp rehearse examples/pgd-policies.toml",
        held_against=MODEL_ONLY,
    ),
    Claim(
        id="rv-13", source=SOURCE, known="in part",
        text="freeing the vmemmap takes care of the altmap, so that the right allocator gets the pages",
        answer="As posted it frees to the altmap what vmemmap_populate() had taken from RAM, for which it drops the "
        "altmap: RAM would be lost. Nothing in v1 hands an altmap down, as there is neither ZONE_DEVICE nor "
        "memmap_on_memory; v2 brings the former and forwards the altmap.",
        decide=riscv_series.altmap_aware_free, command="memhp rehearse examples/pmem-to-ram.toml",
        held_against=(
            *V1_PATCH_4, *sources("arch/riscv/mm/init.c:free_vmemmap_storage"),
            *guests("riscv64-7.2.13+deb14-riscv64-kmem-map-pmem-mom1"),
        ),
    ),
    Claim(
        id="rv-14", source=SOURCE, known="answered",
        text="patch 5, Kconfig: which builds can add memory, remove it, give devices struct pages?",
        answer="64-bit builds with SPARSEMEM as posted, with SPARSEMEM_VMEMMAP as merged, which each of them has since "
        "6.18. Without MIGRATION a kernel adds and never removes, until 7.2, which selects it; without ZONE_DEVICE its "
        "functions are stubs that fail (a machine's `build` says which it is).",
        decide=riscv_series.build_options, command="memhp rehearse examples/hot-add-only.toml",
        held_against=postings("[PATCH 5/7] riscv: Enable memory hot add/remove arch kbuild support"),
    ),
    Claim(
        id="rv-15", source=SOURCE, known="answered",
        text="what did v2 to v4 change?",
        answer="v2: PMD leaves, the range that can be mapped, the dump's lock, ZONE_DEVICE; v3: the flush behind "
        "__add_pages() and one more on removal, tables of boot memory freed as what they are; v4: KASAN's root "
        "entries, tables freed by the allocator that made them, shared struct pages of dax. The index of folded levels "
        "is in all four.",
        decide=riscv_series.revisions, command="memhp matrix --profile riscv-hotplug-v1",
        held_against=(
            *V1_PATCH_4,
            *postings(
                "[PATCH v2 0/8] riscv: Memory Hot(Un)Plug support",
                "[PATCH v3 5/9] riscv: mm: Add memory hotplugging support",
                "[PATCH v4 00/11] riscv: Memory Hot(Un)Plug support",
            ),
        ),
    ),
    Claim(
        id="rv-16", source=SOURCE, known="in part",
        text="every page table that is made as one is unmade as one: constructor and destructor in pairs",
        answer="In 6.12 they are, where struct pages have huge leaves; 6.11 unmade a table of the vmemmap that had "
        "never been made, mended by 6.12.6. Today arm64 unmakes such tables (since 7.1; 6.16 to 7.0 unmade none), "
        "riscv64 leaves PUD tables counted, and x86-64 those that a split of the direct map made.",
        decide=page_table_counts.pairs, command="memhp claims f-18",
        held_against=sources(
            "arch/riscv/mm/init.c:free_pte_table", "arch/arm64/mm/mmu.c:free_hotplug_pgtable_page",
            "arch/x86/mm/init_64.c:free_pagetable",
        ),
    ),
)  # fmt: skip
