"""memblock, which knows the machine's memory from the first instruction on: ``mm/memblock.c``.

Two maps of byte addresses: what is memory, and what of it is reserved. Neighbouring runs with the same node and flags
are one region, as the kernel keeps its arrays minimal. The arrays themselves, which the kernel doubles when they are
full, are not modelled.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from memhp.hw.format import U64
from memhp.spans import Span, SpanMap
from memhp.units import align_down, align_up

KERNEL_FILE = "mm/memblock.c"
MEMBLOCK_NONE = 0x0
MEMBLOCK_HOTPLUG = 0x1
MEMBLOCK_MIRROR = 0x2
MEMBLOCK_NOMAP = 0x4
MEMBLOCK_DRIVER_MANAGED = 0x8
MEMBLOCK_RSRV_NOINIT = 0x10
MEMBLOCK_RSRV_KERN = 0x20

NUMA_NO_NODE = -1
PHYS_ADDR_MAX = (1 << 64) - 1
MEMBLOCK_ALLOC_ANYWHERE = PHYS_ADDR_MAX
MEMBLOCK_ALLOC_ACCESSIBLE = 0
"""As the `end` of an allocation: up to ``Memblock.current_limit``."""
SMP_CACHE_BYTES = 64


class Attributes(NamedTuple):
    """What all of one region has in common."""

    nid: int = NUMA_NO_NODE
    flags: int = MEMBLOCK_NONE


Regions = SpanMap[Attributes]
"""Byte address → attributes."""


def _end(base: int, size: int) -> int:
    """The end of a range, cut at the top of the address space: ``memblock_cap_size()``."""
    return base + min(size, PHYS_ADDR_MAX - base)


def memblock_add_range(regions: Regions, base: int, size: int, nid: int, flags: int) -> None:
    """``memblock_add_range()``: add what of the range is not there yet. What is there keeps its node and flags."""
    for gap in list(regions.gaps(base, _end(base, size))):
        regions.set(gap.start, gap.end, Attributes(nid, flags))


def memblock_set_node(regions: Regions, base: int, size: int, nid: int) -> None:
    """``memblock_set_node()``: give the parts of the range that are regions to a node."""
    for start, end, old in list(regions.runs(base, _end(base, size))):
        regions.set(start, end, old._replace(nid=nid))


def memblock_setclr_flag(regions: Regions, base: int, size: int, flag: int, *, clear: bool = False) -> None:
    """``memblock_setclr_flag()``: set or clear a flag on the parts of the range that are regions."""
    for start, end, old in list(regions.runs(base, _end(base, size))):
        regions.set(start, end, old._replace(flags=old.flags & ~flag if clear else old.flags | flag))


class _Place(NamedTuple):
    """Where an allocation goes: the address, the free bytes it was taken from, the node that was asked for."""

    addr: int
    free: Span
    nid: int


@dataclass
class Memblock:
    """``struct memblock``, the boot parameters that steer it, and the functions over it by their kernel names."""

    page_size: int
    """Bytes. Allocations keep clear of page 0, and PFN ranges are whole pages of this size."""
    memory: Regions = field(default_factory=SpanMap)
    reserved: Regions = field(default_factory=SpanMap)
    bottom_up: bool = False
    current_limit: int = MEMBLOCK_ALLOC_ANYWHERE
    """Highest address, exclusive, that ``MEMBLOCK_ALLOC_ACCESSIBLE`` reaches."""
    movable_node: bool = False
    """``movable_node``: keep allocations out of hotpluggable memory."""
    mirror: bool = False
    """``system_has_some_mirror``: try mirrored memory first."""
    rsrv_kern: bool = False
    """Whether allocations are marked ``MEMBLOCK_RSRV_KERN`` with their node (7.2), so that they stay apart from plain
    reservations, or look the same (6.12)."""

    def memblock_add_node(self, base: int, size: int, nid: int, flags: int = MEMBLOCK_NONE) -> None:
        """`size` bytes from `base` are memory of a node; where memory is already there, it stays as it is."""
        memblock_add_range(self.memory, base, size, nid, flags)

    def memblock_remove(self, base: int, size: int) -> None:
        """The range is no memory any more. Reservations stay."""
        self.memory.clear(base, _end(base, size))

    def memblock_reserve(self, base: int, size: int, nid: int = NUMA_NO_NODE, flags: int = MEMBLOCK_NONE) -> None:
        """No allocation may take the range."""
        memblock_add_range(self.reserved, base, size, nid, flags)

    def memblock_phys_free(self, base: int, size: int) -> None:
        """Take a reservation back, whoever made it."""
        self.reserved.clear(base, _end(base, size))

    def memblock_mark_hotplug(self, base: int, size: int) -> None:
        """The firmware says that this memory may go."""
        memblock_setclr_flag(self.memory, base, size, MEMBLOCK_HOTPLUG)

    def memblock_clear_hotplug(self, base: int, size: int) -> None:
        """Forget that."""
        memblock_setclr_flag(self.memory, base, size, MEMBLOCK_HOTPLUG, clear=True)

    def memblock_mark_mirror(self, base: int, size: int) -> None:
        """Under ``kernelcore=mirror``: allocations prefer this memory from now on."""
        self.mirror = True
        memblock_setclr_flag(self.memory, base, size, MEMBLOCK_MIRROR)

    def memblock_mark_nomap(self, base: int, size: int) -> None:
        """Keep this memory out of the direct map."""
        memblock_setclr_flag(self.memory, base, size, MEMBLOCK_NOMAP)

    def memblock_is_memory(self, addr: int) -> bool:
        """Whether a byte is memory, mapped or not."""
        return self.memory.get(addr) is not None

    def memblock_is_map_memory(self, addr: int) -> bool:
        """Whether a byte is memory of the direct map."""
        region = self.memory.get(addr)
        return region is not None and not region.flags & MEMBLOCK_NOMAP

    def memblock_is_reserved(self, addr: int) -> bool:
        """Whether a byte is reserved."""
        return self.reserved.get(addr) is not None

    def memblock_is_region_memory(self, base: int, size: int) -> bool:
        """Whether one region of memory holds the whole range."""
        run = self.memory.run_at(base)
        return run is not None and run[1] >= _end(base, size)

    def memblock_is_region_reserved(self, base: int, size: int) -> bool:
        """Whether any byte of the range is reserved."""
        return self.reserved.covered(base, _end(base, size)) > 0

    def memblock_search_pfn_nid(self, pfn: int) -> int:
        """The node of the memory at a page, or ``NUMA_NO_NODE``."""
        return int(self.memblock_search_pfn_nids(np.array([pfn], np.uint64))[0])

    def memblock_search_pfn_nids(self, pfns: U64) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
        """The same of many pages."""
        nids = np.full(len(pfns), NUMA_NO_NODE, np.int64)
        if len(pfns):
            size = self.page_size
            for start, end, region in self.memory.runs(int(pfns.min()) * size, (int(pfns.max()) + 1) * size):
                nids[(pfns >= np.uint64(-(-start // size))) & (pfns < np.uint64(-(-end // size)))] = region.nid
        return nids

    def memblock_phys_mem_size(self) -> int:
        """Bytes of memory."""
        return sum(end - start for start, end, _ in self.memory)

    def memblock_reserved_size(self) -> int:
        """Bytes reserved, memory or not."""
        return sum(end - start for start, end, _ in self.reserved)

    def memblock_start_of_DRAM(self) -> int:
        """The first byte of memory; 0 when there is none."""
        return next((start for start, _, _ in self.memory), 0)

    def memblock_end_of_DRAM(self) -> int:
        """The end, exclusive, of the last memory; 0 when there is none."""
        return max((end for _, end, _ in self.memory), default=0)

    def for_each_mem_range(self) -> Iterator[Span]:
        """Bytes of memory for the direct map, a region at a time, ascending: all but NOMAP."""
        return (Span(start, end) for start, end, region in self.memory if not region.flags & MEMBLOCK_NOMAP)

    def for_each_mem_pfn_range(self, nid: int = NUMA_NO_NODE) -> Iterator[tuple[int, int, int]]:
        """``(start_pfn, end_pfn, nid)`` of the whole pages of every region, ascending, NOMAP memory included.

        ``NUMA_NO_NODE`` stands for all nodes.
        """
        for start, end, region in self.memory:
            start_pfn, end_pfn = align_up(start, self.page_size) // self.page_size, end // self.page_size
            if start_pfn < end_pfn and nid in (NUMA_NO_NODE, region.nid):
                yield start_pfn, end_pfn, region.nid

    def free_ranges(
        self,
        start: int = 0,
        end: int = PHYS_ADDR_MAX,
        *,
        nid: int = NUMA_NO_NODE,
        flags: int = MEMBLOCK_NONE,
        reverse: bool = False,
    ) -> Iterator[Span]:
        """``for_each_free_mem_range()`` within ``[start, end)``: bytes that are memory and not reserved.

        Without the flag that asks for it, NOMAP and driver-managed memory is left out, and with ``movable_node``
        hotpluggable memory. `reverse` gives the highest first.
        """
        runs = list(self.memory.runs(start, end))
        for low, high, region in reversed(runs) if reverse else runs:
            if not self._should_skip_region(region, nid, flags):
                free = list(self.reserved.gaps(low, high))
                yield from reversed(free) if reverse else free

    def _should_skip_region(self, region: Attributes, nid: int, flags: int) -> bool:
        return (
            nid not in (NUMA_NO_NODE, region.nid)
            or (self.movable_node and bool(region.flags & MEMBLOCK_HOTPLUG & ~flags))
            or bool(flags & MEMBLOCK_MIRROR & ~region.flags)
            or bool(region.flags & (MEMBLOCK_NOMAP | MEMBLOCK_DRIVER_MANAGED) & ~flags)
        )

    def free_size(self, start: int, end: int) -> int:
        """Bytes in the :meth:`free_ranges` of ``[start, end)``."""
        return sum(span.size for span in self.free_ranges(start, end))

    def _find(self, size: int, align: int, start: int, end: int, nid: int, flags: int) -> _Place | None:
        """``memblock_find_in_range_node()``: the highest fit, or the lowest when ``bottom_up``."""
        start = max(start, self.page_size)
        end = self.current_limit if end == MEMBLOCK_ALLOC_ACCESSIBLE else end
        for free in self.free_ranges(start, end, nid=nid, flags=flags, reverse=not self.bottom_up):
            addr = align_up(free.start, align) if self.bottom_up else align_down(free.end - size, align)
            if free.start <= addr and addr + size <= free.end:
                return _Place(addr, free, nid)
        return None

    def _place(self, size: int, align: int, start: int, end: int, nid: int, exact_nid: bool) -> _Place | None:
        """A place on the node, else on any; mirrored memory of either first, when the machine has some."""
        for flags in (MEMBLOCK_MIRROR, MEMBLOCK_NONE) if self.mirror else (MEMBLOCK_NONE,):
            for node in (nid,) if exact_nid or nid == NUMA_NO_NODE else (nid, NUMA_NO_NODE):
                if place := self._find(size, align, start, end, node, flags):
                    return place
        return None

    def _take(self, base: int, size: int, nid: int) -> None:
        if self.rsrv_kern:
            self.memblock_reserve(base, size, nid, MEMBLOCK_RSRV_KERN)
        else:
            self.memblock_reserve(base, size)

    def memblock_alloc_range_nid(
        self, size: int, align: int, start: int, end: int, nid: int, *, exact_nid: bool = False
    ) -> int | None:
        """Reserve `size` free bytes within ``[start, end)`` and give their address; None when nothing fits.

        `align` is a power of two, 0 for a cache line. The highest fit is taken, or the lowest when ``bottom_up``.
        Unless `exact_nid`, memory of another node will do; mirrored memory is only preferred.
        """
        place = self._place(size, align or SMP_CACHE_BYTES, start, end, nid, exact_nid)
        if place is None:
            return None
        self._take(place.addr, size, place.nid)
        return place.addr

    def memblock_phys_alloc(self, size: int, align: int = 0, nid: int = NUMA_NO_NODE) -> int | None:
        """``memblock_phys_alloc_try_nid()``: `size` bytes below the current limit, of that node if it has them."""
        return self.memblock_alloc_range_nid(size, align, 0, MEMBLOCK_ALLOC_ACCESSIBLE, nid)

    def memblock_phys_alloc_range(self, size: int, align: int, start: int, end: int) -> int | None:
        """`size` bytes within ``[start, end)``, of any node."""
        return self.memblock_alloc_range_nid(size, align, start, end, NUMA_NO_NODE)

    def memblock_phys_alloc_many(
        self,
        size: int,
        count: int,
        *,
        align: int = 0,
        start: int = 0,
        end: int = MEMBLOCK_ALLOC_ACCESSIBLE,
        nid: int = NUMA_NO_NODE,
    ) -> U64:
        """The addresses that `count` calls of :meth:`memblock_alloc_range_nid` would give, in order: ``uint64[count]``.

        Fewer when memory runs out. While `size` is a multiple of `align`, the cost grows with the free ranges used and
        not with `count`: neighbouring places are taken at once until their range is used up.
        """
        align = align or SMP_CACHE_BYTES
        step = align_up(size, align)
        pieces: list[U64] = []
        while count and (place := self._place(size, align, start, end, nid, exact_nid=False)):
            addr, free, node = place
            room = free.end - (addr + size) if self.bottom_up else addr - free.start
            here = min(count, 1 + room // step)
            low = addr if self.bottom_up else addr - (here - 1) * step
            places = np.arange(here, dtype=np.uint64) * np.uint64(step) + np.uint64(low)
            if step == size:
                self._take(low, here * step, node)
            else:
                for base in places.tolist():
                    self._take(base, size, node)
            pieces.append(places if self.bottom_up else places[::-1])
            count -= here
        return np.concatenate(pieces) if pieces else np.empty(0, np.uint64)
