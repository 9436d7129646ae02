"""What plugs memory, seen from outside and inside: QEMU's memory devices (QMP) and the kernel's DAX devices."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from memhp.errors import BadInput
from memhp.facts.source import Source
from memhp.json_text import json_decoded
from memhp.spans import Span

DAX_DEVICES = "/sys/bus/dax/devices"
ND_DEVICES = "/sys/bus/nd/devices"
QMP = "/qmp.json"


@dataclass(frozen=True)
class MemoryDevice:
    """One entry of QMP ``query-memory-devices`` (QEMU ``qapi/machine.json:MemoryDeviceInfo``). Sizes are bytes.

    `size` is what is plugged now. For virtio-mem the device may grow to `max_size` in units of `block_size`, and the
    host has asked for `requested_size`; the others have these as None.
    """

    type: str
    id: str
    addr: int
    size: int
    node: int
    max_size: int | None = None
    requested_size: int | None = None
    block_size: int | None = None
    hotplugged: bool | None = None

    @property
    def span(self) -> Span:
        """The addresses that the device owns: all that it can grow to."""
        return Span(self.addr, self.addr + (self.max_size if self.max_size is not None else self.size))


@dataclass(frozen=True)
class Qemu:
    """What QEMU said of the machine: its command line, its memory devices, the memory it started with (bytes)."""

    args: tuple[str, ...]
    devices: tuple[MemoryDevice, ...]
    base_memory: int | None

    def option(self, name: str) -> str | None:
        """The value of an option on the command line, such as ``-cpu``; None where it is absent."""
        pairs = zip(self.args, self.args[1:], strict=False)
        return next((value for option, value in pairs if option == name), None)


@dataclass(frozen=True)
class DaxDevice:
    """One device of the DAX bus (``drivers/dax/bus.c``). Sizes are bytes; what is not shown is None."""

    name: str
    resource: int | None
    size: int
    align: int | None = None
    target_node: int | None = None
    memmap_on_memory: bool | None = None
    mode: str | None = None
    """Of one on persistent memory: whether struct pages are kept in ``ram`` or in ``pmem`` itself."""
    mappings: tuple[Span, ...] = ()
    """Its ranges of physical addresses, in the order of the device's pages, where they can be read (by root)."""

    @property
    def span(self) -> Span | None:
        """The device's physical addresses, where the kernel shows them, and what is between them."""
        if self.mappings:
            return Span(min(each.start for each in self.mappings), max(each.end for each in self.mappings))
        return None if self.resource is None else Span(self.resource, self.resource + self.size)


class _DeviceData(msgspec.Struct, rename="kebab"):
    id: str = ""
    addr: int | None = None
    memaddr: int | None = None
    size: int = 0
    node: int = 0
    max_size: int | None = None
    requested_size: int | None = None
    block_size: int | None = None
    hotplugged: bool | None = None


class _Device(msgspec.Struct):
    type: str
    data: _DeviceData


class _MemorySize(msgspec.Struct, rename="kebab"):
    base_memory: int | None = None


class _Qmp(msgspec.Struct):
    memory_devices: list[_Device] = []
    memory_size: _MemorySize = msgspec.field(default_factory=_MemorySize)
    qemu_args: list[str] = []


def read_qemu(source: Source) -> Qemu | None:
    """What QEMU said, in a capture that recorded it; else None. Raises :class:`BadInput` for what is no such record."""
    text = source.get(QMP)
    if text is None:
        return None
    try:
        record = json_decoded(text, _Qmp)
    except msgspec.DecodeError as error:
        fix = "take the capture again, with QEMU's answers"
        raise BadInput(str(error).lower(), where=source.where(QMP), fix=fix) from error
    return Qemu(
        args=tuple(record.qemu_args),
        devices=tuple(_memory_device(device) for device in record.memory_devices),
        base_memory=record.memory_size.base_memory,
    )


def _memory_device(device: _Device) -> MemoryDevice:
    data = device.data
    return MemoryDevice(
        type=device.type,
        id=data.id,
        addr=(data.memaddr if data.addr is None else data.addr) or 0,
        size=data.size,
        node=data.node,
        max_size=data.max_size,
        requested_size=data.requested_size,
        block_size=data.block_size,
        hotplugged=data.hotplugged,
    )


def read_dax(source: Source) -> tuple[DaxDevice, ...]:
    """The DAX devices of a machine. Raises :class:`BadInput` for a value that no kernel shows."""
    return tuple(_dax(source, name) for name in source.listdir(DAX_DEVICES))


def _dax(source: Source, name: str) -> DaxDevice:
    folder = f"{DAX_DEVICES}/{name}"
    memmap = source.number(f"{folder}/memmap_on_memory")
    resource = source.number(f"{folder}/resource")
    return DaxDevice(
        name=name,
        resource=resource,
        size=source.number(f"{folder}/size") or 0,
        align=source.number(f"{folder}/align"),
        target_node=source.number(f"{folder}/target_node"),
        memmap_on_memory=None if memmap is None else memmap == 1,
        mode=_nd_mode(source, resource),
        mappings=tuple(_mappings(source, folder)),
    )


def _mappings(source: Source, folder: str) -> Iterator[Span]:
    """``mappingN``, the last address of each included (``drivers/dax/bus.c:end_show``)."""
    numbered = (name.removeprefix("mapping") for name in source.listdir(folder) if name.startswith("mapping"))
    for number in sorted(int(each) for each in numbered if each.isdecimal()):
        start, last = (source.number(f"{folder}/mapping{number}/{name}") for name in ("start", "end"))
        if start is not None and last is not None:
            yield Span(start, last + 1)


def _nd_mode(source: Source, resource: int | None) -> str | None:
    """``mode`` of the device of persistent memory whose data starts at an address (``drivers/nvdimm/pfn_devs.c``)."""
    for name in source.listdir(ND_DEVICES):
        folder = f"{ND_DEVICES}/{name}"
        if resource is not None and name.startswith("dax") and source.number(f"{folder}/resource") == resource:
            return (source.get(f"{folder}/mode") or "").strip() or None
    return None
