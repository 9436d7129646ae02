"""QEMU over its monitor (QMP): memory devices, requests, and the events that tell what the guest made of them.

Sources: QEMU's qapi/machine.json (MemoryDeviceInfo, MEMORY_DEVICE_SIZE_CHANGE, MEM_UNPLUG_ERROR), qapi/acpi.json
(ACPI_DEVICE_OST), qapi/qdev.json (DEVICE_DELETED, DEVICE_UNPLUG_GUEST_ERROR).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import socket
import struct
import time
from pathlib import Path
from typing import Any

from memhp.errors import BadInput
from memhp.linux.arch.registry import arch_called
from memhp.target.guest.agent import GuestLost
from memhp.target.guest.monitor import Event, Monitor, Refused
from memhp.target.vm import KINDS, Plugged, VmDevice, VmLost, VmRefused, VmStatus

EVENTS = (
    "MEMORY_DEVICE_SIZE_CHANGE",
    "DEVICE_DELETED",
    "DEVICE_UNPLUG_GUEST_ERROR",
    "MEM_UNPLUG_ERROR",
    "ACPI_DEVICE_OST",
)
OST_SOURCE_EJECT = 3
"""``_OST`` of an ejection request: ACPI specification, 6.3.5."""
OST_FINE = frozenset({0, 0x84})
"""Success, and ejection in progress."""
OST_WORDS = {
    1: "failure",
    2: "the guest does not know the request",
    0x80: "ejection is not supported",
    0x81: "the device is in use by an application",
    0x82: "the device is busy",
    0x83: "its ejection depends on another's",
}
"""Status codes of an ejection request."""


_CREDENTIALS = struct.Struct("3i")
"""Process, user and group: unix(7), SO_PEERCRED."""


def connect(path: Path) -> "QemuVm":
    """A session with the monitor at a Unix socket. Raises BadInput where no QMP monitor answers."""
    line = socket.socket(socket.AF_UNIX)
    try:
        line.settimeout(10)
        line.connect(str(path))
        line.settimeout(None)
        process = _CREDENTIALS.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]
        return QemuVm(Monitor(line), str(path), process)
    except (OSError, GuestLost) as error:
        line.close()
        why = error.strerror if isinstance(error, OSError) and error.strerror else "no QMP monitor answers"
        raise BadInput(
            why, where=str(path), fix="a socket of -qmp unix:PATH,server=on,wait=off that nobody else has open"
        ) from None


class QemuVm:
    """A machine that QEMU runs. To be closed; that leaves the machine as it is."""

    sees_taken = True

    def __init__(self, monitor: Monitor, where: str = "QEMU", process: int = 0) -> None:
        self.monitor, self.where = monitor, where
        self.process = process
        """The process that listens at the socket, QEMU as a rule; 0: not known."""
        self._backends: dict[str, str] = {}

    def ask(self, command: str, **arguments: Any) -> Any:
        """What a command returns. Raises :class:`VmRefused` and :class:`VmLost`."""
        try:
            return self.monitor.execute(command, **arguments)
        except Refused as error:
            raise VmRefused(str(error)) from None
        except GuestLost as error:
            raise VmLost(str(error)) from None

    def status(self) -> VmStatus:
        """What QEMU says of memory and memory devices."""
        version = self.ask("query-version")["qemu"]
        name = self.ask("query-name").get("name") or Path(self.where).name
        target = str(self.ask("query-target")["arch"])
        summary = self.ask("query-memory-size-summary")
        memory = self._memory_of_machine()
        there = self.ask("query-memory-devices")
        for each in there:
            backend = str(each["data"].get("memdev") or "").rpartition("/")[2]
            self._backends[str(each["data"].get("id"))] = backend
        return VmStatus(
            monitor=f"QEMU {version['major']}.{version['minor']}.{version['micro']}",
            name=name,
            arch=arch_called(target),
            state=str(self.ask("query-status")["status"]),
            base=int(summary["base-memory"]),
            most=memory.get("max-size"),
            slots=memory.get("slots"),
            devices=[_device(each["type"], each["data"]) for each in there],
        )

    def _memory_of_machine(self) -> dict[str, int]:
        """``-m``, which older versions do not show."""
        try:
            found: dict[str, int] = self.ask("qom-get", path="/machine", property="memory")
        except VmRefused:
            return {}
        return found

    def request(self, device: str, size: int) -> None:
        """Set ``requested-size`` of a virtio-mem device."""
        self.ask("qom-set", path=f"/machine/peripheral/{device}", property="requested-size", value=size)

    def plug(self, what: Plugged) -> VmDevice:
        """Make a backend and a DIMM of it; a DIMM that is refused leaves no backend behind."""
        backend = f"{what.id}-ram"
        kind = {"qom_type": "memory-backend-file", "mem_path": what.file, "share": True} if what.file else {
            "qom_type": "memory-backend-ram"
        }  # fmt: skip
        self.ask("object-add", id=backend, size=what.size, **kind)
        driver = {"dimm": "pc-dimm", "nvdimm": "nvdimm"}[what.kind]
        more: dict[str, Any] = {} if what.node is None else {"node": what.node}
        if what.label_size:
            more["label_size"] = what.label_size
        try:
            self.ask("device_add", driver=driver, id=what.id, memdev=backend, **more)
        except VmRefused:
            self.ask("object-del", id=backend)
            raise
        return next(device for device in self.status().devices if device.id == what.id)

    def unplug(self, device: str) -> None:
        """``device_del``: the guest is asked, and answers by an event."""
        self.ask("device_del", id=device)

    def forget(self, device: str) -> None:
        """Give the backend of a DIMM that is gone back to the host, if it is one that can go."""
        try:
            self.ask("object-del", id=self._backends.pop(device, f"{device}-ram"))
        except VmRefused:
            return

    def wait(self, seconds: float) -> str:
        """Until an event about memory comes."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            event = self.monitor.event(left, EVENTS)
            if event is None:
                return ""
            said = refusal_in(event)
            if said is not None:
                return said
        return ""

    def close(self) -> None:
        """End the session."""
        self.monitor.close()


def _device(kind: str, data: dict[str, Any]) -> VmDevice:
    virtio = kind == "virtio-mem"
    at = data.get("memaddr" if virtio else "addr")
    return VmDevice(
        id=str(data.get("id") or data.get("qom-path") or data.get("memdev") or kind),
        kind=KINDS.get(kind, "other"),
        at=at,
        size=int(data.get("size", 0)),
        requested=data.get("requested-size"),
        most=data.get("max-size") if virtio else None,
        block_size=data.get("block-size"),
        node=data.get("node"),
        slot=data.get("slot"),
        hotplugged=data.get("hotplugged"),
    )


def refusal_in(event: Event) -> str | None:
    """What an event says of a refusal by the guest, "" if it tells another news of memory; None: no news at all."""
    data = event.get("data", {})
    if event["event"] == "ACPI_DEVICE_OST":
        info = data["info"]
        if info["source"] != OST_SOURCE_EJECT or info["status"] in OST_FINE:
            return None
        return f"the guest answered: {OST_WORDS.get(info['status'], hex(info['status']))}"
    if event["event"] in ("DEVICE_UNPLUG_GUEST_ERROR", "MEM_UNPLUG_ERROR"):
        return str(data.get("msg") or "the guest refused to give it back")
    return ""
