"""From a scenario, a preset, a capture or a sysroot to a machine that tools can work on."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path
from typing import NamedTuple

from memhp.errors import BadInput
from memhp.scenario.load import load
from memhp.scenario.schema import Scenario
from memhp.scenario.titles import title
from memhp.target.model.from_options import quick_scenario
from memhp.target.model.run import boot as boot_session
from memhp.target.model.run import read_machine
from memhp.twin.machine import Twin
from memhp.twin.script import Cue, cues

CMDLINE = "console=hvc0"
"""The command line of a machine that was not seen with one."""


class Booted(NamedTuple):
    """A machine, its kernel's command line, what it is called, and what its scenario wants to happen meanwhile."""

    twin: Twin
    cmdline: str
    title: str
    cues: list[Cue]


def scenario_of(machine: str, step: str | None = None) -> Scenario:
    """What stands in a scenario's file, or a scenario without steps of what ``rehearse --machine`` takes.

    Raises :class:`BadInput` for one that cannot be.
    """
    if not machine.endswith(".toml") and machine != "-":
        return quick_scenario(machine, step, (), "dimm", None, unplug=False)
    if step is not None:
        raise BadInput("a scenario names its own moment", where="--step", fix="write machine.step")
    return load(Path(machine))


def boot(machine: str, *, step: str | None = None, speed: float = 1.0, scenario: Scenario | None = None) -> Booted:
    """The machine as the steps of its scenario leave it.

    `machine` is what :func:`scenario_of` takes, `scenario` what that gave, for whoever has asked already. Raises
    :class:`BadInput` for one that cannot be, and for a step that ends otherwise than the scenario expects.
    """
    scenario = scenario or scenario_of(machine, step)
    read = read_machine(scenario.machine, where=machine)
    twin = Twin(boot_session(read.spec, read.observed, machine), speed=speed)
    places = ["machine.qemu"] * len(read.devices) + [f"steps[{index}]" for index in range(len(scenario.steps))]
    for place, each in zip(places, [*read.devices, *scenario.steps], strict=True):
        where = f"{machine}: {place}"
        outcome = twin.do(each, where=where)
        if outcome.result != each.expect:
            text = f"{title(each)!r} ended in {outcome.result}: {outcome.reason}"
            raise BadInput(text, where=where, fix=f'expected {each.expect}; write expect = "{outcome.result}"')
    real = read.observed
    seen = real.cmdline.text if real is not None and real.cmdline is not None else CMDLINE
    return Booted(twin, seen, scenario.title or machine, cues(scenario.twin, where=machine))
