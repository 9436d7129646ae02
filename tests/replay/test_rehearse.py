"""``memhp rehearse`` on real machines: taken up at any moment, it comes to the next one, and every law holds."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from typing import get_args

import pytest

from captures import archive, facts, neighbours
from memhp.errors import BadInput
from memhp.facts.compare import STABLE, Value, named_facts
from memhp.facts.derive import derive
from memhp.facts.memory_blocks import MemoryBlocks
from memhp.facts.observed import Facts
from memhp.linux.config import OnlineType
from memhp.linux.init import MachineSpec
from memhp.linux.state import Kernel
from memhp.scenario.result import Run
from memhp.scenario.schema import Allocate, MachineText, Plug, Scenario, StepKind
from memhp.target.model.replay import steps_between
from memhp.target.model.run import rehearse, rehearse_scenario
from memhp.target.seen.assumptions import PLACES
from memhp.target.seen.sources import facts_spec
from memhp.units import GiB
from replay.unequal import leaf_outlives_memory, unnamed

ONLINE_TYPES: tuple[OnlineType, ...] = get_args(OnlineType)

DIMM = "x86_64-6.12.107+deb13-cloud-amd64-pc-dimm-default"
VIRTIO = "arm64-6.12.107+deb13-arm64-virtio-mem-default"


def machine(name: str, step: str) -> MachineText:
    return MachineText(source=str(archive(name)), step=step)


def between(name: str, step: str, later: str) -> list[StepKind]:
    """The steps that led from one moment to the next.

    Pages that hold a virtio-mem device are those in use already, where there are some.
    """
    before, after = facts(name, step), facts(name, later)
    (auto_online,) = (each for each in ONLINE_TYPES if each == before.memory.auto_online)
    return steps_between(before, after, auto_online)


def taken(name: str, step: str, steps: list[StepKind]) -> tuple[Run, Kernel]:
    try:
        return rehearse_scenario(Scenario(machine=machine(name, step), steps=steps))
    except BadInput as error:
        assert "is not all free" in error.message
        others: list[StepKind] = [each for each in steps if not isinstance(each, Allocate)]
        return rehearse_scenario(Scenario(machine=machine(name, step), steps=others))


@pytest.mark.parametrize(("name", "step", "later"), neighbours())
def test_from_every_moment_the_steps_taken_lead_to_the_next(name: str, step: str, later: str) -> None:
    run, k = taken(name, step, between(name, step, later))
    assert [each.outcome.reason for each in run.steps if not each.as_expected] == []
    observed = facts(name, later)
    leaf_stays = leaf_outlives_memory(k, [facts(name, step)], observed)
    assert {law.law for law in run.laws if not law.held} <= ({"vmemmap"} if leaf_stays else set())
    real, mine = named_facts(observed, STABLE), named_facts(derive(k), STABLE)
    unequal = {fact for fact in real.keys() | mine.keys() if real.get(fact) != mine.get(fact)}
    if kept_where_assumed(run):
        unequal = {fact for fact in unequal if not more_than_real(fact, real.get(fact), mine.get(fact))}
    surprising, _ = unnamed(observed, unequal)
    assert {fact: (real.get(fact), mine.get(fact)) for fact in surprising} == {}


def kept_where_assumed(run: Run) -> bool:
    """Whether a device kept memory that is in use, and what lies where in it nobody said."""
    return any(step.outcome.result == "EBUSY" and PLACES in step.outcome.rests_on for step in run.steps)


def more_than_real(fact: str, real: Value, mine: Value) -> bool:
    """Whether a zone manages more pages than the real one: what it uses lies in more sub-blocks."""
    return fact.endswith(" managed") and isinstance(real, int) and isinstance(mine, int) and mine > real


def places(name: str, *steps: Plug) -> tuple[Run, list[int]]:
    """A rehearsal from the first moment of a capture, and where its blocks above boot memory begin."""
    run, k = rehearse_scenario(Scenario(machine=machine(name, "0-before"), steps=list(steps)))
    top = max(span.end for span in k.boot_memory) << k.config.page_shift
    return run, [block.start for block in run.state.blocks if block.start >= top]


def test_a_dimm_is_plugged_clear_of_devices_and_virtio_mem_within_its_own() -> None:
    region = facts(VIRTIO, "0-before").boot_log
    assert region is not None
    (device,) = region.virtio_mem
    assert places(VIRTIO, Plug(size="512M"))[1] == [device.span.end]
    assert places(VIRTIO, Plug(size="512M", driver="virtio_mem"))[1] == [device.span.start]
    both = places(VIRTIO, Plug(size="128M", driver="virtio_mem"), Plug(size="128M", driver="virtio_mem"))
    assert both[0].state.iomem.count("  80000000-8fffffff : System RAM (virtio_mem)") == 1


def test_a_dimm_comes_where_qemu_put_it() -> None:
    qemu = facts(DIMM, "1-plugged").qemu
    assert qemu is not None
    (dimm,) = qemu.devices
    assert places(DIMM, Plug(size=dimm.size))[1] == [dimm.addr]


def seen(memory: MemoryBlocks) -> tuple[MachineSpec, Facts]:
    """The first moment of a machine, with other memory blocks than it showed."""
    observed = facts(DIMM, "0-before")
    return facts_spec(observed, machine(DIMM, "0-before")), replace(observed, memory=memory)


def test_a_machine_whose_blocks_the_model_would_size_otherwise_is_refused() -> None:
    spec, observed = seen(replace(facts(DIMM, "0-before").memory, block_size=2 * GiB))
    with pytest.raises(BadInput, match="memory blocks are 2 GiB on the machine, and 128 MiB as"):
        rehearse(spec, [], observed=observed)


def test_a_state_that_no_boot_of_the_model_leads_to_is_refused() -> None:
    memory = facts(DIMM, "0-before").memory
    first, *others = memory.blocks
    spec, observed = seen(replace(memory, blocks=(replace(first, state="offline", valid_zones=()), *others)))
    with pytest.raises(BadInput, match="memory0 has pages of several zones"):
        rehearse(spec, [], observed=observed)
