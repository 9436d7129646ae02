"""Isolating memory that is to go offline, and moving out what uses it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captures import facts
from memhp.errors import KernelError
from memhp.hw.memory import Owner, Use
from memhp.linux.mm.alloc_contig import alloc_contig_range
from memhp.linux.mm.hugetlb import FROZEN, HUGE_USES, add_huge_pages, dissolve_free_hugetlb_folios
from memhp.linux.mm.migrate import do_migrate_range, scan_movable_pages
from memhp.linux.mm.mm_init import free_area_init, init_cma_reserved_pageblock
from memhp.linux.mm.page_alloc import alloc_pages, free_pages, free_pages_core, take_pages_off_buddy
from memhp.linux.mm.page_isolation import (
    has_unmovable_pages,
    start_isolate_page_range,
    undo_isolate_page_range,
)
from memhp.linux.mm.page_isolation import (
    test_pages_isolated as pages_isolated,
)
from memhp.linux.mmzone import MigrateType, PageFlags, Zone, ZoneType
from memhp.linux.profiles import PROFILES, profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, MiB
from zoned import BOOT, RISCV, X86, accounts, add_movable, booted, owners_agree, unzoned

START = 2 * GiB >> 12
BLOCK = 512
SECTION = 128 * MiB >> 12
WHERE = "t"


def machine(release: str = "linux-6.12") -> tuple[Kernel, Zone]:
    k = booted(replace(RISCV, profile=PROFILES[release]), [(2 * GiB, 4 * GiB, 0)])
    return k, k.nodes[0].zones[ZoneType.DMA32]


def use(k: Kernel, start: int, size: int, kind: Use, tag: str = "x") -> None:
    pages, owner = Span(start, start + size), Owner(kind, tag)
    assert take_pages_off_buddy(k, pages, FROZEN if kind in HUGE_USES else owner, WHERE)
    if kind in HUGE_USES:
        add_huge_pages(k, [pages], owner)
    if kind is Use.HWPOISON:
        k.page_flags.set_flags(*pages, PageFlags.HWPOISON)


def whole(k: Kernel) -> bool:
    return not k.hw.violations and owners_agree(k) and all(a == b for a, b in accounts(k).values())


def test_isolated_memory_is_out_of_the_allocators_reach_and_comes_back() -> None:
    k, zone = machine()
    span = Span(START, START + SECTION)
    free_before = zone.free.size
    start_isolate_page_range(k, *span)
    assert (zone.free.size, zone.isolated_free.size) == (free_before - SECTION, SECTION)
    assert zone.nr_isolate_pageblock == SECTION // BLOCK
    got = alloc_pages(k, 0, 0, count=1 << 20, owner=Owner(Use.KERNEL), where=WHERE)
    assert all(part.start >= span.end for part in got)
    undo_isolate_page_range(k, *span)
    assert zone.nr_isolate_pageblock == 0 and not zone.isolated
    assert zone.free.covers(*span) and whole(k)


def test_pages_freed_in_isolated_memory_stay_aside() -> None:
    k, zone = machine()
    use(k, START + 100, 50, Use.MOVABLE)
    start_isolate_page_range(k, START, START + SECTION)
    free_pages(k, [Span(START + 100, START + 150)], WHERE)
    assert zone.isolated_free.covers(START, START + SECTION) and whole(k)


@pytest.mark.parametrize("kind", [Use.KERNEL, Use.RECLAIMABLE, Use.TABLE, Use.MEMMAP])
def test_a_single_unmovable_page_keeps_a_range_in_use(kind: Use) -> None:
    k, zone = machine()
    use(k, START + 3 * BLOCK + 7, 1, kind)
    with pytest.raises(KernelError, match="unmovable page") as caught:
        start_isolate_page_range(k, START, START + SECTION)
    assert caught.value.name == "EBUSY" and f"{START + 3 * BLOCK + 7:#x}" in caught.value.reason
    assert not zone.isolated and not zone.isolated_free and zone.nr_isolate_pageblock == 0
    assert k.hw.log_lines[-1].text == "page dumped because: unmovable page"
    assert k.hw.log_lines[-2].text.endswith(f"pfn:{START + 3 * BLOCK + 7:#x}")
    assert whole(k)


@pytest.mark.parametrize("kind", [Use.MOVABLE, Use.PINNED, Use.HUGETLB, Use.HUGETLB_FREE, Use.OFFLINE, Use.HWPOISON])
def test_movable_pinned_huge_offline_and_poisoned_pages_do_not_prevent_isolation(kind: Use) -> None:
    k, _ = machine()
    use(k, START + BLOCK, BLOCK, kind)
    start_isolate_page_range(k, START, START + SECTION)
    assert whole(k)


def test_the_first_and_the_last_pageblock_are_looked_at_before_the_others() -> None:
    k, _ = machine()
    for at in (START + 5, START + 9 * BLOCK, START + SECTION - 1):
        use(k, at, 1, Use.KERNEL)
    for culprit in (START + 5, START + SECTION - 1, START + 9 * BLOCK):
        with pytest.raises(KernelError, match=f"{culprit:#x}"):
            start_isolate_page_range(k, START, START + SECTION)
        free_pages(k, [Span(culprit, culprit + 1)], WHERE)
    start_isolate_page_range(k, START, START + SECTION)


@pytest.mark.parametrize(("release", "dumped"), [("5.13", 2), ("5.18", 2), ("5.19", 63), ("6.12", 63), ("7.2", 63)])
def test_the_last_pageblock_is_asked_before_those_between_since_5_19(release: str, dumped: int) -> None:
    """Without isolate_single_pageblock() start_isolate_page_range() goes from pageblock to pageblock."""
    k = booted(replace(RISCV, profile=profile(release)), [(2 * GiB, 4 * GiB, 0)])
    for block in (2, 63):
        use(k, START + block * BLOCK + 5, 1, Use.KERNEL)
    with pytest.raises(KernelError, match="unmovable page"):
        start_isolate_page_range(k, START, START + SECTION)
    assert f"pfn:{START + dumped * BLOCK + 5:#x}" in k.hw.log_lines[-2].text
    assert not k.nodes[0].zones[ZoneType.DMA32].isolated


def test_a_range_that_somebody_else_isolates_is_busy_and_stays_his() -> None:
    k, zone = machine()
    start_isolate_page_range(k, START + 4 * BLOCK, START + 8 * BLOCK)
    with pytest.raises(KernelError, match="isolated already"):
        start_isolate_page_range(k, START, START + SECTION)
    assert list(zone.isolated) == [Span(START + 4 * BLOCK, START + 8 * BLOCK)]


@pytest.mark.parametrize(
    ("release", "after"), [("linux-6.12", MigrateType.MOVABLE), ("linux-7.2", MigrateType.UNMOVABLE)]
)
def test_a_pageblock_keeps_its_type_through_isolation_only_if_the_mark_is_a_bit_of_its_own(
    release: str, after: MigrateType
) -> None:
    k, zone = machine(release)
    alloc = alloc_pages(k, 0, 0, owner=Owner(Use.KERNEL), where=WHERE)
    free_pages(k, alloc, WHERE)
    assert zone.migratetypes.get(START) is MigrateType.UNMOVABLE
    start_isolate_page_range(k, START, START + SECTION)
    undo_isolate_page_range(k, START, START + SECTION)
    assert zone.migratetypes.get(START) is after


def test_in_zone_movable_only_reserved_pages_are_unmovable() -> None:
    k = booted(X86, [(0, 1 * GiB, 0)])
    zone = add_movable(k, 4 * GiB, 256 * MiB)
    pfn = zone.start_pfn + 1000
    use(k, pfn, 1, Use.KERNEL)
    assert has_unmovable_pages(k, zone.start_pfn, zone.end_pfn) is None
    k.page_flags.set(pfn + 5, pfn + 6, PageFlags.RESERVED)
    found = has_unmovable_pages(k, zone.start_pfn, zone.end_pfn)
    assert found is not None and found.pfn == pfn + 5


def test_cma_pageblocks_cannot_go_offline_even_when_they_are_free() -> None:
    k = unzoned(RISCV, [(2 * GiB, 3 * GiB, 0)])
    free_area_init(k)
    free_pages_core(k, START, SECTION, BOOT)
    init_cma_reserved_pageblock(k, START + SECTION, SECTION)
    start_isolate_page_range(k, START, START + SECTION)
    with pytest.raises(KernelError, match="contiguous memory allocator"):
        start_isolate_page_range(k, START + SECTION, START + 2 * SECTION)


def test_the_log_names_the_page_as_a_real_kernel_did() -> None:
    """That kernel refused [mem 0x118000000-0x11fffffff] for a page table in the middle of it."""
    log = facts("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-offline-state", "5-unplugged").log
    assert log is not None
    (refused, *_) = log.offline_failures
    assert refused.reason == "failure to isolate range"
    real = [line.text for line in log.lines if line.text.startswith("page") and "unmovable" not in line.text]
    dumped = next(text for text in real if text.endswith("pfn:0x118407"))
    k = booted(X86, [(0, 1 * GiB, 0), (refused.span.start, refused.span.end, 0)])
    use(k, 0x118407, 1, Use.TABLE)
    with pytest.raises(KernelError, match="a page table"):
        start_isolate_page_range(k, refused.span.start >> 12, refused.span.end >> 12)
    assert [line.text for line in k.hw.log_lines[-2:]] == [dumped, "page dumped because: unmovable page"]


def test_the_range_is_isolated_when_all_of_it_is_free_poisoned_or_let_go_by_its_driver() -> None:
    k, _ = machine()
    use(k, START + 10, 5, Use.MOVABLE)
    use(k, START + 20, 5, Use.OFFLINE, "virtio_mem")
    k.page_flags.set(START + 20, START + 25, PageFlags.OFFLINE)
    use(k, START + 30, 5, Use.HWPOISON)
    assert pages_isolated(k, START, START + SECTION) == START
    start_isolate_page_range(k, START, START + SECTION)
    assert pages_isolated(k, START, START + SECTION) == START + 10
    free_pages(k, [Span(START + 10, START + 15)], WHERE)
    assert pages_isolated(k, START, START + SECTION) == START + 20
    k.page_flags.set(START + 20, START + 25, PageFlags.OFFLINE | PageFlags.UNREFERENCED)
    assert pages_isolated(k, START, START + SECTION) is None
    assert pages_isolated(k, START, START + SECTION, offline=False) == START + 20, "it is nothing to allocate"


def test_a_range_with_a_poisoned_page_is_not_allocated() -> None:
    """mm/page_isolation.c:__test_page_isolated_in_pageblock passes over such pages for memory that goes offline."""
    k = booted(RISCV, [(2 * GiB, 4 * GiB, 0)])
    zone = add_movable(k, 8 * GiB, 256 * MiB)
    first, second = (Span(start, start + BLOCK) for start in (zone.start_pfn, zone.start_pfn + BLOCK))
    use(k, first.start + 3, 1, Use.HWPOISON)
    with pytest.raises(KernelError, match="is in use") as refused:
        alloc_contig_range(k, *first, Owner(Use.KERNEL, "cma"))
    assert refused.value.name == "EBUSY"
    assert zone.free.covers(first.start + 4, first.end) and not k.hw.violations
    alloc_contig_range(k, *second, Owner(Use.KERNEL, "cma"))


def test_movable_pages_move_out_with_their_owner() -> None:
    k, zone = machine()
    use(k, START + 10, 5000, Use.MOVABLE, "app")
    start_isolate_page_range(k, START, START + SECTION)
    assert scan_movable_pages(k, START, START + SECTION) == START + 10
    done = do_migrate_range(k, START + 10, START + SECTION)
    assert (done.moved, done.stuck) == (5000, [])
    assert scan_movable_pages(k, START, START + SECTION) is None
    assert pages_isolated(k, START, START + SECTION) is None
    there = sum(hi - lo for lo, hi, owner in k.hw.memory.owners.runs(START + SECTION, 1 << 40) if owner.tag == "app")
    assert there == 5000 and zone.isolated_free.size == SECTION and whole(k)


def test_pinned_pages_stay_and_the_log_says_so_ten_times_in_five_seconds() -> None:
    k, _ = machine()
    use(k, START, 100, Use.PINNED, "dma")
    start_isolate_page_range(k, START, START + SECTION)
    for _ in range(3):
        done = do_migrate_range(k, START, START + SECTION)
        assert done.moved == 0 and [stuck.span for stuck in done.stuck] == [Span(START, START + 100)]
    lines = [line.text for line in k.hw.log_lines if line.text.startswith("migrating")]
    assert lines == [f"migrating pfn {START + i:x} failed ret:100" for i in range(10)]
    k.hw.now += 6_000_000_000
    do_migrate_range(k, START, START + SECTION)
    assert sum(line.text.startswith("migrating") for line in k.hw.log_lines) == 20
    assert [line.text for line in k.hw.log_lines if "suppressed" in line.text] == [
        "do_migrate_range: 290 callbacks suppressed"
    ], "lib/ratelimit.c: the first of the next interval tells of those left out"


def test_an_interval_of_messages_begins_with_its_first() -> None:
    """lib/ratelimit.c:___ratelimit() counts from the first message of an interval, whenever the others come."""
    k, _ = machine()
    use(k, START, 1, Use.PINNED, "dma")
    start_isolate_page_range(k, START, START + SECTION)
    printed = []
    for seconds in (0, 4, 2):
        k.hw.now += seconds * 1_000_000_000
        for _ in range(8):
            do_migrate_range(k, START, START + SECTION)
        printed.append(sum(line.text.startswith("migrating") for line in k.hw.log_lines))
    assert printed == [8, 10, 18]


def test_without_room_elsewhere_pages_stay() -> None:
    k, zone = machine()
    use(k, START, SECTION, Use.MOVABLE, "app")
    alloc_pages(k, 0, 0, count=zone.free.size - zone.watermark_min - 100, owner=Owner(Use.KERNEL), where=WHERE)
    start_isolate_page_range(k, START, START + SECTION)
    done = do_migrate_range(k, START, START + SECTION)
    assert done.moved == 100
    assert [(stuck.span, stuck.errno) for stuck in done.stuck] == [(Span(START + 100, START + SECTION), 12)]
    assert whole(k)


def test_pages_of_normal_do_not_move_to_zone_movable_but_those_of_movable_move_to_normal() -> None:
    k = booted(X86, [(0, 6 * GiB, 0)])
    movable = add_movable(k, 8 * GiB, 256 * MiB)
    normal = k.nodes[0].zones[ZoneType.NORMAL]
    use(k, normal.start_pfn, 1000, Use.MOVABLE, "n")
    use(k, movable.start_pfn, 1000, Use.MOVABLE, "m")
    start_isolate_page_range(k, normal.start_pfn, normal.start_pfn + SECTION)
    do_migrate_range(k, normal.start_pfn, normal.start_pfn + SECTION)
    start_isolate_page_range(k, movable.start_pfn, movable.end_pfn)
    do_migrate_range(k, movable.start_pfn, movable.end_pfn)
    for tag in "nm":
        zones = [k.zone_of(lo) for lo, _, owner in k.hw.memory.owners if owner.tag == tag]
        assert zones and all(zone is not movable for zone in zones)


def test_with_a_second_node_pages_leave_the_node() -> None:
    k = booted(X86, [(4 * GiB, 6 * GiB, 0), (6 * GiB, 8 * GiB, 1)])
    zone = k.nodes[0].zones[ZoneType.NORMAL]
    use(k, zone.start_pfn, 1000, Use.MOVABLE, "m")
    start_isolate_page_range(k, zone.start_pfn, zone.start_pfn + SECTION)
    do_migrate_range(k, zone.start_pfn, zone.start_pfn + SECTION)
    assert {k.page_zone.get(lo) for lo, _, owner in k.hw.memory.owners if owner.tag == "m"} == {(1, ZoneType.NORMAL)}


def test_a_huge_page_moves_whole_into_fresh_memory() -> None:
    k, _ = machine()
    use(k, START + BLOCK, BLOCK, Use.HUGETLB, "db")
    start_isolate_page_range(k, START, START + SECTION)
    assert do_migrate_range(k, START, START + SECTION).moved == BLOCK
    runs = [(lo, hi) for lo, hi, owner in k.hw.memory.owners if owner.use is Use.HUGETLB]
    assert len(runs) == 1 and runs[0][0] % BLOCK == 0 and runs[0][1] - runs[0][0] == BLOCK
    assert runs[0][0] >= START + SECTION and whole(k)


def test_a_huge_page_moves_into_the_pool_and_leaves_a_free_one_which_is_dissolved() -> None:
    k, zone = machine()
    use(k, START + BLOCK, BLOCK, Use.HUGETLB, "db")
    use(k, START + SECTION + BLOCK, BLOCK, Use.HUGETLB_FREE)
    start_isolate_page_range(k, START, START + SECTION)
    do_migrate_range(k, START, START + SECTION)
    assert k.hw.memory.owners.get(START + SECTION + BLOCK) == (Use.HUGETLB, "db")
    assert pages_isolated(k, START, START + SECTION) == START + BLOCK
    dissolve_free_hugetlb_folios(k, START, START + SECTION)
    assert pages_isolated(k, START, START + SECTION) is None
    assert zone.isolated_free.size == SECTION and whole(k)


def test_a_huge_page_stays_when_no_chunk_is_large_enough() -> None:
    k, zone = machine()
    use(k, START + BLOCK, BLOCK, Use.HUGETLB, "db")
    for pfn in range(START + SECTION, zone.end_pfn, BLOCK):
        use(k, pfn, 1, Use.KERNEL)
    start_isolate_page_range(k, START, START + SECTION)
    done = do_migrate_range(k, START, START + SECTION)
    assert done.moved == 0 and [stuck.span for stuck in done.stuck] == [Span(START + BLOCK, START + 2 * BLOCK)]


def test_offline_pages_that_a_driver_holds_are_unmovable_unless_movable_ones_come_first() -> None:
    k, _ = machine()
    use(k, START + 50, 10, Use.OFFLINE, "virtio_mem")
    with pytest.raises(KernelError, match="unmovable page") as caught:
        scan_movable_pages(k, START, START + SECTION)
    assert caught.value.name == "EBUSY" and "virtio_mem" in caught.value.advice
    use(k, START + 20, 1, Use.MOVABLE)
    assert scan_movable_pages(k, START, START + SECTION) == START + 20


@given(
    st.lists(
        st.tuples(
            st.integers(0, SECTION - 1),
            st.integers(1, 3000),
            st.sampled_from([Use.MOVABLE, Use.PINNED, Use.KERNEL, Use.HWPOISON]),
        ),
        max_size=6,
    )
)
def test_a_range_can_be_emptied_exactly_when_nothing_unmovable_or_pinned_is_in_it(
    users: list[tuple[int, int, Use]],
) -> None:
    k, zone = machine()
    for at, size, kind in users:
        for part in list(zone.free.runs(START + at, min(START + at + size, START + SECTION))):
            use(k, part.start, part.size, kind)
    uses = {owner.use for _, _, owner in k.hw.memory.owners.runs(START, START + SECTION)}
    try:
        start_isolate_page_range(k, START, START + SECTION)
    except KernelError:
        assert Use.KERNEL in uses
        assert not zone.isolated
    else:
        assert Use.KERNEL not in uses
        do_migrate_range(k, START, START + SECTION)
        assert (pages_isolated(k, START, START + SECTION) is None) is (Use.PINNED not in uses)
        undo_isolate_page_range(k, START, START + SECTION)
        assert not zone.isolated_free
    assert whole(k)


def test_a_page_off_the_buddy_keeps_its_block_until_it_is_marked_as_poisoned() -> None:
    """mm/memory-failure.c:page_handle_poison takes it off first; mm/page_isolation.c asks PageHWPoison()."""
    k, _ = machine()
    start_isolate_page_range(k, START, START + SECTION)
    bad = START + 9
    k.hw.memory.owners.set(bad, bad + 1, Owner(Use.HWPOISON))
    k.zone_of(bad).isolated_free.remove(bad, bad + 1)  # type: ignore[union-attr]
    assert pages_isolated(k, START, START + SECTION) == bad
    k.page_flags.set_flags(bad, bad + 1, PageFlags.HWPOISON)
    assert pages_isolated(k, START, START + SECTION) is None
