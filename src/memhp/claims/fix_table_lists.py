"""Fixes that are known by the kernel's mailing lists, and those that changelogs name elsewhere than where one looks.

Their titles stand in pull requests, announcements of point releases and reviews of stable series; so do the point
releases, of which more may have taken a fix than are named here. What a release brought and mended itself has no row.
As in :mod:`memhp.claims.fix_table`.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.claims import fix_witnesses_arch
from memhp.claims.fix import Called, Fix
from memhp.linux.release import between, since

DEBUG_PAGEALLOC = "pages that the buddy has stay mapped here, as without debug_pagealloc"
NO_VMEMMAP = "all builds here have SPARSEMEM_VMEMMAP"
ISOLATED = "hugetlb pages do not come and go while others look at them here"
DAX_FILES = "the files of a dax device's driver are not"
LARGE_LEAVES = {"bbml2": True}

LISTED_GENERIC: tuple[Fix, ...] = (
    Fix(
        since("5.1", True, "mm/hotplug: fix an imbalance with DEBUG_PAGEALLOC"),
        "With debug_pagealloc=on, memory that comes online once more is unmapped twice: a panic on powerpc.",
        "not modelled",
        DEBUG_PAGEALLOC,
    ),
    Fix(
        since("5.1", True, "mm/hotplug: fix offline undo_isolate_page_range()"),
        "Each offline leaves the zone's count of isolated pageblocks too high: the allocator is slower for good.",
        "not modelled",
        "offlining takes that count down, as since",
    ),
    Fix(
        since("5.1", True, "mm/hotplug: fix notification in offline error path"),
        "After an offline that failed at once, drivers are told of a range that nobody has set: warnings, or worse.",
        "not modelled",
        "notifiers are always told the range that they were told before",
    ),
    Fix(
        since("5.1", True, "mm/page_isolation.c: fix a wrong flag in set_migratetype_isolate()"),
        "The page that keeps a memory block from going offline is not logged, and one with a memory error keeps it.",
        "not modelled",
        "the flags are handed on as since",
        broken_since="5.0",
    ),
    Fix(
        since("5.2", True, "mm/memory_hotplug.c: fix the wrong usage of N_HIGH_MEMORY", ("5.1.10",)),
        "Nothing: two constants of one value were mixed up, and in kernels of 32 bits only.",
        "not reachable",
        "all kernels here have 64 bits",
        broken_since="5.0",
    ),
    Fix(
        since("5.3", True, "mm/hmm: fix ZONE_DEVICE anon page mapping reuse"),
        "A page of a device that has been freed keeps its former mapping: a crash when it is used again.",
        "not modelled",
        "page->mapping is not",
    ),
    Fix(
        since("5.4", True, "mm/memory_hotplug: make sure the pfn is aligned to the order when onlining"),
        "Memory that does not begin at a multiple of the largest order goes to the buddy in misaligned pieces.",
        "not reachable",
        "what goes online are whole memory blocks",
        broken_since="5.1",
    ),
    Fix(
        since("5.4", True, "mm/sparse.c: fix ALIGN() without power of 2 in sparse_buffer_alloc()"),
        "Boot puts struct pages into overlapping places where those of a section are no power of two.",
        "not modelled",
        "the buffer is cut as since",
    ),
    Fix(
        since("5.4", True, "mm/sparse.c: fix memory leak of sparsemap_buf in aligned memory"),
        "Boot loses what it skips to align struct pages.",
        "not modelled",
        "the buffer is cut as since",
    ),
    Fix(
        since("5.5", True, "mm/sparse.c: mark populate_section_memmap as __meminit", ("5.4.9",)),
        "The build warns of a function of hotplug that calls one of boot.",
        "not reachable",
        "nothing goes wrong at run time",
        broken_since="5.3",
    ),
    Fix(
        since("5.6", True, "mm/sparsemem: pfn_to_page is not valid yet on SPARSEMEM", ("5.4.23", "5.5.7")),
        "Without a virtual memmap, adding memory reads the struct pages of a section that has none.",
        "not reachable",
        NO_VMEMMAP,
        broken_since="5.3",
    ),
    Fix(
        since("5.6", True, "mm/hotplug: fix hot remove failure in SPARSEMEM|!VMEMMAP case", ("5.4.28", "5.5.12")),
        "Without a virtual memmap, removing memory is an oops.",
        "not reachable",
        NO_VMEMMAP,
        broken_since="5.3",
    ),
    Fix(
        since(
            "5.6",
            True,
            "mm, hotplug: fix page online with DEBUG_PAGEALLOC compiled but not enabled",
            ("5.4.25", "5.5.9"),
        ),
        "s390: onlining is a crash in kernels built with DEBUG_PAGEALLOC that do not use it.",
        "not reachable",
        "no architecture here minds a page that is mapped twice",
        broken_since="5.1",
    ),
    Fix(
        between("5.5", "5.7", True, "mm/hotplug: Only respect mem= parameter during boot stage"),
        "With mem= on the command line no memory can be added above it: E2BIG.",
        "not modelled",
        "mem= limits boot memory only here",
        broken_since="5.0",
    ),
    Fix(
        since("5.10", True, "mm/page_isolation: don't dump_page(NULL) in set_migratetype_isolate()"),
        "An offline that fails for no page in particular is a NULL pointer when the page is to be logged.",
        "not reachable",
        "there is no refusal without a page but one that does not log any",
        broken_since="5.8",
    ),
    Fix(
        since("5.10", True, "mm/mremap_pages: fix static key devmap_managed_key updates"),
        "Each change of a device from devdax to system-ram counts a switch down that it did not count up: warnings.",
        "not modelled",
        "static keys are not",
        broken_since="5.3",
    ),
    Fix(
        since("5.14", True, "mm/memory_hotplug: fix potential permanent lru cache disable", ("5.13.14",)),
        "After an offline that failed, CPUs keep no lists of pages that are to go to the LRU: slower for good.",
        "not modelled",
        "CPUs' own lists of pages are not",
        broken_since="5.13",
    ),
    Fix(
        since("5.16", True, "mm/page_isolation: fix potential missing call to unset_migratetype_isolate()"),
        "Pageblocks that begin with a hole stay isolated after an offline that failed.",
        "not reachable",
        "memory with a hole does not get so far",
    ),
    Fix(
        since("5.19", True, "mm: fix missing wake-up event for FSDAX pages", ("5.18.16",)),
        "Who waits for a page of a file on pmem to be unpinned waits for ever: truncation hangs.",
        "not modelled",
        "waiters are woken as since",
    ),
    Fix(
        since("6.1", True, "mm/memremap.c: take a pgmap reference on page allocation"),
        "A device's mapping goes while pages that were allocated from it are in use.",
        "not modelled",
        "pages are allocated with their reference as since",
        broken_since="5.18",
    ),
    Fix(
        since("6.1", True, "mm: free device private pages have zero refcount"),
        "A free private page of a device cannot be told from one in use: who asks for a reference gets one.",
        "not modelled",
        "free pages of a device have no reference here, as since",
        broken_since="5.18",
    ),
    Fix(
        since("6.4", True, "mm/vmemmap/devdax: fix kernel crash when probing devdax devices"),
        "A dax device with large pages gets too few struct pages on architectures that have not asked to save them.",
        "not reachable",
        "no architecture here crashes of it: powerpc with hash page tables does",
        broken_since="5.19",
    ),
    Fix(
        since("6.11", True, "mm/memory_hotplug: prevent accessing by index=-1"),
        "The zone of memory without a node is chosen with an address from before the table of nodes.",
        "not reachable",
        "what is read from there is not used",
        broken_since="5.16",
    ),
    Fix(
        since("6.15", True, "mm/memory_hotplug: fix call folio_test_large with tail page in do_migrate_range"),
        "A kernel with checks of struct pages (DEBUG_VM) stops with a BUG when it migrates pages that are being split.",
        "not modelled",
        "the checks of DEBUG_VM are not",
    ),
    Fix(
        since("6.15", True, "mm: page_isolation: avoid calling folio_hstate() without hugetlb_lock"),
        "Offlining is a NULL pointer when a hugetlb page is freed while it is looked at.",
        "not modelled",
        ISOLATED,
    ),
)

LISTED_DRIVERS: tuple[Fix, ...] = (
    Fix(
        since("5.2", True, "mm/memory_hotplug: Do not unlock when fails to take the device_hotplug_lock"),
        "A write to `probe` that comes while memory is being changed lets go of a lock that another one has.",
        "not modelled",
        "the lock is asked for as since",
        broken_since="5.0",
    ),
    Fix(
        since("5.7", True, "device-dax: don't leak kernel memory to user space after unloading kmem"),
        "A device that was RAM and is a dax device again shows user space what the kernel had in it.",
        "not modelled",
        "what is in memory is not",
        broken_since="5.1",
    ),
    Fix(
        since("5.11", True, "device-dax/core: Fix memory leak when rmmod dax.ko", ("5.10.4",)),
        "Unloading the module dax loses what its device numbers were kept in.",
        "not modelled",
        "modules are there for good",
    ),
    Fix(
        since("5.12", True, "device-dax: Fix default return code of range_parse()", ("5.10.20", "5.11.3")),
        "A range that cannot be read is taken as done when it is written to a dax device's `mapping`.",
        "not modelled",
        DAX_FILES,
        broken_since="5.10",
    ),
    Fix(
        since("5.12", True, "device-dax: Properly handle drivers without remove callback"),
        "Unbinding a dax driver without a remove method follows a null pointer.",
        "not reachable",
        "both drivers, device_dax and kmem, have one",
    ),
    Fix(
        since("5.12", True, "device-dax: Fix error path in dax_driver_register"),
        "A dax driver that could not be registered is still the one for all devices.",
        "not modelled",
        "drivers are there from boot on",
    ),
    Fix(
        since("5.13", True, "node: fix device cleanups in error handling code", ("5.10.37", "5.11.21", "5.12.4")),
        "A node's cache whose device cannot be registered is freed twice.",
        "not modelled",
        "memory-side caches are not",
        broken_since="5.2",
    ),
    Fix(
        since("5.14", True, "virtio-mem: don't read big block size in Sub Block Mode"),
        "The driver reads the size of big blocks where a counter of memory blocks is.",
        "not reachable",
        "the counter is zero by then, which changes nothing",
        broken_since="5.11",
    ),
    Fix(
        since("6.0", True, "drivers/base: fix userspace break from using bin_attributes for cpumap and cpulist"),
        "A node's cpumap and cpulist have the size 0, so that tools which go by the size read nothing.",
        "not modelled",
        "the size that stat() tells of a file is not",
        broken_since="5.15",
    ),
    Fix(
        since("6.5", True, "dax: Introduce alloc_dev_dax_id()", ("6.1.39",)),
        "The last use of a dax device asks its region, which may have gone, whose number it has.",
        "not modelled",
        "devices get their numbers from who makes them",
        broken_since="5.10",
    ),
    Fix(
        since("6.8", True, "base/node.c: initialize the accessor list before registering", ("6.1.75", "6.6.14")),
        "A node that comes while somebody looks for its neighbours is a null pointer.",
        "not modelled",
        "how nodes reach each other's memory is not",
        broken_since="5.2",
    ),
    Fix(
        since("6.10", True, "dax/bus.c: replace WARN_ON_ONCE() with lockdep asserts"),
        "A lock that nobody holds is told once in every kernel, not each time in those with lockdep.",
        "not modelled",
        "lockdep is not",
        broken_since="6.9",
    ),
    Fix(
        since("6.10", True, "dax/bus.c: fix locking for unregister_dax_dev / unregister_dax_mapping paths"),
        "A dax device that a driver has, or that still has memory, can be deleted.",
        "not modelled",
        DAX_FILES,
        broken_since="6.9",
    ),
    Fix(
        since("6.10", True, "dax/bus.c: don't use down_write_killable for non-user processes"),
        "A dax device stays when the task that unbinds its region is being killed.",
        "not modelled",
        "no task is killed here",
        broken_since="6.9",
    ),
    Fix(
        since("6.10", True, "dax/bus.c: use the right locking mode (read vs write) in size_show"),
        "Readers of a dax device's size wait for each other.",
        "not modelled",
        DAX_FILES,
        broken_since="6.9",
    ),
)

LISTED_ARCHITECTURES: tuple[Fix, ...] = (
    Fix(
        since("5.2", True, "x86/mm/KASLR: Compute the size of the vmemmap section properly", ("5.1.12",)),
        "With 5 levels and more than 64 TiB of RAM, KASLR lets the vmemmap overlap what lies behind it.",
        "not modelled",
        "KASLR's choice of addresses is not",
    ),
    Fix(
        since("5.18", True, "x86/mm: Fix marking of unused sub-pmd ranges", ("5.15.41", "5.17.9")),
        "Where struct pages of sections share a 2 MiB leaf (builds whose struct page has not 64 bytes), it stays "
        "allocated when memory goes that begins within it.",
        "shown",
        broken_since="5.13",
        witness=Called(
            fix_witnesses_arch.block_that_begins_within_a_leaf_goes,
            "x86_64",
            {"vmemmap_mark": "behind-start"},
            {"vmemmap_mark": "before-start"},
            options={"struct_page_size": 56},
        ),
    ),
    Fix(
        since("5.18", True, "arm64/mm: avoid fixmap race condition when create pud mapping", ("5.15.33",)),
        "Memory that virtio-mem adds while boot makes the kernel's text read-only gets a broken direct map.",
        "not modelled",
        "nothing is added before boot is over",
    ),
    Fix(
        since("6.19", True, "arm64/mm: Allow __create_pgd_mapping() to propagate pgtable_alloc() errors", ("6.18.2",)),
        "arm64: memory is added when there is no page for a page table: a BUG, where an error would do.",
        "shown",
        witness=Called(
            fix_witnesses_arch.tables_are_short, "arm64", {"create_may_fail": False}, {"create_may_fail": True}
        ),
    ),
    Fix(
        since("7.1", True, "arm64/mm: Reject memory removal that splits a kernel leaf mapping"),
        "arm64 with BBML2: a memory block goes that is mapped by one leaf with its neighbours, which lose their "
        "mapping.",
        "shown",
        broken_since="5.7",
        witness=Called(
            fix_witnesses_arch.block_within_a_leaf_goes,
            "arm64",
            {"bootmem_remove": "notifier"},
            {"bootmem_remove": "notifier-and-split-check"},
            "7.2",
            LARGE_LEAVES,
        ),
    ),
    Fix(
        since("7.1", True, "arm64: mm: Handle invalid large leaf mappings correctly", ("6.18.24", "6.19.14", "7.0.1")),
        "arm64 with BBML2: memory goes, or a leaf is split, of which a whole leaf was made invalid: the kernel takes "
        "the leaf for a page table.",
        "shown",
        broken_since="6.18",
        witness=Called(
            fix_witnesses_arch.memory_with_an_invalid_leaf_goes,
            "arm64",
            {"present_invalid": False},
            {"present_invalid": True},
            "7.2",
            LARGE_LEAVES,
        ),
    ),
)
