"""``memhp vm`` on a real QEMU with a real kernel: sizes are reached, DIMMs come and go, and the model foretold it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from memhp.facts.table_source import open_tables
from memhp.spans import Span
from memhp.target.guest.cache import user_cache
from memhp.target.guest.guest import Guest, running
from memhp.target.guest.kernel import fetched
from memhp.target.guest.memory import GuestMemory
from memhp.target.guest.plugged import GuestMachine
from memhp.target.guest.qemu import GuestSpec, VirtioMemDevice, find_qemu
from memhp.target.guest.versions import newest
from memhp.target.vm import Plugged
from memhp.target.vm_memory import ram_of, registers_of
from memhp.target.vm_qmp import QemuVm
from memhp.target.vm_rehearse import Guest as Known
from memhp.target.vm_rehearse import rehearse_request
from memhp.target.vm_resize import Patience, plug, resize, unplug
from memhp.units import GiB, MiB

PATIENCE = Patience(timeout=240, quiet=60)


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    """A guest that brings memory online as movable, with a virtio-mem device of 1 GiB."""
    found = {each.release: each for each in fetched(user_cache()) if each.arch == "x86_64"}
    if not found:
        pytest.skip("NO VM WAS RESIZED: run memhp guest fetch 7.2:x86_64")
    spec = GuestSpec(
        found[newest(found)],
        virtio_mem=(VirtioMemDevice("vm0", GiB, 2 * MiB),),
        append="memhp_default_state=online_movable",
        dimms=True,
    )
    with running(user_cache(), find_qemu(user_cache(), "x86_64"), spec) as started:
        started.load("virtio_mem")
        yield started


def online(guest: Guest, span: Span) -> bool:
    """Wait until all memory blocks of a range are online."""
    machine = GuestMachine(guest)
    blocks = span.size // machine.block_size
    return machine.until(lambda: list(machine.states(span).values()) == ["online"] * blocks)


def test_a_virtio_mem_device_grows_and_shrinks_as_rehearsed(guest: Guest) -> None:
    vm = QemuVm(guest.monitor)
    status = vm.status()
    assert (status.arch, status.state, status.base, status.slots) == ("x86_64", "running", GiB, 16)
    told: list[int] = []
    for size in (512 * MiB, 128 * MiB, 0):
        before = vm.status()
        assert rehearse_request(before, Known(kernel="7.2"), before.device("vm0"), size).ok
        change = resize(vm, None, size, patience=PATIENCE, progress=told.append)
        assert (change.ended, change.now, change.why) == ("reached", size, "")
    assert told[-1] == 0
    assert 512 * MiB in told


def test_the_ram_of_a_running_machine_is_found_by_asking(guest: Guest) -> None:
    """The guest's backends are files of this process; the kernel's note lies where the kernel says."""
    vm = QemuVm(guest.monitor, process=os.getpid())
    source = open_tables(Path("guest"), ram=ram_of(vm, Path("guest")))
    assert source.info is not None
    assert source.info.release == guest.release
    assert source.root == GuestMemory(guest).root()
    registers = registers_of(vm)
    assert {"cr3", "cr4"} <= registers.keys()


def test_a_dimm_is_plugged_and_given_back(guest: Guest) -> None:
    vm = QemuVm(guest.monitor)
    there = plug(vm, Plugged(id="memhp-dimm0", size=256 * MiB))
    assert (there.kind, there.size) == ("dimm", 256 * MiB)
    assert there.at is not None
    assert online(guest, Span(there.at, there.at + there.size))
    change = unplug(vm, None, patience=PATIENCE)
    assert (change.ended, change.now, change.why) == ("reached", 0, "")
    assert all(device.kind != "dimm" for device in vm.status().devices)
    objects = {each["name"] for each in vm.ask("qom-list", path="/objects")}
    assert "memhp-dimm0-ram" not in objects


def test_a_dimm_whose_memory_is_in_use_is_refused_with_a_reason(guest: Guest) -> None:
    """Online in Normal, and then full of what does not move: the guest answers by _OST, and brings it online again."""
    vm = QemuVm(guest.monitor)
    guest.agent.run("echo online_kernel > /sys/devices/system/memory/auto_online_blocks")
    there = plug(vm, Plugged(id="memhp-dimm1", size=128 * MiB))
    assert there.at is not None
    assert online(guest, Span(there.at, there.at + there.size))
    guest.agent.run("mkdir -p /full; mount -t ramfs none /full; dd if=/dev/zero of=/full/f bs=1M count=200")
    change = unplug(vm, "memhp-dimm1", patience=Patience(120, 60))
    assert change.ended == "stuck"
    assert change.now == 128 * MiB
    assert "the guest" in change.why
