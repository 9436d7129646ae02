"""RAM at boot behind the last address that a kernel maps: left, and shown or not in ``/proc/iomem``, as kernels do."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.check import check_all
from memhp.cli.main import main
from memhp.linux.init import MachineSpec, start_kernel
from memhp.linux.kernel.resource import iter_resources
from memhp.scenario.machine import machine_spec
from memhp.scenario.schema import MachineText
from memhp.target.model.run import machine_result
from memhp.units import GiB, KiB, TiB

FIRMWARE = 520 * KiB
"""Of the first page, from 640 KiB to 1 MiB, and tables of ACPI below 2 GiB."""


def spec(preset: str, memory: str) -> MachineSpec:
    return machine_spec(MachineText(preset=preset, memory=memory))


@pytest.mark.parametrize(
    ("preset", "memory", "taken", "left", "shown"),
    [
        # x86: e820_end_of_ram_pfn() cuts at max_arch_pfn, e820__reserve_resources() shows what firmware said
        ("x86-vm", "1P", 64 * TiB - 2 * GiB - FIRMWARE, 960 * TiB + 2 * GiB, 1024 * TiB - FIRMWARE),
        # riscv: setup_bootmem() caps memblock at KERN_VIRT_SIZE, 128 GiB with three levels
        ("riscv-vm-sv39", "256G", 128 * GiB, 128 * GiB, 128 * GiB),
    ],
)
def test_the_kernel_leaves_it(preset: str, memory: str, taken: int, left: int, shown: int) -> None:
    machine = spec(preset, memory)
    k = start_kernel(machine)
    found = machine_result(k, machine)
    assert sum(end - start for start, end, _ in found.ram) == taken
    assert found.ram_left == left
    assert sum(res.end + 1 - res.start for _, res in iter_resources(k.iomem_resource)) == shown
    assert not check_all(k)


def test_a_cpu_without_such_addresses_has_no_ram_there(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["rehearse", "--machine", "loongarch-vm", "--memory", "1P", "--plug", "1G"]) == 2
    assert "is beyond the last physical address of loongarch64, 0xffffffffffff" in capfd.readouterr().err


def test_the_head_of_a_report_tells_it(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["rehearse", "--machine", "riscv-vm-sv39", "--memory", "256G", "--plug", "1G"]) == 0
    assert "128 GiB of RAM (128 GiB more lies beyond what the kernel maps at boot)" in capfd.readouterr().out
