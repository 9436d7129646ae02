"""A twin behind a monitor without sockets, for scripts of QMP, and how it may differ from a real QEMU."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memhp.errors import KernelError
from memhp.twin.boot import boot
from memhp.twin.files.root import twin_files, twin_root
from memhp.twin.machine import SECOND
from memhp.twin.qemu.monitor import Connection, Monitor
from memhp.twin.qemu.platform import Platform
from memhp.twin.tree import Attribute, resolve
from memhp.units import GiB
from qmp_script import Machine
from twin_runs import scenario

MACHINE = """
[machine]
arch = "x86_64"
profile = "7.2"
memory = "1G"
cpus = 2
boot = { memhp_default_state = "online_movable" }
"""
PATIENCE = 10
"""Seconds of machine time."""


class TwinMachine(Machine):
    """A twin that machine time passes on only when something is waited for."""

    def __init__(self, folder: Path) -> None:
        self.twin = boot(scenario(folder, MACHINE), speed=0).twin
        platform = Platform(self.twin, 16, 64 * GiB)
        Monitor(platform)
        self._seen: list[dict[str, Any]] = []
        platform.listeners.append(lambda name, data: self._seen.append({"event": name, "data": data}))
        self._root = twin_root(twin_files(self.twin, ""))
        self._connection = Connection(platform)
        self.ask("qmp_capabilities", {})

    def ask(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """As if it came through the socket."""
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        reply = json.loads(self._connection.line(json.dumps(request).encode()))
        self._connection.said()
        return {"error": reply["error"]["desc"]} if "error" in reply else {"return": reply["return"]}

    def events(self, wanted: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """What was told since the last time; time passes until that is what is wanted."""
        for _ in range(PATIENCE):
            if wanted(self._seen):
                break
            self.twin.session.k.hw.advance(SECOND)
            self.twin.changed()
        seen, self._seen[:] = list(self._seen), []
        return seen

    def file(self, path: str, text: str | None) -> str:
        """What stands in a file, or what a write ends in."""
        entry = resolve(self._root, path)
        if not isinstance(entry, Attribute):
            return ""
        try:
            if text is None:
                return entry.show().strip() if entry.show is not None else ""
            assert entry.store is not None
            self.twin.wrote(0, path, text, entry.store)
        except KernelError as error:
            return error.name
        return ""


def differences(real: list[list[Any]], ours: list[list[Any]]) -> list[tuple[Any, Any, Any]]:
    """Acts with what came of them on both, where that differs."""
    assert [row[:3] for row in real] == [row[:3] for row in ours]
    return [(theirs[:3], theirs[3], mine[3]) for theirs, mine in zip(real, ours, strict=True) if theirs[3] != mine[3]]
