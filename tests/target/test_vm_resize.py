"""A change of a VM's memory: what is refused before, how long is waited, what is said of a stop, the way back."""
# SPDX-License-Identifier: GPL-2.0-or-later

import msgspec
import pytest

from memhp.errors import BadInput
from memhp.target.vm import Plugged, VmDevice
from memhp.target.vm_resize import Change, Patience, plug, resize, unplug
from memhp.units import GiB, MiB
from target.vm_fakes import STATUS, VIRTIO_MEM, FakeVm

PATIENCE = Patience(timeout=100, quiet=10)


def resized(vm: FakeVm, size: int, *, rollback: bool = False, told: list[int] | None = None) -> Change:
    sizes = told if told is not None else []
    return resize(vm, None, size, patience=PATIENCE, rollback=rollback, progress=sizes.append, clock=vm.clock)


def test_a_size_is_reached_step_by_step() -> None:
    told: list[int] = []
    vm = FakeVm([GiB, 3 * GiB // 2, 2 * GiB])
    change = resized(vm, 2 * GiB, told=told)
    assert (change.ended, change.before, change.now, change.why) == ("reached", 0, 2 * GiB, "")
    assert told == [0, GiB, 3 * GiB // 2, 2 * GiB]
    assert vm.requests == [2 * GiB]


def test_a_guest_that_stops_is_stuck_after_the_quiet_time_not_the_whole() -> None:
    vm = FakeVm([GiB])
    change = resized(vm, 2 * GiB)
    assert (change.ended, change.now) == ("stuck", GiB)
    assert 10 <= change.seconds <= 12
    assert "struct pages" in change.why


def test_a_guest_that_crawls_runs_into_the_time_limit() -> None:
    change = resized(FakeVm([n * MiB for n in range(2, 400, 2)]), 2 * GiB)
    assert change.ended == "timeout"
    assert change.seconds == pytest.approx(100, abs=1)


def test_a_shrink_that_stops_names_pages_that_do_not_move_and_the_request_is_taken_back() -> None:
    full = msgspec.structs.replace(STATUS, devices=[msgspec.structs.replace(VIRTIO_MEM, size=GiB, requested=GiB)])
    vm = FakeVm([512 * MiB, *[512 * MiB] * 10, GiB], full)
    change = resized(vm, 0, rollback=True)
    assert (change.ended, change.rolled_back, change.now) == ("stuck", True, GiB)
    assert "cannot move" in change.why
    assert vm.requests == [0, GiB]


def test_without_rollback_the_request_stays() -> None:
    vm = FakeVm([])
    assert (resized(vm, GiB).rolled_back, vm.requests) == (False, [GiB])


@pytest.mark.parametrize(("rollback", "requests"), [(True, [2 * GiB, 0]), (False, [2 * GiB])])
def test_who_interrupts_the_wait_has_the_former_request_back_if_that_was_asked_for(
    rollback: bool, requests: list[int]
) -> None:
    def interrupt(size: int) -> None:
        if size:
            raise KeyboardInterrupt

    vm = FakeVm([GiB, 2 * GiB])
    with pytest.raises(KeyboardInterrupt):
        resize(vm, None, 2 * GiB, patience=PATIENCE, rollback=rollback, progress=interrupt, clock=vm.clock)
    assert vm.requests == requests


def test_a_paused_machine_is_the_reason() -> None:
    vm = FakeVm([], msgspec.structs.replace(STATUS, state="paused"))
    assert "paused" in resized(vm, GiB).why


def test_without_patience_nobody_waits() -> None:
    vm = FakeVm([GiB])
    assert resize(vm, "vm0", GiB, patience=None).ended == "requested"
    assert vm.now == 0


@pytest.mark.parametrize(
    ("name", "size", "says"),
    [(None, 3 * MiB, "2 MiB or 4 MiB"), (None, 8 * GiB, "at most"), ("vm1", GiB, "one of vm0")],
)
def test_what_the_device_cannot_have_is_not_requested(name: str | None, size: int, says: str) -> None:
    vm = FakeVm([])
    with pytest.raises(BadInput, match=says):
        resize(vm, name, size, patience=None)
    assert vm.requests == []


def test_a_dimm_needs_a_slot_room_and_a_name_of_its_own() -> None:
    vm = FakeVm([])
    assert plug(vm, Plugged(id="d0", size=GiB)).size == GiB
    with pytest.raises(BadInput, match="already"):
        plug(vm, Plugged(id="d0", size=GiB))
    with pytest.raises(BadInput, match="more than its 16 GiB"):
        plug(vm, Plugged(id="d1", size=14 * GiB))
    plug(vm, Plugged(id="d1", size=GiB))
    with pytest.raises(BadInput, match="all 2 slots"):
        plug(vm, Plugged(id="d2", size=GiB))


DIMM = VmDevice(id="d0", kind="dimm", size=GiB)


def test_a_dimm_that_the_guest_gives_back_is_gone_with_its_backend() -> None:
    vm = FakeVm([], msgspec.structs.replace(STATUS, devices=[VIRTIO_MEM, DIMM]))
    change = unplug(vm, None, patience=PATIENCE, clock=vm.clock)
    assert (change.ended, change.before, change.now, vm.forgotten) == ("reached", GiB, 0, ["d0"])


def test_a_guest_that_refuses_ends_the_wait_with_what_it_said() -> None:
    vm = FakeVm([], msgspec.structs.replace(STATUS, devices=[VIRTIO_MEM, DIMM]), answer="the device is busy")
    change = unplug(vm, "d0", patience=PATIENCE, clock=vm.clock)
    assert (change.ended, change.now, change.why, vm.forgotten) == ("stuck", GiB, "the device is busy", [])
