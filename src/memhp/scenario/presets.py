"""Machines that a scenario can name: the virtual and real machines that people plug memory into."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass

from memhp.errors import BadInput, one_of
from memhp.linux.arch.registry import Arch, port
from memhp.units import GiB, KiB, MiB, TiB


@dataclass(frozen=True)
class Preset:
    """A machine by default: everything in it can be overridden in the scenario. Sizes in bytes.

    `ram` are the ranges that a boot memory of `memory` bytes is spread over, as (start, room) in the order filled;
    the last has room for all the rest. Without any it is one range, where the architecture's usual machine has it.
    """

    name: str
    title: str
    arch: Arch
    profile: str
    page_size: int
    va_bits: int
    memory: int
    ram: tuple[tuple[int, int], ...]
    reserved: int
    cpus: int = 2
    nodes: int = 1
    hypervisor: bool = True
    max_memory: int | None = None

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """Where RAM may be: `ram`, or one range without end."""
        return self.ram or ((port(self.arch).ram_start, 1 << 52),)

    def spread(self, memory: int) -> list[tuple[int, int]]:
        """Boot RAM of `memory` bytes as (start, size) ranges of this machine."""
        ranges = []
        for start, room in self.ranges:
            size = min(memory, room)
            if size:
                ranges.append((start, size))
            memory -= size
        return ranges


_PC = ((0x1000, 0x9E000), (1 * MiB, 3 * GiB - 1 * MiB), (4 * GiB, 1 << 52))
"""A PC: the first megabyte has a hole for legacy devices, PCI lies below 4 GiB."""

_LOONGARCH = ((0, 256 * MiB), (2 * GiB, 1 << 52))
"""A LoongArch machine: devices lie between 256 MiB and 2 GiB."""

_ALL = [
    Preset("x86-vm", "x86-64 virtual machine (q35)", "x86_64", "linux-6.12", 4 * KiB, 48, 4 * GiB, _PC, 96 * MiB),
    Preset(
        "x86-vm-la57",
        "x86-64 virtual machine with 5-level paging",
        "x86_64",
        "linux-6.12",
        4 * KiB,
        57,
        4 * GiB,
        _PC,
        96 * MiB,
    ),
    Preset(
        "x86-server",
        "x86-64 server without a hypervisor",
        "x86_64",
        "linux-6.12",
        4 * KiB,
        57,
        256 * GiB,
        _PC,
        256 * MiB,
        cpus=64,
        hypervisor=False,
    ),
    Preset(
        "x86-64tib",
        "x86-64 server with 64 TiB",
        "x86_64",
        "linux-6.12",
        4 * KiB,
        57,
        64 * TiB,
        _PC,
        1 * GiB,
        cpus=448,
        hypervisor=False,
    ),
    Preset(
        "arm64-vm",
        "arm64 virtual machine, 4K pages",
        "arm64",
        "linux-6.12",
        4 * KiB,
        48,
        4 * GiB,
        (),
        96 * MiB,
    ),
    Preset(
        "arm64-16k-vm",
        "arm64 virtual machine, 16K pages",
        "arm64",
        "linux-6.12",
        16 * KiB,
        48,
        4 * GiB,
        (),
        96 * MiB,
    ),
    Preset(
        "arm64-64k-vm",
        "arm64 virtual machine, 64K pages",
        "arm64",
        "linux-6.12",
        64 * KiB,
        52,
        8 * GiB,
        (),
        128 * MiB,
    ),
    Preset(
        "riscv-vm",
        "riscv64 virtual machine, Sv48",
        "riscv64",
        "linux-6.12",
        4 * KiB,
        48,
        4 * GiB,
        (),
        64 * MiB,
    ),
    Preset(
        "riscv-vm-sv39",
        "riscv64 virtual machine, Sv39",
        "riscv64",
        "linux-6.12",
        4 * KiB,
        39,
        4 * GiB,
        (),
        64 * MiB,
    ),
    Preset(
        "riscv-vm-sv57",
        "riscv64 virtual machine, Sv57",
        "riscv64",
        "linux-6.12",
        4 * KiB,
        57,
        4 * GiB,
        (),
        64 * MiB,
    ),
    Preset(
        "loongarch-vm",
        "LoongArch virtual machine, 16K pages",
        "loongarch64",
        "linux-7.2",
        16 * KiB,
        47,
        4 * GiB + 256 * MiB,
        _LOONGARCH,
        96 * MiB,
    ),
    Preset(
        "loongarch-4k-vm",
        "LoongArch virtual machine, 4K pages",
        "loongarch64",
        "linux-7.2",
        4 * KiB,
        48,
        4 * GiB + 256 * MiB,
        _LOONGARCH,
        96 * MiB,
    ),
]

USUAL_ARCH = _ALL[0].arch
"""What a machine is taken for where nothing tells: of this architecture there are most."""

PRESETS = {preset.name: preset for preset in _ALL}


def preset(name: str, *, where: str = "machine.preset") -> Preset:
    """A preset by name. Raises :class:`BadInput` with the names that there are."""
    if name not in PRESETS:
        raise BadInput(f"no preset {name!r}", where=where, fix=one_of(name, PRESETS))
    return PRESETS[name]


def preset_for(arch: Arch, page_size: int | None, va_bits: int | None) -> Preset:
    """The preset that is nearest to a described machine: same architecture, then page size, then address width."""
    fits = [p for p in _ALL if p.arch == arch]
    return min(fits, key=lambda p: (page_size not in (None, p.page_size), va_bits not in (None, p.va_bits)))
