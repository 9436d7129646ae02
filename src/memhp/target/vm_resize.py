"""Changing a virtual machine's memory and seeing it through: progress, a time limit, why nothing moves, the way back.

A request is only that: the guest gives and takes memory as it can. What counts is what the device has in the end.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import time
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar

import msgspec

from memhp.target.vm import Plugged, Vm, VmDevice, VmStatus, check_plug, check_request

T = TypeVar("T")
Ended = Literal["reached", "stuck", "timeout", "requested"]
Progress = Callable[[int], None]
"""Told the size that there is, each time it has changed."""


class Patience(NamedTuple):
    """How long to wait, in seconds: at all, and without any change."""

    timeout: float = 300.0
    quiet: float = 30.0


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a change came to: bytes before, asked for and there at the end; `why` it did not get there, if not."""

    device: str
    before: int
    wanted: int
    now: int
    ended: Ended
    """``requested``: nobody waited."""
    seconds: float
    why: str = ""
    rolled_back: bool = False
    """Whether the former request was restored; `now` is the size after that."""


UNSEEN = "what the guest takes of it is not told here; in the guest lsmem tells"
Why = Callable[[VmStatus, VmDevice, int], str]
"""Why a device stands where it is, though another size is wanted."""


def resize(
    vm: Vm,
    name: str | None,
    size: int,
    *,
    patience: Patience | None,
    rollback: bool = False,
    why: Why | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Change:
    """Ask for another size of a virtio-mem device; with `patience`, wait until it is there, where that can be seen.

    With `rollback` a size that is not reached in time is given up: the former request is restored, and waited for;
    who interrupts the wait has it restored, and waits no more.
    Raises BadInput before anything is asked for, when the device cannot have that size.
    """
    device = vm.status().device(name)
    check_request(device, size)
    former = device.size if device.requested is None else device.requested
    began = clock()
    vm.request(device.id, size)
    if patience is None or not vm.sees_taken:
        return Change(
            device=device.id, before=device.size, wanted=size, now=device.size, ended="requested", seconds=0.0,
            why="" if patience is None else UNSEEN,
        )  # fmt: skip
    try:
        ended, there = _until(vm, device.id, size, patience, progress, clock)
    except KeyboardInterrupt:
        if rollback:
            vm.request(device.id, former)
        raise
    text, back = "", False
    if ended != "reached":
        text = (why or why_stuck)(vm.status(), there, size)
        if rollback:
            vm.request(device.id, former)
            _, there = _until(vm, device.id, former, patience, progress, clock)
            back = True
    return Change(
        device=device.id, before=device.size, wanted=size, now=there.size, ended=ended, seconds=clock() - began,
        why=text, rolled_back=back,
    )  # fmt: skip


def _until(
    vm: Vm, name: str, size: int, patience: Patience, progress: Progress | None, clock: Callable[[], float]
) -> tuple[Ended, VmDevice]:
    """Watch a device until it has its size."""

    def look() -> tuple[int, VmDevice]:
        device = vm.status().device(name)
        return device.size, device

    return follow(look, lambda now: now == size, patience, progress, clock=clock, wait=vm.wait)


def follow(
    look: Callable[[], tuple[int, T]],
    there: Callable[[int], bool],
    patience: Patience,
    progress: Progress | None,
    *,
    clock: Callable[[], float],
    wait: Callable[[float], object],
) -> tuple[Ended, T]:
    """Look at a size until it is `there`, or nothing changes any more, or time is up; what else was seen last."""
    deadline = clock() + patience.timeout
    seen, changed = -1, clock()
    while True:
        size, found = look()
        if size != seen:
            seen, changed = size, clock()
            if progress is not None:
                progress(size)
        if there(size):
            return "reached", found
        left = min(deadline, changed + patience.quiet) - clock()
        if left <= 0:
            return "timeout" if clock() >= deadline else "stuck", found
        wait(min(left, 1.0))


def why_stuck(status: VmStatus, device: VmDevice, size: int) -> str:
    """What the host alone can say of it."""
    if status.state != "running":
        return f"the machine is {status.state}: nothing runs in it that could answer"
    if device.size > size:
        return "what is left holds pages that the guest cannot move (boot it with memory in ZONE_MOVABLE), or is in use"
    if device.size == 0:
        return "the guest gives no sign: its virtio_mem driver is not loaded, or has no memory for struct pages"
    return "the guest takes no more: no memory for struct pages and page tables, or a range that it cannot add"


def plug(vm: Vm, what: Plugged) -> VmDevice:
    """Plug a DIMM or NVDIMM. Raises BadInput for one that there is no room for."""
    check_plug(vm.status(), what)
    return vm.plug(what)


def unplug(
    vm: Vm, name: str | None, *, patience: Patience | None, clock: Callable[[], float] = time.monotonic
) -> Change:
    """Ask for a DIMM or NVDIMM back; with `patience`, wait for the guest's answer."""
    device = vm.status().dimm(name)
    began = clock()
    vm.unplug(device.id)
    ended: Ended = "requested"
    why = ""
    while patience is not None:
        if not any(each.id == device.id for each in vm.status().devices):
            ended = "reached"
            vm.forget(device.id)
            break
        left = patience.timeout - (clock() - began)
        if left <= 0:
            ended, why = "timeout", "the guest does not answer"
            break
        why = vm.wait(min(left, 1.0))
        if why:
            ended = "stuck"
            break
    now = 0 if ended == "reached" else device.size
    return Change(
        device=device.id, before=device.size, wanted=0, now=now, ended=ended, seconds=clock() - began, why=why
    )
