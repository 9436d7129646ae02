"""What QEMU knows of a machine's memory: backends, memory devices, slots, and the addresses that it gives them.

``hw/mem/memory-device.c``, ``hw/mem/pc-dimm.c``, ``backends/hostmem.c``: the texts of refusals are theirs.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from memhp.hw.devices.virtio_mem import VirtioMemDevice
from memhp.spans import Span
from memhp.twin.machine import Twin
from memhp.twin.qemu.protocol import QmpError
from memhp.units import GiB, MiB, align_up

Kind = Literal["dimm", "nvdimm", "virtio-mem"]
DRIVERS: dict[Kind, str] = {"dimm": "pc-dimm", "nvdimm": "nvdimm", "virtio-mem": "virtio-mem-pci"}
"""The name of each kind of memory device as a driver."""

REGION_ALIGN = 2 * MiB
"""``host_memory_backend`` on Linux: memory is aligned for huge pages."""
FOUR_GIB = 4 * GiB
PERIPHERAL = "/machine/peripheral"
Tell = Callable[[str, dict[str, Any]], None]


@dataclass
class Backend:
    """A memory backend: `kind` is its type, `options` what it was made with."""

    name: str
    kind: str
    size: int
    options: dict[str, Any] = field(default_factory=dict)
    mapped: bool = False


@dataclass
class MemoryDevice:
    """A memory device: where it lies in guest memory, in bytes; `told` is what virtio-mem was asked to have."""

    name: str
    kind: Kind
    backend: Backend
    addr: int
    node: int = 0
    slot: int = 0
    hotplugged: bool = True
    block_size: int = 0
    told: int = 0

    @property
    def span(self) -> Span:
        """All addresses that it has."""
        return Span(self.addr, self.addr + self.backend.size)

    @property
    def path(self) -> str:
        """Its place in QEMU's tree of objects."""
        return f"{PERIPHERAL}/{self.name}"


@dataclass
class Platform:
    """The machine from outside. `slots` and `max_memory` are those of ``-m``, in bytes."""

    twin: Twin
    slots: int = 16
    max_memory: int = 0
    backends: dict[str, Backend] = field(default_factory=dict)
    devices: dict[str, MemoryDevice] = field(default_factory=dict)
    listeners: list[Tell] = field(default_factory=list)
    pending: list[Callable[[], None]] = field(default_factory=list)
    """What the guest will do when it has its turn."""
    running: bool = True
    held_speed: float = 1.0
    """What the twin's speed was before it was stopped."""
    over: bool = False
    """Whether QEMU was told to quit."""
    at_end: list[Callable[[], None]] = field(default_factory=list)
    """Whom that is the end of."""

    def __post_init__(self) -> None:
        if not self.max_memory:
            self.max_memory = self.ram + 64 * GiB
        self.backends["pc.ram"] = Backend("pc.ram", "memory-backend-ram", self.ram, mapped=True)
        self.sync()

    def guest_turn(self) -> None:
        """The guest does what it was asked for since it had its turn."""
        pending, self.pending = self.pending, []
        for act in pending:
            act()
        self.sync()

    def quit(self) -> None:
        """QEMU ends, and the machine with it, as soon as whoever asked for it has the answer."""
        self.over = self.twin.off = True
        self.twin.dead = "QEMU was told to quit"
        self.tell("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})
        self.pending.extend(self.at_end)

    def tell(self, event: str, data: dict[str, Any]) -> None:
        """Send an event to everybody who is connected."""
        self.twin.note("event", event, str(data))
        for listener in self.listeners:
            listener(event, data)

    # Sizes and addresses -------------------------------------------------------------------------------------

    @property
    def ram(self) -> int:
        """RAM that the machine was given, in bytes: whole MiB, of which firmware keeps less than one for itself."""
        k = self.twin.session.k
        return align_up(k.boot_memory.size << k.config.page_shift, MiB)

    @property
    def region(self) -> Span:
        """Where memory devices may lie (``pc_get_device_memory_range()``), with 1 GiB a slot for its alignment."""
        k = self.twin.session.k
        top = max(span.end for span in k.boot_memory) << k.config.page_shift
        start = align_up(max(top, FOUR_GIB), GiB)
        return Span(start, start + self.space + self.slots * GiB)

    @property
    def space(self) -> int:
        """Bytes that memory devices may have in all."""
        return max(self.max_memory - self.ram, 0)

    def virtio_mem(self, device: MemoryDevice) -> VirtioMemDevice | None:
        """The device of the model behind a virtio-mem device."""
        vm = self.twin.session.devices.get(device.name)
        return None if vm is None else vm.device

    def hear(self, device: MemoryDevice) -> None:
        """Take note of a size that was requested by a step of a scenario."""
        vm = self.virtio_mem(device)
        if vm is not None and not self.pending and vm.requested_size != min(device.told, device.backend.size):
            device.told = vm.requested_size

    def size_now(self, device: MemoryDevice) -> int:
        """Bytes that a device has plugged."""
        if device.kind != "virtio-mem":
            return device.backend.size
        vm = self.virtio_mem(device)
        return vm.plugged_size if vm is not None else 0

    def by_address(self) -> list[MemoryDevice]:
        """All memory devices, lowest first."""
        return sorted(self.devices.values(), key=lambda device: device.addr)

    def free_slot(self, wanted: int) -> int:
        """The slot that a DIMM gets; -1 asks for any. Raises :class:`QmpError`."""
        if wanted != -1 and not 0 <= wanted < self.slots:
            raise QmpError(f"invalid slot number {wanted}, valid range is [0-{self.slots - 1}]")
        taken = {device.slot for device in self.devices.values() if device.kind != "virtio-mem"}
        if wanted in taken:
            raise QmpError(f"slot {wanted} is busy")
        if wanted != -1:
            return wanted
        free = next((slot for slot in range(self.slots) if slot not in taken), None)
        if free is None:
            raise QmpError("no free slots available")
        return free

    def check_space(self, size: int) -> None:
        """``memory_device_check_addable()``. Raises :class:`QmpError`."""
        used = sum(device.backend.size for device in self.devices.values())
        if used + size > self.space:
            raise QmpError(
                f"not enough space, currently 0x{used:x} in use of total space for memory devices 0x{self.space:x}"
            )

    def place(self, size: int, wanted: int, align: int) -> int:
        """``memory_device_get_free_addr()``: where a device comes; 0 asks for anywhere. Raises :class:`QmpError`."""
        region = self.region
        if size % align:
            raise QmpError(f"backend memory size must be multiple of 0x{align:x}")
        if wanted % align:
            raise QmpError(f"address must be aligned to 0x{align:x} bytes")
        at = wanted or align_up(region.start, align)
        if wanted and not region.covers(Span(at, at + size)):
            raise QmpError(
                f"can't add memory device [0x{at:x}:0x{size:x}], usable range for memory devices "
                f"[0x{region.start:x}:0x{region.size:x}]"
            )
        for device in self.by_address():
            if device.span.overlaps(Span(at, at + size)):
                if wanted:
                    raise QmpError(f"address range conflicts with memory device id='{device.name}'")
                at = align_up(device.span.end, align)
        if not region.covers(Span(at, at + size)):
            raise QmpError(
                "could not find position in guest address space for memory device - memory fragmented due to alignments"
            )
        return at

    # What happened to the machine otherwise ------------------------------------------------------------------

    def sync(self) -> None:
        """Take note of devices that came or went by steps of a scenario."""
        session = self.twin.session
        here = {adev.crs[0].start: adev for adev in session.dimms}
        known = {device.addr: device for device in self.devices.values() if device.kind == "dimm"}
        for at, adev in here.items():
            if at not in known:
                slot = self.free_slot(-1)
                size = sum(span.size for span in adev.crs)
                self._found(f"dimm{slot}", "dimm", at, size, max(adev.nid, 0), slot)
        for at, device in known.items():
            if at not in here and not self.pending:
                self.gone(device)
        for name, vm in session.devices.items():
            if name not in self.devices:
                shape = vm.device.geometry
                self._found(name, "virtio-mem", shape.addr, shape.region_size, shape.node_id, 0)
                self.devices[name].block_size, self.devices[name].told = shape.block_size, vm.device.requested_size
        for device in list(self.devices.values()):
            if device.kind == "virtio-mem" and device.name not in session.devices and not self.pending:
                self.gone(device)

    def _found(self, name: str, kind: Kind, at: int, size: int, node: int, slot: int) -> None:
        backend = Backend(f"mem-{name}", "memory-backend-ram", size, mapped=True)
        self.backends[backend.name] = backend
        self.devices[name] = MemoryDevice(name, kind, backend, at, node, slot)

    def gone(self, device: MemoryDevice) -> None:
        """A device is not there any more; its backend stays."""
        if self.devices.pop(device.name, None) is not None:
            device.backend.mapped = False
            if device.kind == "virtio-mem":
                self.tell("DEVICE_DELETED", {"path": f"{device.path}/virtio-backend"})
            self.tell("DEVICE_DELETED", {"device": device.name, "path": device.path})
