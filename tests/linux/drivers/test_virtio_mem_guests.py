"""Real guests with virtio-mem devices, rehearsed: the driver asks for the same blocks in the same order.

The riscv64 guests' device was the lab's own, over vhost-user, and noted every request; QEMU traced those of the other
guests whose page tables are kept. In captures the sizes that the device reached, and the driver's own log, tell.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from captures import captures, facts, guests, open_capture
from memhp.check import check_all, snapshot
from memhp.facts import iomem
from memhp.facts.derive import derive
from memhp.facts.observed import Facts
from memhp.hw.devices.virtio_mem_rules import Rule
from memhp.hw.devices.virtio_mem_wire import ResponseType
from memhp.linux.mm import users
from memhp.linux.state import Kernel
from memhp.units import MiB
from replay.diary import STEP_OF_ONE, log_text, writes
from replay.machines import attempt
from virtio_mem import guest_log, log_of, named, plugged_sizes, recorded, requests, resize, whole_log

GUESTS = [name for name in named("") if name in guests()]
CAPTURES = [name for name in named("") if name in captures()]
DYNDBG = ("plugging memory: ", "unplugging memory: ", "adding memory: ", "offlining and removing memory: ")
"""Lines that the driver prints where its debug messages are on."""


def picture(observed: Facts) -> dict[str, object]:
    """What Linux shows of a device's memory: blocks with state and zones, zones, System RAM."""
    return {
        "blocks": {block.index: (block.state, block.valid_zones) for block in observed.memory.blocks},
        "zones": {
            (zone.node, zone.name): (zone.start_pfn if zone.spanned else 0, zone.spanned, zone.present)
            for zone in observed.zones
            if zone.name in ("Normal", "Movable")
        },
        "iomem": [
            (res.start, res.end) for res in iomem.system_ram(observed.iomem) if iomem.ram_driver(res) == "virtio_mem"
        ],
    }


@pytest.mark.parametrize("name", named(""))
def test_block_and_sub_block_sizes_are_those_that_the_real_driver_logged(name: str) -> None:
    session, vm = recorded(name)
    real = log_of(name)
    assert (vm.addr, vm.region_size, vm.device_block_size, vm.nid) == (
        real.start,
        real.region_size,
        real.device_block_size,
        real.nid,
    )
    assert (session.k.memory_block_size, vm.sbm.sb_size) == (real.memory_block_size, real.subblock_size)
    said = [line.text for line in session.k.hw.log_lines if line.text.startswith("virtio_mem virtio1:")]
    assert said == [line.text for line in whole_log(name).lines if line.text.startswith("virtio_mem virtio1:")][:8]


@pytest.mark.parametrize("name", GUESTS)
def test_the_device_sees_the_requests_that_the_real_one_saw(name: str) -> None:
    session, vm = recorded(name)
    seen: list[str] = []
    for step, size, reached in plugged_sizes(name):
        seen += resize(session.k, vm, size)
        assert vm.plugged_size == vm.device.plugged_size == reached
        assert picture(derive(session.k)) == picture(facts(name, step))
    assert seen == [str(request) for request in requests(guest_log(name))]
    assert len(seen) == 8


@pytest.mark.parametrize("name", [name for name in CAPTURES if "vhost" in name])
def test_the_captured_vhost_device_saw_these_requests_and_a_busy_answer_changes_nothing(name: str) -> None:
    session, vm = recorded(name)
    seen = [line for _, size, _ in plugged_sizes(name) for line in resize(session.k, vm, size)]
    text = log_text(name)
    told = [str(request) for request in requests(text[: text.index("with PLUG")])]
    assert (seen[:6], seen[-4:]) == (told[:6], told[6:])
    assert len(seen) == int(text.partition("requests seen ")[2].split()[0])
    vm.device.rules.append(Rule(answer=ResponseType.BUSY))
    assert resize(session.k, vm, 256 * MiB) == ["PLUG 0xc0000000 64 BUSY 0"]
    assert "('PLUG', '0xc0000000', 64, 'BUSY', 0)" in text
    assert vm.plugged_size == 0
    assert picture(derive(session.k)) == picture(facts(name, "4-busy"))


@pytest.mark.parametrize("name", CAPTURES)
def test_memory_comes_and_goes_as_it_did(name: str) -> None:
    session, vm = recorded(name)
    k = session.k
    before = snapshot(k)
    sizes = {step: (size, reached) for step, size, reached in plugged_sizes(name)}
    for step in open_capture(name):
        if step in sizes:
            wanted, reached = sizes[step]
            _hold(name, step, session.k, reached - wanted)
            resize(k, vm, wanted)
            assert vm.plugged_size == vm.device.plugged_size == reached, step
        elif step == STEP_OF_ONE:
            for write in writes(name, step):
                attempt(session, write.block, write.text)
        assert picture(derive(k)) == picture(facts(name, step)), step
        assert check_all(k, before) == []
    assert k.hw.violations == []


def _hold(name: str, step: str, k: Kernel, left: int) -> None:
    """Use an unmovable page in as many sub-blocks as the real machine could not unplug, in the block that it kept."""
    size = log_of(name).subblock_size
    assert size is not None
    kept = facts(name, step).memory.blocks[-1].index * k.memory_block_size
    for at in range(0, left, size):
        users.allocate(k, k.config.page_size, "kernel", f"kernel {at:#x}", at=kept + at)


@pytest.mark.parametrize("name", [name for name in CAPTURES if any(word in log_text(name) for word in DYNDBG)])
def test_the_driver_says_what_it_does_in_the_same_words_and_order(name: str) -> None:
    session, vm = recorded(name)
    sizes = {step: size for step, size, _ in plugged_sizes(name)}
    for step in open_capture(name):
        if step in sizes:
            resize(session.k, vm, sizes[step])
        elif step == STEP_OF_ONE:
            for write in writes(name, step):
                attempt(session, write.block, write.text)
    real = [line.text for line in whole_log(name).lines if any(word in line.text for word in DYNDBG)]
    mine = [line.text for line in session.k.hw.log_lines if any(word in line.text for word in DYNDBG)]
    assert mine == list(dict.fromkeys(real))
    assert len(mine) == 11
