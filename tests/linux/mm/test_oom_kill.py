"""A page table of the direct map that cannot be had: what a guest did, told to take far too large a DIMM."""
# SPDX-License-Identifier: GPL-2.0-or-later

from captures import archive
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
