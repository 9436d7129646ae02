"""The sizes that hotplug works in, for any configuration: what a reviewer of a new port asks first.

Section, memory block, pageblock, smallest DIMM, virtio-mem granularity, struct pages of a block, how far memory may be
plugged, what filling root entries at boot costs, and whether vmalloc and vmemmap share one.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import msgspec

from memhp.linux.choices import Arch, Area
from memhp.linux.config import Config
from memhp.linux.drivers.base.block_size import MEM_SIZE_FOR_LARGE_BLOCK, memory_block_size_bytes
from memhp.linux.layout import Layout, layout
from memhp.spans import Span
from memhp.units import GiB, MiB, align_down, div_round_up

DEVICE_BLOCK_SIZE = 2 * MiB
"""What a virtio-mem device of QEMU has on hosts with 2 MiB transparent huge pages."""


class Preallocation(msgspec.Struct, frozen=True):
    """Root entries of one area that boot fills, so that none has to be added to other processes later."""

    area: Area
    entries: int
    """Root entries that translate the area."""
    tables: int
    """Table pages allocated for it; an entry shared with an earlier area costs nothing again."""
    bytes: int
    used: int | None
    """Entries that the machine's RAM makes use of; None where that does not follow from RAM."""


class VirtioMem(msgspec.Struct, frozen=True):
    """How the guest driver of a virtio-mem device works: drivers/virtio/virtio_mem.c:virtio_mem_init_hotplug."""

    mode: Literal["sub-block", "big-block"]
    unit: int
    """Bytes that it plugs and unplugs at a time."""
    added: int
    """Bytes that it adds to and removes from Linux at a time."""


class Row(msgspec.Struct, frozen=True):
    """One configuration. Sizes are bytes, addresses physical unless said otherwise."""

    profile: str
    arch: Arch
    page_size: int
    va_bits: int
    va_bits_actual: int
    levels: int
    section_size: int
    memory_block_size: int
    memory_block_size_large: int
    """The same on bare metal with 64 GiB of RAM."""
    max_page_order: int
    pageblock_order: int
    pageblock_size: int
    smallest_dimm: int
    virtio_mem: VirtioMem | None
    """None where the kernel has no driver."""
    memmap_bytes: int
    """Struct pages of a memory block."""
    memmap_leaf_size: int
    memmap_leaves: int
    """Leaves that map them, when a chunk for each is free; one that is larger than they are is shared with others."""
    direct_map_leaf_size: int
    """0 where hardware reaches memory through a window."""
    direct_map_leaves: int
    """Leaves that map a memory block that is added alone."""
    direct_map_size: int
    """Bytes of address space for the direct map."""
    boot_limit: int
    """Boot RAM from here on is dropped."""
    pluggable_start: int
    pluggable_end: int | None
    """Memory that needs a direct map may be added in ``[start, end)``; None where the kernel checks nothing."""
    max_possible_fits: bool | None
    """Whether the direct map has room for memory up to the given maximum; None without one."""
    ram_size: int
    preallocated: list[Preallocation]
    preallocated_tables: int
    preallocated_bytes: int
    vmalloc_vmemmap_overlap: bool
    """Whether vmalloc and vmemmap share a root entry."""
    vmalloc_vmemmap_shared_levels: list[str]
    """Levels at which they share an entry, and so a table below it, from the root down."""


def virtio_mem(config: Config, memory_block_size: int, device_block_size: int) -> VirtioMem | None:
    """The driver's mode for a device with that block size: sub-blocks if at least two fit into a memory block."""
    if not config.has_virtio_mem:
        return None
    unit = max(device_block_size, config.virtio_mem_sub_block)
    if unit < memory_block_size:
        return VirtioMem("sub-block", unit, memory_block_size)
    unit = max(device_block_size, memory_block_size)
    return VirtioMem("big-block", unit, unit)


def area_span(mine: Layout, area: Area) -> Span:
    """The addresses that boot fills root entries for; empty for the shadow of a kernel without KASAN."""
    if area == "kasan":
        return Span(0, 0) if mine.kasan is None else mine.kasan.span
    named = {"vmalloc": mine.vmalloc, "modules": mine.modules, "vmemmap": mine.vmemmap, "direct map": mine.direct_map}
    return named[area].span


def root_entries(mine: Layout, span: Span) -> range:
    """Numbers of the root entries that translate `span`, counted from address 0 of the 64-bit space."""
    shift = mine.config.shift(4)
    return range(span.start >> shift, ((span.end - 1) >> shift) + 1) if span else range(0)


def preallocation(mine: Layout, ram: Span) -> list[Preallocation]:
    """What boot allocates for root entries, area by area, and how much of it `ram` (bytes) makes use of.

    riscv: arch/riscv/mm/init.c:pgtable_cache_init; x86: arch/x86/mm/init_64.c:preallocate_vmalloc_pages.
    """
    shift = mine.config.page_shift
    used: dict[Area, Span] = {
        "direct map": Span(mine.phys_to_virt(ram.start), mine.phys_to_virt(ram.start) + ram.size),
        "vmemmap": mine.memmap(ram.start >> shift, ram.end >> shift),
    }
    seen: set[int] = set()
    found = []
    for area in mine.config.choices.areas_filled_at_boot:
        entries = root_entries(mine, area_span(mine, area))
        if entries:
            tables = len(set(entries) - seen)
            seen.update(entries)
            size = tables * mine.config.page_size
            inside = len(root_entries(mine, used[area])) if area in used else None
            found.append(Preallocation(area, len(entries), tables, size, inside))
    return found


def memmap_leaf_size(config: Config) -> int:
    """Bytes of a vmemmap leaf for a whole section: a PMD, though the section fill only part of it, or a page."""
    return config.pmd_size if config.vmemmap_huge else config.page_size


def direct_map_leaf_size(config: Config, size: int) -> int:
    """Bytes of a direct-map leaf for `size` bytes that are aligned to their size and have no neighbours; 0 for none."""
    if not config.port.direct_map_in_page_tables:
        return 0
    if config.direct_map_base_pages:
        return config.page_size
    levels = config.format.levels if config.port.pud_leaves(config) else config.format.levels[:2]
    return max(level.size for level in levels if level.leaf and level.size <= size)


def shared_levels(mine: Layout) -> list[str]:
    """Levels, from the root down, at which one entry translates addresses of vmalloc and of vmemmap."""
    names = [level.name for level in mine.config.format.levels]
    return [names[height] for height in reversed(range(1, len(names))) if mine.shared_entries(height)]


def row(config: Config, ram_size: int, device_block_size: int, max_possible: int | None = None) -> Row:
    """The figures of one configuration on a machine with `ram_size` bytes of RAM at its usual place.

    `max_possible` is the end of what may ever be plugged, as ACPI's SRAT can tell (``max_possible_pfn``).
    """
    start = config.port.ram_start
    mine = layout(config, Span(start, start + ram_size))
    ram = Span(start, min(start + ram_size, mine.boot_limit))
    bare_metal = replace(config, hypervisor=False)
    block = memory_block_size_bytes(config, ram.end)
    memmap = config.memmap_bytes_per_section * (block // config.section_size)
    pluggable = mine.pluggable_range()
    filled = preallocation(mine, ram)
    leaf, direct_leaf = memmap_leaf_size(config), direct_map_leaf_size(config, block)
    return Row(
        profile=config.profile.name,
        arch=config.arch,
        page_size=config.page_size,
        va_bits=config.va_bits,
        va_bits_actual=config.va_bits_actual,
        levels=config.levels,
        section_size=config.section_size,
        memory_block_size=block,
        memory_block_size_large=memory_block_size_bytes(bare_metal, MEM_SIZE_FOR_LARGE_BLOCK),
        max_page_order=config.max_page_order,
        pageblock_order=config.pageblock_order,
        pageblock_size=config.pageblock_nr_pages * config.page_size,
        smallest_dimm=block,
        virtio_mem=virtio_mem(config, block, device_block_size),
        memmap_bytes=memmap,
        memmap_leaf_size=leaf,
        memmap_leaves=div_round_up(memmap, leaf),
        direct_map_leaf_size=direct_leaf,
        direct_map_leaves=block // direct_leaf if direct_leaf else 0,
        direct_map_size=mine.direct_map.size,
        boot_limit=mine.boot_limit,
        pluggable_start=pluggable.start,
        pluggable_end=None if config.profile.pluggable_end == "none" else align_down(pluggable.end, block),
        max_possible_fits=None if max_possible is None else max_possible <= mine.direct_mapped().end,
        ram_size=ram_size,
        preallocated=filled,
        preallocated_tables=sum(each.tables for each in filled),
        preallocated_bytes=sum(each.bytes for each in filled),
        vmalloc_vmemmap_overlap=mine.vmalloc_vmemmap_overlap,
        vmalloc_vmemmap_shared_levels=shared_levels(mine),
    )


def geometry(
    configs: Iterable[Config],
    *,
    ram_size: int = 4 * GiB,
    device_block_size: int = DEVICE_BLOCK_SIZE,
    max_possible: int | None = None,
) -> list[Row]:
    """The figures of each configuration, in the order given: see :func:`row`."""
    return [row(config, ram_size, device_block_size, max_possible) for config in configs]
