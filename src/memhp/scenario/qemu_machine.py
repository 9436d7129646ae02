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
from memhp.scenario.memmap_option import MemoryMap, memory_map
from memhp.scenario.platforms import PLATFORMS, Platform
from memhp.scenario.qemu import QemuCommand, parse
from memhp.scenario.schema import Boot, Dax, MachineText, Memory, Plug, StepKind, VirtioMem
from memhp.units import GiB, KiB, MiB, align_up, format_size, parse_size

BACKEND_ALIGN = 2 * MiB
"""What a memory backend of ordinary pages is aligned to (``include/qemu/osdep.h``, ``QEMU_VMALLOC_ALIGN``)."""

DSM_MEMORY = 4 * KiB
"""What firmware of a PC with NVDIMMs keeps for their methods at the end of RAM (``hw/acpi/nvdimm.c``)."""

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
    _check_limits(command, platform, key)
    if not command.nvdimm and any(each.kind == "nvdimm" for each in command.devices):
        raise BadInput("the machine has no NVDIMMs", where=key, fix=f"add -machine {command.machine},nvdimm=on")
    pmem = list(_legacy_pmem(command, key))
    places = _places(command, platform)
    steps = [_step(command, at, places[at]) for at in range(len(command.devices))]
    return _in_words(text, command, platform, key), [*pmem, *steps]


def _check_limits(command: QemuCommand, platform: Platform, where: str) -> None:
    """Raises :class:`BadInput` for more slots or CPUs than QEMU lets the board have."""
    asked = (("-m slots", command.slots, platform.most_slots), ("-smp", command.cpus, platform.most_cpus))
    for option, number, most in asked:
        if most is not None and number > most:
            text = f"{command.machine} of {command.arch} has at most {most}, got {number}"
            raise BadInput(text, where=f"{where}: {option}", fix="write less: QEMU refuses this too")


def _in_words(text: MachineText, command: QemuCommand, platform: Platform, where: str) -> MachineText:
    memory = list(ram_of(command, platform))
    if not memory:
        raise BadInput("-append leaves no RAM", where=where, fix="let mem= and memmap= leave some")
    room = command.max_ram - command.ram
    if room < 0:
        raise BadInput("maxmem is less than the RAM there is", where=where, fix=f"at least {format_size(command.ram)}")
    start = _device_start(command, platform)
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


def _device_start(command: QemuCommand, platform: Platform) -> int:
    """Where the platform's memory for devices begins."""
    top = max(end for _, end, _ in platform.laid_out(ram_by_node(command)))
    return align_up(max(top, port(command.arch).plug_start), GiB)


def _places(command: QemuCommand, platform: Platform) -> list[int | None]:
    """Where the devices are, where an NVDIMM among them has Linux find it without a driver that asks for room: one
    behind the other (``hw/mem/memory-device.c:memory_device_get_free_addr``). Else as they say.
    """
    places = [each.at for each in command.devices]
    if all(each.kind != "nvdimm" for each in command.devices):
        return places
    at = _device_start(command, platform)
    for i, device in enumerate(command.devices):
        place = align_up(at, device.block_size or BACKEND_ALIGN) if device.at is None else device.at
        places[i], at = place, max(at, place + device.size)
    return places


def _map_of(command: QemuCommand, where: str) -> MemoryMap:
    """What ``memmap=`` says, which is x86's option; other kernels pass over it."""
    return memory_map(command.append, where) if port(command.arch).reads_memmap_option else MemoryMap()


def ram_of(command: QemuCommand, platform: Platform) -> Iterator[Memory]:
    """What Linux finds of it, up to where ``mem=`` ends it, without what ``memmap=`` takes."""
    limit, is_an_end = _limit(command.append), port(command.arch).mem_is_an_end
    told = _map_of(command, "-append")
    kept = DSM_MEMORY if command.nvdimm and platform.kept else 0
    if command.firmware:
        platform = platform.started_by_uefi()
    for start, end, nid in platform._replace(kept=platform.kept + kept).ram(ram_by_node(command)):
        size = min(end, limit if is_an_end else start + limit) - start
        if size <= 0:
            continue
        limit -= 0 if is_an_end else size
        for part in told.taken.gaps(start, min(start + size, told.end)):
            yield Memory(size=part.size, start=part.start, node=nid)


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


def _legacy_pmem(command: QemuCommand, where: str) -> Iterator[Dax]:
    """The namespaces of persistent memory that ``memmap=`` makes (``drivers/nvdimm/e820.c``)."""
    for number, span in enumerate(_map_of(command, where).persistent):
        name = f"boot with memmap={format_size(span.size)}!{span.start:#x}"
        yield Dax(device=f"dax{number}.0", at=span.start, size=span.size, mode="raw", name=name)


def _step(command: QemuCommand, at: int, place: int | None) -> StepKind:
    """A device of the command line as the step by which it appears."""
    device = command.devices[at]
    if device.kind == "dimm":
        return Plug(size=device.size, at=place, node=device.node, name=f"boot with DIMM {device.id or at}")
    if device.kind == "nvdimm":
        number = len(_map_of(command, "-append").persistent)
        number += sum(each.kind == "nvdimm" for each in command.devices[:at])
        name = f"boot with NVDIMM {device.id or at}"
        region = f"dax{number}.0"
        return Dax(device=region, at=place, size=device.size, node=device.node, mode="raw", pagemap=False, name=name)
    number = sum(each.kind == "virtio-mem" for each in command.devices[:at])
    more: dict[str, Any] = {} if device.block_size is None else {"block_size": device.block_size}
    return VirtioMem(
        size=device.size,
        device=device.id or f"vm{number}",
        at=place,
        node=device.node,
        requested=device.requested,
        name=f"boot with virtio-mem {device.id or at}",
        **more,
    )
