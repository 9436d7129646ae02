"""Free memory in lock-step: how far a real machine's change may be from the model's, and what is beyond that."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import pytest
from msgspec import convert

from memhp.conform.lockstep import FREE, Lockstep, conform
from memhp.errors import BadInput
from memhp.facts.observed import Facts
from memhp.facts.zoneinfo import Pageset
from memhp.scenario import schema
from memhp.scenario.machine import machine_spec
from memhp.scenario.schema import MachineText, StepKind
from memhp.target.guest.agent import GuestLost, GuestSlow
from memhp.target.model.target import ModelTarget
from memhp.target.target import Done
from memhp.units import MiB


class Moody:
    """A machine on which tasks that nobody knows of take memory, and CPUs keep some in lists of their own."""

    name = "moody"

    def __init__(self) -> None:
        self.model = ModelTarget.booted(machine_spec(MachineText(preset="x86-vm", memory="2G")))
        self.taken = 0
        self.kept = 0
        self.pool = 0

    def refusal(self, step: StepKind) -> str | None:
        return None

    def carry_out(self, step: StepKind) -> Done:
        return self.model.carry_out(step)

    def facts(self) -> Facts:
        facts = self.model.facts()
        if self.pool:
            limit = facts.meminfo["CommitLimit"] - 2048
            facts = replace(facts, meminfo={**facts.meminfo, "CommitLimit": limit, "Hugetlb": self.pool})
        page = self.model.session.k.config.page_size
        most = max(facts.zones, key=lambda zone: zone.free)
        lists = (Pageset(cpu=0, count=self.kept // page, high=0, batch=0),)
        less = replace(most, free=most.free - (self.taken + self.kept) // page, pagesets=lists)
        return replace(facts, zones=tuple(less if zone is most else zone for zone in facts.zones))

    def log(self) -> tuple[str, ...]:
        return self.model.log()


@pytest.mark.parametrize(
    ("taken", "kept", "equal"),
    [
        (23 * MiB, 0, True),
        (26 * MiB, 0, False),
        (-26 * MiB, 0, False),
        (0, 60 * MiB, True),
        (26 * MiB, 60 * MiB, False),
    ],
)
def test_free_memory_is_that_of_the_model_within_24_mib_whatever_cpus_keep(taken: int, kept: int, equal: bool) -> None:
    real = Moody()
    both = Lockstep(real)
    real.taken, real.kept = taken, kept
    both.carry_out(schema.Set(parameter="auto_online_blocks", to="online"))
    differing = [each for each in both.found.details if each.fact == FREE and each.verdict == "differing"]
    assert (not differing) is equal


@pytest.mark.parametrize("pool", [4096, 0])
def test_the_commit_limit_is_compared_unless_there_was_a_pool_of_huge_pages(pool: int) -> None:
    """Which of the pool's pages go with a memory block no fact foretells."""
    real = Moody()
    both = Lockstep(real)
    real.pool = pool or 1
    if not pool:
        facts = real.facts

        def without() -> Facts:
            return replace(facts(), meminfo={**facts().meminfo, "Hugetlb": 0})

        real.facts = without  # type: ignore[method-assign]
    both.carry_out(schema.Plug(size=128 * MiB, driver="dimm"))
    (limit,) = (one for one in both.found.details if one.fact == "/proc/meminfo CommitLimit")
    assert limit.verdict == ("incomparable" if pool else "differing")


class Mortal(Moody):
    """A machine that is lost at its second step, or of which that turns out to be none."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.steps = 0

    def carry_out(self, step: StepKind) -> Done:
        self.steps += 1
        if self.steps == 2:
            raise self.error
        return super().carry_out(step)


LIFE = convert([{"do": "plug", "driver": "dimm", "size": "128M"}, {"do": "online"}, {"do": "offline"}], list[StepKind])


@pytest.mark.parametrize(
    ("error", "fact"),
    [(GuestLost("the guest is gone"), "the guest"), (BadInput("no such block", where="blocks"), "the step")],
)
def test_what_was_compared_is_kept_when_the_machine_is_lost_or_a_step_is_none(error: Exception, fact: str) -> None:
    real = Mortal(error)
    found = conform(real, LIFE)
    (lost,) = (detail for detail in found.details if detail.verdict == "differing")
    assert (lost.fact, lost.step.split("-")[0]) == (fact, "2")
    assert str(error) in f"{lost.expected} {lost.got}"
    assert found.equal > 100
    assert real.steps == 2, "nothing is done after it"


def test_a_machine_that_is_only_too_slow_is_no_difference() -> None:
    with pytest.raises(GuestSlow):
        conform(Mortal(GuestSlow("no answer in 30 s")), LIFE)
