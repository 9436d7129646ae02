"""The virtio-mem driver in big-block mode: memory comes and goes in big blocks, whole or not at all."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from kernels import kernel, refused
from memhp.check import check_all, snapshot
from memhp.hw.devices.virtio_mem_rules import Rule
from memhp.hw.devices.virtio_mem_wire import RequestType, ResponseType
from memhp.hw.memory import Use
from memhp.linux.config import OnlineType
from memhp.linux.drivers.base.memory_state import memory_block, state_store
from memhp.linux.drivers.virtio.virtio_mem_state import BbState, Params, VirtioMem
from memhp.linux.mm import users
from memhp.linux.state import Kernel
from memhp.units import GiB, KiB, MiB
from virtio_mem import AT, SECOND, attach, resize

BLOCK, BIG = 128 * MiB, 512 * MiB
FIRST = AT // BLOCK
BIG_BLOCKS = Params(force_bbm=True, bbm_block_size=BIG)
ONLINE: list[OnlineType] = ["offline", "online_kernel", "online_movable"]


def machine(
    auto_online: OnlineType, *rules: Rule, params: Params = BIG_BLOCKS, release: str = "linux-6.12"
) -> tuple[Kernel, VirtioMem]:
    """A small machine and a device whose big blocks have four memory blocks."""
    k = kernel("x86_64", release)
    k.auto_online_blocks = auto_online
    return k, attach(k, 4 * GiB, *rules, params=params)


def states(vm: VirtioMem) -> list[str]:
    """The states of the big blocks that the driver tracks."""
    return [BbState(state).name for state in map(vm.bbm.blocks.get, vm.bbm.blocks.ids)]


@pytest.mark.parametrize("auto_online", ONLINE)
def test_memory_comes_and_goes_by_big_blocks(auto_online: OnlineType) -> None:
    k, vm = machine(auto_online)
    before = snapshot(k)
    assert resize(k, vm, 2 * BIG) == [f"PLUG {AT:#x} 256 ACK 0", f"PLUG {AT + BIG:#x} 256 ACK 0"]
    assert resize(k, vm, BIG) == [f"UNPLUG {AT + BIG:#x} 256 ACK 0"]
    assert resize(k, vm, BIG + BLOCK) == []
    assert resize(k, vm, 0) == [f"UNPLUG {AT:#x} 256 ACK 0"]
    assert (states(vm), vm.offline_size) == (["UNUSED", "UNUSED"], 0)
    assert check_all(k, before) == []
    assert k.hw.violations == []


@pytest.mark.parametrize(("release", "places"), [("5.13", (2, 1, 0)), ("5.14", (2, 0, 1)), ("6.12", (2, 0, 1))])
def test_offline_big_blocks_go_first_then_since_5_14_movable_ones(release: str, places: tuple[int, ...]) -> None:
    """virtio-mem: prioritize unplug from ZONE_MOVABLE in Big Block Mode."""
    k, vm = machine("offline", release=release)
    resize(k, vm, 2 * BIG)
    for block in range(8):
        state_store(k, FIRST + block, "online_movable" if block < 4 else "online_kernel")
    resize(k, vm, 3 * BIG)
    order = [line.split()[1] for line in resize(k, vm, 0)]
    assert order == [f"{AT + place * BIG:#x}" for place in places]


@pytest.mark.parametrize("auto_online", ONLINE[1:])
def test_a_big_block_in_use_stays_whole(auto_online: OnlineType) -> None:
    k, vm = machine(auto_online)
    before = snapshot(k)
    resize(k, vm, BIG)
    at = AT + 3 * BLOCK
    users.allocate(k, 4 * KiB, "pinned", "dma", at=at)
    users.allocate(k, 8 * MiB, "movable", "task", at=AT)
    resize(k, vm, 0)
    assert (vm.plugged_size, states(vm)) == (BIG, ["ADDED"])
    assert all(memory_block(k, FIRST + i).state == "online" for i in range(4))
    assert k.hw.memory.used(Use.OFFLINE) == 0
    assert check_all(k, before) == []
    users.free(k, "dma")
    k.hw.advance(50 * SECOND)
    assert vm.plugged_size == 0
    assert check_all(k, before) == []


def test_what_the_device_will_not_take_back_stays_removed_and_is_offered_again() -> None:
    busy = Rule(frozenset({RequestType.UNPLUG}), count=2, answer=ResponseType.BUSY)
    k, vm = machine("online_movable", busy)
    resize(k, vm, BIG)
    resize(k, vm, 0)
    assert states(vm) == ["PLUGGED"]
    assert k.memory_blocks.get(FIRST) is None
    assert vm.plugged_size == vm.device.plugged_size == BIG
    k.hw.advance(50 * SECOND)
    assert states(vm) == ["UNUSED"]
    assert vm.plugged_size == vm.device.plugged_size == 0


def test_no_more_than_two_big_blocks_are_added_ahead_of_onlining() -> None:
    k, vm = machine("offline", params=Params(force_bbm=True, bbm_block_size=GiB))
    resize(k, vm, 4 * GiB)
    assert vm.plugged_size == 2 * GiB
    for block in range(8):
        state_store(k, FIRST + block, "online")
    k.hw.advance(0)
    assert vm.plugged_size == 3 * GiB


def test_memory_blocks_of_a_big_block_may_be_onlined_to_different_zones() -> None:
    k, vm = machine("offline")
    before = snapshot(k)
    resize(k, vm, BIG)
    for block, text in enumerate(("online_movable", "offline", "online_kernel", "online_movable")):
        if text != "offline":
            state_store(k, FIRST + block, text)
    refused(state_store, k, FIRST + 1, "offline")
    assert vm.offline_size == BLOCK
    resize(k, vm, 0)
    assert vm.plugged_size == 0
    assert check_all(k, before) == []


def test_only_offline_big_blocks_are_unplugged_without_unplug_online() -> None:
    k, vm = machine("offline", params=Params(force_bbm=True, bbm_block_size=BIG, unplug_online=False))
    resize(k, vm, 2 * BIG)
    state_store(k, FIRST, "online_movable")
    resize(k, vm, 0)
    assert vm.plugged_size == BIG
    state_store(k, FIRST, "offline")
    k.hw.advance(0)
    assert vm.plugged_size == 0
