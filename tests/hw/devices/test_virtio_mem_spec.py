"""What a virtio memory device must do: each sentence of the specification's device sections, on any history."""
# SPDX-License-Identifier: GPL-2.0-or-later

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memhp.errors import BadInput
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.hw.devices.virtio_mem_wire import BlockState, Feature, ResponseType
from memhp.units import MiB
from memory_device import (
    ACK,
    ADDR,
    BLOCK,
    BLOCKS,
    ERROR,
    NACK,
    PLUG,
    STATE,
    UNPLUG,
    UNPLUG_ALL,
    Op,
    Told,
    after,
    operations,
)

# Device configuration layout ---------------------------------------------------------------------------------


def test_the_configuration_space_is_56_bytes_long_and_its_padding_zero() -> None:
    config = Told().device.read_config()
    assert len(config) == 56
    assert config[10:16] == bytes(6)


@given(operations)
def test_block_size_node_id_addr_and_region_size_never_change(history: list[Op]) -> None:
    told = after(history)
    shape = [told.field(name) for name in ("block_size", "node_id", "addr", "region_size")]
    assert shape == [BLOCK, 3, ADDR, BLOCKS * BLOCK]


@given(operations)
def test_plugged_size_reflects_the_plugged_blocks(history: list[Op]) -> None:
    told = after(history)
    assert told.field("plugged_size") == sum(told.blocks) * BLOCK


@given(operations)
def test_the_usable_region_holds_the_requested_size_and_is_made_of_blocks(history: list[Op]) -> None:
    told = after(history)
    assert told.field("requested_size") <= told.field("usable_region_size") <= told.field("region_size")
    names = ("addr", "region_size", "usable_region_size", "plugged_size", "requested_size")
    assert all(told.field(name) % BLOCK == 0 for name in names)


@given(operations)
def test_the_usable_region_shrinks_only_with_unplug_all_or_a_system_reset(history: list[Op]) -> None:
    told = Told()
    for op in history:
        before = told.field("usable_region_size")
        told.do(op)
        assert told.field("usable_region_size") >= before or op[0] in ("unplug all", "reset")


@given(operations)
def test_a_notification_goes_with_every_change_of_the_sizes_that_the_platform_sets_and_with_nothing_else(
    history: list[Op],
) -> None:
    told = Told()
    for op in (op for op in history if op[0] != "device reset"):
        before = (told.notified, told.field("usable_region_size"), told.field("requested_size"))
        told.do(op)
        changed = before[1:] != (told.field("usable_region_size"), told.field("requested_size"))
        assert (told.notified > before[0]) == (changed and op[0] == "resize")


@pytest.mark.parametrize("size", [0, 3 * MiB, -BLOCK])
def test_the_block_size_is_a_power_of_two(size: int) -> None:
    with pytest.raises(BadInput):
        Geometry(0, 0, size)


@pytest.mark.parametrize(("addr", "size"), [(ADDR + 4096, BLOCK), (ADDR, BLOCK + 4096), (ADDR, -BLOCK)])
def test_address_and_size_of_the_region_are_made_of_blocks(addr: int, size: int) -> None:
    with pytest.raises(BadInput):
        Geometry(addr, size, BLOCK)


def test_a_region_may_be_empty() -> None:
    assert VirtioMemDevice(Geometry(ADDR, 0, BLOCK)).plugged_size == 0


@pytest.mark.parametrize("size", [BLOCK // 2, -BLOCK, (BLOCKS + 1) * BLOCK])
def test_no_size_is_requested_that_the_device_cannot_have(size: int) -> None:
    told = Told()
    with pytest.raises(BadInput):
        told.device.resize(size)
    assert told.field("requested_size") == 0
    assert told.notified == 0


def test_node_id_means_nothing_without_acpi_pxm() -> None:
    device = VirtioMemDevice(Geometry(ADDR, BLOCK, BLOCK, node_id=3, features=Feature.NONE))
    assert device.config.node_id == 0


# Resets ------------------------------------------------------------------------------------------------------


@given(operations)
def test_a_device_reset_changes_no_block(history: list[Op]) -> None:
    told = after(history)
    config = told.device.config
    told.device.device_reset()
    assert told.device.config == config
    assert [told.send(STATE, ADDR + i * BLOCK, 1) for i in range(BLOCKS)] == [
        (ACK, BlockState.PLUGGED if plugged else BlockState.UNPLUGGED)
        if i * BLOCK < config.usable_region_size
        else (ERROR, 0)
        for i, plugged in enumerate(told.blocks)
    ]


@given(operations, st.booleans())
def test_plugged_memory_outlives_suspend_if_the_device_says_so(history: list[Op], persistent: bool) -> None:
    told = Told()
    features = Feature.PERSISTENT_SUSPEND if persistent else Feature.NONE
    told.device.geometry = Geometry(ADDR, BLOCKS * BLOCK, BLOCK, features=features)
    for op in history:
        told.do(op)
    before = told.field("plugged_size")
    told.device.system_reset(resume=True)
    assert told.field("plugged_size") == (before if persistent else 0)


@given(operations)
def test_a_system_reset_unplugs_everything(history: list[Op]) -> None:
    told = after(history)
    told.device.system_reset()
    assert told.field("plugged_size") == 0


# Requests ----------------------------------------------------------------------------------------------------

ANY_RANGE = (st.integers(-3, BLOCKS + 3), st.integers(0, BLOCKS + 3))
SHORT_RANGE = (st.integers(0, BLOCKS - 2), st.integers(1, 2))


@given(operations, st.sampled_from([PLUG, UNPLUG, STATE]), *ANY_RANGE)
def test_only_what_the_specification_names_is_an_error(history: list[Op], kind: int, at: int, count: int) -> None:
    told = after(history)
    usable = told.field("usable_region_size") // BLOCK
    blocks = told.blocks[at : at + count] if at >= 0 else []
    wrong = count == 0 or at < 0 or at + count > usable
    wrong = wrong or (kind == PLUG and any(blocks)) or (kind == UNPLUG and not all(blocks))
    answer, _ = told.send(kind, ADDR + at * BLOCK, count)
    assert (answer == ERROR) == wrong


@given(operations, st.sampled_from([PLUG, UNPLUG, STATE]), st.integers(1, BLOCK - 1))
def test_addresses_that_are_not_aligned_are_errors(history: list[Op], kind: int, off: int) -> None:
    told = after([*history, ("resize", BLOCKS, 0)])
    assert told.send(kind, ADDR + off, 1)[0] == ERROR


@given(operations, st.integers(0, BLOCKS), *SHORT_RANGE)
def test_plugging_is_acknowledged_up_to_the_requested_size_and_denied_beyond(
    history: list[Op], requested: int, at: int, count: int
) -> None:
    told = after([*history, ("resize", BLOCKS, 0), ("unplug", at, 1), ("unplug", at + 1, 1), ("resize", requested, 0)])
    before = told.field("plugged_size")
    answer = told.do(("plug", at, count))
    if told.blocks[at : at + count] == [True] * count and answer == ACK:
        assert told.field("plugged_size") == before + count * BLOCK <= told.field("requested_size")
    else:
        assert told.field("plugged_size") == before
        assert answer == ERROR or (answer == NACK and before + count * BLOCK > told.field("requested_size"))


@given(operations, *SHORT_RANGE)
def test_unplugging_plugged_blocks_is_acknowledged(history: list[Op], at: int, count: int) -> None:
    told = after([*history, ("resize", BLOCKS, 0), *(("plug", i, 1) for i in range(at, at + count))])
    before = told.field("plugged_size")
    assert told.do(("unplug", at, count)) == ACK
    assert told.field("plugged_size") == before - count * BLOCK


@given(operations)
def test_unplug_all_leaves_nothing_plugged_and_is_acknowledged(history: list[Op]) -> None:
    told = after(history)
    assert told.send(UNPLUG_ALL) == (ACK, 0)
    assert told.field("plugged_size") == 0
    assert told.field("usable_region_size") >= told.field("requested_size")


@given(operations, st.integers(0, BLOCKS - 1), st.integers(1, BLOCKS))
def test_state_says_plugged_unplugged_or_mixed(history: list[Op], at: int, count: int) -> None:
    told = after([*history, ("resize", BLOCKS, 0)])
    count = min(count, BLOCKS - at)
    blocks = told.blocks[at : at + count]
    wanted = BlockState.PLUGGED if all(blocks) else BlockState.MIXED if any(blocks) else BlockState.UNPLUGGED
    config = told.device.config
    assert told.send(STATE, ADDR + at * BLOCK, count) == (ACK, wanted)
    assert told.device.config == config


@given(operations, st.binary(min_size=6, max_size=6), st.sampled_from([PLUG, UNPLUG, UNPLUG_ALL, STATE]), *ANY_RANGE)
def test_padding_is_ignored(history: list[Op], padding: bytes, kind: int, at: int, count: int) -> None:
    plain, padded = after(history), after(history)
    assert plain.send(kind, ADDR + at * BLOCK, count) == padded.send(kind, ADDR + at * BLOCK, count, padding)
    assert plain.device.config == padded.device.config


@given(operations, *ANY_RANGE)
def test_unplug_all_ignores_what_else_stands_in_the_request(history: list[Op], at: int, count: int) -> None:
    told = after(history)
    assert told.send(UNPLUG_ALL, ADDR + at * BLOCK, count) == (ACK, 0)
    assert told.field("plugged_size") == 0


@given(operations, operations)
def test_a_request_that_is_not_acknowledged_changes_nothing(history: list[Op], more: list[Op]) -> None:
    told = after(history)
    for op in more:
        before = told.device.config, told.device.plugged.copy()
        answer = told.do(op)
        if answer not in (None, ACK):
            assert (told.device.config, told.device.plugged) == before


@given(st.integers(4, 0xFFFF))
def test_a_request_of_no_known_type_is_an_error(kind: int) -> None:
    assert Told().send(kind, ADDR, 1)[0] == ERROR


@given(st.binary(max_size=64).filter(lambda data: len(data) != 24))
def test_a_request_is_24_bytes_long(data: bytes) -> None:
    with pytest.raises(struct.error):
        Told().device.handle(data)


def test_the_log_shows_every_request_as_the_device_saw_it() -> None:
    told = after([("resize", 4, 0), ("plug", 0, 4), ("plug", 0, 1), ("state", 2, 4), ("unplug all", 0, 0)])
    assert [str(exchange) for exchange in told.device.log] == [
        f"PLUG {ADDR:#x} 4 ACK 0",
        f"PLUG {ADDR:#x} 1 ERROR 0",
        f"STATE {ADDR + 2 * BLOCK:#x} 4 ACK 2",
        "UNPLUG_ALL ACK 0",
    ]
    assert told.device.log[0].response.type is ResponseType.ACK
