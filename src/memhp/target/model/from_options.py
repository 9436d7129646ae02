"""A scenario without a file: a machine, some sizes to plug, and what to do with them."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from pathlib import Path
from typing import Any

import msgspec

from memhp.errors import BadInput, one_of
from memhp.linux.state import Kernel
from memhp.scenario.presets import PRESETS
from memhp.scenario.result import Run
from memhp.scenario.schema import MachineText, Plug, Scenario, StepKind, Unplug
from memhp.target.model.run import Ended, Progress, rehearse_scenario

WHERE = "command line"
_KEY = re.compile(rf"{WHERE}: (machine\.(?:step|qemu|memory|profile)|machine|steps)\b(.*)")
_OPTIONS = {
    "machine.step": "--step",
    "machine.qemu": "--qemu",
    "machine.memory": "--memory",
    "machine.profile": "--profile",
    "machine": "--machine",
    "steps": "--plug",
}
"""The options that say what these keys of a scenario say."""


def quick_scenario(
    source: str, step: str | None, plug: tuple[str, ...], driver: str, online: str | None, *, unplug: bool
) -> Scenario:
    """The scenario of ``--machine SOURCE --plug SIZE … --online ZONE --unplug``.

    `source` is a preset's name or whatever :mod:`memhp.target.seen.sources` can read. Raises :class:`BadInput` for one
    that is neither.
    """
    if source not in PRESETS and not Path(source).exists():
        text = f"no file, no folder and no preset {source!r}"
        raise BadInput(text, where="--machine", fix=one_of(source, PRESETS))
    machine = MachineText(preset=source, step=step) if source in PRESETS else MachineText(source=source, step=step)
    steps = _steps(plug, driver, online, unplug=unplug)
    return Scenario(machine=machine, steps=steps, title=f"{source}: plug {', '.join(plug)}" if plug else source)


def qemu_scenario(command: str, plug: tuple[str, ...], driver: str, online: str | None, *, unplug: bool) -> Scenario:
    """The scenario of ``--qemu 'COMMAND LINE'`` with the same options."""
    machine = MachineText(qemu=command)
    return Scenario(machine=machine, steps=_steps(plug, driver, online, unplug=unplug), title="a machine of QEMU")


def with_machine(scenario: Scenario, *, memory: str | None, profile: str | None) -> Scenario:
    """The scenario with other RAM at boot, or another kernel, where an option says so."""
    told = {name: text for name, text in (("memory", memory), ("profile", profile)) if text is not None}
    return msgspec.structs.replace(scenario, machine=msgspec.structs.replace(scenario.machine, **told))


def _steps(plug: tuple[str, ...], driver: str, online: str | None, *, unplug: bool) -> list[StepKind]:
    """What ``--plug SIZE … --driver DRIVER --online ZONE --unplug`` say."""
    options: dict[str, Any] = {"driver": driver, "online": online}
    steps: list[StepKind] = [msgspec.convert({"do": "plug", "size": size, **options}, Plug) for size in plug]
    if unplug:
        steps.extend(Unplug() for _ in plug)
    return steps


def _option(key: str, rest: str, scenario: Scenario) -> str:
    """The option that says what a key does, with the option of QEMU where the fault is in one."""
    if scenario.machine.qemu is not None and key in ("machine", "machine.qemu"):
        return _OPTIONS["machine.qemu"] + (rest if key == "machine.qemu" else "")
    return _OPTIONS[key]


def rehearse_quick(
    scenario: Scenario, *, progress: Progress | None = None, tables: bool = False, ended: Ended | None = None
) -> tuple[Run, Kernel]:
    """Rehearse a scenario of :func:`quick_scenario`. Raises :class:`BadInput` that names options instead of keys."""
    try:
        return rehearse_scenario(scenario, where=WHERE, progress=progress, tables=tables, ended=ended)
    except BadInput as error:
        match = _KEY.fullmatch(error.where)
        where = _option(match[1], match[2], scenario) if match else error.where
        raise BadInput(error.message, where=where, fix=error.fix) from error
