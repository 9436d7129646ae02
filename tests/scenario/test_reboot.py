"""What is plugged outlives a reboot, and what was done to it does not."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.errors import BadInput
from memhp.hw.memory import Use
from memhp.linux.init import start_kernel
from memhp.linux.mmzone import ZoneType
from memhp.linux.state import Kernel
from memhp.scenario import schema
from memhp.scenario.load import loads
from memhp.scenario.machine import machine_spec
from memhp.scenario.result import Run
from memhp.target.model.reboot import restart
from memhp.target.model.run import rehearse_scenario
from memhp.target.model.session import Session

MOVABLE = 'boot = { memhp_default_state = "online_movable" }'


def run(*steps: str, machine: str = "", preset: str = "x86-vm") -> tuple[Run, Kernel]:
    text = f'[machine]\npreset = "{preset}"\nmemory = "1G"\n{machine}\n'
    done, k = rehearse_scenario(loads(f"steps = [{', '.join(f'{{ {step} }}' for step in steps)}]\n{text}"))
    assert done.ok, [(step.outcome, step.breaches) for step in done.steps]
    return done, k


def blocks(k: Kernel) -> dict[int, str]:
    return {i: block.state for first, end, block in k.memory_blocks for i in range(first, end) if i >= 32}


def test_a_dimm_is_added_at_its_address_again_in_the_state_that_the_command_line_asks_for() -> None:
    _, k = run('do = "plug", size = "256M", online = "kernel"', 'do = "reboot"')
    assert blocks(k) == {32: "offline", 33: "offline"}
    _, k = run('do = "plug", size = "256M"', 'do = "offline"', 'do = "reboot"', machine=MOVABLE)
    assert blocks(k) == {32: "online", 33: "online"}
    assert k.nodes[0].zones[ZoneType.MOVABLE].managed == 256 << 8


def test_it_can_be_ejected_then_whoever_used_it_before() -> None:
    use = 'do = "allocate", size = "8M", kind = "kernel", at = "0x100400000"'
    refused = 'do = "eject", expect = "EBUSY"'
    _, k = run('do = "plug", size = "256M", online = "kernel"', use, refused, 'do = "reboot"', 'do = "eject"')
    assert blocks(k) == {} and not k.hw.memory.used(Use.KERNEL)


def test_virtio_mem_gets_to_the_requested_size_again() -> None:
    done, k = run(
        'do = "virtio-mem", size = "2G", requested = "512M"', 'do = "resize", to = "256M"', 'do = "reboot"',
        'do = "resize", to = "384M"', machine=MOVABLE,
    )  # fmt: skip
    rebooted = done.steps[2].devices
    assert [(each.requested, each.plugged) for each in rebooted] == [(256 << 20, 256 << 20)]
    assert len(blocks(k)) == 3


def test_a_namespace_is_in_device_dax_mode_again_and_no_ram() -> None:
    first = 'do = "dax", at = "8G", size = "1G", mode = "devdax"'
    done, k = run(first, 'do = "dax", mode = "kmem"', 'do = "reboot"')
    assert blocks(k) == {}
    assert "dax0.0 is devdax again" in done.steps[-1].notes[0]
    assert k.nodes[0].zones[ZoneType.DEVICE].spanned


def test_a_machine_that_died_lives_again() -> None:
    """A memory error in the kernel's own image."""
    steps: list[schema.StepKind] = [
        schema.Plug(size="128M"), schema.Poison(at="0x1000000", expect="BUG"), schema.Online(), schema.Reboot(),
        schema.Online(),
    ]  # fmt: skip
    machine = schema.MachineText(preset="x86-vm", memory="1G")
    done, k = rehearse_scenario(schema.Scenario(machine=machine, steps=steps))
    assert [step.outcome.result for step in done.steps] == ["ok", "BUG", "not run", "ok", "ok"]
    assert blocks(k) == {32: "online"}


def test_a_machine_that_nobody_says_how_to_boot_cannot() -> None:
    with pytest.raises(BadInput, match="cannot boot again"):
        restart(Session(start_kernel(machine_spec(schema.MachineText(preset="x86-vm", memory="1G")))))
