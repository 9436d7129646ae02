"""A host and a VM as targets: steps that only a platform can carry out are refused, what is named is done, alike."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fake_host import FakeHost, write_host
from memhp.errors import BadInput
from memhp.scenario import schema
from memhp.scenario.schema import StepKind
from memhp.target.host import HostTarget
from memhp.target.model.target import ModelTarget
from memhp.target.target import Target, check_steps
from memhp.target.vm_agent import GuestBlock
from memhp.target.vm_resize import Patience
from memhp.target.vm_target import VmTarget
from memhp.units import GiB, MiB
from target.vm_fakes import STATUS, FakeVm

BLOCK = 128 * MiB


def states(target: Target) -> dict[int, tuple[str, str | None]]:
    return {each.index: (each.state, each.zone) for each in target.facts().memory.blocks}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_host(tmp_path / "host")


def test_a_host_and_the_model_of_it_come_to_the_same_by_the_same_steps(root: Path) -> None:
    host = HostTarget(FakeHost(root))
    model = ModelTarget.like(host.facts())
    movable = [block for block, (_, zone) in states(host).items() if zone == "Movable"]
    first, last = movable[0], movable[-1]
    steps: list[StepKind] = [
        schema.Offline(blocks=[last, last - 1]),
        schema.Online(blocks=[last - 1], zone="movable"),
        schema.Offline(at=first * BLOCK, size=2 * BLOCK),
    ]
    for step in steps:
        assert host.carry_out(step).result == model.carry_out(step).result == "ok"
        assert states(host) == states(model)


def test_the_first_block_that_refuses_ends_a_step(root: Path) -> None:
    host = HostTarget(FakeHost(root, refuses=(5,)))
    assert host.carry_out(schema.Offline(blocks=[4, 5, 6])).result == "EBUSY"
    assert [states(host)[block][0] for block in (4, 5, 6)] == ["offline", "online", "online"]


ON_A_HOST: list[tuple[StepKind, str]] = [
    (schema.Plug(size="1G"), "by the host's platform"),
    (schema.Eject(), "by the host's platform"),
    (schema.Resize(to="1G"), "by the host's platform"),
    (schema.Poison(at="4G"), "by the host's platform"),
    (schema.Offline(), "name the blocks"),
    (schema.Online(at="4G"), "name the blocks"),
]


@pytest.mark.parametrize(("step", "why"), ON_A_HOST, ids=lambda each: repr(each)[:24])
def test_what_a_host_cannot_do_is_refused_before_anything_is_done(step: StepKind, why: str, root: Path) -> None:
    host = HostTarget(FakeHost(root))
    before = states(host)
    with pytest.raises(BadInput, match=why) as refused:
        check_steps(host, [schema.Offline(blocks=[4]), step], where="life.toml")
    assert "life.toml: steps[1]" in str(refused.value)
    assert states(host) == before


@pytest.mark.parametrize("step", [schema.Offline(blocks=[4, 7000]), schema.Offline(at=4 * BLOCK + 1, size=BLOCK)])
def test_blocks_that_are_not_there_and_parts_of_blocks_are_refused_whole(step: StepKind, root: Path) -> None:
    host = HostTarget(FakeHost(root))
    before = states(host)
    with pytest.raises(BadInput):
        host.carry_out(step)
    assert states(host) == before


class Agent:
    """A guest's agent whose kernel keeps one block."""

    def __init__(self) -> None:
        self.online = {0: True, 1: True, 2: False}

    def block_size(self) -> int:
        return BLOCK

    def blocks(self) -> list[GuestBlock]:
        return [GuestBlock(number=number, online=online) for number, online in self.online.items()]

    def change(self, numbers: Iterable[int], *, online: bool) -> dict[int, str]:
        answers = {number: "operation failed, errno 16" if number == 0 else "" for number in numbers}
        self.online |= {number: online for number, said in answers.items() if not said}
        return answers


def vm(*sizes: int, agent: Agent | None = None, **changes: Any) -> VmTarget:
    fake = FakeVm(sizes, msgspec.structs.replace(STATUS, **changes))
    return VmTarget(fake, agent, patience=Patience(timeout=0.05, quiet=0.05))


def test_a_vm_is_resized_and_plugged_through_its_monitor() -> None:
    target = vm(GiB)
    done = target.carry_out(schema.Resize(to="1G"))
    assert (done.result, done.step) == ("ok", schema.Resize(to="1G", device="vm0"))
    assert target.carry_out(schema.Plug(size="512M")).result == "ok"
    assert [device.size for device in target.vm.status().devices] == [GiB, 512 * MiB]
    stuck = target.carry_out(schema.Resize(to="0"))
    assert (stuck.result, bool(stuck.reason)) == (None, True)


def test_a_vms_blocks_go_through_its_guests_agent() -> None:
    target = vm(agent=Agent())
    assert target.carry_out(schema.Online(blocks=[2])).result == "ok"
    refused = target.carry_out(schema.Offline(blocks=[1, 0, 2]))
    assert (refused.result, refused.reason) == ("refused", "operation failed, errno 16")
    assert {block: state for block, (state, _) in states(target).items()} == {0: "online", 1: "offline", 2: "online"}


ON_A_VM: list[tuple[StepKind, Agent | None, str]] = [
    (schema.Offline(blocks=[1]), None, "no agent runs"),
    (schema.Offline(), Agent(), "name the blocks"),
    (schema.Online(blocks=[2], zone="movable"), Agent(), "where the guest's policy puts them"),
    (schema.Plug(size="1G", driver="kmem"), None, "driver 'kmem'"),
    (schema.Plug(size="1G", at="8G"), None, "the platform chooses the address"),
    (schema.Poison(at="4G"), None, "only what its monitor"),
]


@pytest.mark.parametrize(("step", "agent", "why"), ON_A_VM, ids=lambda each: repr(each)[:24])
def test_what_a_vm_cannot_do_is_refused(step: StepKind, agent: Agent | None, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        check_steps(vm(agent=agent), [step], where="life.toml")
