"""Somebody's VM as a target: its devices through its monitor, its memory blocks through the guest's agent."""
# SPDX-License-Identifier: GPL-2.0-or-later

import time
from collections.abc import Iterable
from typing import Protocol

import msgspec

from memhp.facts.memory_blocks import MemoryBlock, MemoryBlocks
from memhp.facts.observed import Facts
from memhp.scenario import schema
from memhp.scenario.schema import StepKind
from memhp.target.host import block_refusal, named_blocks, one_by_one
from memhp.target.target import NO_FAULTS, Done
from memhp.target.vm import Plugged, Vm
from memhp.target.vm_agent import GuestBlock
from memhp.target.vm_resize import Patience, plug, resize, unplug, why_stuck
from memhp.units import parse_size

PATIENCE = Patience()
DEVICES = (schema.Plug, schema.Eject, schema.Resize)
BLOCKS = (schema.Online, schema.Offline)


class BlockAgent(Protocol):
    """What is asked of an agent in a guest: its memory blocks, and to change them."""

    def block_size(self) -> int:
        """Bytes of a memory block."""
        ...

    def blocks(self) -> list[GuestBlock]:
        """Every memory block, by number."""
        ...

    def change(self, numbers: Iterable[int], *, online: bool) -> dict[int, str]:
        """Bring blocks online or offline: by number "", or why not."""
        ...


class VmTarget:
    """A VM; `agent` is its guest's, None where none runs. Whoever opened them closes them."""

    def __init__(self, vm: Vm, agent: BlockAgent | None = None, *, patience: Patience = PATIENCE) -> None:
        self.vm, self.agent, self.patience = vm, agent, patience
        self.name = f"vm {vm.status().name}"
        self._count = 0

    def refusal(self, step: StepKind) -> str | None:
        """Why a step cannot be carried out here; None if it can."""
        if step.fault is not None:
            return NO_FAULTS
        if isinstance(step, BLOCKS):
            return "no agent runs in its guest" if self.agent is None else _agent_refusal(step)
        if isinstance(step, DEVICES):
            return _device_refusal(step)
        return None if isinstance(step, schema.Wait) else "only what its monitor and its guest's agent can do"

    def carry_out(self, step: StepKind) -> Done:
        """Do what a step says, and wait until the guest has done so, refuses, or nothing changes any more."""
        if isinstance(step, schema.Wait):
            time.sleep(step.seconds)
            return Done(step, "ok")
        if isinstance(step, schema.Resize):
            done = resize(self.vm, step.device, parse_size(step.to, where="to"), patience=self.patience, why=why_stuck)
            named = msgspec.structs.replace(step, device=done.device)
            return Done(named, "ok" if done.ended == "reached" else None, done.why)
        if isinstance(step, schema.Plug):
            return self._plug(step)
        if isinstance(step, schema.Eject):
            return self._eject(step)
        assert isinstance(step, schema.Online | schema.Offline)
        return self._blocks(step)

    def _plug(self, step: schema.Plug) -> Done:
        taken = {device.id for device in self.vm.status().devices}
        name = next(each for each in map("memhp{}".format, range(len(taken) + 1)) if each not in taken)
        size = parse_size(step.size, where="size")
        device = plug(self.vm, Plugged(id=name, size=size, node=step.node or None))
        return Done(msgspec.structs.replace(step, at=device.at), "ok")

    def _eject(self, step: schema.Eject) -> Done:
        at = None if step.at is None else parse_size(step.at, where="at")
        fits = [each for each in self.vm.status().devices if each.kind == "dimm" and at in (None, each.at)]
        done = unplug(self.vm, fits[-1].id if fits else None, patience=self.patience)
        result = {"reached": "ok", "stuck": "EBUSY"}.get(done.ended)
        return Done(msgspec.structs.replace(step, at=fits[-1].at if fits else None), result, done.why)

    def _blocks(self, step: schema.Online | schema.Offline) -> Done:
        agent = self.agent
        assert agent is not None
        said: list[str] = []

        def change(block: int) -> str:
            said[:] = agent.change([block], online=isinstance(step, schema.Online)).values()
            return "refused" if any(said) else "ok"

        return one_by_one(step, named_blocks(self.facts().memory, step), change, lambda: "; ".join(said))

    def facts(self) -> Facts:
        """What an agent tells of the guest's memory blocks: no zones, no resources. None of them without an agent."""
        if self.agent is None:
            return Facts((), (), MemoryBlocks(0, ()), source=self.name)
        blocks = (
            MemoryBlock(each.number, "online" if each.online else "offline", removable=each.can_offline)
            for each in self.agent.blocks()
        )
        return Facts((), (), MemoryBlocks(self.agent.block_size(), tuple(blocks)), source=self.name)

    def log(self) -> tuple[str, ...]:
        """Nothing: the guest's log stays with the guest."""
        return ()


def _agent_refusal(step: StepKind) -> str | None:
    if isinstance(step, schema.Online) and step.zone != "auto":
        return "an agent brings blocks online where the guest's policy puts them"
    return block_refusal(step)


def _device_refusal(step: StepKind) -> str | None:
    if isinstance(step, schema.Plug):
        if step.driver != "dimm":
            return f"driver {step.driver!r} adds memory of a device that the VM was started with"
        if step.at is not None or step.memmap_on_memory is not None or step.online is not None:
            return "the platform chooses the address, the guest the zone and where struct pages lie"
    if isinstance(step, schema.Resize) and step.faults:
        return "its device makes no faults"
    if isinstance(step, schema.Eject) and not step.enabled:
        return "the attribute that forbids ejecting is the guest's"
    return None
