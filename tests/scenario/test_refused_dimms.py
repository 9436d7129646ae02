"""DIMMs that the kernel refuses, and memory that is there: what real machines went on with."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Any

import msgspec
import pytest

from captures import archive, facts
from memhp.scenario.load import load
from memhp.scenario.result import Run
from memhp.scenario.schema import Scenario
from memhp.target.model.run import rehearse_scenario

BIG = {"6.12": "x86_64-6.12.117+deb13-cloud-amd64-bigram-70G", "6.1": "x86_64-6.1.0-56-cloud-amd64-bigram-70G"}


def rehearsed(machine: dict[str, Any], *steps: dict[str, Any]) -> Run:
    return rehearse_scenario(msgspec.convert({"machine": machine, "steps": list(steps)}, Scenario))[0]


def plug(size: str, **named: Any) -> dict[str, Any]:
    return {"do": "plug", "size": size, **named}


def complaints(run: Run) -> list[str]:
    return [entry.text for step in run.steps for entry in step.log if entry.text.endswith("add_memory failed")]


@pytest.mark.parametrize(("release", "count"), [("6.12", 3), ("6.1", 2)])
def test_a_refused_dimm_keeps_its_place_and_newer_kernels_try_it_again(release: str, count: int) -> None:
    """QEMU's record and the kernel's log of the same steps: blocks are of 2 GiB, and 512 MiB are none."""
    name = BIG[release]
    refused = plug("512M", expect="EINVAL"), plug("4G", expect="EINVAL")
    run = rehearsed({"source": str(archive(name))}, plug("8G"), *refused)
    assert run.ok
    real = facts(name, "3-dimm-4G")
    assert real.qemu is not None
    assert real.log is not None
    assert complaints(run) == [line.text for line in real.log.lines if line.text.endswith("add_memory failed")]
    assert len(complaints(run)) == count
    starts = {device.addr for device in real.qemu.devices}
    assert f"start {max(starts):#x}, size 0x100000000" in run.steps[-1].outcome.reason


def test_a_refused_dimm_can_be_ejected_and_its_place_is_free_again() -> None:
    name = BIG["6.12"]
    run = rehearsed(
        {"source": str(archive(name))}, plug("8G"), plug("512M", expect="EINVAL"), {"do": "eject"}, plug("4G")
    )
    assert run.ok
    assert [block.start for block in run.steps[-1].blocks_after][-1] == 0x1400000000


def test_where_a_failed_add_left_something_the_next_try_adds_nothing_and_says_so() -> None:
    """``acpi_memory_enable_device()`` takes -EEXIST for well: a real guest showed it (oom-split-x86, second DIMM)."""
    machine = {"preset": "x86-vm", "memory": "1G"}
    hog = {"do": "allocate", "size": "820M", "kind": "kernel"}
    run = rehearsed(machine, hog, plug("16G", expect="ENOMEM"), {"do": "free"}, plug("1G"))
    assert all(step.as_expected for step in run.steps)
    (note,) = run.steps[-1].notes
    assert note.startswith("the DIMM at 0x100000000 was tried again: nothing was added")
    assert sum(block.size for block in run.steps[-1].blocks_after if block.state == "offline") == 1 << 30
    older = rehearsed({**machine, "profile": "6.1"}, hog, plug("16G", expect="ENOMEM"), {"do": "free"}, plug("1G"))
    assert older.steps[-1].notes == []


@pytest.mark.parametrize("driver", ["dimm", "kmem", "virtio_mem"])
def test_memory_that_is_there_already_cannot_be_added(driver: str) -> None:
    """``register_memory_resource()``: -EEXIST."""
    run = rehearsed({"preset": "x86-vm"}, plug("256M", at="1G", driver=driver, expect="EEXIST"))
    assert run.ok
    assert run.steps[0].outcome.place == "mm/memory_hotplug.c:register_memory_resource"
    assert run.steps[0].blocks_after == run.steps[0].blocks_before


def test_a_domain_that_firmware_does_not_name_is_where_boot_memory_is() -> None:
    """SRAT has domains 0 and 2 only."""
    name = "x86_64-6.12.117+deb13-cloud-amd64-dimm-memoryless-node"
    run = rehearsed({"source": str(archive(name))}, plug("128M", node=1), plug("128M", node=2))
    assert run.ok
    assert {zone.node for zone in run.steps[0].zones if zone.zone == "Movable" and zone.present} == {0}
    assert {zone.node for zone in run.steps[1].zones if zone.zone == "Movable" and zone.present} == {0, 1}


def test_a_scenario_finds_its_machine_from_its_own_folder_on(tmp_path: Any) -> None:
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines" / "one.tar.xz").symlink_to(archive(BIG["6.12"]))
    (tmp_path / "scenarios").mkdir()
    file = tmp_path / "scenarios" / "a.toml"
    file.write_text('[machine]\nsource = "../machines/one.tar.xz"\n')
    assert rehearse_scenario(load(file))[0].ok


def test_a_refused_dimm_that_is_ejected_after_a_reboot_is_tried_no_more() -> None:
    """Blocks are of 2 GiB, and 512 MiB are none: the kernel that boots refuses it as the one before did."""
    small = plug("512M", expect="EINVAL")
    run = rehearsed(
        {"preset": "x86-vm", "memory": "66G"}, small, {"do": "reboot", "expect": "EINVAL"}, {"do": "eject"}, plug("4G")
    )
    assert all(step.as_expected for step in run.steps)
    assert not [entry for entry in run.steps[-1].log if entry.text.endswith("acpi_memory_enable_device() error")]
