"""Zonelists are state of the kernel: when they are built, what stands in them, who may see them half-built.

mm/page_alloc.c: __build_all_zonelists(), build_zonelists_in_node_order(), build_zonerefs_node().
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from kernels import PLUG_AT, kernel, plug
from memhp.errors import KernelBug
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.mm.memory_hotplug_add import add_memory
from memhp.linux.mm.page_alloc import alloc_pages
from memhp.linux.mm.zonelists import (
    SEQUENCE,
    Zonelists,
    build_all_zonelists,
    check_retry_zonelist,
    first_zones_zonelist,
    zonelist,
    zonelist_iter_begin,
    zones_from,
)
from memhp.linux.mmzone import ZoneType
from memhp.linux.state import Kernel
from memhp.units import GiB, MiB
from steppers import Recorder
from zoned import X86, booted

SIZE = 128 * MiB
BLOCK = PLUG_AT // SIZE


def titles(k: Kernel, nid: int, highest: ZoneType = ZoneType.MOVABLE) -> list[str]:
    return [f"{zone.nid} {zone.name}" for zone in zonelist(k, nid, highest)]


def with_dimm(nid: int = 0, release: str = "6.12") -> Kernel:
    k = kernel("x86_64", release)
    plug(k, SIZE)
    add_memory(k, nid, PLUG_AT, SIZE)
    return k


def test_boot_builds_the_list_of_every_possible_node() -> None:
    k = kernel("x86_64")
    assert k.node_states.possible == {0, 1}
    assert titles(k, 0) == titles(k, 1) == ["0 DMA32", "0 DMA"]


def test_a_zone_is_entered_when_it_has_its_first_pages_and_leaves_with_its_last() -> None:
    k = with_dimm(nid=1)
    assert titles(k, 1) == ["0 DMA32", "0 DMA"]
    state_store(k, BLOCK, "online_movable")
    assert titles(k, 0) == ["0 DMA32", "0 DMA", "1 Movable"]
    assert titles(k, 1) == ["1 Movable", "0 DMA32", "0 DMA"]
    assert titles(k, 1, ZoneType.NORMAL) == ["0 DMA32", "0 DMA"]
    state_store(k, BLOCK, "offline")
    assert titles(k, 0) == titles(k, 1) == ["0 DMA32", "0 DMA"]


def test_the_allocator_goes_by_the_list_and_not_by_the_zones() -> None:
    k = booted(X86, [(0, 1 * GiB, 0)])
    dma32 = k.nodes[0].zones[ZoneType.DMA32]
    dma32.present, kept = 0, dma32.present
    build_all_zonelists(k)
    dma32.present = kept
    (page,) = alloc_pages(k, 0, 0, owner=Owner(Use.KERNEL), where="t")
    assert k.page_zone.get(page.start) == (0, ZoneType.DMA)
    build_all_zonelists(k)
    (page,) = alloc_pages(k, 0, 0, owner=Owner(Use.KERNEL), where="t")
    assert k.page_zone.get(page.start) == (0, ZoneType.DMA32)


def test_a_zone_whose_pages_are_all_unmanaged_stays_in_the_list() -> None:
    """build_zonerefs_node() asks populated_zone(), which goes by present_pages."""
    k = booted(X86, [(0, 1 * GiB, 0)])
    k.nodes[0].zones[ZoneType.DMA32].managed = 0
    build_all_zonelists(k)
    assert titles(k, 0) == ["0 DMA32", "0 DMA"]


def test_an_entry_that_was_chosen_before_may_lead_to_another_zone_or_to_none() -> None:
    k = with_dimm()
    first = first_zones_zonelist(k, 0, ZoneType.NORMAL).at
    state_store(k, BLOCK, "online_movable")
    assert [zone.name for zone in zones_from(k, first, ZoneType.NORMAL)] == ["Movable", "DMA32", "DMA"]
    last = first_zones_zonelist(k, 0, ZoneType.DMA).at
    assert [zone.name for zone in zones_from(k, last, ZoneType.DMA)] == ["DMA"]
    state_store(k, BLOCK, "offline")
    assert not list(zones_from(k, last, ZoneType.DMA))


def test_entries_are_written_from_the_front_on_within_the_seqlock() -> None:
    k = with_dimm()
    k.hw.stepper = recorder = Recorder()
    build_all_zonelists(k)
    k.hw.stepper = None
    steps = [f"{each.kind} {each.target}" for each in recorder.accesses]
    about = [step for step in steps if "zonelist" in step]
    held = about.index("lock zonelist_update_seq"), about.index("unlock zonelist_update_seq")
    assert [about[held[0] + 1], about[held[1] - 1]] == [f"atomic {SEQUENCE}"] * 2
    written = [step for step in about[held[0] + 2 : held[1] - 1] if step.startswith("write node0")]
    assert [step.rpartition(".")[2] for step in written] == ["_zonerefs[0]", "_zonerefs[1]", "_zonerefs[2]"]
    assert len(about) == held[1] + 1


@pytest.mark.parametrize(("release", "counted"), [("5.15.71", 0), ("5.15.72", 2), ("7.2", 2)])
def test_an_allocation_that_found_nothing_learns_that_lists_were_built_anew(release: str, counted: int) -> None:
    k = with_dimm(release=release)
    before, sequence = zonelist_iter_begin(k), k.statics(Zonelists).sequence
    assert not check_retry_zonelist(k, before)
    state_store(k, BLOCK, "online_movable")
    assert k.statics(Zonelists).sequence - sequence == counted
    assert check_retry_zonelist(k, before) == bool(counted)


def test_who_begins_while_lists_are_built_waits() -> None:
    k = kernel("x86_64")
    k.statics(Zonelists).sequence += 1
    with pytest.raises(KernelBug, match="spins for ever: zonelists to be built"):
        zonelist_iter_begin(k)
