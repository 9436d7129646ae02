"""The verdict of every claim, kernel by kernel, and why it is that one: from sources, captures and the mails."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import NamedTuple

from memhp.claims.claim import VerdictName


class Pinned(NamedTuple):
    """What a row is known to say."""

    verdict: VerdictName
    by_release: dict[str, VerdictName]
    why: str


V1, V6, V7 = "riscv-hotplug-v1", "arm64-hotremove-v6", "arm64-hotremove-v7"
BEFORE = "linux-6.12.102"


def alike(verdict: VerdictName, why: str, *kernels: str) -> Pinned:
    return Pinned(verdict, dict.fromkeys(kernels, verdict), why)


def partly(why: str, **verdicts: VerdictName) -> Pinned:
    names = {"v1": V1, "v6": V6, "v7": V7, "before": BEFORE}
    by_release = {names.get(key, f"linux-{key[1:].replace('_', '.')}"): each for key, each in verdicts.items()}
    return Pinned("in part", by_release, why)


TODAY = ("linux-6.12", "linux-7.2")

VERDICTS = {
    "rv-1": partly(
        "remove_p4d_mapping() of the posting and of 6.12.102 indexes a folded level; 6.12.103's asks first",
        v1="refuted", before="refuted", v6_12="reproduced", v7_2="reproduced",
    ),
    "rv-2": partly(
        "create_pgd_mapping() of v1 writes a leaf of PGDIR_SIZE only into an empty entry",
        v1="refuted", v6_12="reproduced", v7_2="reproduced",
    ),
    "rv-3": alike("reproduced", "four entries for 4 GiB of struct pages, and one for each GiB of Sv39", V1, *TODAY),
    "rv-4": alike("reproduced", "a page has 64 struct pages, a PMD 32768", V1, *TODAY),
    "rv-5": partly(
        "as rv-1", v1="refuted", before="refuted", v6_12="reproduced", v7_2="reproduced",
    ),
    "rv-6": alike("refuted", "free_vmemmap_storage() comes before flush_tlb_all() in all three", V1, *TODAY),
    "rv-7": alike("reproduced", "free_initmem() gives the section back", "linux-6.12"),
    "rv-8": alike("in part", "SECTION_SIZE_BITS is 27; pageblock_order is HUGETLB_PAGE_ORDER", V1, *TODAY),
    "rv-9": alike("in part", "SATP mode fixes the layout; swiotlb_init() is asked at boot", V1, *TODAY),
    "rv-10": alike("answered", "each rule alone makes the difference", *TODAY),
    "rv-11": alike("reproduced", "two guests did what the modelled driver does", V1, BEFORE, *TODAY),
    "rv-12": alike("answered", "sync_global_pgds() stores for each page of pgd_list", "linux-6.12"),
    "rv-13": partly(
        "vmemmap_populate() of v1 hands NULL on", v1="refuted", v6_12="reproduced", v7_2="reproduced",
    ),
    "rv-14": alike("answered", "mm/Kconfig and arch/riscv/Kconfig", V1, *TODAY),
    "rv-15": alike("answered", "the four postings", "v1", "v2", "v3", "v4"),
    "rv-16": partly(
        "free_hotplug_pgtable_page() of 7.2 runs pagetable_dtor() for all", v6_12_5="refuted", v6_12="reproduced",
        v7_2="refuted",
    ),
    "a64-1": partly(
        "VMEMMAP_START moved below the fixmap in 6.9, so that the table it shares with vmalloc holds nothing else",
        v6_12="reproduced", v5_13="refuted", v7="refuted", v6="refuted",
    ),
    "a64-2": partly(
        "asm/memory.h of each: VMEMMAP_START and VMALLOC_END",
        v7="reproduced", v6="refuted", v5_13="refuted", v6_12="refuted", v7_2="refuted",
    ),
    "a64-3": alike("reproduced", "one PUD or PMD table at most is shared", V6, V7, *TODAY),
    "a64-4": alike("reproduced", "guests of 4K and 16K pages end as they began", V7, "linux-5.13", *TODAY),
    "a64-5": alike("reproduced", "ptdump_walk_pgd() reads tables that free_empty_tables() frees", "linux-6.12"),
    "a64-6": alike("reproduced", "pfn_valid() asks memblock in 5.2", V7),
    "a64-7": alike(
        "reproduced", "unmap_hotplug_range() before free_empty_tables()",
        V6, V7, "linux-5.13", "linux-6.12.85", *TODAY,
    ),
    "a64-8": alike("answered", "\"Dropped flush_tlb_kernel_range() in remove_pagetable()\", V3", "arm64-hotremove-v5"),
    "mom-1": alike("reproduced", "32768 pages of 64 bytes", "linux-5.13", *TODAY),
    "mom-2": alike("reproduced", "captures of both ends: add_memory failed, and a panic", "linux-5.13", *TODAY),
    "mom-3": alike("reproduced", "GFP_KERNEL has no ZONE_MOVABLE", *TODAY),
    "mom-4": alike("in part", "pfn_to_online_page() asks online_section()", "linux-5.13", *TODAY),
    "mom-5": partly(
        "6.8 split adds of many blocks", v5_13="reproduced", v6_12="in part", v7_2="in part",
    ),
    "mom-6": alike("answered", "arithmetic over the whole space", "linux-5.13", *TODAY),
    "mom-7": alike("answered", "check_hotplug_memory_range() takes whole blocks", "linux-6.12"),
    "mom-8": partly(
        "try_remove_memory() of 6.1 refuses; of 6.12 goes on to release_mem_region_adjustable()",
        v5_13="reproduced", v6_1="reproduced", v6_12="refuted", v7_2="refuted",
    ),
    "mom-9": partly(
        "a capture of 6.12 dies below alloc_low_pages(); 5.13 forgets the altmap",
        v5_13="refuted", v6_12="in part", v7_2="in part",
    ),
    "mom-10": alike("answered", "can_unmap_without_split() gets arg->start_pfn", *TODAY),
    "mom-11": alike("answered", "arithmetic", "linux-5.13", *TODAY),
    "mom-12": alike("answered", "saveable_page()", "linux-5.13", *TODAY),
    "mom-13": alike("not decidable here", "time is not modelled", *TODAY),
    "mom-14": alike("reproduced", "offline_pages() compares node_present_pages", "linux-5.13", *TODAY),
    "mom-15": alike("in part", "kasan_free_pte() calls pte_free_kernel(), nobody a flush", "linux-5.13", *TODAY),
    "alt-1": alike("reproduced", "a capture of 16K pages with map=dev", "linux-5.13", *TODAY),
    "alt-2": alike("reproduced", "the two callers", "linux-6.12"),
    "alt-3": alike("refuted", "the drafted text: ptr is set again", "draft of March 2020"),
    "alt-4": alike("in part", "the drafted text: next is pmd_addr_end()", "draft of March 2020"),
    "alt-5": alike("answered", "vmemmap_populate() of arch/riscv/mm/init.c is generic", *TODAY),
    "zd-1": alike("reproduced", "altmap_alloc_block_buf() aligns to the size asked for", *TODAY),
    "zd-2": partly("memunmap_pages() puts the references of all pages since 5.18", v5_13="reproduced", v7_2="in part"),
    "zd-3": alike("answered", "SUBSECTION_SIZE", V1, "linux-5.13", *TODAY),
    "zd-4": partly(
        "riscv has no PHYSMEM_END of its own in 6.12, so that gfr_start() begins at 1 << MAX_PHYSMEM_BITS",
        v6_12="in part", v7_2="reproduced",
    ),
    "zd-5": partly("ext4_evict_inode() of 7.2 calls dax_break_layout_final()", v6_12="in part", v7_2="reproduced"),
    "zd-6": alike("reproduced", "p2pmem_alloc_mmap() calls percpu_ref_get() for each page", *TODAY),
    "f-1": alike("reproduced", "as rv-1", BEFORE),
    "f-2": alike("reproduced", "V6's change log names the mend", "arm64-hotremove-v5"),
    "f-3": alike("reproduced", "the order in remove_pmd_mapping()", "linux-7.2"),
    "f-4": alike("reproduced", "arch_add_memory() returns what __add_pages() returned", "linux-7.2"),
    "f-5": alike("reproduced", "can_unmap_without_split() gets arg->start_pfn", "linux-7.2"),
    "f-6": alike("reproduced", "has_unmovable_pages() passes over PageHWPoison", "linux-7.2"),
    "f-7": alike("reproduced", "acpi_bus_online() calls device_online()", "linux-7.2"),
    "f-8": alike("reproduced", "kpage_read() holds nothing", "linux-7.2"),
    "f-9": alike("reproduced", "virtio_mem_bbm_bb_is_movable() holds nothing", "linux-7.2"),
    "f-10": alike("reproduced", "percpu_ref_put_many() for all pages at once", "linux-7.2"),
    "f-11": alike("reproduced", "xa_load(), then get_device()", "linux-7.2"),
    "f-12": alike("reproduced", "vmemmap_pud_populate() takes no lock", "linux-6.12"),
    "f-13": alike("reproduced", "addr_splits_kernel_leaf() takes no lock", "linux-7.2"),
    "f-14": alike("reproduced", "remove_pud_mapping() clears the whole leaf", "linux-7.2"),
    "f-15": alike("reproduced", "can_unmap_without_split() asks for each block", "linux-7.2"),
    "f-16": alike("reproduced", "vmemmap_free() is empty", "linux-7.2"),
    "f-17": alike("reproduced", "pud_free_pmd_page() flushes addr to addr + PAGE_SIZE", "linux-7.2"),
    "f-18": alike("reproduced", "the vmemmap's tables have no constructor", "linux-7.2"),
    "f-19": alike("reproduced", "reparent_children_after_split() stands before __adjust_resource()", "linux-7.2"),
    "f-20": alike("reproduced", "failed_addition: memory_notify(MEM_CANCEL_ONLINE) whoever refused", "linux-7.2"),
    "f-21": alike("reproduced", "max_pfn = PFN_UP(start + size), whatever it was", "linux-7.2"),
    "f-22": alike("reproduced", "PHYSMEM_END is 1 << MAX_PHYSMEM_BITS, Sv48 ends at 1 << 47", "linux-6.12"),
    "f-23": alike("reproduced", "kasan_free_pte(): pte_free_kernel(), pmd_clear(), no flush", "linux-7.2"),
    "f-24": alike("reproduced", "release_mem_region_adjustable() wants one resource over the range", "linux-7.2"),
    "f-25": alike("reproduced", "acpi_memory_enable_device() returns ENODEV and leaves the memory in", "linux-7.2"),
    "f-26": alike("reproduced", "Only the highest zone is deferred: both zones end with the node", "linux-7.2"),
    "f-27": alike("reproduced", "pfn_to_online_page() calls pfn_section_valid() without RCU", "linux-7.2"),
    "f-28": alike("reproduced", "virtio_mem_sbm_plug_request() drops the mutex before it adds blocks", "linux-7.2"),
    "f-29": alike("reproduced", "no caller of zone_span_writelock()", "linux-7.2"),
    "f-30": alike("reproduced", "devres frees p2p_pgmap before pci_p2pdma_release() runs", "linux-7.2"),
    "f-31": alike("reproduced", "get_page_from_freelist() does not look at the index of its first zone", "linux-7.2"),
    "f-32": alike("reproduced", "online_pages_range() marks sections behind its callback", "linux-7.2"),
    "f-33": alike("reproduced", "memory_group_unregister() calls kfree(), and the walk holds no RCU", "linux-7.2"),
}  # fmt: skip
