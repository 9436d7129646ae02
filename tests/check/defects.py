"""Defects, planted behind the doors' back, each of which breaks one law and no other.

A defect takes a machine as :func:`tests.check.machines.grown` makes it: the first of two added memory blocks online
in Movable, the second offline.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from check.machines import HOTPLUG_AT
from memhp.hw.memory import Owner, Use
from memhp.hw.tlb import Flush, Table
from memhp.hw.walker import Step, walk
from memhp.linux.drivers.base.memory_groups import memory_group_register_static
from memhp.linux.kernel.resource import Resource
from memhp.linux.mm.hugetlb import Hugetlb
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.mm.ptdesc import pagetable_ctor
from memhp.linux.mmzone import Zone, ZoneType
from memhp.linux.state import Kernel
from memhp.spans import Span

Defect = Callable[[Kernel], None]
KERNEL = Owner(Use.KERNEL, "driver")
MOVABLE = Owner(Use.MOVABLE, "app")


def hot_pfn(k: Kernel) -> int:
    """The first PFN of the added memory."""
    return HOTPLUG_AT >> k.config.page_shift


def movable(k: Kernel) -> Zone:
    """The zone of the online block."""
    return k.nodes[0].zones[ZoneType.MOVABLE]


def leaf_of(k: Kernel, va: int) -> Step:
    """The leaf that translates an address: its table, place and value."""
    return walk(k.hw.memory, k.hw.fmt, k.init_mm.frame, va).leaf


def set_entry(k: Kernel, frame: int, index: int, value: int) -> None:
    """Write an entry past the doors: no ledger, no TLB."""
    row = k.hw.memory.arena.row(frame)
    assert row is not None
    row[index] = value


def hot_va(k: Kernel) -> int:
    """The address of the added memory in the direct map."""
    return k.layout.phys_to_virt(HOTPLUG_AT)


def unused_root_entry(k: Kernel) -> int:
    """An empty entry of the kernel half of the root table, outside of direct map and vmemmap."""
    fmt = k.hw.fmt
    level = fmt.levels[fmt.root_height]
    row = k.hw.memory.tables(np.array([k.init_mm.frame], dtype=np.uint64))[0]
    for index in range(level.entries // 2, level.entries):
        start = fmt.canonical(index << level.shift)
        span = Span(start, start + level.size)
        areas = (k.layout.direct_map.span, k.layout.vmemmap.span)
        if not row[index] and not any(area.overlaps(span) for area in areas):
            return index
    raise AssertionError("no root entry is free")


def one_page(k: Kernel, owner: Owner) -> Span:
    """A page from the buddy."""
    (page,) = alloc_pages(k, 0, 0, owner=owner, where="test")
    return page


# Frames and owners -------------------------------------------------------------------------------------------


def free_page_is_lost(k: Kernel) -> None:
    """A free page drops out of the free lists."""
    zone = movable(k)
    first = next(iter(zone.free))
    zone.free.remove(first.start, first.start + 1)


def hole_is_listed_as_free(k: Kernel) -> None:
    """The free lists name pages behind the end of memory."""
    end = max(end for _, end, _ in k.hw.memory.owners)
    movable(k).free.add(end + 16, end + 17)


def managed_is_one_short(k: Kernel) -> None:
    """``managed_pages`` loses count."""
    movable(k).managed -= 1


def unplugged_frames_are_used(k: Kernel) -> None:
    """Somebody takes frames where there is no memory."""
    end = max(end for _, end, _ in k.hw.memory.owners)
    k.hw.retag(Span(end + 16, end + 17), KERNEL, "test")
    k.hw.memory.owners.clear(end + 16, end + 17)


def pool_counts_one_too_many(k: Kernel) -> None:
    """``free_huge_pages`` says so, as after a put of a huge page that another CPU took meanwhile."""
    k.statics(Hugetlb).free_huge_pages[Use.HUGETLB_FREE] = 1


def used_page_is_listed_as_free(k: Kernel) -> None:
    """A page that somebody uses is on the free lists."""
    first = next(iter(movable(k).free))
    k.hw.memory.owners.set(first.start, first.start + 1, MOVABLE)


def page_has_two_owners(k: Kernel) -> None:
    """A page in use is handed out once more."""
    page = one_page(k, KERNEL)
    k.hw.claim(page, MOVABLE, "test")


def page_is_freed_twice(k: Kernel) -> None:
    """A page that is free already is freed."""
    page = one_page(k, KERNEL)
    free_pages(k, [page], "test")
    k.hw.release(page, Owner(Use.FREE), "test")


# Direct map and vmemmap --------------------------------------------------------------------------------------


def direct_map_leaf_is_dropped(k: Kernel) -> None:
    """A leaf of the direct map of the online block is gone."""
    leaf = leaf_of(k, hot_va(k))
    set_entry(k, leaf.frame, leaf.index, 0)


def direct_map_leads_elsewhere(k: Kernel) -> None:
    """A leaf of the direct map maps the memory beside its own."""
    leaf = leaf_of(k, hot_va(k))
    pages = k.hw.fmt.pages_at(leaf.height)
    other = k.hw.fmt.leaf_pfn(leaf.entry, leaf.height) + pages
    changed = k.hw.fmt.attributes(leaf.entry, leaf.height) | k.hw.fmt.encode_pfn(other)
    set_entry(k, leaf.frame, leaf.index, changed)


def direct_map_is_executable(k: Kernel) -> None:
    """A leaf of the direct map lets the kernel execute data."""
    leaf = leaf_of(k, hot_va(k))
    bits = {"riscv64": {"X": 1}, "arm64": {"PXN": 1}, "x86_64": {"XD": 1}}[k.config.arch]
    set_entry(k, leaf.frame, leaf.index, leaf.entry ^ k.hw.fmt.bits(**bits))


def direct_map_is_no_ordinary_memory(k: Kernel) -> None:
    """A leaf of the direct map maps RAM as device memory."""
    leaf = leaf_of(k, hot_va(k))
    bits = {"riscv64": {"PBMT": 2}, "arm64": {"AttrIndx": 4}, "x86_64": {"PCD": 1}}[k.config.arch]
    set_entry(k, leaf.frame, leaf.index, leaf.entry | k.hw.fmt.bits(**bits))


def direct_map_of_absent_memory(k: Kernel) -> None:
    """The direct map has a leaf more than there is memory."""
    fmt = k.hw.fmt
    end = HOTPLUG_AT + 2 * k.memory_block_size
    steps = walk(k.hw.memory, fmt, k.init_mm.frame, k.layout.phys_to_virt(end - 1)).steps
    leaf, at = steps[-1], steps[-1]
    if at.index + 1 == fmt.levels[at.height].entries:
        at = steps[-2]
    prot = fmt.attributes(leaf.entry, leaf.height) & ~fmt.leaf_bits[leaf.height]
    set_entry(k, at.frame, at.index + 1, fmt.leaf_entry(end >> fmt.page_shift, at.height, prot))


def vmemmap_leaf_is_dropped(k: Kernel) -> None:
    """Struct pages of the online block are unmapped, and their storage freed, though the block is there."""
    leaf = leaf_of(k, k.layout.pfn_to_page(hot_pfn(k)))
    start = k.hw.fmt.leaf_pfn(leaf.entry, leaf.height)
    set_entry(k, leaf.frame, leaf.index, 0)
    free_pages(k, [Span(start, start + k.hw.fmt.pages_at(leaf.height))], "test")


def vmemmap_is_executable(k: Kernel) -> None:
    """A leaf of the vmemmap lets the kernel execute struct pages."""
    leaf = leaf_of(k, k.layout.pfn_to_page(hot_pfn(k)))
    bits = {"riscv64": {"X": 1}, "arm64": {"PXN": 1}, "x86_64": {"XD": 1}}[k.config.arch]
    set_entry(k, leaf.frame, leaf.index, leaf.entry ^ k.hw.fmt.bits(**bits))


def vmemmap_of_absent_memory(k: Kernel) -> None:
    """Struct pages are mapped for a section that is not there."""
    last = leaf_of(k, k.layout.pfn_to_page(hot_pfn(k) + 2 * k.pages_per_block) - 1)
    assert last.index + 1 < k.hw.fmt.levels[last.height].entries
    order = k.hw.fmt.levels[last.height].shift - k.config.page_shift
    (storage,) = alloc_pages(k, order, 0, owner=Owner(Use.MEMMAP), where="test")
    entry = k.hw.fmt.attributes(last.entry, last.height) | k.hw.fmt.encode_pfn(storage.start)
    set_entry(k, last.frame, last.index + 1, entry)


def storage_is_kept(k: Kernel) -> None:
    """Storage of struct pages that nothing maps stays allocated."""
    one_page(k, Owner(Use.MEMMAP))


def storage_is_freed_early(k: Kernel) -> None:
    """Storage of struct pages is given back while vmemmap still maps it."""
    leaf = leaf_of(k, k.layout.pfn_to_page(hot_pfn(k)))
    start = k.hw.fmt.leaf_pfn(leaf.entry, leaf.height)
    free_pages(k, [Span(start, start + k.hw.fmt.pages_at(leaf.height))], "test")


def storage_is_shared(k: Kernel) -> None:
    """Struct pages of two stretches of memory lie in the same frames."""
    step = k.hw.fmt.levels[leaf_of(k, k.layout.pfn_to_page(hot_pfn(k))).height].size
    one = leaf_of(k, k.layout.pfn_to_page(hot_pfn(k)))
    two = leaf_of(k, k.layout.pfn_to_page(hot_pfn(k)) + step)
    start = k.hw.fmt.leaf_pfn(two.entry, two.height)
    free_pages(k, [Span(start, start + k.hw.fmt.pages_at(two.height))], "test")
    set_entry(k, two.frame, two.index, one.entry)


# Page tables and translations --------------------------------------------------------------------------------


def table_leaks(k: Kernel) -> None:
    """A table frame is in no tree."""
    one_page(k, Owner(Use.TABLE))


def table_count_is_wrong(k: Kernel) -> None:
    """A table is counted that does not exist."""
    k.hw.ledger.tables_allocated[0] += 1


def entry_leads_to_no_table(k: Kernel) -> None:
    """A root entry points to a frame that holds no table."""
    page = one_page(k, KERNEL)
    set_entry(k, k.init_mm.frame, unused_root_entry(k), k.hw.fmt.table_entry(page.start))


def table_is_reached_twice(k: Kernel) -> None:
    """Two root entries point to the same table."""
    root = walk(k.hw.memory, k.hw.fmt, k.init_mm.frame, hot_va(k)).steps[0]
    set_entry(k, root.frame, unused_root_entry(k), root.entry)


def entry_is_reserved(k: Kernel) -> None:
    """An entry is valid, but of an encoding on which the hardware faults."""
    reserved = {
        "riscv64": k.hw.fmt.valid | 1 << 54,
        "arm64": k.hw.fmt.valid,
        "x86_64": k.hw.fmt.valid | 1 << 7,
    }[k.config.arch]
    set_entry(k, k.init_mm.frame, unused_root_entry(k), reserved)


def page_is_freed_before_the_flush(k: Kernel) -> None:
    """A page is freed while a translation for it, cleared but not flushed, may still be cached."""
    page = one_page(k, KERNEL)
    _translation_is_cleared(k, page)
    free_pages(k, [page], "test")


def page_is_reused_before_the_flush(k: Kernel) -> None:
    """The same, and it is handed to somebody else; the flush comes too late."""
    page = one_page(k, KERNEL)
    _translation_is_cleared(k, page)
    free_pages(k, [page], "test")
    assert one_page(k, KERNEL) == page
    k.hw.flush(Flush("flush_tlb_all", "test"))


def _translation_is_cleared(k: Kernel, page: Span) -> None:
    prot = k.hw.fmt.bits(**{"riscv64": {"R": 1}, "arm64": {"AF": 1}, "x86_64": {"A": 1}}[k.config.arch])
    old = np.array([k.hw.fmt.leaf_entry(page.start, 0, prot)], dtype=np.uint64)
    k.hw.tlb.unmap(Table(k.init_mm.frame, 0, k.layout.vmalloc.start), 0, old, "test")


def process_has_a_stale_entry(k: Kernel) -> None:
    """A root entry of a process leads to a table that the kernel does not use there."""
    root = k.pgd["init"]
    assert root.frame != k.init_mm.frame
    index = k.hw.fmt.index(hot_va(k), k.hw.fmt.root_height)
    set_entry(k, root.frame, index, k.hw.fmt.table_entry(root.frame))


def process_lacks_an_entry(k: Kernel) -> None:
    """A process does not have a root entry of the kernel's direct map."""
    index = k.hw.fmt.index(hot_va(k), k.hw.fmt.root_height)
    set_entry(k, k.pgd["init"].frame, index, 0)


# Zones, blocks, resources, memblock, locks -------------------------------------------------------------------


def present_is_wrong(k: Kernel) -> None:
    """``present_pages`` of a zone and its node count a page too many."""
    movable(k).present += 1
    k.nodes[0].present += 1


def node_does_not_add_up(k: Kernel) -> None:
    """``node_present_pages`` is not the sum of the zones."""
    k.nodes[0].present -= 1


def span_is_not_shrunk(k: Kernel) -> None:
    """A zone spans a block more than it has pages, and so does its node."""
    movable(k).spanned += k.pages_per_block
    k.nodes[0].spanned += k.pages_per_block


def pageblock_stays_isolated(k: Kernel) -> None:
    """A pageblock without free pages is left isolated."""
    zone = movable(k)
    size = k.config.pageblock_nr_pages
    pages = Span(zone.start_pfn, zone.start_pfn + size)
    zone.free.remove(*pages)
    k.hw.claim(pages, MOVABLE, "test")
    zone.isolated.add(*pages)
    zone.nr_isolate_pageblock += 1


def block_is_half_way(k: Kernel) -> None:
    """A block is left going offline."""
    _change_block(k, state="going-offline")


def block_denies_being_online(k: Kernel) -> None:
    """A block says offline while its sections and pages are online."""
    _change_block(k, state="offline")


def block_names_another_zone(k: Kernel) -> None:
    """A block says that its pages are in ZONE_NORMAL, when they are in ZONE_MOVABLE."""
    _change_block(k, zone=ZoneType.NORMAL)


def _change_block(k: Kernel, **changes: object) -> None:
    block = k.block_id(hot_pfn(k))
    device = k.memory_blocks.get(block)
    assert device is not None
    k.memory_blocks.set(block, block + 1, replace(device, **changes))  # type: ignore[arg-type]


def node_lists_a_block_that_is_gone(k: Kernel) -> None:
    """A node has a link to a memory block that does not exist."""
    gone = k.block_id(hot_pfn(k)) + 2
    assert k.memory_blocks.get(gone) is None
    k.node_states.devices[0].add(gone, gone + 1)


def group_of_a_block_is_gone(k: Kernel) -> None:
    """A memory group is dropped while a block belongs to it, past the function that would refuse to."""
    group = memory_group_register_static(k, 0, k.pages_per_block)
    _change_block(k, group=group)
    del k.memory_groups[group]


def resource_leaves_its_parent(k: Kernel) -> None:
    """A resource reaches beyond the one that it is inside of."""
    ram = _ram_of(k, HOTPLUG_AT)
    ram.children.append(Resource(ram.start, ram.end + 1, "too long", parent=ram))


def resources_are_out_of_order(k: Kernel) -> None:
    """Two neighbours in each other's place."""
    children = k.iomem_resource.children
    children[-2:] = children[:-3:-1]


def ram_resource_is_gone(k: Kernel) -> None:
    """The added memory is not in the resource tree."""
    k.iomem_resource.children.remove(_ram_of(k, HOTPLUG_AT))


def _ram_of(k: Kernel, address: int) -> Resource:
    return next(child for child in k.iomem_resource.children if child.start <= address <= child.end)


def memblock_forgot(k: Kernel) -> None:
    """memblock does not know the added memory."""
    k.memblock.memblock_remove(HOTPLUG_AT, k.memory_block_size)


def lock_is_held(k: Kernel) -> None:
    """Somebody forgot to let a lock go."""
    k.hw.lock("device_hotplug_lock")


def altmap_lost_count(k: Kernel) -> None:
    """An altmap says that a page less was handed out."""
    k.altmaps[k.block_id(hot_pfn(k))].alloc -= 1


def altmap_is_gone(k: Kernel) -> None:
    """A block hosts its memmap, but has no altmap."""
    del k.altmaps[k.block_id(hot_pfn(k))]


def page_is_marked_as_a_table(k: Kernel) -> None:
    """A constructor was run for a page of a driver."""
    pagetable_ctor(k, [one_page(k, KERNEL)])


DEFECTS: dict[str, tuple[Defect, ...]] = {
    "frames": (
        free_page_is_lost,
        hole_is_listed_as_free,
        managed_is_one_short,
        unplugged_frames_are_used,
        pool_counts_one_too_many,
    ),
    "one-owner": (used_page_is_listed_as_free, page_has_two_owners, page_is_freed_twice),
    "direct-map": (
        direct_map_leaf_is_dropped,
        direct_map_leads_elsewhere,
        direct_map_is_executable,
        direct_map_is_no_ordinary_memory,
        direct_map_of_absent_memory,
    ),
    "vmemmap": (vmemmap_leaf_is_dropped, vmemmap_is_executable, vmemmap_of_absent_memory),
    "memmap-storage": (storage_is_kept, storage_is_freed_early, storage_is_shared),
    "page-tables": (
        table_leaks,
        table_count_is_wrong,
        entry_leads_to_no_table,
        table_is_reached_twice,
        entry_is_reserved,
    ),
    "table-counts": (page_is_marked_as_a_table,),
    "flush-before-free": (page_is_freed_before_the_flush, page_is_reused_before_the_flush),
    "zones": (present_is_wrong, node_does_not_add_up, span_is_not_shrunk, pageblock_stays_isolated),
    "blocks": (
        block_is_half_way,
        block_denies_being_online,
        block_names_another_zone,
        node_lists_a_block_that_is_gone,
        group_of_a_block_is_gone,
    ),
    "resources": (resource_leaves_its_parent, resources_are_out_of_order, ram_resource_is_gone),
    "locks": (lock_is_held,),
}
"""By the law that each breaks, on any machine; the laws that need a special machine have tests of their own."""
