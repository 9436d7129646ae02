"""The machine that a QEMU command line makes: where its RAM lies, what firmware names, and the devices it boots with.

Where RAM lies: :mod:`memhp.scenario.platforms`; the tables of nodes: ``hw/i386/acpi-build.c:build_srat`` and
``hw/arm/virt-acpi-build.c:build_srat``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from typing import Any

import msgspec

from memhp.errors import BadInput
from memhp.facts.cmdline import Cmdline
from memhp.linux.arch.registry import port
from memhp.scenario.boot_options import boot_options
from memhp.scenario.platforms import PLATFORMS, Platform
from memhp.scenario.qemu import QemuCommand, parse
from memhp.scenario.schema import Boot, MachineText, Memory, Plug, StepKind, VirtioMem
from memhp.units import GiB, align_up, format_size, parse_size

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
    top = max(end for _, end, _ in platform.laid_out(ram_by_node(command)))
    room = command.max_ram - command.ram
    if room < 0:
        raise BadInput("maxmem is less than the RAM there is", where=where, fix=f"at least {format_size(command.ram)}")
    start = align_up(max(top, port(command.arch).plug_start), GiB)
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
        proximity=domains(command, platform),
        boot=_boot(text.boot, command.append, where),
    )


def ram_of(command: QemuCommand, platform: Platform) -> Iterator[Memory]:
    """What Linux finds of it, up to where ``mem=`` ends it."""
    limit, is_an_end = _limit(command.append), port(command.arch).mem_is_an_end
    for start, end, nid in platform.ram(ram_by_node(command)):
        size = min(end, limit if is_an_end else start + limit) - start
        if size > 0:
            yield Memory(size=size, start=start, node=nid)
            limit -= 0 if is_an_end else size


def ram_by_node(command: QemuCommand) -> list[tuple[int, int]]:
    """The nodes with their bytes of RAM."""
    return [(node.nid, node.size) for node in command.nodes] or [(0, command.ram)]


def _limit(append: Cmdline) -> int:
    """Bytes that ``mem=`` names on the kernel's command line."""
    told = append.get("mem")
    return parse_size(told, where="-append mem=") if told else 1 << 52


def domains(command: QemuCommand, platform: Platform) -> list[int] | None:
    """Proximity domains in the order in which Linux meets them: those of CPUs, of RAM, and of what may be plugged.

    None where a device tree has node numbers; none at all for a PC without ``-numa`` that has nothing to plug.
    """
    if platform.device_tree and not command.firmware:
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
