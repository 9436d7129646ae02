"""The buddy allocator: against a naive one that goes page by page, and in what the kernel promises of it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memhp.errors import KernelBug, KernelError
from memhp.hw.memory import Owner, Use
from memhp.hw.stepper import Access, EachAlone
from memhp.linux.mm.mm_init import ZoneLimits, free_area_init, init_cma_reserved_pageblock
from memhp.linux.mm.page_alloc import (
    alloc_pages,
    build_all_zonelists_init,
    free_by_order,
    free_pages,
    free_pages_core,
    free_reserved,
    init_per_zone_wmark_min,
    largest_free_order,
    nr_free_pages,
    take_pages_off_buddy,
    zonelist,
)
from memhp.linux.mm.page_isolation import start_isolate_page_range, undo_isolate_page_range
from memhp.linux.mm.watermarks import setup_per_zone_lowmem_reserve
from memhp.linux.mmzone import MigrateType, PageFlags, Zone, ZoneType
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, MiB, TiB
from naive_buddy import Naive, NaiveZone
from zoned import BOOT, RISCV, X86, accounts, add_movable, booted, owners_agree, unzoned

PAGES = 640
BLOCK = 16
"""Pages of a pageblock."""
DMA32_END = 200
CMA_PAGES = Span(480, 544)
USES = {
    MigrateType.UNMOVABLE: Use.KERNEL,
    MigrateType.RECLAIMABLE: Use.RECLAIMABLE,
    MigrateType.MOVABLE: Use.MOVABLE,
}


def small(*, cma: bool) -> Kernel:
    """640 pages in two zones, which begin and end within a pageblock; watermarks of a few pages."""
    config = replace(X86, zone_dma=False, page_block_max_order=4)
    k = unzoned(config, [(5 * 4096, PAGES * 4096, 0)])
    k.statics(ZoneLimits).ends = {ZoneType.DMA32: DMA32_END + 3, ZoneType.NORMAL: PAGES}
    free_area_init(k)
    build_all_zonelists_init(k)
    for span in (Span(5, CMA_PAGES.start), Span(CMA_PAGES.end, PAGES)):
        free_pages_core(k, span.start, span.size, BOOT)
    if cma:
        init_cma_reserved_pageblock(k, CMA_PAGES.start, CMA_PAGES.size)
    else:
        free_pages_core(k, CMA_PAGES.start, CMA_PAGES.size, BOOT)
    k.slab_is_available = True
    setup_per_zone_lowmem_reserve(k)
    for zone in k.zones():
        zone.watermark_min, zone.watermark_low = 4, 9
    return k


def naive_of(k: Kernel) -> Naive:
    zones = []
    for zone in zonelist(k, 0, ZoneType.MOVABLE):
        types = {page: kind for lo, hi, kind in zone.migratetypes for page in range(lo, hi)}
        zones.append(
            NaiveZone(zone.type, zone.start_pfn, zone.end_pfn, zone.watermark_low, zone.watermark_min,
                      dict(zone.lowmem_reserve), BLOCK, k.config.max_page_order, types,
                      free={page for span in zone.free for page in range(*span)})
        )  # fmt: skip
    return Naive(zones)


def pages_of(spans: list[Span]) -> set[int]:
    return {page for span in spans for page in range(*span)}


alloc = st.tuples(st.just("alloc"), st.sampled_from(list(USES)), st.integers(0, 5), st.integers(1, 90))
free = st.tuples(st.just("free"), st.integers(0, 7), st.integers(0, 700), st.integers(1, 300))
isolate = st.tuples(st.just("isolate"), st.integers(1, PAGES // BLOCK - 2), st.integers(1, 12))
undo = st.tuples(st.just("undo"), st.integers(1, PAGES // BLOCK - 2), st.integers(1, 12))
take = st.tuples(st.just("take"), st.integers(5, PAGES - 1), st.integers(1, 30))
steps = st.lists(st.one_of(alloc, alloc, free, isolate, undo, take), max_size=40)


@settings(max_examples=500)
@given(steps, st.booleans())
def test_it_gives_the_pages_that_the_rules_give_one_by_one(history: list[tuple[object, ...]], cma: bool) -> None:
    k = small(cma=cma)
    naive = naive_of(k)
    held: list[tuple[Owner, set[int]]] = []
    for number, step in enumerate(history):
        match step:
            case "alloc", MigrateType() as kind, int() as order, int() as count:
                owner = Owner(USES[kind], f"a{number}")
                got = alloc_pages(k, order, 0, count=count, movable=kind is MigrateType.MOVABLE, owner=owner, where="t")
                assert all(span.start % (1 << order) == 0 and span.size % (1 << order) == 0 for span in got)
                pages = pages_of(got)
                assert len(pages) == sum(span.size for span in got)
                assert pages == naive.allocate(order, count, kind)
                held.append((owner, pages))
            case "free", int() as which, int() as start, int() as size:
                if held:
                    _, pages = held[which % len(held)]
                    gone = {page for page in pages if start <= page < start + size}
                    free_pages(k, [Span(page, page + 1) for page in sorted(gone)], "t")
                    naive.release(gone)
                    pages -= gone
            case "isolate", int() as block, int() as count:
                zone = naive.zone_of(block * BLOCK)
                count = min(count, zone.last // BLOCK - block)
                if count > 0:
                    assert _isolates(k, block * BLOCK, (block + count) * BLOCK) is zone.isolate(block * BLOCK, count)
            case "undo", int() as block, int() as count:
                count = min(count, PAGES // BLOCK - block)
                undo_isolate_page_range(k, block * BLOCK, (block + count) * BLOCK)
                for start in range(block * BLOCK, (block + count) * BLOCK, BLOCK):
                    naive.zone_of(start).undo(start)
            case "take", int() as start, int() as count:
                span = Span(start, min(start + count, PAGES))
                zones = [naive.zone_of(page) for page in range(*span)]
                can = all(page in zone.usable() for page, zone in zip(range(*span), zones, strict=True))
                assert take_pages_off_buddy(k, span, Owner(Use.KERNEL, f"t{number}"), "t") is can
                if can:
                    held.append((Owner(Use.KERNEL, f"t{number}"), set(range(*span))))
                    for page, zone in zip(range(*span), zones, strict=True):
                        zone.free.discard(page)
        _same(k, naive)


def _isolates(k: Kernel, start_pfn: int, end_pfn: int) -> bool:
    try:
        start_isolate_page_range(k, start_pfn, end_pfn)
    except KernelError as error:
        assert error.name == "EBUSY"
        return False
    return True


def _same(k: Kernel, naive: Naive) -> None:
    for naive_zone in naive.zones:
        zone = k.nodes[0].zones[naive_zone.kind]
        assert pages_of(list(zone.free)) == naive_zone.usable()
        assert pages_of(list(zone.isolated_free)) == naive_zone.free & naive_zone.isolated
        assert {page: kind for lo, hi, kind in zone.migratetypes for page in range(lo, hi)} == naive_zone.types
        assert nr_free_pages(zone) == len(naive_zone.usable())
    assert all(managed == found for managed, found in accounts(k).values())
    assert owners_agree(k)
    assert not k.hw.violations


def test_frames_for_tables_come_in_runs_and_leave_one_run_behind() -> None:
    k = booted(RISCV, [(2 * GiB, 4 * GiB, 0)])
    zone = k.nodes[0].zones[ZoneType.DMA32]
    taken = [alloc_pages(k, 0, 0, count=512, owner=Owner(Use.TABLE), where="t") for _ in range(256)]
    assert all(len(spans) == 1 and spans[0].size == 512 for spans in taken)
    assert len(zone.free) == 1 and zone.free.size == (2 * GiB >> 12) - 131072
    assert len(k.hw.memory.arena) == 131072
    for spans in taken:
        free_pages(k, spans, "t")
    assert list(zone.free) == [Span(2 * GiB >> 12, 4 * GiB >> 12)]
    assert len(k.hw.memory.arena) == 0


def test_64_tib_are_as_few_runs_as_2_gib() -> None:
    k = booted(X86, [(0, 64 * TiB, 0)])
    got = alloc_pages(k, 9, 0, count=1 << 20, owner=Owner(Use.MEMMAP), where="t")
    assert len(got) == 1 and got[0].size == 1 << 29
    assert sum(len(zone.free) + len(zone.migratetypes) for zone in k.zones()) < 10


def test_an_allocation_may_come_back_short_but_leaves_the_min_watermark() -> None:
    k = booted(RISCV, [(2 * GiB, 3 * GiB, 0)])
    zone = k.nodes[0].zones[ZoneType.DMA32]
    got = alloc_pages(k, 0, 0, count=1 << 20, owner=Owner(Use.KERNEL), where="t")
    assert zone.free.size == zone.watermark_min > 0
    assert sum(span.size for span in got) == zone.managed - zone.watermark_min
    assert alloc_pages(k, 0, 0, owner=Owner(Use.KERNEL), where="t") == []


def test_no_block_is_larger_than_max_page_order() -> None:
    k = booted(X86, [(0, 1 * GiB, 0)])
    top = k.config.max_page_order
    assert alloc_pages(k, top + 1, 0, owner=Owner(Use.KERNEL), where="t") == []
    assert [span.size for span in alloc_pages(k, top, 0, owner=Owner(Use.KERNEL), where="t")] == [1 << top]


def test_only_movable_memory_goes_to_zone_movable() -> None:
    k = booted(X86, [(0, 1 * GiB, 0)])
    movable = add_movable(k, 4 * GiB, 1 * GiB)
    user = alloc_pages(k, 0, 0, count=1000, movable=True, owner=Owner(Use.MOVABLE, "m"), where="t")
    kernel = alloc_pages(k, 0, 0, count=1 << 20, owner=Owner(Use.KERNEL), where="t")
    assert all(span.start >= movable.start_pfn for span in user)
    assert all(span.end <= movable.start_pfn for span in kernel)


def test_zones_below_keep_their_lowmem_reserve() -> None:
    k = booted(X86, [(0, 6 * GiB, 0)])
    dma32, normal = k.nodes[0].zones[ZoneType.DMA32], k.nodes[0].zones[ZoneType.NORMAL]
    alloc_pages(k, 0, 0, count=1 << 22, owner=Owner(Use.KERNEL), where="t")
    assert normal.free.size == normal.watermark_min
    assert dma32.free.size == dma32.watermark_min + dma32.lowmem_reserve[ZoneType.NORMAL]
    alloc_pages(k, 0, 0, count=1 << 22, owner=Owner(Use.KERNEL), where="t", highest=ZoneType.DMA32)
    assert dma32.free.size == dma32.watermark_min


def test_the_own_node_comes_first_then_those_above_then_those_below() -> None:
    k = booted(X86, [(i * 4 * GiB + 4 * GiB, (i + 1) * 4 * GiB + 4 * GiB, i) for i in range(3)])
    assert [zone.nid for zone in zonelist(k, 1, ZoneType.NORMAL)] == [1, 2, 0]
    assert [zone.nid for zone in zonelist(k, 1, ZoneType.NORMAL, nodes={0, 2})] == [2, 0]
    own = k.nodes[1].zones[ZoneType.NORMAL]
    got = alloc_pages(k, 0, 1, count=own.managed, owner=Owner(Use.KERNEL), where="t")
    assert {k.page_zone.get(span.start) for span in got} == {(1, ZoneType.NORMAL), (2, ZoneType.NORMAL)}


def test_the_first_kernel_page_makes_a_whole_block_unmovable_and_the_next_ones_stay_in_it() -> None:
    k = booted(RISCV, [(2 * GiB, 3 * GiB, 0)])
    zone = k.nodes[0].zones[ZoneType.DMA32]
    size = 1 << k.config.max_page_order
    for _ in range(size):
        alloc_pages(k, 0, 0, owner=Owner(Use.KERNEL), where="t")
    unmovable = [(lo, hi) for lo, hi, kind in zone.migratetypes if kind is MigrateType.UNMOVABLE]
    assert unmovable == [(zone.start_pfn, zone.start_pfn + size)]


def _with_free(k: Kernel, pages: list[int]) -> Zone:
    """Use all but these pages as unmovable memory, in pageblocks that are then Unmovable; no watermarks."""
    zone = k.nodes[0].zones[ZoneType.DMA32]
    for span in list(zone.free):
        take_pages_off_buddy(k, span, Owner(Use.KERNEL), "t")
    zone.migratetypes.set(zone.start_pfn, zone.end_pfn, MigrateType.UNMOVABLE)
    zone.watermark_min = zone.watermark_low = 0
    for page in pages:
        free_pages(k, [Span(page, page + 1)], "t")
    return zone


def test_a_movable_page_takes_a_small_block_from_an_unmovable_pageblock_without_claiming_it() -> None:
    k = booted(RISCV, [(2 * GiB, 2 * GiB + 64 * MiB, 0)])
    start = 2 * GiB >> 12
    zone = _with_free(k, list(range(start, start + 512, 2)))
    got = alloc_pages(k, 0, 0, movable=True, owner=Owner(Use.MOVABLE, "m"), where="t")
    assert got == [Span(start, start + 1)]
    assert zone.migratetypes.get(start) is MigrateType.UNMOVABLE, "half of it is free, but in single pages"


def test_a_movable_page_claims_an_unmovable_pageblock_that_is_half_free() -> None:
    k = booted(RISCV, [(2 * GiB, 2 * GiB + 64 * MiB, 0)])
    start = 2 * GiB >> 12
    zone = _with_free(k, list(range(start + 256, start + 512)))
    alloc_pages(k, 0, 0, movable=True, owner=Owner(Use.MOVABLE, "m"), where="t")
    assert zone.migratetypes.run_at(start) == (start, start + 512, MigrateType.MOVABLE)


def _cma_machine() -> tuple[Kernel, Zone, Span]:
    """64 MiB, three quarters of them CMA."""
    k = unzoned(RISCV, [(2 * GiB, 2 * GiB + 64 * MiB, 0)])
    free_area_init(k)
    build_all_zonelists_init(k)
    start, cma = 2 * GiB >> 12, Span((2 * GiB + 16 * MiB) >> 12, (2 * GiB + 64 * MiB) >> 12)
    free_pages_core(k, start, cma.start - start, BOOT)
    init_cma_reserved_pageblock(k, cma.start, cma.size)
    return k, k.nodes[0].zones[ZoneType.DMA32], cma


def test_cma_lends_movable_pages_until_it_holds_half_of_what_is_free_then_every_second() -> None:
    k, zone, cma = _cma_machine()
    owner = Owner(Use.MOVABLE, "m")
    alloc_pages(k, 0, 0, count=8192, movable=True, owner=owner, where="t")
    assert (zone.free.covered(*cma), zone.free.size) == (4096, 8192)
    alloc_pages(k, 0, 0, count=1000, movable=True, owner=owner, where="t")
    assert zone.free.covered(*cma) == 4096 - 500


def test_kernel_memory_never_comes_from_cma() -> None:
    k, zone, cma = _cma_machine()
    got = alloc_pages(k, 0, 0, count=1 << 20, owner=Owner(Use.KERNEL), where="t")
    assert sum(span.size for span in got) == zone.managed - cma.size
    assert zone.free.covered(*cma) == cma.size


def test_reserved_pages_given_back_become_managed() -> None:
    k = unzoned(RISCV, [(2 * GiB, 3 * GiB, 0)])
    free_area_init(k)
    build_all_zonelists_init(k)
    zone = k.nodes[0].zones[ZoneType.DMA32]
    half = zone.start_pfn + zone.spanned // 2
    k.page_flags.set(zone.start_pfn, zone.end_pfn, PageFlags.RESERVED)
    free_pages_core(k, half, zone.end_pfn - half, BOOT)
    assert (zone.managed, zone.present) == (zone.spanned // 2, zone.spanned)
    free_reserved(k, [Span(zone.start_pfn, half)], "t")
    assert zone.managed == zone.free.size == zone.present
    assert not k.page_flags


def test_pages_in_use_cannot_be_given_to_the_buddy_for_the_first_time() -> None:
    k = booted(RISCV, [(2 * GiB, 3 * GiB, 0)])
    with pytest.raises(KernelBug, match="Bad page state"):
        free_pages_core(k, 2 * GiB >> 12, 1, "t")


def test_freeing_twice_is_seen() -> None:
    k = booted(RISCV, [(2 * GiB, 3 * GiB, 0)])
    spans = alloc_pages(k, 3, 0, owner=Owner(Use.KERNEL), where="t")
    free_pages(k, spans, "t")
    assert not k.hw.violations
    free_pages(k, spans, "t")
    assert [violation.law for violation in k.hw.violations] == ["one-owner"]


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(1, 64)), max_size=12))
def test_blocks_of_each_order_are_those_that_merging_neighbours_leaves(holes: list[tuple[int, int]]) -> None:
    k = booted(RISCV, [(2 * GiB, 2 * GiB + 1 * MiB, 0)])
    zone = k.nodes[0].zones[ZoneType.DMA32]
    start = zone.start_pfn
    for at, size in holes:
        for part in list(zone.free.runs(start + at, min(start + at + size, zone.end_pfn))):
            take_pages_off_buddy(k, part, Owner(Use.KERNEL), "t")
    blocks = {page: 0 for span in zone.free for page in range(*span)}
    for order in range(k.config.max_page_order):
        for page in sorted(page for page, own in blocks.items() if own == order):
            buddy = page ^ (1 << order)
            if page < buddy and blocks.get(buddy) == order:
                del blocks[buddy]
                blocks[page] = order + 1
    counts = [list(blocks.values()).count(order) for order in range(k.config.max_page_order + 1)]
    assert free_by_order(k, zone) == counts
    assert largest_free_order(k, zone) == max(blocks.values(), default=-1)


class _Failing(EachAlone):
    """An explorer that lets the n-th allocation fail and does nothing else."""

    listens = True

    def __init__(self, n: int) -> None:
        self.left = n
        self.asked: list[str] = []

    def step(self, access: Access) -> None:
        """Nobody else runs."""

    def data(self, name: str, start: int, end: int, *, write: bool) -> None:
        pass

    def fails(self, site: str) -> bool:
        self.asked.append(site)
        self.left -= 1
        return self.left == 0

    def wait(self, ready: Callable[[], bool], why: str, on: str) -> None:
        raise AssertionError(why)


def test_the_explorer_is_asked_for_every_block_and_may_make_it_the_last() -> None:
    k = booted(RISCV, [(2 * GiB, 3 * GiB, 0)])
    explorer = k.hw.stepper = _Failing(4)
    got = alloc_pages(k, 0, 0, count=10, owner=Owner(Use.KERNEL), where="mm/here.c:there")
    assert sum(span.size for span in got) == 3
    assert explorer.asked == ["mm/here.c:there"] * 4


def test_taking_exact_pages_is_all_or_nothing() -> None:
    k = booted(RISCV, [(2 * GiB, 3 * GiB, 0)])
    zone = k.nodes[0].zones[ZoneType.DMA32]
    at = zone.start_pfn + 1000
    assert take_pages_off_buddy(k, Span(at, at + 10), Owner(Use.KERNEL), "t")
    before = zone.free.size
    assert not take_pages_off_buddy(k, Span(at + 5, at + 15), Owner(Use.KERNEL), "t")
    assert zone.free.size == before
    start_isolate_page_range(k, zone.end_pfn - 512, zone.end_pfn)
    assert not take_pages_off_buddy(k, Span(zone.end_pfn - 1, zone.end_pfn), Owner(Use.KERNEL), "t")


def test_the_allocator_uses_up_normal_down_to_low_before_it_dips_below_in_dma32() -> None:
    k = booted(X86, [(0, 6 * GiB, 0)])
    dma32, normal = k.nodes[0].zones[ZoneType.DMA32], k.nodes[0].zones[ZoneType.NORMAL]
    alloc_pages(k, 0, 0, count=normal.managed - normal.watermark_low + 100, owner=Owner(Use.KERNEL), where="t")
    assert normal.free.size == normal.watermark_low
    assert dma32.free.size == dma32.managed - 100
    init_per_zone_wmark_min(k)
    assert all(managed == found for managed, found in accounts(k).values())
