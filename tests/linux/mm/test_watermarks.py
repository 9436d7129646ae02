"""Watermarks and lowmem reserve, worked out from managed pages, are those that real kernels printed.

A kernel works them out when memory goes online or offline, not when a balloon or an unplug request takes single pages,
nor when boot frees its init code. Equality can be asked of a step in which it did.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import pytest

from captures import captures, facts, guests, neighbours, open_capture
from memhp.facts.describe import describe
from memhp.facts.zoneinfo import ZoneInfo
from memhp.linux.config import Config
from memhp.linux.mm.mm_init import free_area_init_core_hotplug
from memhp.linux.mm.page_alloc import adjust_managed_page_count, build_all_zonelists
from memhp.linux.mm.watermarks import (
    MIN_FREE_KBYTES,
    Khugepaged,
    hugepage_init,
    init_per_zone_wmark_min,
    setup_per_zone_lowmem_reserve,
    setup_per_zone_wmarks,
)
from memhp.linux.mmzone import ZoneType
from memhp.linux.profiles import PROFILES
from memhp.linux.state import Kernel
from memhp.units import GiB, MiB, TiB
from steppers import Recorder
from zoned import RISCV, X86, booted, config_of, unzoned, zone_named

Marks = list[tuple[int | None, ...]]


def kernel_with(config: Config, zones: tuple[ZoneInfo, ...]) -> Kernel:
    """A kernel whose zones have these sizes and watermarks, and no lowmem reserve yet."""
    k = unzoned(config, [])
    for seen in zones:
        k.node_states.online.add(seen.node)
        free_area_init_core_hotplug(k, seen.node)
        zone = zone_named(k, seen.node, seen.name)
        zone.spanned, zone.present, zone.managed = seen.spanned, seen.present, seen.managed
        zone.watermark_high = seen.high or 0
    k.statics(Khugepaged).on = True
    return k


def marks(zones: tuple[ZoneInfo, ...]) -> Marks:
    """What a kernel printed, without the boost that it adds for a while after memory of another kind was taken."""
    return [
        tuple(mark and mark - (zone.boost or 0) for mark in (zone.min, zone.low, zone.high, zone.promo))
        for zone in zones
    ]


def small(name: str) -> bool:
    """Whether a machine booted with so little memory that khugepaged asks for nothing."""
    log = facts(name, next(iter(open_capture(name)))).boot_log
    return log is not None and log.available is not None and log.available.present <= 512 * MiB


def in_whole_blocks(name: str, step: str, later: str) -> bool:
    """Whether memory came or went in whole blocks alone, which may keep their own struct pages.

    Then no single pages were taken or given after the last calculation.
    """
    page = facts(name, later).page_size or 4096
    before = {(zone.node, zone.name): zone for zone in facts(name, step).zones}
    after = {(zone.node, zone.name): zone for zone in facts(name, later).zones}
    changes = [
        (after[key].present - before[key].present, after[key].managed - before[key].managed) for key in after
        if key in before
    ]  # fmt: skip
    return before.keys() == after.keys() and all(
        managed in (present, present - present * 64 // page) for present, managed in changes
    )


def marks_of(k: Kernel) -> Marks:
    return [(zone.watermark_min, zone.watermark_low, zone.watermark_high, zone.watermark_promo) for zone in k.zones()]


def as_printed(k: Kernel, zones: tuple[ZoneInfo, ...]) -> Marks:
    """The marks of the zones that a machine shows, as it shows them: kernels before 6.12 print no ``promo``."""
    found = dict(zip(((zone.nid, zone.type) for zone in k.zones()), marks_of(k), strict=True))
    shown = [(found[zone.node, zone_named(k, zone.node, zone.name).type], zone) for zone in zones]
    return [mark if zone.promo is not None else (*mark[:3], None) for mark, zone in shown]


def protection_of(k: Kernel) -> list[tuple[int, ...]]:
    return [tuple(zone.lowmem_reserve.get(kind, 0) for kind in sorted(k.nodes[zone.nid].zones)) for zone in k.zones()]


RECALCULATED = [
    (name, step, later)
    for name, step, later in neighbours()
    if marks(facts(name, step).zones) != marks(facts(name, later).zones) and in_whole_blocks(name, step, later)
]


def test_there_are_machines_and_steps_enough_to_ask() -> None:
    assert len(SMALL) > 4
    assert {name for name, _, _ in RECALCULATED} > {
        name for name in (*captures(), *guests()) if "virtio-mem-default" in name or "pc-dimm" in name
    }


def less(zones: tuple[ZoneInfo, ...], at: int, pages: int) -> tuple[ZoneInfo, ...]:
    """The zones with fewer managed pages in one of them."""
    fewer = replace(zones[at], managed=max(zones[at].managed - pages, 0))
    return (*zones[:at], fewer, *zones[at + 1 :])


@pytest.mark.parametrize(("name", "step", "later"), RECALCULATED)
def test_watermarks_follow_from_managed_pages(name: str, step: str, later: str) -> None:
    before, after = facts(name, step), facts(name, later)
    config = config_of(describe(after, name=name))
    block = after.memory.block_size // config.page_size
    highs = {(zone.node, zone.name): zone.high for zone in before.zones}
    found = []
    # Free memory above the old high watermarks sets the new ones. Between two steps several blocks may have come or
    # gone, each with a calculation of its own: the last one began with the watermarks of the earlier step, of the later
    # one, or of the moment before the last block came to one of the zones.
    for start in (before.zones, after.zones, *(less(after.zones, at, block) for at in range(len(after.zones)))):
        k = kernel_with(config, start if start is not before.zones else after.zones)
        k.statics(Khugepaged).on = not small(name)
        if start is not after.zones:
            for zone in k.zones():
                zone.watermark_high = highs.get((zone.nid, zone.name), 0) or 0
        if start is not before.zones and start is not after.zones:
            init_per_zone_wmark_min(k)
            for seen in after.zones:
                zone_named(k, seen.node, seen.name).managed = seen.managed
        init_per_zone_wmark_min(k)
        found.append(as_printed(k, after.zones))
    assert marks(after.zones) in found
    assert protection_of(k) == [zone.protection for zone in after.zones]


@pytest.mark.parametrize("name", captures())
def test_from_7_2_on_the_lowmem_reserve_follows_managed_pages_at_every_moment(name: str) -> None:
    for step in open_capture(name):
        now = facts(name, step)
        config = config_of(describe(now, name=name))
        if config.profile.lowmem_reserve == "with-managed-pages":
            k = kernel_with(config, now.zones)
            setup_per_zone_lowmem_reserve(k)
            assert protection_of(k) == [zone.protection for zone in now.zones]


def test_before_7_2_the_lowmem_reserve_waits_for_the_watermarks() -> None:
    first = facts("x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-default", "0-before")
    k = kernel_with(X86, first.zones)
    setup_per_zone_lowmem_reserve(k)
    real = [zone.protection for zone in first.zones]
    assert protection_of(k)[0][1] > real[0][1], "boot set it before init memory was freed"


@pytest.mark.parametrize(("release", "follows"), [("linux-6.12", False), ("linux-7.2", True)])
def test_a_change_of_managed_pages_reaches_the_lowmem_reserve_by_release(release: str, follows: bool) -> None:
    k = booted(replace(X86, profile=PROFILES[release]), [(0, 6 * GiB, 0)])
    dma32 = k.nodes[0].zones[ZoneType.DMA32]
    before = dict(dma32.lowmem_reserve)
    assert before[ZoneType.NORMAL] == (2 * GiB >> 12) // 256
    adjust_managed_page_count(k, 5 * GiB >> 12, -(1 * GiB >> 12))
    assert (dma32.lowmem_reserve != before) is follows
    if follows:
        assert dma32.lowmem_reserve[ZoneType.NORMAL] == (1 * GiB >> 12) // 256


SMALL = [name for name in captures() if small(name)]


@pytest.mark.parametrize("name", SMALL)
def test_with_less_than_512_mib_at_boot_khugepaged_asks_for_nothing(name: str) -> None:
    now = facts(name, next(iter(open_capture(name))))
    config = config_of(describe(now, name=name))
    assert now.boot_log is not None
    given_back = sum(each.size for each in now.boot_log.given_back) // config.page_size
    largest = max(range(len(now.zones)), key=lambda at: now.zones[at].managed)
    found = []
    for zones in (now.zones, less(now.zones, largest, given_back)):
        k = kernel_with(config, zones)
        k.statics(Khugepaged).on = False
        init_per_zone_wmark_min(k)
        found.append(marks_of(k))
    # Boot works them out before it gives its own code and the initial ramdisk back, which lie in the largest zone.
    for mark, now_managed, earlier_managed in zip(marks(now.zones), *found, strict=True):
        for real, *bounds in zip(mark, now_managed, earlier_managed, strict=True):
            assert real is not None
            assert min(bounds) <= real <= max(bounds)


def test_huge_pages_are_on_from_512_mib_of_managed_memory_on() -> None:
    for size, on in ((511 * MiB, False), (512 * MiB, True)):
        k = booted(RISCV, [(2 * GiB, 2 * GiB + size, 0)])
        kbytes = init_per_zone_wmark_min(k)
        assert hugepage_init(k, kbytes) >= kbytes
        assert k.statics(Khugepaged).on is on


@pytest.mark.parametrize(
    ("managed_kib", "kbytes"),
    [(16 << 10, 512), (32 << 10, 724), (64 << 10, 1024), (128 << 10, 1448), (256 << 10, 2048), (512 << 10, 2896),
     (1 << 20, 4096), (2 << 20, 5792), (4 << 20, 8192), (8 << 20, 11585), (16 << 20, 16384)],
)  # fmt: skip
def test_min_free_kbytes_is_four_times_the_root_of_lowmem(managed_kib: int, kbytes: int) -> None:
    k = unzoned(RISCV, [])
    k.node_states.online.add(0)
    free_area_init_core_hotplug(k, 0)
    k.nodes[0].zones[ZoneType.NORMAL].managed = managed_kib >> 2
    assert init_per_zone_wmark_min(k) == kbytes


def test_min_free_kbytes_ends_at_256_mib_however_large_the_machine() -> None:
    k = booted(X86, [(0, 64 * TiB, 0)])
    assert init_per_zone_wmark_min(k) == MIN_FREE_KBYTES[1]


def test_zone_movable_has_a_small_watermark_or_before_6_6_a_share() -> None:
    """The mail that changed it (liuq, 21 June 2023) shows 16 GiB with 12 GiB movable: 1434 pages before, 128 after."""
    marks_by_release = {}
    for release in ("linux-5.13", "linux-6.12"):
        k = unzoned(replace(X86, profile=PROFILES[release]), [])
        k.node_states.online.add(0)
        free_area_init_core_hotplug(k, 0)
        k.nodes[0].zones[ZoneType.DMA].managed = 3840
        k.nodes[0].zones[ZoneType.DMA32].managed = 404_000
        k.nodes[0].zones[ZoneType.NORMAL].managed = 634_000
        k.nodes[0].zones[ZoneType.MOVABLE].managed = 12 * GiB >> 12
        init_per_zone_wmark_min(k)
        marks_by_release[release] = [zone.watermark_min for zone in k.zones()][:4]
    assert marks_by_release["linux-6.12"][3] == 128
    old, new = marks_by_release["linux-5.13"], marks_by_release["linux-6.12"]
    assert abs(sum(old) - sum(new[:3])) < 4, "the whole of min_free_kbytes is divided, with or without ZONE_MOVABLE"
    assert old[3] * 4 > sum(old) * 2, "the largest zone took the largest share"


TOTALS = [
    (name, line.text)
    for name in captures()
    for log in [facts(name, list(open_capture(name))[-1]).log]
    for line in (log.lines if log is not None else ())
    if line.text.startswith("Built ") and (line.time or 0) > 2
]


def test_zonelists_are_built_anew_with_the_pages_above_high_watermarks() -> None:
    name = "x86_64-6.12.107+deb13-cloud-amd64-virtio-mem-offline-state"
    real = next(text for each, text in TOTALS if each == name)
    k = kernel_with(X86, facts(name, "1-plugged").zones)
    normal = k.nodes[0].zones[ZoneType.NORMAL]
    normal.present = normal.managed = 128 * MiB >> 12
    normal.watermark_high = 0
    k.node_states.online.add(0)
    k.node_states.memory.add(0)
    build_all_zonelists(k)
    assert [line.text for line in k.hw.log_lines] == ["Fallback order for Node 0: 0 ", real, "Policy zone: Normal"]


def test_watermarks_are_set_by_one_caller_at_a_time_and_under_each_zones_lock() -> None:
    """mm/page_alloc.c:setup_per_zone_wmarks, whose lock is static, and __setup_per_zone_wmarks."""
    k = booted(X86, [(0, GiB, 0)])
    k.hw.stepper = recorder = Recorder()
    setup_per_zone_wmarks(k, 1024)
    zones = [zone.lock for zone in k.zones()]
    each = [f"{kind} {lock}" for lock in zones for kind in ("lock", "unlock")]
    outer = "setup_per_zone_wmarks.lock"
    locks = [told for told in recorder.told(outer, *zones) if "lock " in told]
    assert locks == [f"lock {outer}", *each, f"unlock {outer}"]
