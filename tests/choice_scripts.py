"""What is done to a machine to show how its kernel decides, and all that can be seen of it then."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from choice_device_scripts import DEVICE_SCRIPTS
from choice_repair_scripts import REPAIR_SCRIPTS
from choice_views import digest, state
from kernels import BOOT_RAM, PLUG_AT, pfns, plug
from memhp.errors import BadInput, KernelBug, KernelError
from memhp.explore.cases import vmalloc_vs_hot_remove
from memhp.hw.memory import Owner, Use
from memhp.hw.tlb import Table
from memhp.linux.arch.arm64.mm import mmu
from memhp.linux.config import Config
from memhp.linux.drivers.base.memory_lookup import memblk_nr_poison_inc
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.base.notify import Chains
from memhp.linux.drivers.virtio.virtio_mem import virtio_mem_features
from memhp.linux.fs.proc.page import kpagecount_read
from memhp.linux.geometry import row
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.kernel.resource import Resource, request_resource
from memhp.linux.layout import layout
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType, get_dev_pagemap
from memhp.linux.mm.memory_hotplug_add import MHP_MEMMAP_ON_MEMORY, MHP_NONE, add_memory
from memhp.linux.mm.memory_hotplug_remove import offline_and_remove_memory
from memhp.linux.mm.memremap import memremap_pages, memunmap_pages, pin_pages
from memhp.linux.mm.page_alloc import take_pages_off_buddy
from memhp.linux.mm.page_isolation import start_isolate_page_range, undo_isolate_page_range
from memhp.linux.mm.ptdump import ptdump_walk_pgd
from memhp.linux.mm.rmqueue import set_pageblock_migratetype
from memhp.linux.mm.users import fragment
from memhp.linux.mm.vmalloc import vfree, vmalloc, vmalloc_huge
from memhp.linux.mm.vmap import vmap_range_noflush
from memhp.linux.mm.zone_limits import zone_limits
from memhp.linux.mmzone import MigrateType
from memhp.linux.set_memory import set_direct_map_default_noflush, set_direct_map_invalid_noflush
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, MiB
from steppers import Failing, Recorder
from virtio_mem import SECOND, attach, resize

Script = Callable[[Kernel], object]


def add(k: Kernel, size: int = 0, at: int = PLUG_AT, nid: int = 0) -> Span:
    """Memory is plugged and added: its PFNs."""
    size = size or k.memory_block_size
    span = plug(k, size, at)
    add_memory(k, nid, at, size, MHP_MEMMAP_ON_MEMORY if k.config.memmap_on_memory != "N" else MHP_NONE)
    return span


def boot(k: Kernel) -> None:
    """Nothing more."""


def life(k: Kernel) -> None:
    """Two blocks are added, go online, offline, and are removed."""
    span = add(k, 2 * k.memory_block_size)
    for block in (first := k.block_id(span.start), first + 1):
        state_store(k, block, "online_movable")
    offline_and_remove_memory(k, PLUG_AT, 2 * k.memory_block_size)


def offline(k: Kernel) -> None:
    """A block goes online and offline, and stays."""
    block = k.block_id(add(k).start)
    state_store(k, block, "online_movable")
    state_store(k, block, "offline")


def offline_in_vain(k: Kernel) -> None:
    """A block is to go offline with a page that the kernel holds, as its driver may do in ZONE_MOVABLE."""
    pages = add(k)
    state_store(k, k.block_id(pages.start), "online_movable")
    take_pages_off_buddy(k, Span(pages.start, pages.start + 1), Owner(Use.KERNEL), "test")
    state_store(k, k.block_id(pages.start), "offline")


def going_online(k: Kernel) -> None:
    """A notifier looks at the pages of a block that is about to go online."""

    def look(k: Kernel, _action: str, pfn: int, _nr: int) -> str:
        k.hw.log(repr(k.page_flags.get(pfn)))
        return ""

    k.statics(Chains).memory.append(look)
    state_store(k, k.block_id(add(k).start), "online_movable")


def remove(k: Kernel) -> None:
    """A block that never was online is removed."""
    add(k)
    offline_and_remove_memory(k, PLUG_AT, k.memory_block_size)


def far(k: Kernel) -> None:
    """A process is there, then memory far away, then another process; both read it."""
    k.port.copy_pgd(k, "old")
    at = k.layout.phys_offset + max(k.hw.fmt.levels[-1].size, 16 * GiB)
    add(k, at=at)
    k.port.copy_pgd(k, "new")
    for mm in ("new", "old"):
        k.port.kernel_access(k, mm, k.layout.phys_to_virt(at))


def area(k: Kernel) -> None:
    """A process is there, then an area of vmalloc, which the process reads."""
    k.port.copy_pgd(k, "old")
    span = vmalloc(k, k.config.page_size, "area")
    k.port.kernel_access(k, "old", span.start)


def fork(k: Kernel) -> None:
    """A process comes."""
    k.port.copy_pgd(k, "init")


def scarce(k: Kernel) -> None:
    """No chunk of 2 MiB is free when memory is added."""
    fragment(k, k.config.pmd_size, tag="fragments")
    add(k)


def device(k: Kernel, size: int = GiB, free: int | None = None, at: int = PLUG_AT) -> DevPagemap:
    """A device with struct pages, on itself if `free` pages are set aside for them."""
    frames = plug(k, size, at)
    altmap = None if free is None else VmemAltmap(frames.start, frames.end - 1, free)
    pgmap = DevPagemap(MemoryType.GENERIC, (Span(at, at + size),), altmap)
    memremap_pages(k, pgmap, 0)
    return pgmap


def altmap(k: Kernel) -> None:
    """A device keeps its own struct pages, and goes."""
    memunmap_pages(k, device(k, free=16384))


def short_altmap(k: Kernel) -> None:
    """A device has too few pages set aside for its struct pages."""
    device(k, free=300)


def scarce_altmap(k: Kernel) -> None:
    """A device has room for half of its struct pages, and none for another leaf."""
    device(k, free=600)


def part_of_a_section(k: Kernel) -> None:
    """A device covers less than a section, then another the rest of it; the first goes."""
    half = k.config.section_size // 2
    first = device(k, half)
    device(k, half, at=PLUG_AT + half)
    memunmap_pages(k, first)


def large_pages(k: Kernel) -> None:
    """A device has pages of 2 MiB."""
    plug(k, GiB)
    order = (2 * MiB // k.config.page_size).bit_length() - 1
    memremap_pages(k, DevPagemap(MemoryType.GENERIC, (Span(PLUG_AT, PLUG_AT + GiB),), vmemmap_shift=order), 0)


def shared_leaf(k: Kernel) -> None:
    """A device of less than a section, with large struct-page leaves shared by nobody, comes and goes."""
    memunmap_pages(k, device(k, k.config.section_size))


def referenced(k: Kernel) -> None:
    """Somebody holds a device's mapping while it goes."""
    pgmap = device(k)
    get_dev_pagemap(k, pfns(k, PLUG_AT, GiB).start)
    memunmap_pages(k, pgmap)


def pinned(k: Kernel) -> None:
    """Pages of a device are pinned while it goes."""
    pgmap = device(k)
    pin_pages(k, pgmap, 1)
    memunmap_pages(k, pgmap)


def dump(k: Kernel) -> None:
    """The page tables of some memory are dumped."""
    va = k.layout.phys_to_virt(BOOT_RAM[k.config.arch].start)
    ptdump_walk_pgd(k, Span(va, va + 2 * MiB))


def count(k: Kernel) -> None:
    """Somebody reads ``/proc/kpagecount``."""
    first = BOOT_RAM[k.config.arch].start >> k.config.page_shift
    kpagecount_read(k, Span(first, first + 2))


def poison(k: Kernel) -> None:
    """A poisoned page is counted for its block."""
    memblk_nr_poison_inc(k, BOOT_RAM[k.config.arch].start >> k.config.page_shift)


def huge_area(k: Kernel) -> None:
    """An area large enough for a PMD leaf."""
    vmalloc_huge(k, 2 * k.config.pmd_size, "huge")


def huge_over_small(k: Kernel) -> None:
    """A PMD leaf takes the place of tables that an area of pages left behind."""
    span = vmalloc(k, k.config.page_size, "before")
    vfree(k, "before")
    size = k.config.pmd_size
    start = span.start // size * size
    vmap_range_noflush(k, Span(start, start + size), 0, k.port.page_kernel(k), k.config.shift(1))


def huger_over_small(k: Kernel) -> None:
    """A PUD leaf takes the place of tables that an area of pages left behind."""
    span = vmalloc(k, k.config.page_size, "before")
    vfree(k, "before")
    size = k.config.pud_size
    start = span.start // size * size
    vmap_range_noflush(k, Span(start, start + size), 0, k.port.page_kernel(k), k.config.shift(2))


def huger_over_two(k: Kernel) -> object:
    """The same, where the tables lie below several entries: what may be reached through them then."""
    span = vmalloc(k, 2 * k.config.pmd_size, "before")
    vfree(k, "before")
    size = k.config.pud_size
    start = span.start // size * size
    vmap_range_noflush(k, Span(start, start + size), 0, k.port.page_kernel(k), k.config.shift(2))
    return list(k.hw.tlb.exposed_set())


def rodata_on(k: Kernel) -> object:
    """The command line says ``rodata=on``."""
    return k.port.told_config(k.config, (), (), "on").rodata_full


def node(k: Kernel) -> None:
    """A new node gets its first memory, and loses it."""
    block = k.block_id(add(k, nid=1).start)
    state_store(k, block, "online")
    offline_and_remove_memory(k, PLUG_AT, k.memory_block_size)


def node_fails(k: Kernel) -> None:
    """A new node gets its first memory, and there is no memory for its device."""
    k.hw.faults = Failing("drivers/base/node.c:register_node", 1)
    add(k, nid=1)


def no_device(k: Kernel) -> None:
    """A block that hosts its own struct pages is added, and there is no memory for its device."""
    k.hw.faults = Failing("drivers/base/memory.c:add_memory_block", 1)
    add(k)


def unremovable(k: Kernel) -> None:
    """Nobody may take memory of a virtio-mem device offline; the device is to shrink, a minute passes, then he may."""
    k.auto_online_blocks = "online_movable"
    vm = attach(k)
    resize(k, vm, 512 * MiB)
    chain = k.statics(Chains).memory
    chain.append(lambda k, action, *_: "not now" if action == "MEM_GOING_OFFLINE" else "")
    resize(k, vm, 0, 60 * SECOND)
    chain.pop()
    k.hw.advance(600 * SECOND)


def no_tables(k: Kernel) -> None:
    """The first allocation of an addition fails."""
    k.hw.faults = Failing(None, 1)
    add(k, at=PLUG_AT + 64 * GiB)


def far_life(k: Kernel) -> None:
    """Memory far away is added and removed: tables under a root entry of their own."""
    at = k.layout.phys_offset + max(k.hw.fmt.levels[-1].size, 16 * GiB)
    add(k, at=at)
    offline_and_remove_memory(k, at, k.memory_block_size)


def scarce_life(k: Kernel) -> None:
    """No chunk of 2 MiB is free when memory is added; it is removed."""
    scarce(k)
    offline_and_remove_memory(k, PLUG_AT, k.memory_block_size)


def split_resource(k: Kernel) -> None:
    """Of a range of System RAM the middle is removed, while a driver has part of the upper end."""
    size = k.memory_block_size
    add(k, 3 * size)
    ram = next(res for res in k.iomem_resource.children if res.start == PLUG_AT)
    request_resource(ram, Resource(PLUG_AT + 2 * size, PLUG_AT + 2 * size + 0xFFF, "driver"))
    offline_and_remove_memory(k, PLUG_AT + size, size)


def large_leaves(k: Kernel) -> None:
    """A block goes offline whose direct map is part of a larger leaf."""
    size = k.memory_block_size
    block = k.block_id(add(k, GiB).start)
    state_store(k, block, "online")
    state_store(k, block, "offline")
    offline_and_remove_memory(k, PLUG_AT, size)


def protect(k: Kernel) -> None:
    """A page of hot-added memory leaves the direct map, and comes back."""
    pfn = add(k).start
    set_direct_map_invalid_noflush(k, pfn)
    set_direct_map_default_noflush(k, pfn)


def hide(k: Kernel) -> None:
    """A page of hot-added memory leaves the direct map."""
    set_direct_map_invalid_noflush(k, add(k).start)


def twice(k: Kernel) -> None:
    """A page is mapped, then a block over the table that it left behind."""
    at = PLUG_AT
    plug(k, GiB, at)
    mmu.create_pgd_mapping(k, at, at + k.config.page_size, k.port.page_kernel(k))
    table, index = entry(k, k.layout.phys_to_virt(at), 0)
    k.hw.clear_run(table, index, 1, "witness")
    mmu.create_pgd_mapping(k, at, at + k.config.pmd_size, k.port.page_kernel(k))


def entry(k: Kernel, va: int, height: int) -> tuple[Table, int]:
    """The table and the index of the entry for an address at a height."""
    table = k.init_mm
    while table.height > height:
        index = k.hw.fmt.index(va, table.height)
        table = k.hw.child(table, index, int(k.hw.fmt.table_pfn(k.hw.load(table, index))))
    return table, k.hw.fmt.index(va, height)


def torn_section(k: Kernel) -> None:
    """Struct pages of half a section are base pages, for want of others; those of the other half come after."""
    half = k.config.section_size // 2
    scarce(k)
    device(k, half, at=16 * GiB)
    device(k, half, at=16 * GiB + half)


def remove_boot(k: Kernel) -> None:
    """Boot memory is removed."""
    size = k.memory_block_size
    offline_and_remove_memory(k, BOOT_RAM[k.config.arch].start + 3 * size, size)


def isolated(k: Kernel) -> None:
    """Pageblocks that are Unmovable are isolated and put back into use."""
    span = add(k)
    state_store(k, k.block_id(span.start), "online_kernel")
    zone = k.zone_of(span.start)
    assert zone is not None
    set_pageblock_migratetype(zone, span.start, span.end, MigrateType.UNMOVABLE)
    start_isolate_page_range(k, span.start, span.end)
    undo_isolate_page_range(k, span.start, span.end)


def limits(k: Kernel) -> object:
    """Where zones end on a board whose devices reach 3 GiB (``dma-ranges``)."""
    return zone_limits(k.config, Span(GiB, 9 * GiB), dma_limit=3 * GiB)


def uncached(k: Kernel) -> None:
    """A PCI BAR gets struct pages, and a direct map that is not cached."""
    plug(k, GiB)
    memremap_pages(k, DevPagemap(MemoryType.PCI_P2PDMA, (Span(PLUG_AT, PLUG_AT + GiB),)), 0)


def shared_table(k: Kernel) -> object:
    """Memory is removed whose struct pages share an empty table with vmalloc."""
    other = vmalloc_vs_hot_remove.boot(k.config)
    before = dict(other.hw.ledger.tables_freed)
    vmalloc_vs_hot_remove.hot_remove(other)
    return before, dict(other.hw.ledger.tables_freed), list(state(other))


def features(k: Kernel) -> object:
    """What the virtio-mem driver offers to a device."""
    return virtio_mem_features(k)


def geometry(k: Kernel) -> object:
    """The figures of ``memhp geometry``, and the layout."""
    start = BOOT_RAM[k.config.arch].start
    return row(k.config, 4 * GiB, 2 * MiB), replace(layout(k.config, Span(start, start + 4 * GiB)), config=None)  # type: ignore[arg-type]


SCRIPTS: dict[str, Script] = {
    each.__name__: each
    for each in (
        boot, life, offline, going_online, remove, far, area, fork, scarce, altmap, short_altmap, scarce_altmap,
        part_of_a_section, large_pages, shared_leaf, referenced, pinned, dump, count, poison, huge_area,
        huge_over_small,
        huger_over_small, node, node_fails, no_device, unremovable, no_tables, geometry, far_life, scarce_life,
        split_resource, large_leaves, protect, hide, twice, torn_section, remove_boot, limits, isolated, uncached,
        shared_table, features, offline_in_vain,
        huger_over_two, rodata_on,
    )
} | DEVICE_SCRIPTS | REPAIR_SCRIPTS  # fmt: skip


def seen_of(config: Config, script: str, *, stepped: bool, nodes: int = 2) -> str:
    """All that is seen of a script on a machine, as a digest; or why there is no such machine."""
    try:
        config.validate()
    except BadInput as error:
        return str(error)
    ram = BOOT_RAM[config.arch]
    spec = MachineSpec("small", config, (Ram(ram.start, ram.size),), nodes=tuple(range(nodes)))
    k = start_kernel(spec)
    k.statics(Chains).memory.append(lambda k, action, *_: k.hw.log(action) or "")
    k.statics(Chains).node.append(lambda k, action, *_: k.hw.log(action) or "")
    steps: list[str] = []
    said = ""
    with _recording(k, steps) if stepped else _plainly():
        try:
            said = repr(SCRIPTS[script](k))
        except (KernelError, KernelBug) as error:
            said = f"{type(error).__name__}: {error}"
    return digest(said, *steps, *state(k))


@contextmanager
def _plainly() -> Iterator[None]:
    yield


@contextmanager
def _recording(k: Kernel, steps: list[str]) -> Iterator[None]:
    k.hw.stepper = seen = Recorder()
    try:
        yield
    finally:
        k.hw.stepper = None
        steps += [f"{each.kind} {each.target} {each.value}" for each in seen.accesses]
