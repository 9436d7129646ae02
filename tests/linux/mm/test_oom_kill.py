"""A page table of the direct map that cannot be had: what a guest did, told to take far too large a DIMM."""
# SPDX-License-Identifier: GPL-2.0-or-later

from captures import archive
from memhp.linux.mm.users import spans_of
from memhp.scenario.schema import Allocate, MachineText, Plug, Scenario
from memhp.target.model.run import rehearse_scenario

GUEST = "arm64-6.12.117+deb13-cloud-arm64-oom-arm64-400G"


def test_the_guest_that_panicked_is_foretold_to() -> None:
    """The DIMM is 64 GiB here, and memory in use more by as much less as that takes.

    serial.txt: ``Kernel panic - not syncing: System is deadlocked on memory``, below ``__pgd_pgtable_alloc``."""
    machine = MachineText(source=str(archive(GUEST)), step="1-ballast-64M")
    ballast = Allocate(size="320M", kind="kernel")
    run, _ = rehearse_scenario(Scenario(machine=machine, steps=[ballast, Plug(size="64G")]))
    (_, step) = run.steps
    assert (step.outcome.result, step.outcome.reason) == ("PANIC", "System is deadlocked on memory")


def test_processes_are_killed_for_a_table_before_that_the_largest_first() -> None:
    """serial.txt: ``invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0``, ``Out of memory: Killed process``, once;
    and the guest was at its end only when nobody was left.
    """
    machine = MachineText(source=str(archive(GUEST)), step="1-ballast-64M")
    use = [Allocate(size="400M", tag="database"), Allocate(size="16M", tag="shell")]
    run, k = rehearse_scenario(Scenario(machine=machine, steps=[*use, Plug(size="16G", expect="OOM")]))
    step = run.steps[-1]
    assert (step.outcome.result, step.outcome.reason) == ("OOM", "killed database")
    assert not spans_of(k, "database") and spans_of(k, "shell")
    assert run.ok
