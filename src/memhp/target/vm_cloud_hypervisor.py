"""Cloud Hypervisor over its REST socket: ``vm.info``, ``vm.resize``, ``vm.resize-zone``.

Source: vmm/src/api/openapi/cloud-hypervisor.yaml, vmm/src/lib.rs (``vm_info``), vmm/src/vm.rs (``resize``). What it
calls hotplugged is what was asked for last, and ``memory_actual_size`` is that without the balloon: how much the guest
has taken it does not tell. By ACPI its ``size`` grows instead: a device's size is what came since this session began.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import http.client
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import msgspec

from memhp.errors import BadInput
from memhp.limits import AGENT_ANSWER, ANSWER_SECONDS
from memhp.linux.arch.registry import arch_called
from memhp.target.vm import Plugged, VmDevice, VmLost, VmRefused, VmStatus

RAM = "ram"
"""The device of a machine without zones."""
POLL = 0.5
"""Seconds between two looks: there are no events."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS.most)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class CloudHypervisorVm:
    """A machine behind a socket of ``cloud-hypervisor --api-socket``."""

    sees_taken = False

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self._began: int | None = None
        try:
            self._version = str(self.ask("GET", "vmm.ping").get("version", ""))
        except (VmLost, VmRefused) as error:
            raise BadInput(str(error), where=self.where, fix="a socket of cloud-hypervisor --api-socket") from None

    def ask(self, method: str, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """What a request returns, {} for nothing. Raises :class:`VmRefused` with its words, :class:`VmLost`."""
        line = _Connection(self.where)
        text = None if body is None else json.dumps(body)
        headers = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if text else {})
        try:
            line.request(method, f"/api/v1/{what}", text, headers)
            answer = line.getresponse()
            data = answer.read(AGENT_ANSWER.most)
        except (OSError, http.client.HTTPException) as error:
            raise VmLost(f"Cloud Hypervisor does not answer: {error}") from None
        finally:
            line.close()
        if answer.status >= 300:
            said = data.decode("utf-8", "replace").strip() or answer.reason
            raise VmRefused(f"Cloud Hypervisor refuses {what}: {said}")
        try:
            found = json.loads(data) if data else {}
        except (ValueError, RecursionError):
            raise VmLost(f"not an answer of Cloud Hypervisor: {data[:80]!r}") from None
        return found if isinstance(found, dict) else {}

    def status(self) -> VmStatus:
        """The memory of ``vm.info``: with zones a device each, else one."""
        try:
            return self._status()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise VmLost(f"not an answer of Cloud Hypervisor: {error!r}") from None

    def _status(self) -> VmStatus:
        info = self.ask("GET", "vm.info")
        memory = info["config"]["memory"]
        zones = memory.get("zones") or []
        parts = [(zone["id"], zone) for zone in zones] or [(RAM, memory)]
        base = sum(int(part["size"]) for _, part in parts)
        room = sum(int(part.get("hotplug_size") or 0) for _, part in parts)
        devices = [_device(name, part, memory.get("hotplug_method", "Acpi")) for name, part in parts]
        devices = [device for device in devices if device.most]
        if not zones and memory.get("hotplug_method", "Acpi") == "Acpi":
            first = self._first(memory)
            grown, base = base - first, first
            devices = [msgspec.structs.replace(each, size=grown, requested=grown) for each in devices]
        return VmStatus(
            monitor=f"Cloud Hypervisor {self._version}",
            name=Path(self.where).name,
            arch=arch_called(os.uname().machine),
            state=str(info.get("state", "")).lower(),
            base=base,
            most=base + room,
            devices=devices,
        )

    def _first(self, memory: dict[str, Any]) -> int:
        """RAM of a machine without zones as this session found it."""
        if self._began is None:
            self._began = int(memory["size"])
        return self._began

    def request(self, device: str, size: int) -> None:
        """``vm.resize`` or ``vm.resize-zone``, whose figure is all RAM of the machine or zone."""
        memory = self.ask("GET", "vm.info")["config"]["memory"]
        zones = {zone["id"]: zone for zone in memory.get("zones") or []}
        if device in zones:
            self.ask("PUT", "vm.resize-zone", {"id": device, "desired_ram": int(zones[device]["size"]) + size})
        else:
            acpi = memory.get("hotplug_method", "Acpi") == "Acpi"
            base = self._first(memory) if acpi else int(memory["size"])
            self.ask("PUT", "vm.resize", {"desired_ram": base + size})

    def plug(self, what: Plugged) -> VmDevice:
        """Not a thing of its own here. Raises BadInput."""
        raise BadInput("Cloud Hypervisor plugs no DIMMs by name", where=self.where, fix="memhp vm resize")

    def unplug(self, device: str) -> None:
        """Not a thing of its own here. Raises BadInput."""
        raise BadInput("Cloud Hypervisor takes no DIMMs away", where=self.where, fix="memhp vm resize, with virtio-mem")

    def forget(self, device: str) -> None:
        """Nothing is held."""

    def wait(self, seconds: float) -> str:
        """A moment."""
        time.sleep(min(seconds, POLL))
        return ""

    def close(self) -> None:
        """Each request had a connection of its own."""


def _device(name: str, part: dict[str, Any], method: str) -> VmDevice:
    asked = int(part.get("hotplugged_size") or 0)
    most = int(part.get("hotplug_size") or 0)
    return VmDevice(
        id=name, kind="virtio-mem" if method == "VirtioMem" else "other", size=asked, requested=asked, most=most
    )
