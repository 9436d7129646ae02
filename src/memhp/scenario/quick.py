"""A scenario without a file: a machine, some sizes to plug, and what to do with them."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Any

import msgspec

from memhp.scenario.presets import PRESETS
from memhp.scenario.schema import MachineText, Plug, Scenario, StepKind, Unplug


def quick_scenario(
    source: str, step: str | None, plug: tuple[str, ...], driver: str, online: str | None, *, unplug: bool
) -> Scenario:
    """The scenario of ``--machine SOURCE --plug SIZE … --online ZONE --unplug``.

    `source` is a preset's name or whatever :mod:`memhp.scenario.sources` can read.
    """
    machine = MachineText(preset=source) if source in PRESETS else MachineText(source=source, step=step)
    options: dict[str, Any] = {"driver": driver, "online": online}
    steps: list[StepKind] = [msgspec.convert({"do": "plug", "size": size, **options}, Plug) for size in plug]
    if unplug:
        steps.extend(Unplug() for _ in plug)
    return Scenario(machine=machine, steps=steps, title=f"{source}: plug {', '.join(plug)}" if plug else source)
