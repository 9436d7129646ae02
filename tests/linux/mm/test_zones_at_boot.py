"""Zones of boot memory: what real kernels said of theirs, from nothing but the RAM that their memblock held."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from functools import cache

import pytest

from captures import captures, facts, guests, open_capture
from kernels import PLUG_AT, kernel, plug
from memhp.facts import dmesg
from memhp.facts.describe import MachineFacts, describe
from memhp.facts.dmesg import Dmesg
from memhp.facts.observed import Facts
from memhp.linux.config import Config
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_hotplug_add import add_memory
from memhp.linux.mm.mm_init import free_area_init, init_cma_reserved_pageblock, set_zone_contiguous
from memhp.linux.mm.zone_limits import zone_limits, zone_types
from memhp.linux.mmzone import MigrateType, PageFlags, ZoneRef, ZoneType
from memhp.linux.profiles import PROFILES, profile
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanMap, SpanSet
from memhp.units import GiB, KiB, MiB
from zoned import ARM64_16K, RISCV, X86, booted, config_of, unzoned, zone_named

NAMES = (*captures(), *guests())


def first_facts(name: str) -> Facts:
    return facts(name, next(iter(open_capture(name))))


@cache
def at_boot(name: str) -> tuple[Kernel, MachineFacts]:
    machine = describe(first_facts(name), name=name)
    ram = [(each.span.start, each.span.end, each.nid) for each in machine.boot_memory]
    k = unzoned(config_of(machine), ram)
    free_area_init(k)
    return k, machine


def own_log(k: Kernel) -> Dmesg:
    return dmesg.parse("".join(f"[    0.000000] {line.text}\n" for line in k.hw.log_lines))


def merged(log: Dmesg) -> SpanMap[int]:
    return SpanMap((*each.span, each.nid) for each in log.early_node_ranges)


@pytest.mark.parametrize("name", NAMES)
def test_start_spanned_and_present_are_those_of_proc_zoneinfo(name: str) -> None:
    k, machine = at_boot(name)
    real = {zone.name: zone for zone in machine.zones if zone.node == 0}
    assert {kind.title for kind in k.nodes[0].zones} == set(real)
    for kind, zone in k.nodes[0].zones.items():
        seen = real[kind.title]
        if zone.spanned or not seen.spanned:
            assert (zone.start_pfn, zone.spanned, zone.present) == (seen.start_pfn or 0, seen.spanned, seen.present)
        else:
            assert kind in (ZoneType.MOVABLE, ZoneType.DEVICE), "only plugged memory may be in a zone empty at boot"


@pytest.mark.parametrize("name", NAMES)
def test_the_boot_log_tells_the_same_zone_limits_nodes_and_holes(name: str) -> None:
    k, _ = at_boot(name)
    real, own = first_facts(name).boot_log, own_log(k)
    assert real is not None and real.zone_ranges
    assert own.zone_ranges == real.zone_ranges
    assert own.movable_start == real.movable_start
    assert merged(own) == merged(real), "the log does not tell which neighbours differ in their memblock flags"
    assert own.initmem == real.initmem
    assert own.unavailable == real.unavailable


@pytest.mark.parametrize("name", NAMES)
def test_there_are_as_many_pageblocks_as_in_proc_pagetypeinfo(name: str) -> None:
    k, _ = at_boot(name)
    size = k.config.pageblock_nr_pages
    for page_types in first_facts(name).pagetypeinfo:
        for real in page_types.blocks:
            zone = zone_named(k, page_types.node, real.zone)
            if zone.spanned:
                blocks = SpanSet((start // size, -(-end // size)) for start, end, _ in zone.migratetypes)
                assert sum(real.count) == blocks.size


def test_the_first_pageblock_of_a_pc_is_unmovable_as_it_starts_before_its_memory() -> None:
    name = "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default"
    k, _ = at_boot(name)
    dma = k.nodes[0].zones[ZoneType.DMA]
    assert [dma.migratetypes.get(pfn) for pfn in (1, 256, 511)] == [MigrateType.UNMOVABLE] * 3
    assert dma.migratetypes.run_at(512) == (512, 4096, MigrateType.MOVABLE)
    (page_types,) = first_facts(name).pagetypeinfo
    assert page_types.migratetypes[:2] == ("Unmovable", "Movable")
    assert page_types.blocks[0].count[:2] == (1, 7)


def test_holes_in_sections_have_reserved_struct_pages_and_others_none() -> None:
    section = X86.section_size
    k = unzoned(X86, [(4 * KiB, 636 * KiB, 0), (1 * MiB, section + 4 * MiB, 0), (4 * section, 5 * section, 0)])
    free_area_init(k)
    hole = Span(636 * KiB >> 12, 1 * MiB >> 12)
    assert list(k.page_flags.runs(*hole)) == [(*hole, PageFlags.RESERVED)]
    assert k.zone_of(hole.start) is k.nodes[0].zones[ZoneType.DMA]
    assert k.page_zone.get((2 * section >> 12) - 1) is not None, "the rest of a section that holds RAM"
    assert k.page_zone.get(2 * section >> 12) is None, "a section without any"
    assert k.page_flags.get(1 * MiB >> 12) is None, "RAM is not reserved by this alone"


def test_zones_begin_and_end_where_dma_limits_cut_the_nodes() -> None:
    k = unzoned(X86, [(4 * KiB, 3 * GiB, 0), (4 * GiB, 6 * GiB, 0), (6 * GiB, 8 * GiB, 1)])
    free_area_init(k)
    got = {
        (zone.nid, zone.name): (zone.start_pfn << 12, zone.spanned << 12, zone.present << 12)
        for zone in k.zones()
        if zone.spanned
    }
    assert got == {
        (0, "DMA"): (4 * KiB, 16 * MiB - 4 * KiB, 16 * MiB - 4 * KiB),
        (0, "DMA32"): (16 * MiB, 4 * GiB - 16 * MiB, 3 * GiB - 16 * MiB),
        (0, "Normal"): (4 * GiB, 2 * GiB, 2 * GiB),
        (1, "Normal"): (6 * GiB, 2 * GiB, 2 * GiB),
    }
    assert (k.nodes[0].start_pfn, k.nodes[0].spanned, k.nodes[0].present) == (
        1,
        6 * GiB // 4096 - 1,
        5 * GiB // 4096 - 1,
    )
    assert k.node_states.memory == k.node_states.normal_memory == {0, 1}


def test_movable_node_puts_hotpluggable_nodes_into_zone_movable() -> None:
    config = replace(X86, movable_node=True)
    ram = [(4 * KiB, 2 * GiB, 0), (4 * GiB, 6 * GiB, 1)]
    k = unzoned(config, ram, hotpluggable=[Span(4 * GiB, 6 * GiB)])
    free_area_init(k)
    movable = k.nodes[1].zones[ZoneType.MOVABLE]
    assert (movable.start_pfn, movable.present) == (4 * GiB >> 12, 2 * GiB >> 12)
    assert not k.nodes[1].zones[ZoneType.NORMAL].spanned
    assert k.node_states.memory == {0, 1} and k.node_states.normal_memory == {0}
    without = unzoned(X86, ram, hotpluggable=[Span(4 * GiB, 6 * GiB)])
    free_area_init(without)
    assert not without.nodes[1].zones[ZoneType.MOVABLE].spanned


ARM64_5_13 = replace(ARM64_16K, profile=PROFILES["linux-5.13"])
ARM64_5_4 = replace(ARM64_16K, profile=PROFILES["arm64-hotremove-v7"])


@pytest.mark.parametrize(
    ("config", "dram", "dma_limit", "dma_end", "dma32_end"),
    [
        (ARM64_16K, Span(1 * GiB, 8 * GiB), None, 4 * GiB, 4 * GiB),
        (ARM64_16K, Span(1 * GiB, 8 * GiB), 3 * GiB, 3 * GiB, 4 * GiB),
        (ARM64_16K, Span(32 * GiB, 40 * GiB), None, 40 * GiB, 4 * GiB),
        (ARM64_16K, Span(32 * GiB, 40 * GiB), 36 * GiB, 36 * GiB, 4 * GiB),
        (ARM64_5_13, Span(1 * GiB, 8 * GiB), None, 4 * GiB, 4 * GiB),
        (ARM64_5_13, Span(0, 8 * GiB), 1 * GiB, 1 * GiB, 4 * GiB),
        (ARM64_5_13, Span(2 * GiB, 8 * GiB), 1 * GiB, 4 * GiB, 4 * GiB),
        (ARM64_5_13, Span(1 * GiB, 8 * GiB), 1 * GiB, 4 * GiB, 4 * GiB),
        (ARM64_5_13, Span(4 * GiB, 8 * GiB), 1 * GiB, 8 * GiB, 8 * GiB),
        (ARM64_5_13, Span(32 * GiB, 40 * GiB), None, 40 * GiB, 40 * GiB),
        (ARM64_5_4, Span(1 * GiB, 8 * GiB), None, None, 4 * GiB),
        (ARM64_5_4, Span(33 * GiB, 40 * GiB), None, None, 36 * GiB),
    ],
)
def test_arm64_dma_zones_by_release_start_of_ram_and_firmware(
    config: Config, dram: Span, dma_limit: int | None, dma_end: int | None, dma32_end: int
) -> None:
    limits = zone_limits(config, dram, dma_limit=dma_limit)
    expected = {ZoneType.DMA32: dma32_end, ZoneType.NORMAL: dram.end}
    if dma_end is not None:
        expected[ZoneType.DMA] = dma_end
    assert {kind: pfn << config.page_shift for kind, pfn in limits.items()} == expected
    assert list(limits) == sorted(limits)


def test_riscv_has_no_dma_zone_and_all_else_is_above_4_gib() -> None:
    assert ZoneType.DMA not in zone_types(RISCV)
    assert zone_limits(RISCV, Span(2 * GiB, 16 * GiB)) == {
        ZoneType.DMA32: 4 * GiB >> 12,
        ZoneType.NORMAL: 16 * GiB >> 12,
    }


def test_cma_pageblocks_are_lent_to_the_buddy() -> None:
    k = unzoned(RISCV, [(2 * GiB, 3 * GiB, 0)])
    free_area_init(k)
    zone = k.nodes[0].zones[ZoneType.DMA32]
    start, pages = (2 * GiB + 512 * MiB) >> 12, 64 * MiB >> 12
    init_cma_reserved_pageblock(k, start, pages)
    assert (zone.cma_pages, zone.managed, zone.free.size) == (pages, pages, pages)
    assert zone.migratetypes.run_at(start) == (start, start + pages, MigrateType.CMA)


def test_a_zone_is_contiguous_unless_a_hole_or_another_zone_is_in_its_span() -> None:
    k = booted(RISCV, [(2 * GiB, 4 * GiB, 0), (5 * GiB, 6 * GiB, 0), (7 * GiB, 8 * GiB, 0)])
    for zone in k.zones():
        set_zone_contiguous(k, zone)
    assert k.nodes[0].zones[ZoneType.DMA32].contiguous
    assert not k.nodes[0].zones[ZoneType.NORMAL].contiguous


def test_only_the_ends_of_a_pageblock_tell_whether_a_zone_is_contiguous() -> None:
    """mm/page_alloc.c:__pageblock_pfn_to_page asks for the first and the last page of a pageblock."""
    k = booted(RISCV, [(2 * GiB, 4 * GiB, 0)])
    zone = k.nodes[0].zones[ZoneType.DMA32]
    for hole, contiguous in ((Span(1, 511), True), (Span(0, 1), False), (Span(511, 512), False)):
        zone.contiguous = False
        start = (3 * GiB >> 12) + hole.start
        k.page_zone.set(start, start + hole.size, ZoneRef(0, ZoneType.MOVABLE))
        set_zone_contiguous(k, zone)
        k.page_zone.set(start, start + hole.size, ZoneRef(0, ZoneType.DMA32))
        assert zone.contiguous == contiguous


@pytest.mark.parametrize(("start", "size", "contiguous"), [(0, 2 * MiB, False), (MiB // 2, MiB, True)])
def test_a_hole_that_has_struct_pages_parts_a_zone_only_if_it_is_a_sub_section(
    start: int, size: int, contiguous: bool
) -> None:
    """pfn_to_online_page() asks pfn_section_valid(): struct pages of a hole in an early section are no online pages."""
    hole = 3 * GiB + start
    k = booted(RISCV, [(2 * GiB, hole, 0), (hole + size, 4 * GiB, 0)])
    zone = k.nodes[0].zones[ZoneType.DMA32]
    assert k.zone_of(hole >> 12) is zone
    zone.contiguous = False
    set_zone_contiguous(k, zone)
    assert zone.contiguous == contiguous


def test_a_zone_that_gets_memory_is_contiguous_again_only_when_it_loses_some() -> None:
    """move_pfn_range_to_zone() asks pfn_to_online_page() of sections that online_mem_sections() marks afterwards."""
    k = kernel("x86_64")
    plug(k, 256 * MiB)
    add_memory(k, 0, PLUG_AT, 256 * MiB)
    first = PLUG_AT // k.memory_block_size
    movable = k.nodes[0].zones[ZoneType.MOVABLE]
    seen = []
    for block, state in ((first, "online_movable"), (first + 1, "online_movable"), (first + 1, "offline")):
        state_store(k, block, state)
        seen.append(movable.contiguous)
    assert seen == [False, False, True]


@pytest.mark.parametrize(("release", "nid"), [("linux-6.1", 1), ("linux-6.12", 1), ("linux-7.2", 0)])
def test_a_block_of_boot_memory_over_two_nodes_is_the_higher_nodes_and_by_7_2_the_last_regions(
    release: str, nid: int
) -> None:
    """drivers/base/node.c: node after node, or for_each_mem_region() in register_memory_blocks_under_nodes()."""
    config = Config("x86_64", profile(release), 4 * KiB, 48)
    ram = (Ram(MiB, GiB, nid=1), Ram(GiB + MiB, GiB, nid=0))
    k = start_kernel(MachineSpec("crossed", config, ram, nodes=(0, 1)))
    shared = k.memory_blocks.get(GiB // k.memory_block_size)
    assert shared is not None and shared.nid == nid
