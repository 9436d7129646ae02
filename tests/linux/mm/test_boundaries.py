"""Boundaries and orders of the kernel's code that only few machines come to: each with the function that has it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from types import ModuleType

import pytest

from kernels import PLUG_AT, kernel, plug, refused
from memhp.hw.memory import Use
from memhp.linux.arch.x86.mm.vmemmap_sub_pmd import vmemmap_pmd_is_unused, vmemmap_use_new_sub_pmds
from memhp.linux.drivers.base.memory import valid_zones
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.base.notify import Chains
from memhp.linux.drivers.virtio.virtio_mem_state import MbState
from memhp.linux.mm import memory_hotplug_online
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType
from memhp.linux.mm.memory_hotplug_add import MHP_NONE, add_memory
from memhp.linux.mm.memory_hotplug_online import online_pages
from memhp.linux.mm.memory_hotplug_policy import auto_movable_can_online_movable
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.mm.memremap import memremap_pages
from memhp.linux.mm.sparse import sparse_remove_section
from memhp.linux.mmzone import MemoryGroup, ZoneType
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, MiB
from steppers import Failing
from virtio_mem import AT, attach, resize

BLOCK = 128 * MiB


def early_pages(k: Kernel) -> int:
    """Pages of kernel zones since boot."""
    return sum(zone.present_early for zone in k.zones() if zone.type is not ZoneType.MOVABLE)


class TestAutoMovableRatio:
    """linux-6.12 mm/memory_hotplug.c:auto_movable_can_online_movable, with ratios of 100 and 300 %."""

    def test_exactly_what_the_ratio_allows_may_be_movable(self) -> None:
        k = kernel("x86_64", auto_movable_ratio=300)
        most = 3 * early_pages(k)
        assert auto_movable_can_online_movable(k, None, None, most)
        assert not auto_movable_can_online_movable(k, None, None, most + 1)

    def test_kernel_memory_that_groups_need_to_the_last_page_leaves_nothing_to_others(self) -> None:
        """``kernel_early_pages <= req_kernel_early_pages`` is false at once, whatever the group has of its own."""
        k = kernel("x86_64", auto_movable_ratio=100)
        early = early_pages(k)
        other, own = (MemoryGroup(0, dynamic=True, unit_pages=32768) for _ in range(2))
        k.memory_groups |= {1: other, 2: own}
        other.present_movable_pages = early
        own.present_kernel_pages = 32768
        assert not auto_movable_can_online_movable(k, None, own, 1)
        other.present_movable_pages = early - 1
        assert auto_movable_can_online_movable(k, None, own, 1)

    def test_cma_counts_as_movable_and_not_as_kernel_memory(self) -> None:
        """auto_movable_stats_account_zone(): 100 early pages of CMA are 100 less and 100 more."""
        k = kernel("x86_64", auto_movable_ratio=300)
        zone = next(zone for zone in k.zones() if zone.populated)
        zone.cma_pages = 100
        most = 3 * (early_pages(k) - 100) - 100
        assert auto_movable_can_online_movable(k, None, None, most)
        assert not auto_movable_can_online_movable(k, None, None, most + 1)


def mark_online(k: Kernel, block_id: int) -> None:
    """Somebody was faster with a block."""
    block = k.memory_blocks.get(block_id)
    assert block is not None
    k.memory_blocks.set(block_id, block_id + 1, replace(block, state="online"))


def test_automatic_onlining_ends_at_a_block_that_is_online_already() -> None:
    """walk_memory_blocks() stops at what online_memory_block() returns, and device_online() gives 1."""
    k = kernel("x86_64")
    plug(k, 3 * BLOCK)
    first = PLUG_AT // BLOCK
    k.auto_online_blocks = "online_movable"

    def online_the_next(k: Kernel, action: str, start_pfn: int, _nr: int) -> str:
        if action == "MEM_ONLINE" and k.block_id(start_pfn) == first:
            k.statics(Chains).memory.remove(online_the_next)
            mark_online(k, first + 1)
        return ""

    k.statics(Chains).memory.append(online_the_next)
    add_memory(k, 0, PLUG_AT, 3 * BLOCK, MHP_NONE)
    assert [block.state for block in map(k.memory_blocks.get, range(first, first + 3)) if block] == [
        "online", "online", "offline",
    ]  # fmt: skip


def test_a_node_that_spans_a_devices_memory_stays_when_its_last_block_goes() -> None:
    """try_offline_node(): ``node->node_spanned_pages``, which ZONE_DEVICE counts in."""
    k = kernel("x86_64")
    plug(k, BLOCK)
    add_memory(k, 1, PLUG_AT, BLOCK, MHP_NONE)
    plug(k, BLOCK, 2 * PLUG_AT)
    memremap_pages(k, DevPagemap(MemoryType.GENERIC, (Span(2 * PLUG_AT, 2 * PLUG_AT + BLOCK),)), 1)
    remove_memory(k, PLUG_AT, BLOCK)
    assert 1 in k.node_states.online


def test_a_mark_that_was_put_off_counts_when_a_leaf_goes_out_of_use() -> None:
    """linux-6.12 vmemmap_pmd_is_unused() flushes before it looks."""
    k = kernel("x86_64", struct_page_size=80)
    base = 0xFFFF_EA10_0000_0000
    vmemmap_use_new_sub_pmds(k, Span(base, base + MiB))
    assert vmemmap_pmd_is_unused(k, Span(base, base + MiB))


def test_struct_pages_of_boot_memory_are_rams_whatever_altmap_the_removal_has() -> None:
    """section_deactivate(): ``altmap`` is dropped for an early section, whose memmap came from memblock."""
    k = kernel("x86_64")
    per = k.config.pages_per_section
    pfn = 4 * per
    used = k.hw.memory.used(Use.MEMMAP, 0, 1 << 30)
    altmap = VmemAltmap(base_pfn=pfn, end_pfn=pfn + per - 1, free=512, alloc=512)
    sparse_remove_section(k, pfn, per, altmap)
    assert altmap.alloc == 512
    assert used - k.hw.memory.used(Use.MEMMAP, 0, 1 << 30) == 512


def test_virtio_mem_takes_partly_plugged_movable_blocks_before_those_of_kernel_zones() -> None:
    """virtio_mem_sbm_unplug_request(): MOVABLE_PARTIAL, KERNEL_PARTIAL, MOVABLE, KERNEL."""
    k = kernel("x86_64")
    vm = attach(k, 2 * BLOCK)
    resize(k, vm, 2 * BLOCK)
    first = AT // BLOCK
    state_store(k, first, "online_movable")
    state_store(k, first + 1, "online_kernel")
    for block, state in ((first, MbState.MOVABLE_PARTIAL), (first + 1, MbState.KERNEL_PARTIAL)):
        vm.sbm.blocks.set(block, state)
    resize(k, vm, 2 * BLOCK - 2 * MiB)
    plugged = [vm.sbm.plugged.covered(*vm.sbm.sub_blocks(block)) for block in (first, first + 1)]
    assert plugged == [63, 64]


@pytest.mark.parametrize("at", [PLUG_AT, PLUG_AT + GiB - 2 * MiB, PLUG_AT - GiB + 2 * MiB])
def test_a_device_mapping_conflicts_at_its_first_and_at_its_last_page(at: int) -> None:
    """linux-6.12 mm/memremap.c:pagemap_range asks for the mapping of both."""
    k = kernel("x86_64")
    plug(k, 3 * GiB, PLUG_AT - GiB)
    memremap_pages(k, DevPagemap(MemoryType.GENERIC, (Span(PLUG_AT, PLUG_AT + GiB),)), 0)
    error = refused(memremap_pages, k, DevPagemap(MemoryType.GENERIC, (Span(at, at + GiB),)), 0)
    assert (error.errno, error.place) == (12, "mm/memremap.c:pagemap_range")
    assert "Conflicting mapping in same section" in [line.text for line in k.hw.log_lines]


def test_watermarks_are_worked_out_when_nothing_of_the_block_is_isolated_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """online_pages(): undo_isolate_page_range(), then init_per_zone_wmark_min()."""
    k = kernel("x86_64")
    span = plug(k, BLOCK)
    add_memory(k, 0, PLUG_AT, BLOCK, MHP_NONE)
    seen: list[int] = []
    module: ModuleType = memory_hotplug_online
    real = module.init_per_zone_wmark_min

    def look(k: Kernel) -> None:
        seen.append(k.nodes[0].zones[ZoneType.MOVABLE].isolated.covered(*span))
        real(k)

    monkeypatch.setattr(module, "init_per_zone_wmark_min", look)
    state_store(k, k.block_id(span.start), "online_movable")
    assert seen == [0]


def test_memory_that_only_touches_a_zone_is_not_drawn_into_it() -> None:
    """zone_intersects() is of half-open ranges: neither what ends where ZONE_MOVABLE begins nor what follows it."""
    k = kernel("x86_64")
    plug(k, 3 * BLOCK)
    add_memory(k, 0, PLUG_AT, 3 * BLOCK)
    first = PLUG_AT // BLOCK
    state_store(k, first + 1, "online_movable")
    assert [valid_zones(k, block) for block in (first, first + 2)] == ["Normal Movable", "Normal Movable"]


@pytest.mark.parametrize("cut", [(0, 0), (1, 32767), (0, 512)])
def test_what_goes_online_is_pageblocks_up_to_the_end_of_a_section(cut: tuple[int, int]) -> None:
    """online_pages(): no page, a start within a pageblock, an end within a section: each alone is EINVAL."""
    k = kernel("x86_64")
    span = plug(k, BLOCK)
    add_memory(k, 0, PLUG_AT, BLOCK)
    zone = k.nodes[0].zones[ZoneType.MOVABLE]
    error = refused(online_pages, k, span.start + cut[0], cut[1], zone, None)
    assert (error.errno, error.place) == (22, "mm/memory_hotplug.c:online_pages")
    assert not zone.spanned


@pytest.mark.parametrize("release", ["linux-6.12", "linux-7.2"])
def test_a_new_node_is_gone_again_when_its_memory_could_not_be_added(release: str) -> None:
    """add_memory_resource(): 7.2 registers the node first, and unregisters it at ``error``; 6.12 does so last."""
    k = kernel("x86_64", release)
    plug(k, BLOCK)
    k.hw.faults = Failing("drivers/base/memory.c:add_memory_block", 1)
    refused(add_memory, k, 1, PLUG_AT, BLOCK)
    k.hw.faults = None
    assert (k.node_states.online, set(k.node_states.devices)) == ({0}, {0})
    add_memory(k, 1, PLUG_AT, BLOCK)
    assert (k.node_states.online, set(k.node_states.devices)) == ({0, 1}, {0, 1})
