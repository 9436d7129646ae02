"""The virtio-mem driver unbound and bound again: what it takes along, what stays, and what can be done with it then."""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EBUSY, EINVAL

import pytest

from kernels import log, refused
from memhp.check import check_all
from memhp.hw.devices.virtio_mem_rules import Rule
from memhp.hw.devices.virtio_mem_wire import RequestType, ResponseType
from memhp.linux.config import OnlineType
from memhp.linux.drivers.base.memory_state import memory_block, state_store
from memhp.linux.drivers.base.notify import Chains
from memhp.linux.drivers.base.power.main import DpmList
from memhp.linux.drivers.virtio.virtio_mem import virtio_mem_probe, virtio_mem_remove
from memhp.linux.drivers.virtio.virtio_mem_state import Params
from memhp.linux.kernel.power.main import PmChain
from memhp.linux.kernel.resource import iter_resources
from memhp.linux.mm import users
from memhp.linux.mm.memory_hotplug_online import Onlining, generic_online_page, set_online_page_callback
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.units import GiB, KiB, MiB
from virtio_mem import AT, SECOND, attach, guest, lawful, resize

BLOCK = 128 * MiB
SB = 2 * MiB
FIRST = AT // BLOCK
ONLINE: list[OnlineType] = ["online_kernel", "online_movable"]


def test_nothing_is_left_if_nothing_was_plugged() -> None:
    k = guest()
    vm = attach(k)
    with lawful(k, vm):
        resize(k, vm, BLOCK)
        resize(k, vm, 0)
        virtio_mem_remove(k, vm)
    assert not k.statics(Chains).memory and not k.statics(PmChain).notifiers
    assert not k.statics(DpmList).dpm_list and not k.memory_groups
    assert k.statics(Onlining).online_page_callback is None
    assert vm.device.config_changed == []
    attach(k)


def test_memory_that_is_online_stays_with_its_region_and_partial_offline_blocks_go() -> None:
    k = guest("offline")
    vm = attach(k)
    with lawful(k, vm):
        resize(k, vm, BLOCK + SB)
        state_store(k, FIRST, "online")
        virtio_mem_remove(k, vm)
    assert "virtio_mem virtio1: device still has system memory added" in log(k, "warn")
    assert memory_block(k, FIRST).state == "online"
    assert k.memory_blocks.get(FIRST + 1) is None
    assert [res.name for _, res in iter_resources(k.iomem_resource)][-2:] == ["virtio1", "System RAM (virtio_mem)"]
    assert vm.device.plugged_size == BLOCK + SB


@pytest.mark.parametrize("auto_online", ONLINE)
def test_a_partly_plugged_block_stays_online_for_nobody_lets_go_of_the_rest(auto_online: OnlineType) -> None:
    k = guest(auto_online)
    vm = attach(k)
    with lawful(k, vm):
        resize(k, vm, 2 * BLOCK - SB)
        virtio_mem_remove(k, vm)
        error = refused(state_store, k, FIRST + 1, "offline")
        assert (error.errno, error.reason) == (EBUSY, "unmovable page")
        assert "memory offlining [mem 0x208000000-0x20fffffff] failed due to unmovable page" in log(k, "debug")
        assert memory_block(k, FIRST + 1).state == "online"


@pytest.mark.parametrize("auto_online", ONLINE)
def test_sub_blocks_that_were_taken_back_hold_their_block_as_those_that_never_came(auto_online: OnlineType) -> None:
    k = guest(auto_online)
    vm = attach(k)
    resize(k, vm, BLOCK)
    resize(k, vm, BLOCK - SB)
    virtio_mem_remove(k, vm)
    assert refused(state_store, k, FIRST, "offline").errno == EBUSY


def test_with_its_driver_a_partly_plugged_block_goes_offline() -> None:
    k = guest()
    vm = attach(k)
    resize(k, vm, BLOCK - SB)
    state_store(k, FIRST, "offline")
    assert memory_block(k, FIRST).state == "offline"


def test_a_refused_offline_takes_hold_of_the_pages_again() -> None:
    k = guest()
    vm = attach(k)
    resize(k, vm, BLOCK - SB)
    users.allocate(k, 4 * KiB, "pinned", "dma", at=AT)
    refused(state_store, k, FIRST, "offline")
    users.free(k, "dma")
    virtio_mem_remove(k, vm)
    assert refused(state_store, k, FIRST, "offline").reason == "unmovable page"


@pytest.mark.parametrize("auto_online", ONLINE)
def test_a_fully_plugged_block_goes_offline_and_away_without_a_driver(auto_online: OnlineType) -> None:
    k = guest(auto_online)
    vm = attach(k)
    resize(k, vm, BLOCK)
    virtio_mem_remove(k, vm)
    state_store(k, FIRST, "offline")
    remove_memory(k, AT, BLOCK)
    assert k.memory_blocks.get(FIRST) is None
    assert vm.device.plugged_size == BLOCK


def test_the_driver_comes_back_only_where_no_memory_is_added() -> None:
    k = guest("offline")
    vm = attach(k)
    resize(k, vm, BLOCK)
    virtio_mem_remove(k, vm)
    error = refused(virtio_mem_probe, k, vm.device, "virtio1")
    assert error.errno == EBUSY
    assert log(k, "info", "warn")[-2:] == [
        "virtio_mem virtio1: could not reserve device region",
        "virtio_mem virtio1: reloading the driver is not supported",
    ]


def test_what_stayed_plugged_without_being_added_is_unplugged_when_the_driver_comes_back() -> None:
    k = guest("offline")
    vm = attach(k)
    resize(k, vm, SB)
    virtio_mem_remove(k, vm)
    assert vm.device.plugged_size == SB
    seen = len(vm.device.log)
    again = virtio_mem_probe(k, vm.device, "virtio1")
    k.hw.advance(0)
    assert [str(each) for each in vm.device.log[seen:]] == ["UNPLUG_ALL ACK 0", f"PLUG {AT:#x} 1 ACK 0"]
    assert again.plugged_size == SB
    assert any(line.endswith("unplugging all memory is required") for line in log(k))
    assert check_all(k) == []


def test_a_driver_that_may_not_choose_pages_leaves_nothing() -> None:
    """virtio_mem_init_hotplug(): out_unreg_device, out_unreg_mem, out_unreg_group, out_del_resource."""
    k = guest()
    set_online_page_callback(k, generic_online_page)
    chain = list(k.statics(Chains).memory)
    assert refused(attach, k).errno == EINVAL
    assert not k.statics(PmChain).notifiers and not k.statics(DpmList).dpm_list
    assert k.statics(Chains).memory == chain and not k.memory_groups
    assert not [res for _, res in iter_resources(k.iomem_resource) if res.name == "virtio1"]


def test_a_busy_device_is_asked_to_unplug_everything_until_it_does() -> None:
    k = guest("offline")
    vm = attach(k)
    resize(k, vm, SB)
    virtio_mem_remove(k, vm)
    vm.device.rules.append(Rule(frozenset({RequestType.UNPLUG_ALL}), count=2, answer=ResponseType.BUSY))
    seen = len(vm.device.log)
    again = virtio_mem_probe(k, vm.device, "virtio1")
    k.hw.advance(150 * SECOND)
    answers = [each.response.type.name for each in vm.device.log[seen:]]
    assert answers == ["BUSY", "BUSY", "ACK", "ACK"]
    assert again.plugged_size == SB


def test_neither_work_nor_timer_runs_once_the_driver_is_unbound() -> None:
    k = guest()
    vm = attach(k, 2 * GiB, Rule(frozenset({RequestType.PLUG}), answer=ResponseType.BUSY))
    resize(k, vm, BLOCK)
    vm.device.resize(2 * BLOCK)
    virtio_mem_remove(k, vm)
    seen = len(vm.device.log)
    vm.device.resize(BLOCK)
    k.hw.advance(1000 * SECOND)
    assert len(vm.device.log) == seen


def test_big_blocks_stay_as_they_are_and_may_be_offlined_one_memory_block_at_a_time() -> None:
    k = guest()
    vm = attach(k, 4 * GiB, params=Params(force_bbm=True, bbm_block_size=4 * BLOCK))
    with lawful(k, vm):
        resize(k, vm, 4 * BLOCK)
        virtio_mem_remove(k, vm)
        state_store(k, FIRST + 2, "offline")
    assert [memory_block(k, FIRST + i).state for i in range(4)] == ["online", "online", "offline", "online"]
