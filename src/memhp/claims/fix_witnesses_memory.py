"""What goes wrong with memory on kernels that lack a fix: as in :mod:`memhp.claims.fix_witnesses`."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

from memhp.claims.fix_witnesses import AT, bug_of, laws, small_machine
from memhp.errors import KernelError
from memhp.explore.cases.actors import pfns
from memhp.hw.lifetime import SlabObject
from memhp.hw.memory import Owner, Use
from memhp.linux.config import Bases, Config
from memhp.linux.drivers.base.memory_lookup import find_memory_block_by_id, memory_block_put
from memhp.linux.drivers.base.memory_state import memory_block, state_store
from memhp.linux.fs.proc.page import kpagecount_read
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.lib.fault_inject import FailNth
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType
from memhp.linux.mm.memory_failure import memory_failure
from memhp.linux.mm.memory_hotplug_add import MHP_MEMMAP_ON_MEMORY, MHP_NONE, add_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.mm.memremap import memremap_pages
from memhp.linux.mm.sparse import pfn_to_online_page
from memhp.linux.mmzone import ZoneType
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, MiB, TiB

NODES = (0, 1)


def _plug(k: Kernel, at: int, blocks: int = 1, *, nid: int = 0, flags: int = MHP_NONE) -> list[int]:
    """So many memory blocks are plugged and added at `at`: their ids."""
    size = k.memory_block_size
    span = Span(at, at + blocks * size)
    k.hw.plug(pfns(k, span), Owner(Use.DEVICE, "dimm"))
    add_memory(k, nid, at, span.size, flags)
    return list(range(at // size, at // size + blocks))


def _remove(k: Kernel, block_id: int) -> str:
    """Remove one memory block: the bug that this ends in."""
    return bug_of(lambda: remove_memory(k, block_id * k.memory_block_size, k.memory_block_size))


def memory_far_up_goes_online(config: Config) -> str:
    """A memory block above 16 TiB, from where on the numbers of 4K pages have more than 32 bits, goes online."""
    k = small_machine(config)
    (block,) = _plug(k, 16 * TiB + GiB // 2)
    state_store(k, block, "online_kernel")
    zone = memory_block(k, block).zone
    return "" if zone is ZoneType.NORMAL else f"memory above 16 TiB went to zone {zone.title if zone else 'none'}"


def online_memory_is_to_go(config: Config) -> str:
    """Somebody removes memory of which a block is online."""
    k = small_machine(config)
    (block,) = _plug(k, AT)
    state_store(k, block, "online_movable")
    return _remove(k, block)


def first_block_of_a_node_goes(config: Config) -> str:
    """A node has two memory blocks that never were online, and loses one of them, then the other."""
    k = small_machine(config, nodes=NODES)
    blocks = _plug(k, AT, 2, nid=1)
    return _remove(k, blocks[0]) or _remove(k, blocks[1])


def memory_never_online_goes(config: Config) -> str:
    """A memory block is removed that never was online."""
    k = small_machine(config)
    (block,) = _plug(k, AT)
    return _remove(k, block)


def memory_beside_memory_never_online_goes(config: Config) -> str:
    """The last of three memory blocks of a zone goes; the search for the new end comes by one that never was online."""
    k = small_machine(config)
    blocks = _plug(k, AT, 3)
    state_store(k, blocks[0], "online_movable")
    state_store(k, blocks[2], "online_movable")
    state_store(k, blocks[2], "offline")
    return _remove(k, blocks[2])


def node_shrinks(config: Config) -> str:
    """Memory goes offline: where does its node begin then?"""
    k = small_machine(config)
    (block,) = _plug(k, AT)
    before = k.nodes[0].start_pfn
    state_store(k, block, "online_movable")
    state_store(k, block, "offline")
    after = k.nodes[0].start_pfn
    return "" if after == before else f"node 0 begins at PFN {before:#x}, and at {after:#x} once a block went offline"


def boot_memory_goes_twice(config: Config) -> str:
    """Memory of boot is removed, added again, and removed again."""
    k = small_machine(config)
    block = GiB // 2 // k.memory_block_size
    state_store(k, block, "offline")
    first = _remove(k, block)
    add_memory(k, 0, block * k.memory_block_size, k.memory_block_size, MHP_NONE)
    return first or _remove(k, block)


def _device_of(k: Kernel, block: int) -> SlabObject:
    """What the device of a memory block is embedded in."""
    dev = find_memory_block_by_id(k, block)
    assert dev is not None
    memory_block_put(k, dev)
    return dev.slab


def _not_freed(device: SlabObject) -> str:
    return "" if device.freed_by else f"{device.name} went, and its device is never freed"


def poisoned_block_goes(config: Config) -> str:
    """A page of a memory block goes bad; the block goes offline and is removed."""
    k = small_machine(config)
    (block,) = _plug(k, AT)
    state_store(k, block, "online_movable")
    device = _device_of(k, block)
    memory_failure(k, AT >> config.page_shift)
    state_store(k, block, "offline")
    return _remove(k, block) or _not_freed(device)


def block_with_its_own_memmap_goes(config: Config) -> str:
    """A memory block that hosts its own struct pages is removed."""
    k = small_machine(config)
    (block,) = _plug(k, AT, flags=MHP_MEMMAP_ON_MEMORY)
    device = _device_of(k, block)
    return _remove(k, block) or _not_freed(device)


def block_with_its_own_memmap_gets_no_device(config: Config) -> str:
    """A memory block that is to host its own struct pages gets no device."""
    k = small_machine(config)
    k.hw.faults = FailNth("add_memory_block")
    lines = len(k.hw.log_lines)
    bug = bug_of(lambda: _plug(k, AT, flags=MHP_MEMMAP_ON_MEMORY))
    warned = [line.text for line in k.hw.log_lines[lines:] if line.text.startswith("WARNING")]
    return bug or laws(k) or "; ".join(warned)


def offline_memory_is_counted(config: Config) -> str:
    """Somebody reads ``/proc/kpagecount`` of memory that never was online."""
    k = small_machine(config)
    _plug(k, AT)
    page = AT >> config.page_shift
    return bug_of(lambda: kpagecount_read(k, Span(page, page + 1)))


def offline_memory_goes_bad(config: Config) -> str:
    """A page of memory that never was online goes bad."""
    k = small_machine(config)
    _plug(k, AT)
    return bug_of(lambda: memory_failure(k, AT >> config.page_shift))


def page_behind_the_end_of_ram(config: Config) -> str:
    """RAM ends within a section, whose last struct page somebody reads who goes from page to page."""
    k = small_machine(config, end=2 * GiB - MiB)
    page = (2 * GiB >> config.page_shift) - 1
    if pfn_to_online_page(k, page) and k.zone_of(page) is None:
        return "the struct page behind the end of RAM counts as online, and was never initialised"
    return ""


def interleaved_nodes_boot(config: Config) -> str:
    """One node has memory below and above that of another: whose are the memory blocks in between?"""
    ram = (Ram(MiB, GiB - MiB), Ram(GiB, GiB, nid=1), Ram(2 * GiB, GiB))
    k = start_kernel(MachineSpec("interleaved", config, ram, nodes=NODES))
    wrong = k.node_states.devices[0].covered(GiB // k.memory_block_size, 2 * GiB // k.memory_block_size)
    return f"{wrong} memory blocks of node 1 stand below node 0 as well" if wrong else ""


def lower_memory_comes_last(config: Config) -> str:
    """Memory is added, then some below it: can the pages of the first still be counted?"""
    k = small_machine(config)
    (block,) = _plug(k, 2 * AT)
    state_store(k, block, "online_movable")
    _plug(k, AT)
    page = 2 * AT >> config.page_shift
    seen = kpagecount_read(k, Span(page, page + 1))
    return "" if seen else f"/proc/kpagecount ends before PFN {page:#x}, which is online"


def memory_of_a_device_comes(config: Config) -> str:
    """A device's memory gets struct pages, above all RAM: does the kernel count it as memory that DMA must reach?"""
    k = small_machine(config)
    before, span = k.max_pfn, Span(AT, AT + GiB)
    k.hw.plug(pfns(k, span), Owner(Use.DEVICE, "device"))
    memremap_pages(k, DevPagemap(MemoryType.GENERIC, (span,)), 0)
    return "" if k.max_pfn == before else f"max_pfn was {before:#x} and is {k.max_pfn:#x}, the end of a device's memory"


def ram_starts_within_a_section(config: Config) -> str:
    """RAM starts 32 MiB behind the start of a section, whose struct pages are all there."""
    start = (config.port.ram_start or 2 * GiB) + 32 * MiB
    k = start_kernel(MachineSpec("late", config, (Ram(start, GiB),)))
    first = k.section_nr(start >> config.page_shift) * config.pages_per_section
    va = k.layout.pfn_to_page(first)
    return "" if va in k.layout.vmemmap else f"the struct page of PFN {first:#x} is at {va:#x}, outside the vmemmap"


def ram_starts_high(config: Config) -> str:
    """RAM starts so far up that struct pages counted from PFN 0 do not fit the vmemmap."""
    start = 1 << (config.va_bits - 1)
    k = start_kernel(MachineSpec("high", config, (Ram(start, GiB),)))
    va = k.layout.pfn_to_page(start >> config.page_shift)
    return "" if va in k.layout.vmemmap else f"struct pages of RAM at {start:#x} are at {va:#x}, outside the vmemmap"


def memory_where_none_can_be_mapped(config: Config) -> str:
    """Memory is added at an address that the direct map does not reach."""
    k = small_machine(config)
    return bug_of(lambda: _plug(k, k.layout.direct_mapped().end)) or laws(k)


def memory_under_a_random_direct_map(config: Config) -> str:
    """Memory is added on a machine whose boot drew a direct map that starts 64 GiB below address 0."""
    k = small_machine(replace(config, bases=Bases(memstart_addr=-64 * GiB)))
    try:
        _plug(k, AT)
    except KernelError as error:
        return error.reason
    return laws(k)


SHORT = Bases(page_offset=0xFFFF_9C00_0000_0000, vmalloc_start=0xFFFF_A500_0000_0000, physmem_end=8 * TiB - 1)
"""What a boot with KASLR may draw: a direct map of 8 TiB, and the vmalloc area 1 TiB behind it."""


def memory_behind_a_short_direct_map(config: Config) -> str:
    """Memory is added at 9 TiB, as that is below what the CPU can address."""
    k = small_machine(config)
    va = k.layout.phys_to_virt(9 * TiB)
    try:
        _plug(k, 9 * TiB)
    except KernelError:
        return ""
    return f"its direct map is at {va:#x}, in the vmalloc area" if va in k.layout.vmalloc else ""
