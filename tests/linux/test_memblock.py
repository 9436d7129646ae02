"""memblock holds, merges, searches and allocates memory as ``mm/memblock.c`` does."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from fnmatch import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captures import captures, open_capture
from memhp.facts.source import DMESG
from memhp.linux.mm import memblock as m
from memhp.linux.mm.memblock import Attributes, Memblock
from memhp.units import MiB, align_down


def named(pattern: str) -> list[str]:
    names = [name for name in captures() if fnmatch(name, pattern)]
    assert names
    return names


def iomem(capture: str) -> str:
    """``/proc/iomem`` as it stood before the first step."""
    return next(iter(open_capture(capture).values())).read("/proc/iomem")


def dmesg(capture: str) -> str:
    """The kernel log, which the last step of a capture has."""
    return list(open_capture(capture).values())[-1].read(DMESG)


def spans(pattern: str, text: str) -> list[tuple[int, int]]:
    """``(start, end)``, end exclusive, of the lines that match, whose groups are first and last byte in hex."""
    return [(int(a, 16), int(b, 16) + 1) for a, b in re.findall(pattern, text, re.MULTILINE)]


def early_node_ranges(capture: str) -> list[tuple[int, int]]:
    """What ``free_area_init()`` printed of ``for_each_mem_pfn_range()``: bytes."""
    return spans(r"  node +0: \[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\]", dmesg(capture))


# Real boots: the regions the kernel printed, and the places it found.


@pytest.mark.parametrize("capture", named("riscv64-*") + named("arm64-*"))
def test_firmware_memory_is_a_region_of_its_own_as_the_kernel_prints_at_boot(capture: str) -> None:
    """What /proc/iomem does not show as System RAM is NOMAP: OpenSBI's memory on riscv, UEFI's on arm64."""
    real = early_node_ranges(capture)
    mapped = [
        span for span in spans(r"^([0-9a-f]+)-([0-9a-f]+) : System RAM$", iomem(capture)) if span[0] < real[-1][1]
    ]
    mb = Memblock(page_size=4096)
    mb.memblock_add_node(real[0][0], real[-1][1] - real[0][0], nid=0)
    at = real[0][0]
    for start, end in mapped:
        mb.memblock_mark_nomap(at, start - at)
        at = end
    assert [(start << 12, end << 12) for start, end, _ in mb.for_each_mem_pfn_range()] == real
    assert list(mb.for_each_mem_range()) == mapped


@pytest.mark.parametrize("capture", named("x86_64-*cloud-amd64-virtio-mem-*"))
def test_pfn_ranges_leave_out_partial_pages_as_on_pcs(capture: str) -> None:
    """The e820 map ends the first RAM at 639 KiB; the kernel's first node range ends a page earlier."""
    usable = spans(r"BIOS-e820: \[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\] usable", dmesg(capture))
    assert usable[0] == (0, 0x9FC00)
    mb = Memblock(page_size=4096)
    for start, end in usable:
        mb.memblock_add_node(start, end - start, nid=0)
    mb.memblock_remove(0, 4096)
    pages = [(start << 12, end << 12) for start, end, _ in mb.for_each_mem_pfn_range()]
    assert pages == early_node_ranges(capture)


@pytest.mark.parametrize("capture", named("arm64-6.12*-16k-*"))
def test_top_down_allocation_finds_the_places_of_a_real_boot(capture: str) -> None:
    """arm64, 16K: ``sparse_init()`` takes 32 MiB a section, keeps 512 KiB of each; then CMA takes 64 MiB."""
    ((start, end),) = early_node_ranges(capture)
    reserved = spans(r"^  ([0-9a-f]+)-([0-9a-f]+) : reserved$", iomem(capture))
    cma = int(re.findall(r"cma: Reserved 64 MiB at 0x([0-9a-f]+)", dmesg(capture))[0], 16)
    sections = (end - start) // (128 * MiB)
    vmemmap = sections * 512 * 1024
    mb = Memblock(page_size=16384)
    mb.memblock_add_node(start, end - start, nid=0)
    for low, high in reserved:
        if low >= cma + 64 * MiB:
            mb.memblock_reserve(low, high - low)
    buffer = mb.memblock_phys_alloc(sections * 32 * MiB, align=32 * MiB, nid=0)
    assert buffer is not None
    assert any(low == buffer and high >= buffer + vmemmap for low, high in reserved)
    mb.memblock_phys_free(buffer + vmemmap, sections * 32 * MiB - vmemmap)
    assert mb.memblock_phys_alloc_range(64 * MiB, 32 * MiB, 0, end) == cma


# Regions.


def regions(runs: m.Regions) -> list[tuple[int, int, int, int]]:
    return [(start, end, nid, flags) for start, end, (nid, flags) in runs]


def test_what_is_added_twice_keeps_its_first_node_and_flags() -> None:
    mb = Memblock(page_size=4096)
    mb.memblock_add_node(0x3000, 0x2000, nid=1, flags=m.MEMBLOCK_HOTPLUG)
    mb.memblock_add_node(0x1000, 0x7000, nid=0)
    assert regions(mb.memory) == [(0x1000, 0x3000, 0, 0), (0x3000, 0x5000, 1, 1), (0x5000, 0x8000, 0, 0)]


def test_neighbours_are_one_region_only_with_the_same_node_and_flags() -> None:
    mb = Memblock(page_size=4096)
    mb.memblock_add_node(0x1000, 0x1000, nid=0)
    mb.memblock_add_node(0x3000, 0x1000, nid=0)
    mb.memblock_add_node(0x4000, 0x1000, nid=1)
    mb.memblock_add_node(0x2000, 0x1000, nid=0)
    assert regions(mb.memory) == [(0x1000, 0x4000, 0, 0), (0x4000, 0x5000, 1, 0)]
    m.memblock_set_node(mb.memory, 0x4000, 0x1000, 0)
    assert regions(mb.memory) == [(0x1000, 0x5000, 0, 0)]


def test_a_range_that_passes_the_top_of_the_address_space_is_cut() -> None:
    mb = Memblock(page_size=4096)
    mb.memblock_add_node(m.PHYS_ADDR_MAX - 0xFFF, 0x10000, nid=0)
    assert mb.memblock_end_of_DRAM() == m.PHYS_ADDR_MAX


def test_what_memblock_says_of_an_address() -> None:
    mb = Memblock(page_size=4096)
    assert (mb.memblock_start_of_DRAM(), mb.memblock_end_of_DRAM()) == (0, 0)
    mb.memblock_add_node(0x1000, 0x4000, nid=3)
    mb.memblock_mark_nomap(0x2000, 0x1000)
    mb.memblock_reserve(0x4000, 0x800)
    assert (mb.memblock_start_of_DRAM(), mb.memblock_end_of_DRAM()) == (0x1000, 0x5000)
    assert [mb.memblock_is_memory(a) for a in (0xFFF, 0x1000, 0x2000, 0x4FFF, 0x5000)] == [False, *[True] * 3, False]
    assert mb.memblock_is_map_memory(0x1FFF) and not mb.memblock_is_map_memory(0x2000)
    assert mb.memblock_is_reserved(0x47FF) and not mb.memblock_is_reserved(0x4800)
    assert mb.memblock_is_region_memory(0x3000, 0x2000) and not mb.memblock_is_region_memory(0x1000, 0x2000)
    assert mb.memblock_is_region_reserved(0x4700, 0x2000) and not mb.memblock_is_region_reserved(0x4800, 0x2000)
    assert [mb.memblock_search_pfn_nid(pfn) for pfn in (0, 1, 2, 5)] == [-1, 3, 3, -1]
    assert (mb.memblock_phys_mem_size(), mb.memblock_reserved_size()) == (0x4000, 0x800)
    assert mb.free_size(0x3800, 0x5000) == 0x1000


UNITS = 48
ranges = st.tuples(st.integers(0, UNITS - 1), st.integers(1, UNITS)).map(lambda r: (r[0], min(r[1], UNITS - r[0])))
changes = st.tuples(
    st.sampled_from(["add", "remove", "reserve", "free", "node", "mark", "clear"]), ranges, st.integers(0, 2)
)


@given(st.lists(changes, max_size=25))
def test_regions_agree_with_a_map_of_every_unit(steps: list[tuple[str, tuple[int, int], int]]) -> None:
    mb = Memblock(page_size=1)
    memory: dict[int, Attributes] = {}
    reserved: dict[int, Attributes] = {}
    for what, (base, size), number in steps:
        units = range(base, base + size)
        if what == "add":
            mb.memblock_add_node(base, size, number)
            memory = dict.fromkeys(units, Attributes(number)) | memory
        elif what == "remove":
            mb.memblock_remove(base, size)
            memory = {unit: old for unit, old in memory.items() if unit not in units}
        elif what == "reserve":
            mb.memblock_reserve(base, size)
            reserved = dict.fromkeys(units, Attributes()) | reserved
        elif what == "free":
            mb.memblock_phys_free(base, size)
            reserved = {unit: old for unit, old in reserved.items() if unit not in units}
        elif what == "node":
            m.memblock_set_node(mb.memory, base, size, number)
            memory |= {unit: memory[unit]._replace(nid=number) for unit in units if unit in memory}
        else:
            flag = 1 << number
            m.memblock_setclr_flag(mb.memory, base, size, flag, clear=what == "clear")
            for unit in units & memory.keys():
                old = memory[unit].flags
                memory[unit] = memory[unit]._replace(flags=old & ~flag if what == "clear" else old | flag)
    for runs, model in ((mb.memory, memory), (mb.reserved, reserved)):
        assert {unit: value for start, end, value in runs for unit in range(start, end)} == model
        minimal = sum(model.get(unit) != model.get(unit - 1) for unit in model)
        assert len(runs) == minimal


# Allocating.


@st.composite
def memblocks(draw: st.DrawFn) -> Memblock:
    mb = Memblock(page_size=2, bottom_up=draw(st.booleans()), rsrv_kern=draw(st.booleans()))
    mb.movable_node, mb.mirror = draw(st.booleans()), draw(st.booleans())
    flags = st.sampled_from([0, 0, 0, m.MEMBLOCK_HOTPLUG, m.MEMBLOCK_MIRROR, m.MEMBLOCK_NOMAP, 8])
    for (base, size), nid, flag in draw(st.lists(st.tuples(ranges, st.integers(0, 1), flags), max_size=6)):
        mb.memblock_add_node(base, size, nid, flag)
    for base, size in draw(st.lists(ranges, max_size=3)):
        mb.memblock_reserve(base, size // 4)
    return mb


def fits(mb: Memblock, addr: int, size: int, nid: int, *, mirrored: bool) -> bool:
    """Whether every unit of a place is free, of one region, of that node and of a kind that may be had."""
    kinds = {mb.memory.get(unit) for unit in range(addr, addr + size)}
    kind = kinds.pop()
    if kind is None or kinds or any(mb.memblock_is_reserved(unit) for unit in range(addr, addr + size)):
        return False
    refused = m.MEMBLOCK_NOMAP | m.MEMBLOCK_DRIVER_MANAGED | (m.MEMBLOCK_HOTPLUG if mb.movable_node else 0)
    wrong_node = nid not in (m.NUMA_NO_NODE, kind.nid)
    return not (wrong_node or kind.flags & refused or (mirrored and not kind.flags & m.MEMBLOCK_MIRROR))


def every_place(mb: Memblock, size: int, align: int, bounds: tuple[int, int], nid: int, exact: bool) -> int | None:
    """Try every aligned address, from the best one on, for each kind of memory in the kernel's order of preference."""
    start, end = max(bounds[0], mb.page_size), bounds[1]
    places = range(-(-start // align) * align, end - size + 1, align)
    for mirrored in (True, False) if mb.mirror else (False,):
        for node in (nid,) if exact else (nid, m.NUMA_NO_NODE):
            for addr in places if mb.bottom_up else reversed(places):
                if fits(mb, addr, size, node, mirrored=mirrored):
                    return addr
    return None


bounds = st.tuples(st.integers(0, UNITS), st.integers(1, UNITS))


@given(memblocks(), st.integers(1, 9), st.sampled_from([1, 2, 4, 8]), bounds, st.integers(-1, 1), st.booleans())
def test_an_allocation_takes_what_trying_every_address_finds(
    mb: Memblock, size: int, align: int, within: tuple[int, int], nid: int, exact: bool
) -> None:
    expected = every_place(mb, size, align, within, nid, exact)
    free = mb.free_size(0, UNITS)
    assert mb.memblock_alloc_range_nid(size, align, *within, nid, exact_nid=exact) == expected
    if expected is None:
        assert mb.free_size(0, UNITS) == free
    else:
        assert mb.memblock_is_region_memory(expected, size)
        assert all(mb.memblock_is_reserved(unit) for unit in range(expected, expected + size))


@given(memblocks(), st.integers(1, 5), st.sampled_from([1, 2, 4]), bounds, st.integers(-1, 1), st.integers(0, 12))
def test_many_allocations_at_once_are_as_many_single_ones(
    mb: Memblock, size: int, align: int, within: tuple[int, int], nid: int, count: int
) -> None:
    single = Memblock(2, mb.memory.copy(), mb.reserved.copy(), mb.bottom_up)
    single.movable_node, single.mirror, single.rsrv_kern = mb.movable_node, mb.mirror, mb.rsrv_kern
    one_by_one = [single.memblock_alloc_range_nid(size, align, *within, nid) for _ in range(count)]
    start, end = within
    many = mb.memblock_phys_alloc_many(size, count, align=align, start=start, end=end, nid=nid)
    assert many.tolist() == [addr for addr in one_by_one if addr is not None]
    assert regions(mb.reserved) == regions(single.reserved)


def test_the_current_limit_bounds_allocations_that_name_no_end() -> None:
    mb = Memblock(page_size=4096, current_limit=0x5000)
    mb.memblock_add_node(0, 0x10000, nid=0)
    assert mb.memblock_phys_alloc(0x1000, 0x1000) == 0x4000
    assert mb.memblock_phys_alloc(100) == align_down(0x4000 - 100, m.SMP_CACHE_BYTES)
    assert mb.memblock_alloc_range_nid(0x1000, 0x1000, 0, m.MEMBLOCK_ALLOC_ANYWHERE, 0) == 0xF000


def test_page_0_is_never_allocated() -> None:
    mb = Memblock(page_size=4096)
    mb.memblock_add_node(0, 0x2000, nid=0)
    assert [mb.memblock_phys_alloc(0x1000, 0x1000) for _ in range(2)] == [0x1000, None]


@pytest.mark.parametrize(("rsrv_kern", "count"), [(False, 1), (True, 2)])
def test_allocations_are_regions_apart_from_reservations_since_they_are_marked(rsrv_kern: bool, count: int) -> None:
    mb = Memblock(page_size=4096, rsrv_kern=rsrv_kern)
    mb.memblock_add_node(0, 0x4000, nid=0)
    mb.memblock_reserve(0x3000, 0x1000)
    assert mb.memblock_phys_alloc(0x1000, 0x1000) == 0x2000
    assert len(mb.reserved) == count


def test_mirrored_memory_is_preferred_and_not_demanded() -> None:
    mb = Memblock(page_size=4096)
    mb.memblock_add_node(0x1000, 0x5000, nid=0)
    mb.memblock_mark_mirror(0x2000, 0x1000)
    assert [mb.memblock_phys_alloc(0x1000, 0x1000) for _ in range(2)] == [0x2000, 0x5000]


def test_hotpluggable_memory_is_avoided_under_movable_node() -> None:
    mb = Memblock(page_size=4096, movable_node=True)
    mb.memblock_add_node(0x1000, 0x5000, nid=0)
    mb.memblock_mark_hotplug(0x3000, 0x3000)
    assert [mb.memblock_phys_alloc(0x1000, 0x1000) for _ in range(3)] == [0x2000, 0x1000, None]
