"""Where boot reserves memory for CMA, and what becomes of the memory block that it is in."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Any

import pytest

from memhp.check import check_all
from memhp.errors import BadInput
from memhp.linux.init import start_kernel
from memhp.linux.mmzone import MigrateType
from memhp.linux.state import Kernel
from memhp.scenario.load import loads
from memhp.scenario.machine import machine_spec
from memhp.scenario.schema import Boot, MachineText
from memhp.target.model.run import rehearse_scenario
from memhp.units import GiB, MiB


def booted(cma: str, **machine: Any) -> Kernel:
    k = start_kernel(machine_spec(MachineText(boot=Boot(cma=cma), **machine)))
    assert check_all(k) == []
    return k


def areas(k: Kernel) -> list[tuple[int, int]]:
    """Start and end of CMA's pageblocks, in bytes."""
    size = k.config.page_size
    runs = (run for zone in k.zones() for run in zone.migratetypes if run[2] is MigrateType.CMA)
    return [(start * size, end * size) for start, end, _ in runs]


@pytest.mark.parametrize(("memory", "start"), [("512M", 0x5A00_0000), ("1G", 0x7A00_0000)])
def test_arm64_reserves_below_what_devices_reach_as_its_guests_do(memory: str, start: int) -> None:
    """``cma: Reserved 64 MiB at …`` of Debian's 16K kernels: the captures dumpcortex-a76 and virtio-mem-default."""
    k = booted("64M", preset="arm64-vm", memory=memory, page_size="16K")
    assert areas(k) == [(start, start + 64 * MiB)]
    assert sum(zone.cma_pages for zone in k.zones()) * k.config.page_size == 64 * MiB


@pytest.mark.parametrize(
    ("cma", "lowest", "highest"),
    [
        ("64M", 4 * GiB, 4 * GiB + 64 * MiB),
        ("64M@1G", 1 * GiB, 1 * GiB + 64 * MiB),
        ("64M@0-4G", 0, 4 * GiB),
        ("64M@1G-2G", 1 * GiB, 2 * GiB),
    ],
)
def test_x86_reserves_from_4_gib_on_unless_it_is_told_where(cma: str, lowest: int, highest: int) -> None:
    """``cma_declare_contiguous_nid()``."""
    ((start, end),) = areas(booted(cma, preset="x86-vm", memory="8G"))
    assert end - start == 64 * MiB
    assert lowest <= start < end <= highest


def test_what_cannot_be_reserved_is_logged() -> None:
    k = booted("64M@16G", preset="x86-vm", memory="2G")
    assert areas(k) == []
    assert any("cma: Failed to reserve 64 MiB" in line.text for line in k.hw.log_lines)


@pytest.mark.parametrize(
    "machine",
    [
        '[machine]\npreset = "x86-vm"\nmemory = "8G"\nboot = { cma = "64M" }\n',
        '[machine]\nqemu = "-M q35 -m 8G -append cma=64M"\n',
    ],
)
def test_a_block_of_cma_does_not_go_offline_and_its_neighbour_does(machine: str) -> None:
    """``has_unmovable_pages()``: a pageblock of CMA is isolated for CMA only."""
    steps = 'steps = [{ do = "offline", blocks = [32], expect = "EBUSY" }, { do = "offline", blocks = [33] }]\n'
    run, k = rehearse_scenario(loads(steps + machine))
    assert run.ok, [step.outcome for step in run.steps]
    assert run.steps[0].outcome.reason == "failure to isolate range"
    assert check_all(k) == []


def test_a_size_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match="much"):
        booted("much", preset="x86-vm")


@pytest.mark.parametrize("profile", ["linux-6.12", "linux-7.2"])
def test_an_area_in_two_zones_is_no_area_and_its_pages_are_free(profile: str) -> None:
    """``cma_activate_area()``: ZONE_MOVABLE begins 4 MiB behind the first byte of the area, which is at 4 GiB."""
    machine = MachineText(preset="x86-vm", memory="4G", profile=profile, boot=Boot(kernelcore="2G", cma="64M"))
    plain = MachineText(preset="x86-vm", memory="4G", profile=profile, boot=Boot(kernelcore="2G"))
    k, without = (start_kernel(machine_spec(each)) for each in (machine, plain))
    assert check_all(k) == []
    movable = next(zone.start_pfn << 12 for zone in k.zones() if zone.name == "Movable")
    assert 4 * GiB < movable < 4 * GiB + 64 * MiB
    assert areas(k) == [] and sum(zone.cma_pages for zone in k.zones()) == 0
    assert any(line.text == "cma: CMA area reserved could not be activated" for line in k.hw.log_lines)
    managed, expected = (sum(zone.managed for zone in each.zones()) for each in (k, without))
    assert managed == expected
