"""The machine that a QEMU command line makes: where its RAM lies, what firmware names, and the devices it boots with.

Where RAM lies: ``hw/i386/pc_q35.c:pc_q35_init``, ``hw/i386/pc_piix.c:pc_init1``, ``hw/i386/microvm.c:
microvm_memory_init``, ``hw/arm/virt.c``, ``hw/riscv/virt.c``, ``hw/loongarch/virt.c``; the tables of nodes:
``hw/i386/acpi-build.c:build_srat`` and ``hw/arm/virt-acpi-build.c:build_srat``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from memhp.errors import BadInput
from memhp.facts.cmdline import Cmdline
from memhp.scenario.boot_options import boot_options
from memhp.scenario.qemu import QemuCommand, parse
from memhp.scenario.schema import Boot, MachineText, Memory, Plug, StepKind, VirtioMem
from memhp.spans import Span, SpanSet
from memhp.units import GiB, KiB, MiB, align_up, format_size, parse_size

ACPI_DATA = 128 * KiB
"""What a PC's firmware keeps for tables at the end of RAM below 4 GiB (``hw/i386/pc.c``, ``acpi_data_size``)."""

LEGACY = ((0x9F000, 1 * MiB),)
"""Within RAM and no memory of Linux on a PC: video memory and ROMs, and what the BIOS keeps below them."""


class Platform(NamedTuple):
    """A type of machine: the ranges that RAM is laid into as (start, room), what of RAM firmware keeps."""

    ranges: Callable[[int], tuple[tuple[int, int], ...]]
    """By the bytes of RAM."""
    first: int = 0
    """The first byte that Linux takes for RAM."""
    holes: tuple[tuple[int, int], ...] = ()
    kept: int = 0
    """Bytes at the end of RAM below 4 GiB."""
    pluggable: bool = True
    """Whether there is room for memory devices."""


def _rest(low: int) -> tuple[tuple[int, int], ...]:
    """So much RAM below 4 GiB, and the rest from there on."""
    return ((0, low), (4 * GiB, 1 << 52))


def _q35(ram: int) -> tuple[tuple[int, int], ...]:
    return _rest(2 * GiB if ram >= 0xB000_0000 else 0xB000_0000)


def _i440fx(ram: int) -> tuple[tuple[int, int], ...]:
    return _rest(3 * GiB if ram >= 0xE000_0000 else 0xE000_0000)


PLATFORMS: dict[tuple[str, str], Platform] = {
    ("x86_64", "q35"): Platform(_q35, 4 * KiB, LEGACY, ACPI_DATA),
    ("x86_64", "pc"): Platform(_i440fx, 4 * KiB, LEGACY, ACPI_DATA),
    ("x86_64", "microvm"): Platform(lambda ram: _rest(3 * GiB), 4 * KiB, LEGACY, pluggable=False),
    ("arm64", "virt"): Platform(lambda ram: ((1 * GiB, 1 << 52),)),
    ("riscv64", "virt"): Platform(lambda ram: ((2 * GiB, 1 << 52),), pluggable=False),
    ("loongarch64", "virt"): Platform(lambda ram: ((0, 256 * MiB), (2 * GiB, 1 << 52))),
}
"""By architecture and type of machine."""

SAID_BY = ("source", "preset", "step", "memory", "nodes", "cpus", "max_memory", "proximity", "slots", "device_memory")
"""Keys of ``[machine]`` that a command line leaves nothing to say about."""


def described(text: MachineText, *, where: str = "scenario") -> tuple[MachineText, list[StepKind]]:
    """A machine that has a QEMU command line, in words of its own, and the steps by which its devices appear.

    Raises :class:`BadInput` for a command line that QEMU or this cannot use, and for keys that it says already.
    """
    if text.qemu is None:
        return text, []
    key = f"{where}: machine.qemu"
    for name in SAID_BY:
        if getattr(text, name) is not None:
            raise BadInput("the command line tells this", where=f"{where}: machine.{name}", fix="leave it out")
    command = parse(text.qemu, arch=text.arch, where=key)
    platform = PLATFORMS.get((command.arch, command.machine))
    if platform is None:
        known = ", ".join(f"{machine} ({arch})" for arch, machine in PLATFORMS)
        raise BadInput(f"machine {command.machine} of {command.arch} is not known", where=key, fix=f"one of {known}")
    if not platform.pluggable and command.devices:
        raise BadInput(f"{command.machine} of {command.arch} has no room for memory devices", where=key)
    if command.append.has("memmap"):
        raise BadInput("memmap= on -append is not understood", where=key, fix="take it out, and write `dax` steps")
    return _in_words(text, command, platform, key), [_step(command, at) for at in range(len(command.devices))]


def _in_words(text: MachineText, command: QemuCommand, platform: Platform, where: str) -> MachineText:
    memory = list(ram_of(command, platform))
    top = max(end for _, end, _ in laid_out(command, platform))
    room = command.max_ram - command.ram
    if room < 0:
        raise BadInput("maxmem is less than the RAM there is", where=where, fix=f"at least {format_size(command.ram)}")
    start = align_up(max(top, 4 * GiB) if command.arch == "x86_64" else top, GiB)
    return msgspec.structs.replace(
        text,
        qemu=None,
        arch=command.arch,
        memory=memory,
        nodes=max((node.nid for node in command.nodes), default=0) + 1,
        cpus=command.cpus,
        slots=command.slots,
        device_memory=room,
        max_memory=start + room + command.slots * GiB if room else None,
        proximity=domains(command),
        boot=_boot(text.boot, command.append, where),
    )


def laid_out(command: QemuCommand, platform: Platform) -> Iterator[tuple[int, int, int]]:
    """RAM as (start, end, node): each node's behind that of the node before, cut where a range is full."""
    sizes = [(node.nid, node.size) for node in command.nodes] or [(0, command.ram)]
    ranges = iter(platform.ranges(command.ram))
    start, room = next(ranges)
    for nid, total in sizes:
        left = total
        while left:
            if not room:
                start, room = next(ranges)
            size = min(left, room)
            yield start, start + size, nid
            start, room, left = start + size, room - size, left - size


def ram_of(command: QemuCommand, platform: Platform) -> Iterator[Memory]:
    """What Linux finds of it, up to where ``mem=`` ends it: on x86 an address, elsewhere an amount."""
    ranges = list(laid_out(command, platform))
    low = max((end for start, end, _ in ranges if start < 4 * GiB), default=0)
    limit = _limit(command.append)
    for first, last, nid in ranges:
        parts = SpanSet([Span(max(first, platform.first), last - platform.kept if last == low else last)])
        for hole in platform.holes:
            parts.remove(*hole)
        for start, end in parts:
            size = min(end, limit if command.arch == "x86_64" else start + limit) - start
            if size > 0:
                yield Memory(size=size, start=start, node=nid)
                limit -= 0 if command.arch == "x86_64" else size


def _limit(append: Cmdline) -> int:
    """Bytes that ``mem=`` names on the kernel's command line."""
    told = append.get("mem")
    return parse_size(told, where="-append mem=") if told else 1 << 52


def domains(command: QemuCommand) -> list[int] | None:
    """Proximity domains in the order in which Linux meets them: those of CPUs, of RAM, and of what may be plugged.

    None where a device tree has node numbers; none at all for a PC without ``-numa`` that has nothing to plug.
    """
    if command.arch != "x86_64" and not command.firmware:
        return []
    if not command.nodes:
        return [0] if command.slots and command.max_ram > command.ram else []
    cpus = sorted((cpu, node.nid) for node in command.nodes for cpu in node.cpus)
    order = [nid for _, nid in cpus] + [node.nid for node in command.nodes if node.size]
    if command.max_ram > command.ram:
        order.append(max(node.nid for node in command.nodes))
    return list(dict.fromkeys(order))


def _boot(told: Boot | None, append: Cmdline, where: str) -> Boot | None:
    """What the kernel's command line says, where the scenario does not."""
    found, refused = boot_options(append)
    if refused:
        text = f"-append: the kernel does not take {refused[0]}"
        raise BadInput(text, where=where, fix="correct it, or leave it out")
    if told is None:
        return found if any(getattr(found, name) is not None for name in found.__struct_fields__) else None
    said = {name: value for name in told.__struct_fields__ if (value := getattr(told, name)) is not None}
    return msgspec.structs.replace(found, **said)


def _step(command: QemuCommand, at: int) -> StepKind:
    """A device of the command line as the step by which it appears."""
    device = command.devices[at]
    if device.kind == "dimm":
        return Plug(size=device.size, at=device.at, node=device.node, name=f"boot with DIMM {device.id or at}")
    number = sum(each.kind == "virtio-mem" for each in command.devices[:at])
    more: dict[str, Any] = {} if device.block_size is None else {"block_size": device.block_size}
    return VirtioMem(
        size=device.size,
        device=device.id or f"vm{number}",
        at=device.at,
        node=device.node,
        requested=device.requested,
        name=f"boot with virtio-mem {device.id or at}",
        **more,
    )
