"""Connections to the monitor: greeting, capabilities, commands in order, and events that come unasked."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import time
from typing import Any

from memhp.twin.machine import SECOND
from memhp.twin.qemu.commands import CAPABILITIES, COMMANDS, VERSION
from memhp.twin.qemu.platform import Platform
from memhp.twin.qemu.protocol import (
    Arguments,
    Command,
    Parameter,
    QmpError,
    command_name,
    dispatch,
    error_body,
    parse,
    reply,
)
from memhp.twin.sockets import LineServer

EVENTS = ("ACPI_DEVICE_OST", "DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR", "MEMORY_DEVICE_SIZE_CHANGE",
          "POWERDOWN", "RESUME", "SHUTDOWN", "STOP")  # fmt: skip
"""What QEMU may tell unasked of memory and of the machine as a whole."""
OFFERED = ("oob",)
"""What a client may make use of."""
THROTTLED = {"MEMORY_DEVICE_SIZE_CHANGE": SECOND}
"""Events of which QEMU sends one in so long for each object (``monitor/monitor.c``): nanoseconds."""


def stamp() -> dict[str, int]:
    """The time of an event."""
    now = time.time_ns() // 1000
    return {"seconds": now // 1_000_000, "microseconds": now % 1_000_000}


class Connection:
    """One client (:class:`~memhp.twin.sockets.Talk`)."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.negotiated = False
        self._oob = False
        self._line = 0
        negotiate = Command(self._negotiate, {"enable": Parameter("array", optional=True)})
        self._commands = {CAPABILITIES: negotiate, **COMMANDS}

    def greeting(self) -> bytes:
        """What QEMU says first."""
        return json.dumps({"QMP": {"version": VERSION, "capabilities": OFFERED}}).encode() + b"\r\n"

    def said(self) -> None:
        """The guest hears of what was asked for only now."""
        self._platform.guest_turn()

    def line(self, text: bytes) -> bytes:
        """The answer to a request; to none once QEMU was told to quit."""
        if self._platform.over:
            return b""
        self._line += 1
        request: dict[str, Any] = {}
        said = text.decode(errors="replace").strip()
        try:
            request = parse(text, self._line)
            result = self._answer(request)
        except QmpError as error:
            self._platform.twin.note("qmp", _name(request), said, result=error.kind, reason=error.text)
            return reply(request, error_body(error))
        self._platform.twin.note("qmp", _name(request), said)
        return reply(request, {"return": result})

    def _answer(self, request: dict[str, Any]) -> Any:
        name = command_name(request, oob=self._oob)
        if name != CAPABILITIES and not self.negotiated:
            raise QmpError(f"Expecting capabilities negotiation with '{CAPABILITIES}'", "CommandNotFound")
        twin = self._platform.twin
        twin.tick()
        self._platform.sync()
        try:
            return dispatch(self._commands, self._platform, request, oob=self._oob)
        finally:
            self._platform.sync()

    def _negotiate(self, _: Platform, arguments: Arguments) -> dict[str, Any]:
        """``qmp_capabilities``: what the client wants to make use of. Raises :class:`QmpError`."""
        enable = arguments.get("enable", [])
        for place, each in enumerate(enable):
            if not isinstance(each, str):
                raise QmpError(f"Invalid parameter type for 'enable[{place}]', expected: string")
            if each not in OFFERED:
                # An element of a list has no name there (``qapi/qapi-visit-core.c:input_type_enum``).
                raise QmpError(f"Parameter 'null' does not accept value '{each}'")
        if self.negotiated:
            raise QmpError("Capabilities negotiation is already complete, command ignored", "CommandNotFound")
        self.negotiated, self._oob = True, "oob" in enable
        return {}


def _name(request: dict[str, Any]) -> str:
    return str(request.get("execute", request.get("exec-oob", "")))


class Monitor:
    """Everybody who is connected, and what they are told unasked."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._servers: list[LineServer] = []
        self._sizes = {name: platform.size_now(device) for name, device in platform.devices.items()}
        self._held: set[str] = set()
        platform.listeners.append(self._send)
        platform.at_end.append(self._leave)
        platform.twin.moved.append(self.sizes)

    def connection(self, server: LineServer) -> Connection:
        """Somebody connects to `server`."""
        if server not in self._servers:
            self._servers.append(server)
        return Connection(self._platform)

    def _leave(self) -> None:
        """QEMU has quit: nobody listens any more."""
        for server in self._servers:
            server.close()

    def _send(self, event: str, data: dict[str, Any]) -> None:
        body: dict[str, Any] = {"timestamp": stamp(), "event": event}
        if data:
            body["data"] = data
        line = json.dumps(body).encode() + b"\r\n"
        for server in self._servers:
            for client in list(server.clients.values()):
                if isinstance(client.talk, Connection) and client.talk.negotiated:
                    client.send(line)

    def sizes(self) -> None:
        """Tell of virtio-mem devices that have another size, each once in a second."""
        self._platform.sync()
        for name, device in self._platform.devices.items():
            if device.kind == "virtio-mem":
                self._platform.hear(device)
                if name not in self._held and self._sizes.get(name, 0) != self._platform.size_now(device):
                    self._tell_size(name)

    def _tell_size(self, name: str) -> None:
        device = self._platform.devices[name]
        size = self._sizes[name] = self._platform.size_now(device)
        self._held.add(name)
        data = {"id": name, "size": size, "qom-path": device.path}
        self._platform.tell("MEMORY_DEVICE_SIZE_CHANGE", data)

        def free() -> None:
            self._held.discard(name)
            self.sizes()

        self._platform.twin.session.k.hw.arm(THROTTLED["MEMORY_DEVICE_SIZE_CHANGE"], free)
