"""A change of a virtual machine's memory, rehearsed on the model before the machine hears of it.

The machine is read from its monitor: base RAM, devices, what they give now. Which kernel runs in it, and what its
memory is used for, no monitor tells: that comes from a capture or sysroot of the guest, or is assumed and said so.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from pathlib import Path
from typing import NamedTuple

import msgspec

from memhp.errors import BadInput
from memhp.facts import nvdimm
from memhp.linux.arch.registry import ARCHES
from memhp.linux.profiles import profile
from memhp.linux.release import LAST
from memhp.scenario import result, schema
from memhp.target.model.run import rehearse_scenario
from memhp.target.vm import Plugged, VmDevice, VmStatus
from memhp.units import GiB, align_up, exact_size

WHERE = "rehearsal"
_UNALIGNED = re.compile(r"steps\[(\d+)\]\.(?:size|at): .* is not made of whole memory blocks")
OFFLINE_WAIT = 60
"""Seconds that the modelled driver has for what it does at once in the real one."""


class Rehearsed(NamedTuple):
    """How the change went on the model: the last step, and what that rests on."""

    run: result.Run
    assumed: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the model gets where the request wants to go, with all laws holding."""
        return self.run.ok and self.step.expect == "ok"

    @property
    def step(self) -> result.StepResult:
        """The change itself."""
        return self.run.steps[-1]


class Guest(NamedTuple):
    """What is known of the guest: a capture or sysroot of it (with the moment), or only its kernel, and whether it has
    brought online what devices gave it; None: nothing.
    """

    source: str | None = None
    step: str | None = None
    kernel: str | None = None
    onlines: bool | None = None

    @property
    def zone(self) -> schema.Zone | None:
        """Where a DIMM's memory goes online at once; None: it stays offline."""
        return None if self.source is None and self.onlines is False else "auto"


ONLINES = {
    None: "it brings added memory online itself",
    True: "it brings added memory online itself: its agent shows all that was added online",
    False: "it leaves added memory offline, as its agent shows some that was added",
}
"""What is assumed, by :attr:`Guest.onlines`."""


def machine_of(status: VmStatus, guest: Guest) -> tuple[schema.MachineText, tuple[str, ...]]:
    """The machine to model, and what had to be assumed of it. Raises BadInput for one that the model does not know."""
    if guest.source is not None:
        return schema.MachineText(source=guest.source, step=guest.step), ()
    if status.arch not in ARCHES:
        raise BadInput(f"no model of this machine's architecture ({status.arch})", where=status.name)
    assumed = [
        "the guest uses no more of its memory than a kernel takes at boot",
        ONLINES[guest.onlines],
    ]
    name = guest.kernel or f"linux-{LAST}"
    if guest.kernel is None:
        assumed.append(f"the guest runs Linux {LAST} (--kernel says otherwise)")
    text = schema.MachineText(
        arch=status.arch,
        profile=profile(name, where="--kernel").name,
        memory=status.base,
        boot=schema.Boot(memhp_default_state="offline" if guest.onlines is False else "online"),
    )
    return text, tuple(assumed)


def steps_of(status: VmStatus, zone: schema.Zone | None = "auto") -> list[schema.StepKind]:
    """What the devices gave the guest until now, in the order in which they lie, and where that went online."""
    steps: list[schema.StepKind] = []
    for device in sorted(status.devices, key=lambda each: each.at or 0):
        if device.kind == "virtio-mem" and device.most:
            steps.append(
                schema.VirtioMem(
                    device=device.id,
                    size=device.most,
                    at=device.at,
                    block_size=device.block_size or "2M",
                    requested=device.size,
                )
            )
        elif device.kind == "dimm" and device.size:
            steps.append(schema.Plug(size=device.size, at=device.at, online=zone))
    return steps


def rehearse_request(status: VmStatus, guest: Guest, device: VmDevice, size: int) -> Rehearsed:
    """Another size of a virtio-mem device, on the model; where memory grows by DIMMs, one of the difference.

    Raises BadInput for what only virtio-mem can: to shrink.
    """
    if device.kind != "virtio-mem":
        if size <= device.size:
            raise BadInput(f"{device.id} grows by DIMMs and cannot shrink", where=status.name, fix="use virtio-mem")
        return rehearse_plug(status, guest, size - device.size)
    name = f"{device.id}: {exact_size(device.size)} → {exact_size(size)}"
    return _rehearsed(status, guest, schema.Resize(name=name, to=size, device=device.id, wait=OFFLINE_WAIT))


def rehearse_plug(status: VmStatus, guest: Guest, size: int) -> Rehearsed:
    """One more DIMM, on the model."""
    return _rehearsed(status, guest, schema.Plug(name=f"a DIMM of {exact_size(size)}", size=size, online=guest.zone))


def rehearse_nvdimm(status: VmStatus, guest: Guest, what: Plugged) -> Rehearsed:
    """One more NVDIMM, on the model: what its file says that it is for decides what it takes of the guest's memory.

    It is no memory of the guest's, but a namespace for fsdax or devdax has struct pages, in RAM or on itself.
    """
    ends = [(each.at or 0) + (each.most or each.size) for each in status.devices]
    at = align_up(max([4 * GiB + status.base, *ends]), GiB)
    name = f"an NVDIMM of {exact_size(what.size)}"
    found, seen = None, what.file is not None
    try:
        found = nvdimm.info_block(Path(what.file)) if what.file is not None else None
    except BadInput:
        seen = False
    step = schema.Dax(name=name, mode="raw", at=at, size=what.size, pagemap=found is not None)
    told = f"{'its file' if seen else 'what it holds, which cannot be read here,'} has no info block: it is a disk"
    if found is not None:
        told = f"its info block says {found.use}, struct pages {'in RAM' if found.map == 'mem' else 'on itself'}"
        if found.use == "devdax" or found.map == "dev":
            step = schema.Dax(name=name, mode="devdax", at=at, size=what.size, map=found.map, align=found.align)
    rehearsed = _rehearsed(status, guest, step)
    more = (f"{told}; the guest makes no memory of it (daxctl can)", f"it lies at {at:#x}")
    return rehearsed._replace(assumed=(*rehearsed.assumed, *more))


def rehearse_unplug(status: VmStatus, guest: Guest, device: VmDevice) -> Rehearsed:
    """A DIMM asked back, on the model."""
    return _rehearsed(status, guest, schema.Eject(name=f"{device.id} is asked back", at=device.at))


def _rehearsed(status: VmStatus, guest: Guest, step: schema.StepKind) -> Rehearsed:
    machine, assumed = machine_of(status, guest)
    before = [] if guest.source is not None else steps_of(status, guest.zone)
    steps, title = [*before, step], f"{status.name}: {step.name}"
    while True:
        try:
            run, _ = rehearse_scenario(schema.Scenario(machine=machine, steps=steps, title=title), where=WHERE)
        except BadInput as error:
            steps = _refused(steps, error)
        else:
            return Rehearsed(run, assumed)


def _refused(steps: list[schema.StepKind], error: BadInput) -> list[schema.StepKind]:
    """Steps of which one is a DIMM that the guest's kernel refuses, as it is not made of memory blocks: QEMU takes it.

    Raises the error where it is about anything else.
    """
    match = _UNALIGNED.search(str(error))
    step = steps[int(match[1])] if match else None
    if match is None or not isinstance(step, schema.Plug):
        raise error
    at = int(match[1])
    return [*steps[:at], msgspec.structs.replace(step, expect="EINVAL"), *steps[at + 1 :]]
