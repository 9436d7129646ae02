"""Whole lives of hot-added memory: everything is back when it has gone; and what is refused on the way."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import pytest

from architectures import DIRECT_MAPPED
from kernels import PLUG_AT, blocks, kernel, log, pfns, picture, plug, refused, settled
from memhp.errors import KernelBug
from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.drivers.base.memory_groups import memory_group_register_static, memory_group_unregister
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.base.notify import Chains
from memhp.linux.drivers.firmware.memmap import firmware_map
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_hotplug_add import (
    MHP_MEMMAP_ON_MEMORY,
    MHP_MERGE_RESOURCE,
    MHP_NID_IS_MGID,
    MHP_NONE,
    add_memory,
    add_memory_driver_managed,
    try_online_node,
)
from memhp.linux.mm.memory_hotplug_pages import mhp_get_pluggable_range
from memhp.linux.mm.memory_hotplug_remove import __remove_memory, offline_and_remove_memory, remove_memory
from memhp.linux.profiles import PROFILES, profile
from memhp.linux.state import Kernel
from memhp.units import GiB, KiB, MiB

CYCLES: list[tuple[Arch, str, int, bool]] = [
    *(
        (arch, name, 4 * KiB, memmap)
        for name, each in PROFILES.items()
        for arch in each.arches
        for memmap in ((False, True) if name in ("linux-5.13", "linux-6.12") else (False,))
        if arch in DIRECT_MAPPED
    ),
    ("arm64", "linux-6.12", 16 * KiB, False),
    ("arm64", "linux-7.2", 64 * KiB, False),
]

KEEP_TABLES = {"arm64-hotremove-v6"}
"""Kernels that free no vmemmap tables, by their own decision."""


# Round trips -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arch", "release", "page_size", "memmap"), CYCLES)
@pytest.mark.parametrize("nid", [0, 1])
def test_after_add_online_offline_remove_everything_is_as_before(
    arch: Arch, release: str, page_size: int, memmap: bool, nid: int
) -> None:
    k = kernel(arch, release, page_size=page_size, memmap_on_memory="Y" if memmap else "N")
    one_at_a_time = release == "linux-5.13" and memmap
    size = k.memory_block_size * (1 if one_at_a_time else 3)
    before = settled(picture(k))
    span = plug(k, size)
    add_memory(k, nid, PLUG_AT, size, MHP_MEMMAP_ON_MEMORY if memmap else MHP_NONE)
    assert [block.state for *_, block in k.memory_blocks.runs(*block_range(k, size))] == ["offline"]
    for i, block in enumerate(blocks(k, size)):
        state_store(k, block, ("online_movable", "online_kernel", "online_kernel")[i])
    assert sum(zone.present for zone in k.zones() if zone.start_pfn >= span.start) == span.size
    for block in blocks(k, size):
        state_store(k, block, "offline")
    remove_memory(k, PLUG_AT, size)
    k.hw.unplug(span, "platform")
    after = settled(picture(k))
    if release in KEEP_TABLES:
        for one in (before, after):
            del one["owners"], one["tables"], one["zones"]
    assert after == before
    assert not k.hw.violations


def block_range(k: Kernel, size: int) -> tuple[int, int]:
    return PLUG_AT // k.memory_block_size, (PLUG_AT + size) // k.memory_block_size


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_blocks_are_removed_in_any_pieces(arch: Arch) -> None:
    k = kernel(arch)
    size = 4 * k.memory_block_size
    before = settled(picture(k))
    span = plug(k, size)
    add_memory(k, 0, PLUG_AT, size)
    one = k.memory_block_size
    for start, length in ((PLUG_AT + one, one), (PLUG_AT + 3 * one, one), (PLUG_AT, one), (PLUG_AT + 2 * one, one)):
        remove_memory(k, start, length)
    k.hw.unplug(span, "platform")
    after = settled(picture(k))
    whole = [(PLUG_AT, PLUG_AT + size - 1, "System RAM")]
    assert after.pop("firmware map") == (whole if arch == "x86_64" else [])
    assert after == {name: value for name, value in before.items() if name != "firmware map"}


# Resources ---------------------------------------------------------------------------------------------------


def ram_resources(k: Kernel) -> list[tuple[int, int, str]]:
    return [(res.start, res.end, res.name) for res in k.iomem_resource.children if res.start >= PLUG_AT]


def test_driver_managed_memory_is_known_by_its_driver_and_not_to_firmware() -> None:
    k = kernel("x86_64")
    plug(k, k.memory_block_size)
    add_memory_driver_managed(k, 0, PLUG_AT, k.memory_block_size, "System RAM (kmem)")
    assert ram_resources(k) == [(PLUG_AT, PLUG_AT + k.memory_block_size - 1, "System RAM (kmem)")]
    assert not firmware_map(k)


@pytest.mark.parametrize("name", ["System RAM", "System RAM kmem)", "System RAM (kmem", "kmem", ""])
def test_driver_managed_memory_must_say_whose_it_is(name: str) -> None:
    k = kernel("x86_64")
    plug(k, k.memory_block_size)
    assert refused(add_memory_driver_managed, k, 0, PLUG_AT, k.memory_block_size, name).name == "EINVAL"
    assert not ram_resources(k)


def test_neighbours_merge_if_both_may_and_are_cut_again_on_removal() -> None:
    k = kernel("x86_64")
    one = k.memory_block_size
    plug(k, 4 * one)
    for i, how in enumerate((MHP_MERGE_RESOURCE, MHP_MERGE_RESOURCE, MHP_MERGE_RESOURCE, MHP_NONE)):
        add_memory_driver_managed(k, 0, PLUG_AT + i * one, one, "System RAM (virtio_mem)", how)
    assert [end - start + 1 for start, end, _ in ram_resources(k)] == [3 * one, one]
    remove_memory(k, PLUG_AT + one, one)
    assert [(start, end - start + 1) for start, end, _ in ram_resources(k)] == [
        (PLUG_AT, one),
        (PLUG_AT + 2 * one, one),
        (PLUG_AT + 3 * one, one),
    ]


def test_memory_over_memory_is_refused_and_the_first_stays() -> None:
    k = kernel("arm64")
    one = k.memory_block_size
    plug(k, 2 * one)
    add_memory(k, 0, PLUG_AT, one)
    before = picture(k)
    error = refused(add_memory, k, 0, PLUG_AT, 2 * one)
    assert (error.name, error.place) == ("EEXIST", "mm/memory_hotplug.c:register_memory_resource")
    assert log(k, "debug")[-1] == f"Unable to reserve System RAM region: {PLUG_AT:016x}->{PLUG_AT + 2 * one:016x}"
    assert picture(k) == before


@pytest.mark.parametrize(("arch", "release"), [(a, p) for p in ("linux-5.13", "linux-7.2") for a in PROFILES[p].arches])
def test_memory_that_the_direct_map_cannot_hold_is_too_big(arch: Arch, release: str) -> None:
    k = kernel(arch, release)
    allowed = mhp_get_pluggable_range(k, True)
    start = allowed.end
    plug(k, k.memory_block_size, at=start)
    before = picture(k)
    error = refused(add_memory, k, 0, start, k.memory_block_size)
    assert error.name == "E2BIG"
    assert log(k, "warn") == [
        f"Hotplug memory [{start:#x}-{start + k.memory_block_size:#x}] exceeds maximum addressable range "
        f"[{allowed.start:#x}-{allowed.end - 1:#x}]"
    ]
    assert picture(k) == before


@pytest.mark.parametrize(
    ("start", "size"), [(PLUG_AT, 64 * MiB), (PLUG_AT + 64 * MiB, 128 * MiB), (PLUG_AT, 192 * MiB)]
)
def test_less_than_a_block_is_refused_as_the_kernel_says_it(start: int, size: int) -> None:
    k = kernel("riscv64")
    plug(k, size, at=start)
    before = picture(k)
    error = refused(add_memory, k, 0, start, size)
    assert error.name == "EINVAL"
    assert log(k, "err") == [f"Block size [0x8000000] unaligned hotplug range: start {start:#x}, size {size:#x}"]
    assert picture(k) == before
    with pytest.raises(KernelBug, match="BUG_ON"):
        remove_memory(k, start, size)


# Nodes and groups --------------------------------------------------------------------------------------------


def test_a_node_that_cannot_exist_is_refused() -> None:
    k = kernel("x86_64")
    plug(k, k.memory_block_size)
    before = picture(k)
    assert refused(add_memory, k, 7, PLUG_AT, k.memory_block_size).name == "EINVAL"
    assert "node 7 was absent from the node_possible_map" in log(k, "warn")
    assert picture(k) == before


@pytest.mark.parametrize("release", ["linux-6.12", "linux-7.2"])
def test_a_new_node_comes_online_with_its_first_memory_and_goes_with_its_last(release: str) -> None:
    k = kernel("x86_64", release)
    one = k.memory_block_size
    span = plug(k, 2 * one)
    add_memory(k, 1, PLUG_AT, 2 * one)
    first = PLUG_AT // one
    assert (k.node_states.online, list(k.node_states.devices[1])) == ({0, 1}, [(first, first + 2)])
    remove_memory(k, PLUG_AT, one)
    assert 1 in k.node_states.online
    remove_memory(k, PLUG_AT + one, one)
    assert (k.node_states.online, set(k.node_states.devices)) == ({0}, {0})
    k.hw.unplug(span, "platform")


def test_a_node_can_come_online_for_a_cpu_without_memory() -> None:
    k = kernel("x86_64")
    assert try_online_node(k, 1)
    assert not try_online_node(k, 1)
    assert k.node_states.online == {0, 1} and 1 in k.node_states.devices


def test_a_memory_group_tells_the_node_and_stays_while_blocks_belong_to_it() -> None:
    k = kernel("x86_64")
    group = memory_group_register_static(k, 1, k.pages_per_block)
    plug(k, k.memory_block_size)
    add_memory(k, group, PLUG_AT, k.memory_block_size, MHP_NID_IS_MGID)
    block = blocks(k, k.memory_block_size)[0]
    found = k.memory_blocks.get(block)
    assert found is not None and (found.nid, found.group) == (1, group)
    assert refused(memory_group_unregister, k, group).name == "EBUSY"
    state_store(k, block, "online_movable")
    assert k.memory_groups[group].present_movable_pages == k.pages_per_block
    state_store(k, block, "offline")
    remove_memory(k, PLUG_AT, k.memory_block_size)
    memory_group_unregister(k, group)
    assert refused(memory_group_unregister, k, group).name == "EINVAL"
    assert refused(add_memory, k, group, PLUG_AT, k.memory_block_size, MHP_NID_IS_MGID).name == "EINVAL"


# Removal that is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_online_memory_is_not_removed(arch: Arch) -> None:
    k = kernel(arch)
    one = k.memory_block_size
    plug(k, 2 * one)
    add_memory(k, 0, PLUG_AT, 2 * one)
    state_store(k, blocks(k, 2 * one)[1], "online_movable")
    before = picture(k)
    error = refused(remove_memory, k, PLUG_AT, 2 * one)
    start = PLUG_AT + one
    assert error.name == "EBUSY"
    assert log(k, "warn")[-1] == (
        f"removing memory fails, because memory [{start:#018x}-{start + one - 1:#018x}] is onlined"
    )
    assert picture(k) == before
    with pytest.raises(KernelBug), k.hw.locked("device_hotplug_lock"):
        __remove_memory(k, PLUG_AT, 2 * one)


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_offline_and_remove_rolls_back_each_block_to_the_zone_that_it_came_from(arch: Arch) -> None:
    k = kernel(arch)
    one = k.memory_block_size
    plug(k, 4 * one)
    add_memory(k, 0, PLUG_AT, 4 * one)
    ids = blocks(k, 4 * one)
    for block, how in zip(ids, ("online_movable", "online_kernel", "offline", "online_kernel"), strict=True):
        if how != "offline":
            state_store(k, block, how)
    last = pfns(k, PLUG_AT + 3 * one, one)
    k.statics(Chains).memory.append(
        lambda _k, action, pfn, _n: "no" if action == "MEM_GOING_OFFLINE" and pfn == last.start else ""
    )
    before = picture(k)
    error = refused(offline_and_remove_memory, k, PLUG_AT, 4 * one)
    assert (error.name, error.reason) == ("EPERM", "notifier failure")
    assert settled(picture(k)) == settled(before)


def test_a_block_that_cannot_come_back_is_warned_of() -> None:
    k = kernel("riscv64")
    one = k.memory_block_size
    plug(k, 2 * one)
    add_memory(k, 0, PLUG_AT, 2 * one)
    first, second = blocks(k, 2 * one)
    for block in (first, second):
        state_store(k, block, "online_movable")
    boundary = pfns(k, PLUG_AT + one, 0).start
    k.statics(Chains).memory.append(
        lambda _k, action, pfn, _n: (
            "no" if (action == "MEM_GOING_OFFLINE" and pfn >= boundary) or action == "MEM_GOING_ONLINE" else ""
        )
    )
    refused(offline_and_remove_memory, k, PLUG_AT, 2 * one)
    assert log(k, "warn")[-1] == "try_reonline_memory_block: Failed to re-online memory: -1"
    assert [block.state for *_, block in k.memory_blocks.runs(first, second + 1)] == ["offline", "online"]


@pytest.mark.parametrize(("start", "size"), [(PLUG_AT, 0), (PLUG_AT + 4096, 128 * MiB), (PLUG_AT, 4096)])
def test_offline_and_remove_wants_whole_blocks(start: int, size: int) -> None:
    assert refused(offline_and_remove_memory, kernel("x86_64"), start, size).name == "EINVAL"


# memblock ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arch", "kept"), [("riscv64", True), ("arm64", True), ("x86_64", False)])
def test_memblock_follows_where_it_outlives_boot(arch: Arch, kept: bool) -> None:
    k = kernel(arch)
    plug(k, k.memory_block_size)
    add_memory(k, 0, PLUG_AT, k.memory_block_size)
    assert k.memblock.memblock_is_memory(PLUG_AT) == kept
    remove_memory(k, PLUG_AT, k.memory_block_size)
    assert not k.memblock.memblock_is_memory(PLUG_AT)


def forgetting_memblock_first(release: str) -> Kernel:
    """The kernel before patch 1 of the arm64 series."""
    old = replace(profile(release), memblock_order="memblock-first")
    config = Config(arch="arm64", profile=old, page_size=4 * KiB, va_bits=48)
    return start_kernel(MachineSpec("old", config, (Ram(1 * GiB, 1 * GiB),)))


def test_with_memblock_forgotten_first_arm64_leaves_links_behind_and_cannot_add_the_memory_again() -> None:
    """``pfn_valid()`` asks memblock, and by it the links of a block below its node are found."""
    for k, broken in (
        (kernel("arm64", "arm64-hotremove-v5"), False),
        (forgetting_memblock_first("arm64-hotremove-v5"), True),
    ):
        size = k.memory_block_size
        plug(k, size)
        add_memory(k, 0, PLUG_AT, size)
        remove_memory(k, PLUG_AT, size)
        assert (PLUG_AT // size in k.node_states.devices[0]) == broken
        if broken:
            with pytest.raises(KernelBug, match="link to memory8"):
                add_memory(k, 0, PLUG_AT, size)
        else:
            add_memory(k, 0, PLUG_AT, size)


class TestZonelistsOfANewNode:
    """x86_64-6.12.117+deb13-cloud-amd64-dimm-memoryless-node, dmesg: node 1 is possible, and has nothing at boot."""

    def told(self, k: Kernel) -> list[str]:
        found = [line.text for line in k.hw.log_lines if line.text.startswith(("Fallback", "Built"))]
        k.hw.log_lines.clear()
        return [text.partition(",")[0].strip() for text in found]

    def test_it_hears_of_the_others_at_once_and_they_of_it_when_it_has_memory(self) -> None:
        k = kernel("x86_64")
        self.told(k)
        plug(k, 128 * MiB)
        add_memory(k, 1, PLUG_AT, 128 * MiB)
        assert self.told(k) == ["Fallback order for Node 1: 0", "Built 1 zonelists"]
        state_store(k, blocks(k, 128 * MiB)[0], "online_movable")
        both = ["Fallback order for Node 0: 0 1", "Fallback order for Node 1: 1 0", "Built 2 zonelists"]
        assert self.told(k) == both
        offline_and_remove_memory(k, PLUG_AT, 128 * MiB)
        assert self.told(k) == ["Fallback order for Node 0: 0", "Fallback order for Node 1: 0", "Built 2 zonelists"]

    def test_6_1_puts_it_first_though_it_has_nothing(self) -> None:
        """Debian's 6.1.0-56: "Fallback order for Node 1: 1 0" for a new node."""
        k = kernel("x86_64", "6.1")
        self.told(k)
        plug(k, 128 * MiB)
        add_memory(k, 1, PLUG_AT, 128 * MiB)
        assert self.told(k) == ["Fallback order for Node 1: 1 0", "Built 1 zonelists"]
