"""What somebody does to a machine over QMP and its own files, for a twin and a real QEMU with a real guest alike.

A script is a list of acts. ``ask`` sends a command; ``until`` waits for an event of that name; ``write`` and ``read``
are the machine's files. What came of each is told in a form that does not depend on time: events are those of the act,
and of the sizes that a virtio-mem device had on the way the last one is kept, as QEMU tells one a second at most.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from memhp.units import MiB

SYS = "/sys/devices/system/memory"
SIZE_CHANGE = "MEMORY_DEVICE_SIZE_CHANGE"
Act = tuple[str, str, Any]

DIMM = {"driver": "pc-dimm", "id": "d0", "memdev": "m0"}
VM = {"driver": "virtio-mem-pci", "id": "vm0", "memdev": "m1", "bus": "port0"}


def backend(name: str, size: int) -> Act:
    return ("ask", "object-add", {"qom-type": "memory-backend-ram", "id": name, "size": size})


def size_to(size: int, *, wait: bool = True) -> list[Act]:
    """virtio-mem gets another size, and the guest gets there."""
    wanted = {"path": "vm0", "property": "requested-size", "value": size}
    return [("ask", "qom-set", wanted), *([("size", "vm0", size)] if wait else [])]


LOOK: list[Act] = [("ask", "query-memory-devices", {}), ("ask", "query-memory-size-summary", {})]

SCRIPT: list[Act] = [
    *LOOK,
    ("read", f"{SYS}/auto_online_blocks", None),
    # A DIMM comes, is kept, and goes.
    backend("m0", 256 * MiB),
    ("ask", "device_add", DIMM),
    ("until", "ACPI_DEVICE_OST", 1),
    *LOOK,
    ("read", f"{SYS}/memory32/state", None),
    ("read", f"{SYS}/memory33/valid_zones", None),
    ("ask", "device_add", {**DIMM, "id": "d1"}),
    ("ask", "object-del", {"id": "m0"}),
    ("write", "/sys/firmware/acpi/hotplug/memory/enabled", "0"),
    ("ask", "device_del", {"id": "d0"}),
    ("until", "ACPI_DEVICE_OST", 1),
    ("write", "/sys/firmware/acpi/hotplug/memory/enabled", "1"),
    ("read", f"{SYS}/memory32/state", None),
    ("ask", "device_del", {"id": "d0"}),
    ("until", "DEVICE_DELETED", 1),
    *LOOK,
    ("read", f"{SYS}/memory32/state", None),
    ("ask", "object-del", {"id": "m0"}),
    ("ask", "device_del", {"id": "d0"}),
    # One whose size is no whole number of memory blocks is refused by the guest.
    backend("m0", 130 * MiB),
    ("ask", "device_add", DIMM),
    ("until", "ACPI_DEVICE_OST", 1),
    ("ask", "query-memory-devices", {}),
    ("ask", "device_del", {"id": "d0"}),
    ("until", "DEVICE_DELETED", 1),
    ("ask", "object-del", {"id": "m0"}),
    # virtio-mem grows, is in the way, shrinks and goes.
    backend("m1", 1024 * MiB),
    ("ask", "device_add", {**VM, "requested-size": 3}),
    ("ask", "device_add", VM),
    *LOOK,
    *size_to(256 * MiB),
    *LOOK,
    ("ask", "device_del", {"id": "vm0"}),
    ("ask", "qom-set", {"path": "vm0", "property": "requested-size", "value": 5}),
    ("ask", "qom-set", {"path": "vm0", "property": "requested-size", "value": 2048 * MiB}),
    ("ask", "qom-set", {"path": "vm0", "property": "size", "value": 0}),
    *size_to(64 * MiB),
    *size_to(512 * MiB),
    ("ask", "qom-get", {"path": "/machine/peripheral/vm0", "property": "size"}),
    *size_to(0),
    ("ask", "device_del", {"id": "vm0"}),
    ("until", "DEVICE_DELETED", 2),
    *LOOK,
    ("ask", "object-del", {"id": "m1"}),
]


class Machine(Protocol):
    """A machine behind a monitor."""

    def ask(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The reply: ``return``, or ``error`` with what QEMU says."""

    def events(self, wanted: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """The events that came until they are what is wanted, or time is up."""

    def file(self, path: str, text: str | None) -> str:
        """What a file says, or what a write to it ends in."""


def play(machine: Machine, script: Iterable[Act]) -> list[list[Any]]:
    """Do all of a script: each act with what came of it."""
    told: list[list[Any]] = []
    for kind, name, more in script:
        if kind == "ask":
            came: Any = machine.ask(name, more)
        elif kind == "until":
            came = settled(machine.events(partial(_came, name=name, count=more)))
        elif kind == "size":
            came = settled(machine.events(partial(_sized, name=name, size=more)))
        else:
            came = machine.file(name, more)
        told.append([kind, name, more, came])
    return told


def _came(seen: list[dict[str, Any]], name: str, count: int) -> bool:
    return [event["event"] for event in seen].count(name) >= count


def _sized(seen: list[dict[str, Any]], name: str, size: int) -> bool:
    told = [event["data"] for event in seen if event["event"] == SIZE_CHANGE]
    return [each["size"] for each in told if each["id"] == name][-1:] == [size]


def settled(events: list[dict[str, Any]]) -> list[list[Any]]:
    """Events without their time; of several sizes of a device the last."""
    found = [[event["event"], event.get("data", {})] for event in events]
    last = {json.dumps(data.get("id")): place for place, (name, data) in enumerate(found) if name == SIZE_CHANGE}
    return [each for place, each in enumerate(found) if each[0] != SIZE_CHANGE or place in last.values()]
