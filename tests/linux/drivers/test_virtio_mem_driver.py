"""The virtio-mem driver: what it plugs and unplugs, in which order, and in which units."""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EBUSY
from itertools import pairwise

import pytest

from kernels import kernel, log, refused
from memhp.check import check_all
from memhp.hw.devices.backing import MachineBacking
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.hw.devices.virtio_mem_rules import Rule
from memhp.hw.devices.virtio_mem_wire import Feature, RequestType, ResponseType
from memhp.hw.memory import Use
from memhp.linux.choices import Arch
from memhp.linux.config import OnlineType
from memhp.linux.drivers.acpi.numa.srat import NUMA_NO_NODE, Srat, acpi_map_pxm_to_node, pxm_to_node
from memhp.linux.drivers.base.memory_state import memory_block, state_store
from memhp.linux.drivers.virtio.virtio_mem import virtio_mem_probe
from memhp.linux.drivers.virtio.virtio_mem_state import Params
from memhp.linux.mm import users
from memhp.linux.mmzone import ZoneType
from memhp.units import GiB, KiB, MiB
from virtio_mem import AT, SECOND, agree, attach, guest, lawful, resize, states

BLOCK = 128 * MiB
SB = 2 * MiB
FIRST = AT // BLOCK
ARCHES: list[Arch] = ["riscv64", "arm64", "x86_64"]
ONLINE: list[OnlineType] = ["online_kernel", "online_movable"]


# Sizes and modes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "page_size", "sub_block", "big_block"),
    [
        ("riscv64", 4 * KiB, 2 * MiB, None),
        ("arm64", 4 * KiB, 2 * MiB, None),
        ("arm64", 16 * KiB, 32 * MiB, None),
        ("arm64", 64 * KiB, None, 512 * MiB),
        ("x86_64", 4 * KiB, 2 * MiB, None),
    ],
)
def test_the_mode_follows_from_memory_block_and_pageblock(
    arch: Arch, page_size: int, sub_block: int | None, big_block: int | None
) -> None:
    vm = attach(kernel(arch, page_size=page_size))
    assert (vm.sbm.sb_size if vm.in_sbm else None) == sub_block
    assert (None if vm.in_sbm else vm.bbm.bb_size) == big_block


@pytest.mark.parametrize(("wanted", "size"), [(0, BLOCK), (GiB, GiB), (SB, BLOCK), (3 * BLOCK, BLOCK)])
def test_big_blocks_can_be_forced_and_made_larger(wanted: int, size: int) -> None:
    vm = attach(guest(), params=Params(force_bbm=True, bbm_block_size=wanted))
    assert vm.bbm.bb_size == size


def test_a_large_device_block_makes_large_sub_blocks() -> None:
    vm = attach(guest(), block_size=32 * MiB)
    assert vm.sbm.sb_size == 32 * MiB
    assert attach(guest(), block_size=256 * MiB).bbm.bb_size == 256 * MiB


def test_only_whole_memory_blocks_of_the_region_are_used() -> None:
    k = guest()
    vm = attach(k, 4 * BLOCK, at=AT + SB)
    resize(k, vm, 4 * BLOCK)
    assert vm.plugged_size == 3 * BLOCK
    assert vm.device.log[0].request.addr == AT + BLOCK
    assert [line for line in log(k, "warn") if "alignment" in line] == [
        "virtio_mem virtio1: The alignment of the physical start address can make some memory unusable.",
        "virtio_mem virtio1: The alignment of the physical end address can make some memory unusable.",
    ]


def test_memory_beyond_what_the_kernel_can_map_is_not_used() -> None:
    k = kernel("riscv64")
    top = k.layout.pluggable_range(need_mapping=True).end
    vm = attach(k, 4 * BLOCK, at=top - BLOCK)
    resize(k, vm, 4 * BLOCK)
    assert vm.plugged_size == BLOCK
    assert any("not addressable/pluggable" in line for line in log(k, "warn"))


def test_a_region_with_memory_in_it_is_refused_as_when_the_driver_is_loaded_again() -> None:
    k = guest()
    resize(k, attach(k), BLOCK)
    error = refused(attach, k)
    assert error.errno == EBUSY
    assert "virtio_mem virtio1: could not reserve device region" in log(k, "warn")


def test_memory_belongs_to_the_node_that_the_device_names() -> None:
    k = guest()
    device = VirtioMemDevice(Geometry(AT, GiB, node_id=1), MachineBacking(k.hw, "vm0"))
    vm = virtio_mem_probe(k, device, "virtio1")
    resize(k, vm, 2 * BLOCK)
    assert memory_block(k, FIRST).nid == 1
    assert 1 in k.node_states.memory
    resize(k, vm, 0)
    assert 1 not in k.node_states.online


@pytest.mark.parametrize(
    ("map_", "domain", "features", "node"),
    [
        ({7: 1, 3: 0}, 7, Feature.ACPI_PXM, 1),
        ({7: 1, 3: 0}, 3, Feature.ACPI_PXM, 0),
        ({7: 1, 3: 0}, 5, Feature.ACPI_PXM, 0),
        ({7: 1, 3: 0}, 7, Feature.NONE, 0),
        ({}, 1, Feature.ACPI_PXM, 0),
    ],
)
def test_the_node_is_that_of_the_proximity_domain_else_of_the_address(
    map_: dict[int, int], domain: int, features: Feature, node: int
) -> None:
    k = guest()
    k.statics(Srat).pxm_to_node_map = map_
    shape = Geometry(AT, GiB, node_id=domain, features=features)
    vm = virtio_mem_probe(k, VirtioMemDevice(shape, MachineBacking(k.hw, "vm0")), "virtio1")
    resize(k, vm, BLOCK)
    assert (vm.nid, memory_block(k, FIRST).nid) == (node, node)
    assert f"virtio_mem virtio1: nid: {node}" in log(k)


def test_proximity_domains_get_the_lowest_free_nodes_in_the_order_in_which_they_come() -> None:
    k = guest()
    k.statics(Srat).pxm_to_node_map = {}
    assert [acpi_map_pxm_to_node(k, pxm) for pxm in (9, 4, 9, 0)] == [0, 1, 0, 2]
    assert [pxm_to_node(k, pxm) for pxm in (9, 4, 0, 5)] == [0, 1, 2, NUMA_NO_NODE]


@pytest.mark.parametrize(
    ("release", "features"),
    [
        ("linux-5.13", Feature.ACPI_PXM),
        ("linux-6.12", Feature.ACPI_PXM | Feature.UNPLUGGED_INACCESSIBLE | Feature.PERSISTENT_SUSPEND),
        ("linux-7.2", Feature.ACPI_PXM | Feature.UNPLUGGED_INACCESSIBLE | Feature.PERSISTENT_SUSPEND),
    ],
)
def test_features_are_those_that_the_kernel_supports(release: str, features: Feature) -> None:
    k = kernel("x86_64", release)
    device = VirtioMemDevice(Geometry(AT, GiB, features=Feature(7)), MachineBacking(k.hw, "vm0"))
    assert virtio_mem_probe(k, device, "virtio1").features == device.negotiated == features


def test_memory_left_plugged_is_unplugged_first() -> None:
    k = guest()
    device = VirtioMemDevice(Geometry(AT, GiB), MachineBacking(k.hw, "vm0"))
    device.resize(BLOCK)
    device.handle(bytes(8) + AT.to_bytes(8, "little") + b"\x04" + bytes(7))
    vm = virtio_mem_probe(k, device, "virtio1")
    k.hw.advance(0)
    assert [str(exchange) for exchange in device.log[1:]] == ["UNPLUG_ALL ACK 0", f"PLUG {AT:#x} 64 ACK 0"]
    agree(vm)


# Growing and shrinking ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("auto_online", ["offline", *ONLINE])
def test_any_sequence_of_sizes_is_reached_and_nothing_is_left_behind(arch: Arch, auto_online: OnlineType) -> None:
    k = guest(auto_online, arch)
    vm = attach(k)
    with lawful(k, vm) as before:
        for size in (512, 128, 130, 200, 64, 66, 384, 2, 0):
            resize(k, vm, size * MiB)
            assert vm.plugged_size == size * MiB
            assert check_all(k, before) == []
            agree(vm)
        assert len(k.memory_blocks) == len([run for run in k.memory_blocks if run[0] * k.memory_block_size < AT])


def test_a_partial_block_has_all_its_struct_pages_but_only_what_is_plugged_is_managed() -> None:
    k = guest()
    vm = attach(k)
    resize(k, vm, 3 * SB)
    zone = k.nodes[0].zones[ZoneType.MOVABLE]
    assert (zone.present, zone.managed) == (BLOCK >> 12, 3 * SB >> 12)
    assert list(zone.free) == [(AT >> 12, AT + 3 * SB >> 12)]
    assert states(vm) == ["MOVABLE_PARTIAL"]


@pytest.mark.parametrize("auto_online", ONLINE)
def test_growing_fills_partial_blocks_before_adding_new_ones(auto_online: OnlineType) -> None:
    k = guest(auto_online)
    vm = attach(k)
    with lawful(k, vm):
        resize(k, vm, BLOCK + 4 * SB)
        assert resize(k, vm, 2 * BLOCK + SB) == [
            f"PLUG {AT + BLOCK + 4 * SB:#x} 60 ACK 0",
            f"PLUG {AT + 2 * BLOCK:#x} 1 ACK 0",
        ]


def test_shrinking_takes_offline_memory_then_partial_blocks_then_movable_before_kernel() -> None:
    k = guest("offline")
    vm = attach(k)
    with lawful(k, vm):
        resize(k, vm, 5 * BLOCK + 2 * SB)
        for block, text in ((0, "online_kernel"), (1, "online_movable"), (3, "online_kernel"), (5, "online_movable")):
            state_store(k, FIRST + block, text)
        assert states(vm) == ["KERNEL", "MOVABLE", "OFFLINE", "KERNEL", "OFFLINE", "MOVABLE_PARTIAL"]
        asked = [int(line.split()[1], 16) for line in resize(k, vm, 0)]
        places = [(addr - AT) // BLOCK for addr in asked]
        assert list(dict.fromkeys(places)) == [4, 2, 5, 1, 3, 0]


def test_a_whole_block_goes_at_once_and_part_of_one_by_sub_blocks_from_the_top() -> None:
    k = guest()
    vm = attach(k)
    resize(k, vm, BLOCK)
    assert resize(k, vm, BLOCK - 2 * SB) == [
        f"UNPLUG {AT + BLOCK - SB:#x} 1 ACK 0",
        f"UNPLUG {AT + BLOCK - 2 * SB:#x} 1 ACK 0",
    ]
    resize(k, vm, BLOCK)
    assert resize(k, vm, 0) == [f"UNPLUG {AT:#x} 64 ACK 0"]


def test_an_offline_block_goes_in_runs() -> None:
    k = guest("offline")
    vm = attach(k)
    resize(k, vm, 2 * BLOCK)
    assert resize(k, vm, BLOCK + 3 * SB) == [f"UNPLUG {AT + BLOCK + 3 * SB:#x} 61 ACK 0"]
    assert resize(k, vm, BLOCK - SB) == [f"UNPLUG {AT + BLOCK:#x} 3 ACK 0", f"UNPLUG {AT + BLOCK - SB:#x} 1 ACK 0"]


@pytest.mark.parametrize("auto_online", ONLINE)
def test_memory_in_use_stays_and_movable_memory_moves(auto_online: OnlineType) -> None:
    k = guest(auto_online)
    vm = attach(k)
    with lawful(k, vm):
        resize(k, vm, BLOCK)
        users.allocate(k, 16 * MiB, "movable", "task", at=AT + 32 * MiB)
        users.allocate(k, 4 * KiB, "pinned", "dma", at=AT + 8 * MiB)
        resize(k, vm, 0)
        assert list(vm.device.plugged) == [(AT + 8 * MiB, AT + 8 * MiB + SB)]
        assert k.hw.memory.used(Use.MOVABLE, 0, AT >> 12) == 16 * MiB >> 12
        users.free(k, "dma")
        k.hw.advance(48 * SECOND)
        assert vm.plugged_size == SB
        k.hw.advance(SECOND)
        assert vm.plugged_size == 0


def test_a_hugetlb_pool_moves_too() -> None:
    k = guest("online_kernel")
    vm = attach(k)
    with lawful(k, vm):
        resize(k, vm, BLOCK)
        users.allocate(k, 8 * MiB, "hugetlb", "pool", at=AT + 8 * MiB)
        resize(k, vm, 0)
        assert vm.plugged_size == 0
        assert sum(span.size for span in users.spans_of(k, "pool")) == 8 * MiB >> 12


def test_retries_wait_twice_as_long_each_time_up_to_five_minutes() -> None:
    k = guest()
    vm = attach(k)
    resize(k, vm, BLOCK)
    vm.device.rules.append(Rule(frozenset({RequestType.UNPLUG}), answer=ResponseType.BUSY))
    start = k.hw.now
    vm.device.resize(0)
    k.hw.advance(0)
    times = [0]
    for _ in range(1500):
        seen = len(vm.device.log)
        k.hw.advance(SECOND)
        if len(vm.device.log) > seen:
            times.append((k.hw.now - start) // SECOND)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == [50, 100, 200, 300, 300, 300]
    agree(vm)


# Offline memory ----------------------------------------------------------------------------------------------


def test_no_more_than_a_gibibyte_is_added_ahead_of_onlining() -> None:
    k = guest("offline")
    vm = attach(k)
    resize(k, vm, 2 * GiB)
    assert vm.plugged_size == GiB
    for block in range(4):
        state_store(k, FIRST + block, "online")
    k.hw.advance(0)
    assert vm.plugged_size == GiB + 4 * BLOCK
    agree(vm)


def test_user_space_may_online_and_offline_partial_blocks() -> None:
    k = guest("offline")
    vm = attach(k)
    with lawful(k, vm) as before:
        resize(k, vm, BLOCK - 2 * SB)
        for _ in range(2):
            state_store(k, FIRST, "online_movable")
            assert states(vm) == ["MOVABLE_PARTIAL"]
            assert check_all(k, before) == []
            state_store(k, FIRST, "offline")
            assert states(vm) == ["OFFLINE_PARTIAL"]
            assert vm.offline_size == BLOCK
        state_store(k, FIRST, "online_kernel")
        resize(k, vm, BLOCK)
        assert states(vm) == ["KERNEL"]
        assert k.nodes[0].zones[ZoneType.NORMAL].managed == BLOCK >> 12


def test_a_refused_offline_leaves_the_driver_as_it_was() -> None:
    k = guest("online_kernel")
    vm = attach(k)
    with lawful(k, vm):
        resize(k, vm, BLOCK - 2 * SB)
        users.allocate(k, 4 * KiB, "pinned", "dma", at=AT)
        refused(state_store, k, FIRST, "offline")
        assert states(vm) == ["KERNEL_PARTIAL"]
        assert not k.hw.holds(vm.hotplug_mutex)


def test_online_memory_is_left_alone_without_unplug_online() -> None:
    k = guest("offline")
    vm = attach(k, params=Params(unplug_online=False))
    resize(k, vm, 4 * BLOCK)
    state_store(k, FIRST + 1, "online_movable")
    resize(k, vm, 0)
    assert vm.plugged_size == BLOCK
    state_store(k, FIRST + 1, "offline")
    k.hw.advance(0)
    assert vm.plugged_size == 0
