"""Which pages ``pfn_to_online_page()`` knows, in sections that RAM and a device share: mm/memory_hotplug.c."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.hw.lifetime import SlabObject, use_object
from memhp.hw.memory import Owner, Use
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.kernel.rcu import kfree_rcu, rcu_read_lock
from memhp.linux.lib.percpu_refcount import percpu_ref_kill
from memhp.linux.mm import memremap
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType
from memhp.linux.mm.memremap import memremap_pages, memunmap_pages
from memhp.linux.mm.sparse import pfn_to_online_page
from memhp.linux.mmzone import ZoneType
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB

RAM_END = GiB + 64 * MiB
"""In the middle of a section of 128 MiB; the device has the rest, and a section more."""
RAM_PAGE = (RAM_END >> 12) - 1
SHARED = RAM_END >> 12
"""The device's first page, in the section that it shares with RAM."""
ALONE = (GiB + 128 * MiB) >> 12
"""The first page of a section that is all the device's."""


def machine(**choices: object) -> tuple[Kernel, DevPagemap]:
    kernel = profile("linux-7.2").choosing("x86_64", choices)
    config = Config("x86_64", kernel, 4 * KiB, 48)
    k = start_kernel(MachineSpec("shared", config, (Ram(1 * MiB, RAM_END - MiB),)))
    span = Span(RAM_END, GiB + 256 * MiB)
    k.hw.plug(Span(span.start >> 12, span.end >> 12), Owner(Use.DEVICE, "pmem"))
    return k, DevPagemap(MemoryType.GENERIC, (span,))


def online(k: Kernel) -> list[bool]:
    return [pfn_to_online_page(k, pfn) for pfn in (RAM_PAGE, SHARED, ALONE)]


def test_a_devices_pages_are_not_online_wherever_they_lie() -> None:
    k, pgmap = machine()
    assert online(k) == [True, False, False]
    memremap_pages(k, pgmap, 0)
    assert online(k) == [True, False, False]
    memunmap_pages(k, pgmap)
    assert online(k) == [True, False, False]


def test_only_sections_that_begin_or_end_within_the_devices_memory_are_marked() -> None:
    """move_pfn_range_to_zone(): section_taint_zone_device() of start and end where these are not a section's."""
    k, pgmap = machine()
    memremap_pages(k, pgmap, 0)
    marked = {nr for first, last, section in k.mem_section if section.zone_device for nr in range(first, last)}
    assert marked == {k.section_nr(SHARED)}
    memunmap_pages(k, pgmap)
    section = k.mem_section.get(k.section_nr(SHARED))
    assert section is not None and section.zone_device, "for as long as the section is there"


def test_while_its_mapping_goes_a_page_of_a_shared_section_counts_as_online() -> None:
    """get_dev_pagemap() finds no live reference once memunmap_pages() has killed it, before it unmaps anything."""
    k, pgmap = machine()
    memremap_pages(k, pgmap, 0)
    assert pgmap.ref is not None
    percpu_ref_kill(k.hw, pgmap.ref)
    assert online(k) == [True, True, False]


def test_before_its_struct_page_is_initialised_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """pagemap_range() stores the mapping first and calls memmap_init_zone_device() last, without the hotplug lock."""
    k, pgmap = machine()
    seen = []
    init = memremap.memmap_init_zone_device

    def late(*args: object) -> None:
        ref = k.page_zone.get(SHARED)
        seen.append((online(k), ref is not None and ref.type))
        init(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(memremap, "memmap_init_zone_device", late)
    memremap_pages(k, pgmap, 0)
    assert seen == [([True, False, False], ZoneType.DMA32)], "what boot had made of the hole"


def test_before_5_12_it_was_taken_for_ram() -> None:
    k, pgmap = machine(device_sections="untold")
    memremap_pages(k, pgmap, 0)
    assert online(k) == [True, True, False]


def test_a_grace_period_spares_those_who_were_there_and_nobody_who_comes() -> None:
    k, _ = machine()
    thing = SlabObject("usage")
    with rcu_read_lock(k.hw):
        kfree_rcu(k.hw, thing, "t")
        use_object(k.hw, thing, "t")
        assert not k.hw.violations
    with rcu_read_lock(k.hw):
        use_object(k.hw, thing, "t")
    assert [each.law for each in k.hw.violations] == ["use-after-free"]
