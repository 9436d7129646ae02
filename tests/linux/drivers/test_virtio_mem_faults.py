"""The virtio-mem driver when things go wrong: moody devices, want of memory."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from kernels import log, one_by_one
from memhp.check import check_all
from memhp.errors import KernelBug
from memhp.hw.devices.virtio_mem_rules import Rule
from memhp.hw.devices.virtio_mem_wire import RequestType, ResponseType
from memhp.linux.config import OnlineType
from memhp.units import GiB, MiB
from virtio_mem import AT, SECOND, agree, attach, guest, lawful, resize, states

BLOCK = 128 * MiB
SB = 2 * MiB
ONLINE: list[OnlineType] = ["online_kernel", "online_movable"]
PLUG, UNPLUG = frozenset({RequestType.PLUG}), frozenset({RequestType.UNPLUG})
BUSY, NACK, ERROR, ACK = ResponseType.BUSY, ResponseType.NACK, ResponseType.ERROR, ResponseType.ACK


# A device that misbehaves ------------------------------------------------------------------------------------


@pytest.mark.parametrize("auto_online", ["offline", *ONLINE])
@pytest.mark.parametrize("first", [1, 2, 3])
def test_nothing_is_lost_when_the_device_is_busy(auto_online: OnlineType, first: int) -> None:
    k = guest(auto_online)
    vm = attach(
        k, 2 * GiB, Rule(PLUG, first=first, count=1, answer=BUSY), Rule(UNPLUG, first=first, count=1, answer=BUSY)
    )
    with lawful(k, vm) as before:
        resize(k, vm, 3 * BLOCK)
        assert vm.plugged_size == (first - 1) * BLOCK
        k.hw.advance(50 * SECOND)
        assert vm.plugged_size == 3 * BLOCK
        resize(k, vm, 0)
        assert check_all(k, before) == []
        agree(vm)
        k.hw.advance(100 * SECOND)
        assert vm.plugged_size == 0


@pytest.mark.parametrize("kind", [PLUG, UNPLUG])
def test_an_error_breaks_the_device_for_good_and_loses_nothing(kind: frozenset[RequestType]) -> None:
    k = guest()
    vm = attach(k, 2 * GiB, Rule(kind, first=2, count=1, answer=ERROR))
    with lawful(k, vm):
        resize(k, vm, 3 * BLOCK)
        resize(k, vm, 0)
        assert vm.broken
        assert "virtio_mem virtio1: unknown error, marking device broken: -22" in log(k, "err")
        assert resize(k, vm, 4 * BLOCK, 1000 * SECOND) == []


def test_a_denied_request_is_made_again_at_once() -> None:
    k = guest()
    vm = attach(k, 2 * GiB, Rule(PLUG, first=2, count=3, answer=NACK))
    with lawful(k, vm):
        answers = [line.split()[3] for line in resize(k, vm, 2 * BLOCK, 0)]
        assert answers == ["ACK", "NACK", "NACK", "NACK", "ACK"]


def test_a_device_that_denies_for_ever_keeps_the_kernel_busy_for_ever() -> None:
    k = guest()
    vm = attach(k, 2 * GiB, Rule(PLUG, answer=NACK))
    with pytest.raises(KernelBug, match="goes round for ever"):
        resize(k, vm, BLOCK)


def test_a_new_size_is_seen_in_the_midst_of_plugging() -> None:
    k = guest()
    vm = attach(k, 2 * GiB, Rule(PLUG, first=3, count=1, requested_after=BLOCK))
    with lawful(k, vm):
        resize(k, vm, 8 * BLOCK)
        assert [exchange.request.type for exchange in vm.device.log] == [0, 0, 0, 1, 1]
        assert vm.plugged_size == BLOCK


def test_a_smaller_size_may_come_before_the_request_is_looked_at() -> None:
    k = guest()
    vm = attach(k, 2 * GiB, Rule(PLUG, first=3, count=1, requested_before=BLOCK))
    with lawful(k, vm):
        resize(k, vm, 8 * BLOCK)
        assert [exchange.response.type for exchange in vm.device.log] == [ACK, ACK, NACK, ACK]
        assert vm.plugged_size == BLOCK


def test_a_usable_region_that_shrinks_under_the_driver_breaks_the_device_once_a_block_beyond_was_prepared() -> None:
    k = guest()
    vm = attach(k, 2 * GiB, Rule(PLUG, first=2, count=1, usable_after=2 * BLOCK))
    with lawful(k, vm):
        asked = resize(k, vm, 8 * BLOCK)
        assert asked[2:] == [f"PLUG {AT + 2 * BLOCK:#x} 64 ERROR 0"]
        assert (vm.plugged_size, vm.broken) == (2 * BLOCK, True)


def test_growth_ends_where_the_usable_region_does() -> None:
    k = guest()
    vm = attach(k)
    vm.device.resize(8 * BLOCK)
    vm.device.usable_region_size = 2 * BLOCK
    with lawful(k, vm):
        k.hw.advance(SECOND)
        assert (vm.plugged_size, vm.broken) == (2 * BLOCK, False)


def test_a_slow_device_takes_its_time_and_is_asked_one_thing_at_a_time() -> None:
    k = guest()
    vm = attach(k, 2 * GiB, Rule(delay=3 * SECOND))
    with lawful(k, vm):
        start = k.hw.now
        resize(k, vm, 3 * BLOCK)
        assert k.hw.now - start == 9 * SECOND
        resize(k, vm, 0, 100 * SECOND)
        assert k.hw.now - start == 109 * SECOND


def test_a_device_that_lies_is_found_out_at_the_next_change() -> None:
    k = guest("offline")
    vm = attach(k, 2 * GiB, Rule(PLUG, first=2, count=1, answer=ACK))
    resize(k, vm, 2 * BLOCK)
    assert (vm.plugged_size, vm.device.plugged_size) == (2 * BLOCK, BLOCK)
    resize(k, vm, 2 * BLOCK + SB)
    assert "WARNING: at drivers/virtio/virtio_mem.c:virtio_mem_refresh_config" in log(k, "warn")
    assert vm.plugged_size == vm.device.plugged_size


# Want of memory -----------------------------------------------------------------------------------------------


def test_what_cannot_be_added_is_unplugged_again_and_tried_later() -> None:
    k = guest(arch="riscv64")
    vm = attach(k)
    with one_by_one(k, failing=2):
        vm.device.resize(BLOCK)
        k.hw.advance(0)
    assert [str(exchange) for exchange in vm.device.log] == [f"PLUG {AT:#x} 64 ACK 0", f"UNPLUG {AT:#x} 64 ACK 0"]
    assert vm.plugged_size == 0
    k.hw.advance(50 * SECOND)
    assert vm.plugged_size == BLOCK
    agree(vm)


def test_what_cannot_even_be_unplugged_again_is_unplugged_by_the_next_run() -> None:
    k = guest(arch="riscv64")
    vm = attach(k, 2 * GiB, Rule(UNPLUG, count=1, answer=BUSY))
    with one_by_one(k, failing=2):
        vm.device.resize(BLOCK)
        k.hw.advance(0)
    assert states(vm) == ["PLUGGED"]
    k.hw.advance(50 * SECOND)
    assert states(vm) == ["MOVABLE"]
    agree(vm)


@pytest.mark.parametrize("failing", [0, 1])
def test_no_block_is_plugged_that_could_not_be_kept_track_of(failing: int) -> None:
    k = guest(arch="riscv64")
    vm = attach(k)
    with one_by_one(k, failing=failing) as stepper:
        vm.device.resize(BLOCK)
        k.hw.advance(0)
    assert stepper.asked[failing] == "drivers/virtio/virtio_mem.c:virtio_mem_sbm_prepare_next_mb"
    assert vm.device.log == []
    k.hw.advance(50 * SECOND)
    assert vm.plugged_size == BLOCK
    agree(vm)
