"""From a scenario, a preset, a capture or a sysroot to a machine that tools can work on."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path
from typing import NamedTuple

from memhp.errors import BadInput
from memhp.facts.observed import Facts
from memhp.linux.init import start_kernel
from memhp.scenario import schema
from memhp.scenario.error_keys import machine_keys
from memhp.scenario.from_options import quick_scenario
from memhp.scenario.load import load
from memhp.scenario.machine import machine_spec
from memhp.scenario.run import take_up
from memhp.scenario.session import Session
from memhp.scenario.sources import facts_spec, source_facts
from memhp.scenario.steps import title
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


def boot(machine: str, *, step: str | None = None, speed: float = 1.0) -> Booted:
    """The machine as the steps of its scenario leave it.

    `machine` is a scenario's file, or what ``rehearse --machine`` takes. Raises :class:`BadInput` for one that cannot
    be, and for a step that ends otherwise than the scenario expects.
    """
    scenario = load(Path(machine)) if machine.endswith(".toml") or machine == "-" else None
    if scenario is None:
        scenario = quick_scenario(machine, step, (), "dimm", None, unplug=False)
    elif step is not None:
        raise BadInput("a scenario names its own moment", where="--step", fix="write machine.step")
    session, observed = _session(scenario, machine)
    twin = Twin(session, speed=speed)
    for index, each in enumerate(scenario.steps):
        where = f"{machine}: steps[{index}]"
        outcome = twin.do(each, where=where)
        if outcome.result != each.expect:
            text = f"{title(each)!r} ended in {outcome.result}: {outcome.reason}"
            raise BadInput(text, where=where, fix=f'expected {each.expect}; write expect = "{outcome.result}"')
    seen = observed.cmdline.text if observed is not None and observed.cmdline is not None else CMDLINE
    return Booted(twin, seen, scenario.title or machine, cues(scenario.twin, where=machine))


def _session(scenario: schema.Scenario, where: str) -> tuple[Session, Facts | None]:
    if scenario.machine.source is None:
        with machine_keys(where):
            return Session(start_kernel(machine_spec(scenario.machine, where=where))), None
    observed = source_facts(scenario.machine, where=where)
    spec = facts_spec(observed, scenario.machine, where=where)
    with machine_keys(where):
        session = Session(start_kernel(spec))
    take_up(session, observed, where)
    return session, observed
