"""Memory blocks: the devices of real machines, what may be written to their files, and groups of them."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import pytest

from architectures import DIRECT_MAPPED
from captures import captures, facts, guests, open_capture
from kernels import PLUG_AT, blocks, kernel, log, one_by_one, picture, plug, refused
from memhp.errors import KernelPanic
from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.drivers.base.memory import auto_online_blocks_store, valid_zones
from memhp.linux.drivers.base.memory_devices import (
    create_memory_block_devices,
    memory_dev_init,
    remove_memory_block_devices,
    walk_memory_blocks,
)
from memhp.linux.drivers.base.memory_groups import memory_group_register_dynamic, memory_group_register_static
from memhp.linux.drivers.base.memory_state import memory_block, online_store, state_store
from memhp.linux.drivers.base.notify import Chains
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_hotplug_add import add_memory
from memhp.linux.mmzone import MemoryBlock, ZoneType
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.scenario.schema import MachineText
from memhp.target.seen.sources import facts_spec
from memhp.units import GiB, KiB, MiB


def added(arch: Arch = "x86_64", release: str = "linux-6.12", count: int = 2) -> Kernel:
    """A machine with blocks added, offline."""
    k = kernel(arch, release)
    plug(k, count * k.memory_block_size)
    add_memory(k, 0, PLUG_AT, count * k.memory_block_size)
    return k


def states(k: Kernel) -> list[str]:
    """The states of all hot-added blocks."""
    first = PLUG_AT // k.memory_block_size
    return [block.state for start, end, block in k.memory_blocks.runs(first, 1 << 40) for _ in range(start, end)]


# Boot --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*captures(), *guests()])
def test_boot_blocks_of_real_machines_have_their_states_zones_and_nodes(name: str) -> None:
    seen = facts(name, next(iter(open_capture(name))))
    k = start_kernel(facts_spec(seen, MachineText()))
    assert k.memory_block_size == seen.memory.block_size
    boot = {index for first, last, _ in k.memory_blocks for index in range(first, last)}
    real = [block for block in seen.memory.blocks if block.index in boot]
    assert len(real) == len(boot) > 0
    for block in real:
        linked = tuple(nid for nid, below in k.node_states.devices.items() if block.index in below)
        assert (block.state, block.valid_zones, block.nodes) == (
            "online",
            tuple(valid_zones(k, block.index).split()),
            linked,
        )


def test_a_block_that_two_nodes_share_belongs_to_the_last_and_to_no_zone() -> None:
    config = Config(arch="x86_64", profile=profile("linux-6.12"), page_size=4 * KiB, va_bits=48)
    ram = (Ram(1 * MiB, GiB + 63 * MiB), Ram(GiB + 64 * MiB, 960 * MiB, nid=1))
    k = start_kernel(MachineSpec("numa", config, ram, nodes=(0, 1)))
    shared = k.memory_blocks.get(8)
    assert shared == MemoryBlock("online", 1, None)
    assert [nid for nid, below in k.node_states.devices.items() if 8 in below] == [0, 1]
    assert valid_zones(k, 8) == "none"
    assert k.memory_blocks.get(9) == MemoryBlock("online", 1, ZoneType.DMA32)
    assert refused(state_store, k, 8, "offline").name == "EINVAL"


@pytest.mark.parametrize(("release", "nid"), [("linux-6.12", 1), ("linux-7.2", 0)])
def test_of_nodes_that_interleave_the_highest_has_the_block_and_in_7_2_the_last(release: str, nid: int) -> None:
    """6.12: node_dev_init() links node by node; 7.2: register_memory_blocks_under_nodes() region by region."""
    config = Config(arch="x86_64", profile=profile(release), page_size=4 * KiB, va_bits=48)
    ram = (Ram(1 * MiB, GiB + 63 * MiB, nid=1), Ram(GiB + 64 * MiB, 960 * MiB, nid=0))
    k = start_kernel(MachineSpec("numa", config, ram, nodes=(0, 1)))
    assert k.memory_blocks.get(8) == MemoryBlock("online", nid, None)
    assert [nid for nid, below in k.node_states.devices.items() if 8 in below] == [0, 1]


def test_a_block_size_that_is_no_power_of_two_panics() -> None:
    k = kernel("x86_64")
    k.memory_block_size = 3 * 128 * MiB
    with pytest.raises(KernelPanic, match="Memory block size not suitable: 0x18000000"):
        memory_dev_init(k)


# state -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
@pytest.mark.parametrize(
    ("word", "zone"), [("online", "Normal"), ("online_kernel", "Normal"), ("online_movable", "Movable")]
)
def test_each_word_brings_a_block_online_in_its_zone(arch: Arch, word: str, zone: str) -> None:
    k = added(arch)
    first = blocks(k, 1)[0]
    assert valid_zones(k, first) == "Normal Movable"
    state_store(k, first, f"{word}\n")
    assert valid_zones(k, first) == zone
    assert states(k) == ["online", "offline"]
    state_store(k, first, "offline")
    assert states(k) == ["offline", "offline"]


def test_after_movable_memory_plain_online_follows_it_within_the_span_of_its_zone_only() -> None:
    k = added(count=4)
    first, second, third, fourth = blocks(k, 4 * k.memory_block_size)
    state_store(k, first, "online_movable")
    state_store(k, third, "online_movable")
    assert valid_zones(k, second) == "Movable Normal"
    assert valid_zones(k, fourth) == "Normal Movable"


@pytest.mark.parametrize("word", ["", "on", "Online", "online_normal", "going-offline", "online offline", "1"])
def test_any_other_word_is_invalid(word: str) -> None:
    k = added()
    before = picture(k)
    assert refused(state_store, k, blocks(k, 1)[0], word).name == "EINVAL"
    assert picture(k) == before


@pytest.mark.parametrize("word", ["online", "online_kernel", "online_movable"])
def test_a_block_that_is_online_cannot_be_onlined_nor_moved_to_another_zone(word: str) -> None:
    k = added()
    first = blocks(k, 1)[0]
    state_store(k, first, "online_movable")
    before = picture(k)
    assert refused(state_store, k, first, word).reason == f"memory{first} is online already"
    block = memory_block(k, first)
    assert block.online_type == word
    k.memory_blocks.set(first, first + 1, replace(block, online_type="offline"))
    assert picture(k) == before


@pytest.mark.parametrize("release", ["linux-6.1", "linux-6.12", "linux-7.2"])
def test_a_word_that_was_refused_counts_for_the_next_who_says_none(release: str) -> None:
    """state_store() sets mem->online_type first; memory_subsys_online() takes it, and only then is it cleared."""
    k = added(release=release)
    first = blocks(k, 1)[0]
    state_store(k, first, "online_kernel")
    assert refused(state_store, k, first, "online_movable").name == "EINVAL"
    for zone in ("Movable", "Normal"):
        state_store(k, first, "offline")
        online_store(k, first, "1")
        assert valid_zones(k, first) == zone


def test_a_word_that_was_refused_is_spent_by_an_online_that_fails() -> None:
    """memory_subsys_online() clears mem->online_type whether memory_block_change_state() failed or not."""
    k = added()
    first = blocks(k, 1)[0]
    state_store(k, first, "online")
    refused(state_store, k, first, "online_movable")
    state_store(k, first, "offline")
    chain = k.statics(Chains).memory
    chain.append(lambda _k, action, _pfn, _n: "not now" if action == "MEM_GOING_ONLINE" else "")
    refused(online_store, k, first, "1")
    chain.pop()
    online_store(k, first, "1")
    assert valid_zones(k, first) == "Normal"


def test_a_block_that_is_offline_cannot_go_offline() -> None:
    k = added()
    error = refused(state_store, k, blocks(k, 1)[0], "offline")
    assert (error.name, error.place) == ("EINVAL", "drivers/base/memory.c:state_store")


def test_there_is_no_file_of_a_block_that_is_not_there() -> None:
    assert refused(state_store, kernel("riscv64"), 4711, "online").name == "ENOENT"


def test_a_block_on_its_way_is_going_offline_under_the_hotplug_locks() -> None:
    k = added()
    first = blocks(k, 1)[0]
    state_store(k, first, "online_movable")
    seen: list[tuple[str, bool, bool]] = []

    def look(kernel: Kernel, action: str, _pfn: int, _pages: int) -> str:
        block = kernel.memory_blocks.get(first)
        assert block is not None
        held = kernel.hw.holds("device_hotplug_lock"), kernel.hw.holds("mem_hotplug_lock", write=True)
        seen.append((block.state, *held))
        return ""

    k.statics(Chains).memory.append(look)
    state_store(k, first, "offline")
    assert set(seen) == {("going-offline", True, True)}
    assert not any(lock.writer is not None or lock.readers for lock in k.hw.locks.values())


def test_locks_are_let_go_when_an_offline_fails() -> None:
    k = added()
    first = blocks(k, 1)[0]
    state_store(k, first, "online_movable")
    k.statics(Chains).memory.append(lambda _k, action, _p, _n: "no" if action == "MEM_GOING_OFFLINE" else "")
    refused(state_store, k, first, "offline")
    assert not any(lock.writer is not None or lock.readers for lock in k.hw.locks.values())


# Devices -----------------------------------------------------------------------------------------------------


def test_blocks_that_are_made_go_again_when_one_is_there_already() -> None:
    k = kernel("riscv64")
    size = k.memory_block_size
    create_memory_block_devices(k, PLUG_AT + 2 * size, size, 0)
    before = picture(k)
    error = refused(create_memory_block_devices, k, PLUG_AT, 4 * size, 0)
    assert error.name == "EEXIST" and f"memory block {PLUG_AT // size + 2} " in error.reason
    assert picture(k) == before


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_blocks_that_are_made_go_again_when_there_is_no_memory_for_one(failing: int) -> None:
    k = kernel("riscv64")
    before = picture(k)
    with one_by_one(k, failing) as stepper:
        assert refused(create_memory_block_devices, k, PLUG_AT, 4 * k.memory_block_size, 0).name == "ENOMEM"
    assert stepper.asked == ["drivers/base/memory.c:add_memory_block"] * (failing + 1)
    assert picture(k) == before


def test_devices_are_for_whole_blocks() -> None:
    k = kernel("arm64")
    assert refused(create_memory_block_devices, k, PLUG_AT, 64 * MiB, 0).name == "EINVAL"
    before = picture(k)
    remove_memory_block_devices(k, PLUG_AT, 64 * MiB)
    assert picture(k) == before
    assert log(k, "warn") == [
        "WARNING: at drivers/base/memory.c:create_memory_block_devices",
        "WARNING: at drivers/base/memory.c:remove_memory_block_devices",
    ]


def test_a_walk_meets_every_block_that_the_range_touches_and_passes_over_gaps() -> None:
    k = kernel("x86_64")
    size = k.memory_block_size
    create_memory_block_devices(k, PLUG_AT, size, 0)
    create_memory_block_devices(k, PLUG_AT + 2 * size, size, 0)
    first = PLUG_AT // size
    assert list(walk_memory_blocks(k, PLUG_AT + 1, 2 * size)) == [first, first + 2]
    assert list(walk_memory_blocks(k, PLUG_AT, size)) == [first]
    assert not list(walk_memory_blocks(k, PLUG_AT, 0))


# auto_online_blocks and groups -------------------------------------------------------------------------------


def test_auto_online_blocks_takes_the_four_words() -> None:
    k = kernel("x86_64")
    for word in ("online", "online_kernel", "online_movable", "offline"):
        auto_online_blocks_store(k, f"{word}\n")
        assert k.auto_online_blocks == word
    assert refused(auto_online_blocks_store, k, "on").name == "EINVAL"


def test_groups_must_make_sense() -> None:
    k = kernel("x86_64")
    block = k.pages_per_block
    for pages in (0, block // 2, 3 * block):
        assert refused(memory_group_register_dynamic, k, 0, pages).name == "EINVAL"
    assert refused(memory_group_register_static, k, 0, 0).name == "EINVAL"
    assert refused(memory_group_register_static, k, 5, block).name == "EINVAL"
    assert memory_group_register_static(k, 0, 3 * block) != memory_group_register_dynamic(k, 0, 4 * block)
