"""Machines that a scenario can name: the virtual and real machines that people plug memory into."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass

from memhp.errors import BadInput, one_of
from memhp.linux.arch.registry import Arch
from memhp.scenario.platforms import CLOUD_HYPERVISOR, FIRECRACKER, FIRECRACKER_1_12, PC, PLATFORMS, Platform
from memhp.units import GiB, KiB, MiB, TiB


@dataclass(frozen=True)
class Preset:
    """A machine by default: everything in it can be overridden in the scenario. Sizes in bytes."""

    name: str
    title: str
    arch: Arch
    platform: Platform
    va_bits: int
    memory: int = 4 * GiB
    reserved: int = 96 * MiB
    page_size: int = 4 * KiB
    profile: str = "linux-6.12"
    cpus: int = 2
    nodes: int = 1
    hypervisor: bool = True

    def spread(self, memory: int) -> list[tuple[int, int]]:
        """Boot RAM of `memory` bytes as Linux finds it on this machine: (start, size) ranges."""
        return [(start, end - start) for start, end, _ in self.platform.started_by_uefi().ram([(0, memory)])]


_Q35 = PLATFORMS["x86_64", "q35"]
_ARM = PLATFORMS["arm64", "virt"]
_RISCV = PLATFORMS["riscv64", "virt"]
_LOONGARCH = PLATFORMS["loongarch64", "virt"]

_ALL = [
    Preset("x86-vm", "x86-64 virtual machine (QEMU q35)", "x86_64", _Q35, 48),
    Preset("x86-vm-la57", "x86-64 virtual machine with 5-level paging", "x86_64", _Q35, 57),
    Preset("x86-pc-vm", "x86-64 virtual machine (QEMU pc, i440FX)", "x86_64", PLATFORMS["x86_64", "pc"], 48),
    Preset("x86-microvm", "x86-64 microvm of QEMU", "x86_64", PLATFORMS["x86_64", "microvm"], 48),
    Preset("x86-cloud-hypervisor", "x86-64 guest of Cloud Hypervisor", "x86_64", CLOUD_HYPERVISOR["x86_64"], 48),
    Preset("x86-firecracker", "x86-64 guest of Firecracker", "x86_64", FIRECRACKER["x86_64"], 48),
    Preset("x86-firecracker-1.12", "x86-64 guest of Firecracker before 1.13", "x86_64", FIRECRACKER_1_12, 48),
    Preset(
        "x86-server",
        "x86-64 server without a hypervisor",
        "x86_64",
        PC,
        57,
        256 * GiB,
        256 * MiB,
        cpus=64,
        hypervisor=False,
    ),
    Preset(
        "x86-64tib",
        "x86-64 server with 64 TiB",
        "x86_64",
        PC,
        57,
        64 * TiB,
        1 * GiB,
        cpus=448,
        hypervisor=False,
    ),
    Preset("arm64-vm", "arm64 virtual machine, 4K pages", "arm64", _ARM, 48),
    Preset("arm64-16k-vm", "arm64 virtual machine, 16K pages", "arm64", _ARM, 48, page_size=16 * KiB),
    Preset(
        "arm64-64k-vm", "arm64 virtual machine, 64K pages", "arm64", _ARM, 52, 8 * GiB, 128 * MiB, page_size=64 * KiB
    ),
    Preset("arm64-cloud-hypervisor", "arm64 guest of Cloud Hypervisor", "arm64", CLOUD_HYPERVISOR["arm64"], 48),
    Preset("arm64-firecracker", "arm64 guest of Firecracker", "arm64", FIRECRACKER["arm64"], 48),
    Preset("riscv-vm", "riscv64 virtual machine, Sv48", "riscv64", _RISCV, 48, reserved=64 * MiB),
    Preset("riscv-vm-sv39", "riscv64 virtual machine, Sv39", "riscv64", _RISCV, 39, reserved=64 * MiB),
    Preset("riscv-vm-sv57", "riscv64 virtual machine, Sv57", "riscv64", _RISCV, 57, reserved=64 * MiB),
    Preset(
        "riscv-cloud-hypervisor",
        "riscv64 guest of Cloud Hypervisor, Sv48",
        "riscv64",
        CLOUD_HYPERVISOR["riscv64"],
        48,
        reserved=64 * MiB,
    ),
    Preset(
        "loongarch-vm",
        "LoongArch virtual machine, 16K pages",
        "loongarch64",
        _LOONGARCH,
        47,
        4 * GiB + 256 * MiB,
        32 * MiB,
        page_size=16 * KiB,
        profile="linux-7.2",
    ),
    Preset(
        "loongarch-4k-vm",
        "LoongArch virtual machine, 4K pages",
        "loongarch64",
        _LOONGARCH,
        48,
        4 * GiB + 256 * MiB,
        32 * MiB,
        profile="linux-7.2",
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
