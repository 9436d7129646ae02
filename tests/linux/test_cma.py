"""What kernels of Debian reserve for the contiguous memory allocator, and where, as the captures of them have it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from dataclasses import replace

import pytest

from captures import captures, facts, open_capture
from memhp.linux.init import start_kernel
from memhp.linux.mmzone import MigrateType
from memhp.linux.profiles import profile
from memhp.scenario.boot import with_usual_cma
from memhp.scenario.machine import machine_spec
from memhp.scenario.schema import Boot, MachineText
from memhp.spans import Span
from memhp.target.seen.inferred import complete
from memhp.target.seen.sources import facts_spec
from memhp.units import GiB, MiB

DEBIAN = re.compile(r".*\+deb\d+-.*|6\.1\.0-\d+-.*")
OF_DEBIAN = [
    name
    for name in captures()
    if (log := facts(name, next(iter(open_capture(name)))).boot_log) is not None
    and log.available is not None
    and DEBIAN.fullmatch(log.release or "")
]
MOVES = {"arm64": 2 * MiB, "riscv64": 2 * MiB, "loongarch64": 0}
"""How far the place may be from that of the model, by architecture: where other early allocations lie is not told. On
LoongArch only bounce buffers come first, and ``/proc/iomem`` tells what firmware left of the low bank.
"""


@pytest.mark.parametrize("name", OF_DEBIAN)
def test_a_kernel_reserves_what_debian_builds_it_to(name: str) -> None:
    seen = facts(name, next(iter(open_capture(name))))
    log = seen.boot_log
    assert log is not None and log.available is not None
    spec = facts_spec(complete(seen, MachineText()), MachineText())
    usual = with_usual_cma(replace(spec.config, cma=None)).cma
    told = sum(area.size for area in log.cma)
    assert told == log.available.parts.get("cma-reserved", 0) == (usual.size if usual is not None else 0)
    if usual is None or spec.config.arch not in MOVES:
        return
    k = start_kernel(replace(spec, cma=(), config=replace(spec.config, cma=usual)))
    blocks = [span for zone in k.zones() for *span, kind in zone.migratetypes if kind is MigrateType.CMA]
    (area,) = (Span(*span).scaled(spec.config.page_shift) for span in blocks)
    assert area.size == told and abs(area.start - log.cma[0].start) <= MOVES[spec.config.arch]
    assert sum(zone.cma_pages for zone in k.zones()) == sum(zone.cma or 0 for zone in seen.zones)


@pytest.mark.parametrize(
    ("preset", "release", "size"),
    [("arm64-vm", "6.1", 64), ("arm64-16k-vm", "6.12", 64), ("arm64-64k-vm", "6.12", 0), ("riscv-vm", "6.12", 0),
     ("riscv-vm", "7.2", 128), ("loongarch-vm", "7.2", 128), ("x86-vm", "7.2", 0)],
)  # fmt: skip
def test_a_described_machine_reserves_as_much(preset: str, release: str, size: int) -> None:
    k = start_kernel(machine_spec(MachineText(preset=preset, profile=profile(release).name)))
    assert sum(zone.cma_pages for zone in k.zones()) * k.config.page_size == size * MiB


def test_the_command_line_says_otherwise() -> None:
    for cma, found in (("0", 0), ("32M", 32 * MiB)):
        k = start_kernel(machine_spec(MachineText(preset="arm64-vm", boot=Boot(cma=cma))))
        assert sum(zone.cma_pages for zone in k.zones()) * k.config.page_size == found
        assert not any("Failed to reserve" in line.text for line in k.hw.log_lines)


def test_on_arm64_it_lies_below_4_gib() -> None:
    """As a guest of 7.2.13 with 6 GiB said: ``cma: Reserved 64 MiB at 0x00000000fc000000``."""
    k = start_kernel(machine_spec(MachineText(preset="arm64-vm", memory="6G", profile="linux-7.2")))
    assert k.zone_of((4 * GiB - 64 * MiB) >> 12) is k.zone_of((4 * GiB - 4096) >> 12)
    assert any("Reserved 64 MiB at 0x00000000fc000000" in line.text for line in k.hw.log_lines)


@pytest.mark.parametrize(
    ("machine", "start"),
    [
        (MachineText(preset="loongarch-vm", memory="2G"), 2 * GiB),
        (MachineText(preset="loongarch-4k-vm", memory="2G"), 2 * GiB),
        (MachineText(qemu="qemu-system-loongarch64 -m 2G -bios QEMU_EFI.fd", profile="linux-7.2"), 2 * GiB),
        (MachineText(qemu="qemu-system-loongarch64 -m 2G", profile="linux-7.2"), 0x800_0000),
    ],
)
def test_on_loongarch_it_is_the_lowest_place_behind_bounce_buffers(machine: MachineText, start: int) -> None:
    """``cma: Reserved 128 MiB at 0x0000000080000000`` of all guests: image and 64 MiB of bounce buffers lie lowest, and
    EDK2 cuts up what is left of the low 256 MiB. Without it they have room, at the next pageblock of 32 MiB.
    """
    k = start_kernel(machine_spec(machine))
    assert any(f"Reserved 128 MiB at {start:#018x}" in line.text for line in k.hw.log_lines)
