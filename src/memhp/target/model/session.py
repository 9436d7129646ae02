"""A machine under rehearsal, and the sizes that steps name, as its pages allow."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from memhp.errors import BadInput
from memhp.linux.drivers.acpi.device import AcpiDevice
from memhp.linux.drivers.virtio.virtio_mem_state import VirtioMem
from memhp.linux.init import DevicePlace, MachineSpec
from memhp.linux.state import Kernel
from memhp.scenario import schema
from memhp.spans import Span
from memhp.target.model.dax_region import Region
from memhp.target.seen.usage import Placed
from memhp.units import format_size, is_aligned, parse_size


class NoRoom(BadInput):
    """The platform has no room for a device."""


class Room(NamedTuple):
    """What a platform has room for; None without a limit that is known."""

    slots: int | None = None
    """DIMMs at a time."""
    device_memory: int | None = None
    """Bytes of DIMMs and of virtio-mem devices' regions."""
    end: int | None = None
    """The first physical address behind all that may be plugged."""
    place: DevicePlace = DevicePlace()


@dataclass
class Session:
    """A machine under rehearsal and what the platform has plugged into it."""

    k: Kernel
    plugged: list[Span] = field(default_factory=list)
    """Ranges in bytes, in the order they were plugged."""
    groups: dict[int, int] = field(default_factory=dict)
    """Memory groups of kmem devices, which come and go whole, by the address they were plugged at."""
    dimms: list[AcpiDevice] = field(default_factory=list)
    """DIMMs with memory that is in, in the order they were plugged."""
    refused: list[AcpiDevice] = field(default_factory=list)
    """Those of them that no driver has."""
    freed_slots: list[int] = field(default_factory=list)
    """Slots that DIMMs were in before, as a heap; the lowest one gets the next DIMM, before those never used."""
    unit_groups: dict[int, int] = field(default_factory=dict)
    """Memory groups of virtio-mem devices, of which each node has one, by node."""
    regions: dict[str, Region] = field(default_factory=dict)
    """Regions of dax devices, by name."""
    devices: dict[str, VirtioMem] = field(default_factory=dict)
    """Virtio-mem devices with their drivers, by name."""
    seen: set[str] = field(default_factory=set)
    """Those of them that the machine was seen with."""
    placed: Placed | None = None
    """The memory in use that the machine was seen with; None for one that nobody saw."""
    notes: list[str] = field(default_factory=list)
    """Remarks on the step that runs now."""
    spec: MachineSpec | None = None
    """How the machine boots; None where it cannot boot again."""
    room: Room = field(default_factory=Room)
    """What the platform has room for."""
    tried: Callable[[int], None] | None = None
    """Called with the size of each step that is tried on a copy of the machine, before it is."""

    def frames(self, span: Span) -> Span:
        """A range of bytes as PFNs."""
        return Span(span.start >> self.k.config.page_shift, span.end >> self.k.config.page_shift)


def size_of(session: Session, text: schema.Size, key: str) -> int:
    """Bytes of a size in a step, made of whole pages. Raises :class:`BadInput`."""
    size = bytes_of(text, key)
    page = session.k.config.page_size
    if not is_aligned(size, page):
        raise BadInput(f"{size:#x} is not a multiple of the page size", where=key, fix=f"pages are {format_size(page)}")
    return size


def bytes_of(text: schema.Size, key: str) -> int:
    """Bytes of a size or address in a step, whole pages or not. Raises :class:`BadInput`."""
    size = parse_size(text, where=key)
    if size >> 64:
        raise BadInput(f"{size:#x} does not fit into 64 bits", where=key, fix="write less")
    return size


def check_room(session: Session, span: Span, *, dimm: bool) -> None:
    """Refuse a device (bytes) that the platform has no room for, as QEMU refuses to add it: no slot, not enough of
    ``maxmem`` left (``hw/mem/memory-device.c:memory_device_get_free_addr``), or an address behind what firmware names.

    Raises :class:`NoRoom`.
    """
    room = session.room
    if dimm and room.slots is not None and len(session.dimms) >= room.slots:
        taken = "the only slot is taken" if room.slots == 1 else f"all {room.slots} slots are taken"
        text = taken if room.slots else "there is no slot for a DIMM"
        raise NoRoom(text, where="do", fix="eject a DIMM, or give the machine more slots (-m …,slots=N,maxmem=SIZE)")
    if room.device_memory is not None:
        used = devices_size(session)
        if used + span.size > room.device_memory:
            raise NoRoom(
                f"memory devices may have {format_size(room.device_memory)}, of which {format_size(used)} are taken",
                where="size",
                fix="plug less, or raise maxmem",
            )
    if room.end is not None and span.end > room.end:
        raise NoRoom(f"{span.end - 1:#x} is beyond what may be plugged", where="at", fix=f"below {room.end:#x}")


def devices_size(session: Session) -> int:
    """Bytes that DIMMs and the regions of virtio-mem devices take of what the platform has for such devices."""
    regions = [vm.region.size for vm in session.devices.values()]
    return sum(part.size for adev in session.dimms for part in adev.crs) + sum(regions)
