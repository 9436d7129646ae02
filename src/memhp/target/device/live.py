"""A real driver taken through a life with the served device: every size and fault, and what it did, recorded."""
# SPDX-License-Identifier: GPL-2.0-or-later

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from memhp.hw.devices.virtio_mem import Geometry
from memhp.target.device.attach import region_at
from memhp.target.device.control import Ask, ask
from memhp.target.device.faults import parse_fault
from memhp.target.device.life import LIFE, OWN, SIZE, Record, Seen, shown
from memhp.target.device.served_guest import serving
from memhp.target.guest import observe
from memhp.target.guest.cache import Cache
from memhp.target.guest.guest import Guest
from memhp.target.guest.qemu import GuestSpec, Qemu
from memhp.units import MiB

QUIET = 2.0
"""Seconds without any change after which a guest is done."""
PATIENCE = 40.0
"""Seconds that a step may take: the driver tries again after 50."""
LOOK = "grep virtio_mem /proc/iomem; cat /sys/devices/system/memory/memory*/state | uniq -c"
"""What tells whether the guest is busy with its memory."""
OPTIONS = "memhp_default_state=online_movable"
"""What the kernel is told: memory that can all be had back."""


@dataclass
class Running:
    """A guest with the served device."""

    guest: Guest
    control: Path
    at: int


@contextmanager
def started(cache: Cache, qemu: Qemu, spec: GuestSpec) -> Iterator[Running]:
    """A guest with a served device and its driver loaded."""
    at = region_at(spec.kernel.arch, OWN)
    base = replace(spec, nodes=(OWN,), append=f"{OPTIONS} {spec.append}".strip())
    with serving(cache, qemu, base, "vm0", Geometry(at, SIZE)) as (guest, control):
        yield Running(guest, control, at)


def lived(machine: Running, foretold: Sequence[Seen], progress: Callable[[int], None] = lambda _: None) -> Record:
    """Live the life in a guest, and record it; `progress` is called with the number of each step.

    Of what is `foretold` only the number of requests is used: so long a step is waited for, while it may come.
    """
    agent = machine.guest.agent
    log = agent.run("dmesg | grep 'virtio_mem virtio1: '").text
    steps = []
    for number, (step, expected) in enumerate(zip(LIFE, foretold, strict=True)):
        progress(number)
        first = ask(machine.control, Ask()).answered
        faults = [parse_fault(text, where="life") for text in step.faults]
        ask(machine.control, Ask(requested=step.requested * MiB, clear=True, faults=faults))
        _settle(machine, first + len(expected.requests))
        requests = [str(row) for row in ask(machine.control, Ask(since=first)).requests]
        steps.append(shown(observe.facts(machine.guest), machine.at, requests))
    lines = [line.partition("] ")[2] for line in log.splitlines()]
    return Record(machine.guest.release, machine.guest.spec.kernel.arch, machine.at, steps, lines)


def _settle(machine: Running, enough: int) -> None:
    """Wait until so many requests were made and nothing changes any more, as long as there is patience."""
    before, since, end = "", time.monotonic(), time.monotonic() + PATIENCE
    while time.monotonic() < end:
        answered = ask(machine.control, Ask()).answered
        now = f"{answered} {machine.guest.agent.run(LOOK).text}"
        if now != before:
            before, since = now, time.monotonic()
        elif answered >= enough and time.monotonic() - since > QUIET:
            return
        time.sleep(0.1)
