"""One life of a served device in a guest: every size and every fault, and what the modelled driver does with it.

A record of a real guest's is JSON: what the guest is, and for each step the requests that the device saw, the device's
memory in ``/proc/iomem`` and the states of its memory blocks.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Mapping

import msgspec

from memhp.errors import BadInput
from memhp.facts.derive import derive
from memhp.facts.iomem import ram_driver, system_ram
from memhp.facts.observed import Facts
from memhp.hw.devices.backing import MachineBacking
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.linux.drivers.virtio.virtio_mem import virtio_mem_probe
from memhp.linux.init import start_kernel
from memhp.scenario.machine import machine_spec
from memhp.scenario.schema import MachineText
from memhp.target.device.attach import region_at
from memhp.target.device.faults import checked_rules, parse_fault
from memhp.target.device.status import row_of
from memhp.units import GiB, MiB

OWN = 1 * GiB
"""RAM of the guest before anything is plugged."""
SIZE = 2 * GiB
"""The region of its device."""
SETTLED = 10_000_000_000
"""Nanoseconds that each step is given: the driver tries again only after 50 seconds."""


class Step(msgspec.Struct, frozen=True):
    """A size to request in MiB, with the faults that are in force from then on."""

    requested: int
    faults: tuple[str, ...] = ()


LIFE = (
    Step(512),
    Step(128),
    Step(0),
    Step(512, ("request=PLUG answer=BUSY first=2",)),
    Step(384),
    Step(128, ("request=UNPLUG answer=BUSY first=2",)),
    Step(0),
    Step(512, ("request=PLUG answer=NACK first=2",)),
    Step(0),
    Step(384, ("delay=0.5 count=all",)),
    Step(0, ("request=PLUG delay=0.25 count=all",)),
    Step(512, ("request=PLUG first=2 requested=256M",)),
    Step(0),
    Step(512, ("request=PLUG answer=ERROR first=3",)),
    Step(0),
)
"""Plugged to 512 MiB, shrunk to 128 MiB, to 0, then again with BUSY, NACK, delays, another size meanwhile, and ERROR,
after which the driver does nothing any more."""


class Seen(msgspec.Struct, frozen=True):
    """What a step came to."""

    requests: list[str]
    memory: list[tuple[int, int]]
    """Of the device in use, as the kernel's resources say: bytes, the last one included."""
    blocks: Mapping[int, str]
    """States of the memory blocks in the device's region."""


class Record(msgspec.Struct, frozen=True):
    """A guest's life, as it was."""

    release: str
    arch: str
    at: int
    steps: list[Seen]
    log: list[str]
    """What the driver said when it found the device."""


def shown(facts: Facts, at: int, requests: list[str]) -> Seen:
    """What of a machine's facts a record keeps."""
    size = facts.memory.block_size
    blocks = {each.index: each.state for each in facts.memory.blocks if at <= each.index * size < at + SIZE}
    memory = [(res.start, res.end) for res in system_ram(facts.iomem) if ram_driver(res) == "virtio_mem"]
    return Seen(requests, memory, blocks)


def foretold(arch: str, release: str) -> list[Seen]:
    """What the modelled driver of that kernel does with the same device. Raises :class:`BadInput`."""
    series = re.match(r"\d+\.\d+", release)
    if series is None:
        raise BadInput(f"{release!r} is no release of Linux", where="--kernel", fix="such as 7.2.13")
    text = {"arch": arch, "memory": "1G", "profile": f"linux-{series[0]}"}
    spec = machine_spec(
        msgspec.convert({**text, "boot": {"memhp_default_state": "online_movable"}}, MachineText), where="life"
    )
    k = start_kernel(spec)
    at = region_at(arch, OWN)
    device = VirtioMemDevice(Geometry(at, SIZE), MachineBacking(k.hw, "vm0"))
    virtio_mem_probe(k, device, "virtio1")
    found = []
    for step in LIFE:
        seen = len(device.log)
        faults = [parse_fault(text, where="life") for text in step.faults]
        device.rules[:] = checked_rules(faults, device.geometry, where="life")
        device.matched.clear()
        device.resize(step.requested * MiB)
        k.hw.advance(SETTLED)
        requests = [str(row_of(0, each)) for each in device.log[seen:]]
        found.append(shown(derive(k), at, requests))
    return found
