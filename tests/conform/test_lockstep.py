"""Free memory in lock-step: how far a real machine's change may be from the model's, and what is beyond that."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import pytest

from memhp.conform.lockstep import FREE, Lockstep
from memhp.facts.observed import Facts
from memhp.scenario import schema
from memhp.scenario.machine import machine_spec
from memhp.scenario.schema import MachineText, StepKind
from memhp.target.model.target import ModelTarget
from memhp.target.target import Done
from memhp.units import KiB, MiB


class Moody:
    """A machine on which tasks that nobody knows of take memory, or give it back."""

    name = "moody"

    def __init__(self) -> None:
        self.model = ModelTarget.booted(machine_spec(MachineText(preset="x86-vm", memory="2G")))
        self.taken = 0

    def refusal(self, step: StepKind) -> str | None:
        return None

    def carry_out(self, step: StepKind) -> Done:
        return self.model.carry_out(step)

    def facts(self) -> Facts:
        facts = self.model.facts()
        meminfo = {**facts.meminfo, "MemFree": facts.meminfo["MemFree"] - self.taken // KiB}
        return replace(facts, meminfo=meminfo)

    def log(self) -> tuple[str, ...]:
        return self.model.log()


@pytest.mark.parametrize(
    ("step", "taken", "equal"),
    [
        (schema.Set(parameter="auto_online_blocks", to="online"), 23 * MiB, True),
        (schema.Set(parameter="auto_online_blocks", to="online"), 26 * MiB, False),
        (schema.Set(parameter="auto_online_blocks", to="online"), -26 * MiB, False),
        (schema.Plug(size="1G", online="movable"), 80 * MiB, True),
        (schema.Plug(size="1G", online="movable"), 90 * MiB, False),
    ],
)
def test_free_memory_may_be_as_far_from_the_models_as_caches_explain(step: StepKind, taken: int, equal: bool) -> None:
    real = Moody()
    both = Lockstep(real)
    real.taken = taken
    both.carry_out(step)
    differing = [each for each in both.found.details if each.fact == FREE and each.verdict == "differing"]
    assert (not differing) is equal
    assert FREE.endswith("within 24 MiB and 1/16 of what went on- or offline")
