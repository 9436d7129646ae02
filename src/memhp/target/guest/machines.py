"""Guests of each architecture: QEMU's machine and its devices, what it boots with, the distribution's builds for it.

A row is the whole of what differs between architectures when a guest is fetched, built or started; what its kernel says
of the architecture, its port knows.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from typing import Literal

from memhp.units import GiB, MiB

Pmem = Literal["memmap", "pmem-region"]


@dataclass(frozen=True)
class Served:
    """Where the machine has room for the region of a device that somebody else serves (bytes)."""

    region: int | None = None
    """Where RAM goes on above a hole; None if there is none, and the region begins where the kernel's own RAM ends."""
    machine: str | None = None
    """What moves the hole to the end of the kernel's own RAM, in MiB."""
    above: int = 0
    """RAM that must be left above the region, where QEMU keeps the device tree."""


@dataclass(frozen=True)
class Machine:
    """How QEMU is told to be a machine of one architecture, and what it boots."""

    deb_arch: str
    """Debian's name of the architecture."""
    flavour: str
    """The build of the distribution that stands for the architecture: what takes part in most of hotplug."""
    config: str
    """The option of ``.config`` that a build for it has."""
    images: tuple[str, ...]
    """Where a build leaves what boots."""
    qemu: str
    """The program, ``qemu-system-…``."""
    machine: str
    cpu: str
    console: str
    packages: tuple[str, ...]
    firmware_packages: tuple[str, ...] = ()
    firmware: str | None = None
    """Below ``usr/share``: UEFI, which brings ACPI and with it DIMMs."""
    needs_firmware: bool = False
    """Whether the kernel's image only starts through it."""
    dimm_needs_firmware: bool = False
    append: str = ""
    """For the kernel's command line."""
    virtio_mem: bool = True
    dimm: bool = True
    pmem: Pmem | None = None
    """How the kernel is told that RAM is persistent memory: by its command line, or by a node of the device tree."""
    served: Served | None = None
    """None where no device is served to guests."""
    unasked: bool = False
    """Whether its kernels are fetched when none are named."""


MACHINES = {
    "x86_64": Machine(
        "amd64",
        "cloud-amd64",
        "CONFIG_X86_64",
        ("arch/x86/boot/bzImage",),
        "x86_64",
        "q35",
        "max",
        "ttyS0",
        ("qemu-system-x86", "seabios"),
        append="no_timer_check",
        pmem="memmap",
        served=Served(4 * GiB, "max-ram-below-4g={own}M"),
        unasked=True,
    ),
    "arm64": Machine(
        "arm64",
        "arm64",
        "CONFIG_ARM64",
        ("arch/arm64/boot/Image",),
        "aarch64",
        "virt,gic-version=3",
        "max,pauth-impdef=on",
        "ttyAMA0",
        ("qemu-system-arm",),
        firmware_packages=("qemu-efi-aarch64",),
        firmware="qemu-efi-aarch64/QEMU_EFI.fd",
        dimm_needs_firmware=True,
        pmem="pmem-region",
        served=Served(),
        unasked=True,
    ),
    "riscv64": Machine(
        "riscv64",
        "riscv64",
        "CONFIG_RISCV",
        ("arch/riscv/boot/Image",),
        "riscv64",
        "virt",
        "rv64",
        "ttyS0",
        ("qemu-system-riscv", "opensbi"),
        virtio_mem=False,
        dimm=False,
        pmem="pmem-region",
        served=Served(above=128 * MiB),
        unasked=True,
    ),
    "loongarch64": Machine(
        "loong64",
        "loong64",
        "CONFIG_LOONGARCH",
        ("arch/loongarch/boot/vmlinuz.efi", "arch/loongarch/boot/vmlinux.efi"),
        "loongarch64",
        "virt",
        "max",
        "ttyS0",
        ("qemu-system-misc",),
        firmware_packages=("qemu-efi-loongarch64",),
        firmware="qemu-efi-loongarch64/QEMU_EFI.fd",
        needs_firmware=True,
    ),
}
"""The machines by memhp's names of architectures."""
