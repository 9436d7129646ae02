"""/proc/zoneinfo and /proc/buddyinfo and /proc/pagetypeinfo of real kernels, and files that no kernel prints."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from captures import facts, open_capture
from memhp.errors import BadInput
from memhp.facts import buddyinfo, pagetypeinfo, zoneinfo

PARSERS = {"/proc/zoneinfo": zoneinfo, "/proc/buddyinfo": buddyinfo, "/proc/pagetypeinfo": pagetypeinfo}
EXAMPLE = ("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "1-plugged")


def test_a_zone_has_the_numbers_that_its_lines_show() -> None:
    zone = facts(*EXAMPLE).zone(0, "Normal")
    assert zone is not None
    assert (zone.start_pfn, zone.spanned, zone.present, zone.managed) == (1048576, 131072, 131072, 131072)
    assert (zone.end_pfn, zone.reserved, zone.populated) == (1048576 + 131072, 0, True)
    assert (zone.min, zone.low, zone.high, zone.promo) == (6197, 7746, 9295, 10844)
    assert zone.protection == (0, 0, 0, 0, 0)
    assert [(each.cpu, each.count, each.high, each.batch) for each in zone.pagesets] == [
        (0, 707, 4059, 31),
        (1, 172, 4121, 31),
    ]


def test_an_empty_zone_shows_where_nothing_starts() -> None:
    zone = facts(*EXAMPLE).zone(0, "Movable")
    assert zone is not None
    assert not zone.populated
    assert zone.start_pfn is None
    assert zone.end_pfn is None


def test_a_zone_of_device_memory_spans_pages_that_are_not_present() -> None:
    zone = facts("arm64-6.12.107+deb13-arm64-16k-kmem-map-pmem-mom1", "1-devdax").zone(0, "Device")
    assert zone is not None
    assert (zone.spanned, zone.present) == (65536, 0)
    assert not zone.populated


def test_only_newer_kernels_show_the_limits_of_the_per_cpu_lists() -> None:
    old = facts("arm64-6.12.107+deb13-arm64-virtio-mem-default", "0-before").zones[0]
    new = facts("arm64-7.2.13+deb14-arm64-virtio-mem-default", "0-before").zones[0]
    assert old.pagesets[0].high_min is None
    assert old.reserved_highatomic is None
    assert new.pagesets[0].high_min is not None
    assert new.reserved_highatomic is not None


def test_free_blocks_by_migrate_type_add_up_to_those_of_the_buddy_nearly() -> None:
    """Both files count the same lists, read a moment apart: the large blocks do not move."""
    machine = facts(*EXAMPLE)
    (node,) = machine.pagetypeinfo
    for zone in machine.buddyinfo:
        largest = sum(row.free[-1] for row in node.free if row.zone == zone.zone)
        assert largest == zone.free[-1]


def test_pageblocks_are_as_large_as_their_order_says() -> None:
    (node,) = facts(*EXAMPLE).pagetypeinfo
    assert node.pageblock_order == 9
    assert node.migratetypes == ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate")
    blocks = {row.zone: sum(row.count) for row in node.blocks}
    assert blocks["Normal"] == 131072 >> 9


def test_a_list_too_long_to_count_is_marked_again() -> None:
    text = open_capture(EXAMPLE[0])[EXAMPLE[1]].read("/proc/pagetypeinfo")
    capped = text.replace("type    Unmovable      0 ", "type    Unmovable >100000 ", 1)
    assert capped != text
    assert pagetypeinfo.render(pagetypeinfo.parse(capped)) == capped


@pytest.mark.parametrize("path", PARSERS)
@pytest.mark.parametrize("share", [0.0, 0.13, 0.37, 0.61, 0.88, 0.99])
def test_a_file_cut_off_anywhere_is_refused_with_its_place(path: str, share: float) -> None:
    text = open_capture(EXAMPLE[0])[EXAMPLE[1]].read(path)
    cut = text[: int(len(text) * share)].rstrip("\n")
    with pytest.raises(BadInput) as refused:
        PARSERS[path].parse(cut, where="the-file")
    assert refused.value.where.startswith("the-file")
    assert "cut off" in refused.value.fix


@pytest.mark.parametrize("path", ["/proc/zoneinfo", "/proc/pagetypeinfo"])
def test_a_file_that_ends_between_lines_of_a_zone_is_refused(path: str) -> None:
    kept = open_capture(EXAMPLE[0])[EXAMPLE[1]].read(path).splitlines(keepends=True)
    where = next(number for number, line in enumerate(kept) if "managed" in line or "Free pages count" in line)
    with pytest.raises(BadInput, match="ends before") as refused:
        PARSERS[path].parse("".join(kept[:where]), where="the-file")
    assert refused.value.where == f"the-file:{where}"


@pytest.mark.parametrize("path", PARSERS)
def test_a_line_that_no_kernel_prints_is_refused_with_its_number(path: str) -> None:
    lines = open_capture(EXAMPLE[0])[EXAMPLE[1]].read(path).splitlines(keepends=True)
    for number in (1, len(lines)):
        broken = [*lines[: number - 1], "Node zero, zone\n", *lines[number:]]
        with pytest.raises(BadInput, match="want") as refused:
            PARSERS[path].parse("".join(broken), where="the-file")
        assert refused.value.where == f"the-file:{number}"


def test_a_populated_zone_without_its_start_is_refused() -> None:
    text = open_capture(EXAMPLE[0])[EXAMPLE[1]].read("/proc/zoneinfo")
    without = text.replace("  start_pfn:           1048576\n", "")
    number = without.splitlines().index("Node 0, zone  Movable") + 1
    with pytest.raises(BadInput, match="want 'start_pfn' of node 0 zone Normal") as refused:
        zoneinfo.parse(without, where="the-file")
    assert refused.value.where == f"the-file:{number}"


def test_pageblocks_at_odds_with_their_order_are_refused() -> None:
    text = open_capture(EXAMPLE[0])[EXAMPLE[1]].read("/proc/pagetypeinfo")
    with pytest.raises(BadInput, match="want 512 pages, as the order says") as refused:
        pagetypeinfo.parse(text.replace("Pages per block:  512", "Pages per block:  511"), where="the-file")
    assert refused.value.where == "the-file:2"


def test_zones_that_disagree_about_the_number_of_orders_are_refused() -> None:
    with pytest.raises(BadInput, match="3 counts, one an order"):
        buddyinfo.parse("Node 0, zone      DMA      1      2      3 \nNode 0, zone   Normal      1      2 \n")


def test_free_pages_are_counted_over_all_orders() -> None:
    (zone,) = buddyinfo.parse("Node 0, zone      DMA      1      2      3 \n")
    assert zone.pages == 1 + 2 * 2 + 3 * 4
