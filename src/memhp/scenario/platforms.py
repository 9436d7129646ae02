"""Where machines have their RAM, and where memory devices come: boards of QEMU, Cloud Hypervisor, Firecracker, PCs.

QEMU: ``hw/i386/pc_q35.c:pc_q35_init``, ``hw/i386/pc_piix.c:pc_init1``, ``hw/i386/microvm.c:microvm_memory_init``,
``hw/arm/virt.c``, ``hw/riscv/virt.c``, ``hw/loongarch/virt.c``. Cloud Hypervisor: ``arch/src/*/layout.rs``,
``arch/src/*/mod.rs:arch_memory_regions``, ``vmm/src/memory_manager.rs:start_addr``. Firecracker:
``src/vmm/src/arch/*/layout.rs``, ``src/vmm/src/arch/*/mod.rs:arch_memory_regions``, ``src/vmm/src/builder.rs:
allocate_virtio_mem_address``. All were read in the repositories of the projects; what firmware keeps of RAM is what
guests said (``BIOS-e820``), so on microvm the last page below 4 GiB.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from memhp.errors import BadInput
from memhp.linux.arch.registry import Arch, port
from memhp.linux.init import DevicePlace
from memhp.spans import Span, SpanSet
from memhp.units import GiB, KiB, MiB, format_size

ACPI_DATA = 128 * KiB
"""What a PC's firmware keeps for tables at the end of RAM below 4 GiB (``hw/i386/pc.c``, ``acpi_data_size``)."""

ACPI_MAX_RAM_SLOTS = 256
"""``include/hw/acpi/acpi.h``; boards without ACPI's memory hotplug do not ask."""

LEGACY = (0x9F000, 1 * MiB)
"""Within RAM and no memory of Linux on a PC: video memory and ROMs, and what the BIOS keeps below them."""

REST = 1 << 52
"""Room without end."""

Ranges = tuple[tuple[int, int], ...]
"""Ranges as (start, room), in the order in which RAM fills them."""


class Platform(NamedTuple):
    """A type of machine: the ranges that RAM is laid into, and what of RAM firmware keeps. Bytes, physical."""

    ranges: Callable[[int], Ranges]
    """By the bytes of RAM."""
    first: int = 0
    """The first byte that Linux takes for RAM."""
    holes: Ranges = ()
    """As (start, end)."""
    kept: int = 0
    """Bytes at the end of RAM below 4 GiB."""
    pluggable: bool = True
    """Whether there is room for memory devices."""
    slots: int | None = None
    """How many DIMMs there can be; None as many as the user of the machine says."""
    devices: DevicePlace = DevicePlace()
    usual: bool = False
    """Whether it is the board that QEMU, or whoever starts it, takes where none is named."""
    uefi: Ranges = ()
    """Other holes, as (start, end), where UEFI firmware starts the kernel."""
    most_slots: int | None = None
    """The slots that QEMU lets a command line ask for; None for no such limit."""
    most_cpus: int | None = None
    """The same of CPUs, in its newest release."""
    device_tree: bool = False
    """Whether a kernel that is booted without firmware learns of the machine from a device tree, not from ACPI."""

    @property
    def start(self) -> int:
        """Where RAM of Linux begins."""
        return max(self.ranges(0)[0][0], self.first)

    def started_by_uefi(self) -> "Platform":
        """The same with the holes that UEFI firmware leaves."""
        return self._replace(holes=self.holes + self.uefi)

    def ram(self, nodes: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
        """What Linux finds of the RAM of some nodes (node, bytes), as (start, end, node)."""
        laid = list(self.laid_out(nodes))
        low = max((end for start, end, _ in laid if start < 4 * GiB), default=0)
        for first, last, nid in laid:
            parts = SpanSet([Span(max(first, self.first), last - self.kept if last == low else last)])
            for hole in self.holes:
                parts.remove(*hole)
            for start, end in parts:
                yield start, end, nid

    def laid_out(self, nodes: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
        """All RAM as (start, end, node): each node's behind that of the node before, cut where a range is full.

        Raises :class:`BadInput` for more than has room anywhere.
        """
        sizes = list(nodes)
        ranges = iter(self.ranges(sum(size for _, size in sizes)))
        start, room = next(ranges)
        for nid, total in sizes:
            left = total
            while left:
                if not room:
                    start, room = next(ranges, (0, 0))
                if not room:
                    raise BadInput(
                        f"no machine has room for {format_size(left)} more of RAM", where="memory", fix="write less"
                    )
                size = min(left, room)
                yield start, start + size, nid
                start, room, left = start + size, room - size, left - size


def _from(start: int) -> Callable[[int], Ranges]:
    """All RAM from there on."""
    return lambda ram: ((start, REST),)


def _from_ram_start(arch: Arch) -> Callable[[int], Ranges]:
    """All RAM from where QEMU's usual machine of an architecture has it, which its port says."""
    return lambda ram: ((port(arch).ram_start, REST),)


def _above_4g(low: int) -> Callable[[int], Ranges]:
    """So much RAM below 4 GiB, and the rest from there on."""
    return lambda ram: ((0, low), (4 * GiB, REST))


def _q35(ram: int) -> Ranges:
    return _above_4g(2 * GiB if ram >= 0xB000_0000 else 0xB000_0000)(ram)


def _i440fx(ram: int) -> Ranges:
    return _above_4g(3 * GiB if ram >= 0xE000_0000 else 0xE000_0000)(ram)


_CLOUD = DevicePlace(align=128 * MiB)
"""Cloud Hypervisor: behind RAM at a memory block of Linux (``VIRTIO_MEM_ALIGN_SIZE``)."""

_CLOUD_ABOVE_4G = _CLOUD._replace(start=4 * GiB)
"""On x86 and arm64 not below 4 GiB (``RAM_64BIT_START``)."""

_FIRE = DevicePlace(start=512 * GiB, align=128 * MiB)
"""Firecracker: virtio-mem regions behind the second gap for devices (``past_mmio64_memory``)."""

_FIRE_GAP = (256 * GiB, 512 * GiB)
_FIRE_SLOTS = 0
_CLOUD_SLOTS = 8
"""``HOTPLUG_COUNT``."""


def _firecracker(*below: tuple[int, int]) -> Callable[[int], Ranges]:
    """The ranges below the gap of 64-bit devices, and what is behind it."""
    return lambda ram: (*below, (_FIRE_GAP[1], REST))


_LOONGARCH_EDK2 = (
    (0xC80_0000, 0xC81_0000),
    (0xC83_0000, 0xC89_0000),
    (0xD68_0000, 0xD8A_0000),
    (0xD91_0000, 0xDA1_0000),
    (0xDB4_0000, 0xDCD_0000),
    (0xDCE_0000, 0xDEC_0000),
    (0xEF4_0000, 0xEFB_0000),
)
"""Tables, runtime services and what EDK2 of 2026.08 reserves, as ``/proc/iomem`` of guests leaves them out."""

PC = Platform(_above_4g(3 * GiB), 4 * KiB, (LEGACY,))
"""A PC of metal: firmware moves what lies under the hole for devices, here the last GiB below 4 GiB, above it."""

PLATFORMS: dict[tuple[str, str], Platform] = {
    ("x86_64", "q35"): Platform(
        _q35, 4 * KiB, (LEGACY,), ACPI_DATA, most_slots=ACPI_MAX_RAM_SLOTS, most_cpus=4096
    ),
    ("x86_64", "pc"): Platform(
        _i440fx, 4 * KiB, (LEGACY,), ACPI_DATA, usual=True, most_slots=ACPI_MAX_RAM_SLOTS, most_cpus=255
    ),
    ("x86_64", "microvm"): Platform(
        _above_4g(3 * GiB), 4 * KiB, (LEGACY,), 4 * KiB, pluggable=False, most_cpus=288
    ),
    ("arm64", "virt"): Platform(
        _from_ram_start("arm64"), usual=True, most_slots=ACPI_MAX_RAM_SLOTS, most_cpus=512, device_tree=True
    ),
    ("riscv64", "virt"): Platform(
        _from_ram_start("riscv64"), pluggable=False, usual=True, most_cpus=512, device_tree=True
    ),
    ("loongarch64", "virt"): Platform(
        lambda ram: ((0, 256 * MiB), (2 * GiB, REST)),
        usual=True,
        uefi=_LOONGARCH_EDK2,
        most_cpus=256,
        device_tree=True,
    ),
}
"""Boards of QEMU, by architecture and type of machine."""

QEMU_CPU = {
    "x86_64": "qemu64-x86_64-cpu",
    "arm64": "max-arm-cpu",
    "riscv64": "rv64-riscv-cpu",
    "loongarch64": "la464-loongarch-cpu",
}
"""What QEMU calls its usual CPU of each architecture."""

CLOUD_HYPERVISOR: dict[str, Platform] = {
    "x86_64": Platform(
        _above_4g(3 * GiB), 4 * KiB, ((640 * KiB, 1 * MiB),), slots=_CLOUD_SLOTS, devices=_CLOUD_ABOVE_4G
    ),
    "arm64": Platform(
        lambda ram: ((1 * GiB, 3 * GiB - 64 * MiB), (4 * GiB, REST)), slots=_CLOUD_SLOTS, devices=_CLOUD_ABOVE_4G
    ),
    "riscv64": Platform(_from(1 * GiB), slots=0, devices=_CLOUD),
}
"""By architecture."""

FIRECRACKER: dict[str, Platform] = {
    "x86_64": Platform(
        _firecracker((0, 3 * GiB), (4 * GiB, 252 * GiB)),
        4 * KiB,
        (LEGACY,),
        slots=_FIRE_SLOTS,
        devices=_FIRE,
    ),
    "arm64": Platform(_firecracker((2 * GiB, 254 * GiB)), first=2 * GiB + 2 * MiB, slots=_FIRE_SLOTS, devices=_FIRE),
}
"""By architecture: as releases from 1.13 on have it."""

FIRECRACKER_1_12 = Platform(_above_4g(4 * GiB - 768 * MiB), 4 * KiB, (LEGACY,), slots=0, pluggable=False)
"""On x86-64 before: the gap below 4 GiB has 768 MiB, there is none above, and nothing to plug."""
