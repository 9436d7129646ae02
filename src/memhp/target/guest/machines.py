"""QEMU's machine for each architecture: what it is called, what it boots with, which devices it has.

A row is the whole of what differs between architectures when a guest is started.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from typing import Literal

Pmem = Literal["memmap", "pmem-region"]


@dataclass(frozen=True)
class Machine:
    """How QEMU is told to be a machine of one architecture."""

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
    ram: int = 0
    """Where RAM begins."""
    pmem: Pmem | None = None
    """How the kernel is told that RAM is persistent memory: by its command line, or by a node of the device tree."""


MACHINES = {
    "x86_64": Machine(
        "x86_64",
        "q35",
        "max",
        "ttyS0",
        ("qemu-system-x86", "seabios"),
        append="no_timer_check",
        pmem="memmap",
    ),
    "arm64": Machine(
        "aarch64",
        "virt,gic-version=3",
        "max,pauth-impdef=on",
        "ttyAMA0",
        ("qemu-system-arm",),
        firmware_packages=("qemu-efi-aarch64",),
        firmware="qemu-efi-aarch64/QEMU_EFI.fd",
        dimm_needs_firmware=True,
        ram=1 << 30,
        pmem="pmem-region",
    ),
    "riscv64": Machine(
        "riscv64",
        "virt",
        "rv64",
        "ttyS0",
        ("qemu-system-riscv", "opensbi"),
        virtio_mem=False,
        dimm=False,
        ram=2 << 30,
        pmem="pmem-region",
    ),
    "loongarch64": Machine(
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
