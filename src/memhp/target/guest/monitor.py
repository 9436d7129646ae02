"""QEMU's monitor, spoken to synchronously: commands, and events that came meanwhile (QMP, by qemu.qmp)."""
# SPDX-License-Identifier: GPL-2.0-or-later

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any

from qemu.qmp import ExecuteError, QMPClient, QMPError

from memhp.target.guest.agent import GuestLost

Event = Mapping[str, Any]


class Refused(Exception):
    """QEMU refused a command, with its own words."""


async def _connected(line: socket.socket) -> QMPClient:
    client = QMPClient("memhp")
    await asyncio.wait_for(client.connect(line), 30)
    return client


class Monitor:
    """A session on a connected socket. To be closed."""

    def __init__(self, line: socket.socket, explain: Callable[[], str] = str) -> None:
        self._explain = explain
        self._loop = asyncio.Runner()
        try:
            self._client = self._loop.run(_connected(line))
        except (QMPError, TimeoutError, OSError) as error:
            self._loop.close()
            raise GuestLost(f"QEMU did not start: {error}{explain()}") from error

    def execute(self, command: str, **arguments: Any) -> Any:
        """What a command returns. Raises :class:`Refused`, or :class:`GuestLost` when QEMU is gone."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            return self._loop.run(asyncio.wait_for(self._client.execute(command, named), 60))
        except ExecuteError as error:
            raise Refused(str(error)) from error
        except (QMPError, TimeoutError) as error:
            raise GuestLost(f"QEMU is gone: {error}{self._explain()}") from error

    def event(self, timeout: float, names: tuple[str, ...]) -> Event | None:
        """The next event of one of these names; None when none comes in `timeout` seconds."""

        async def wait() -> Event:
            while True:
                event = await self._client.events.get()
                if event["event"] in names:
                    return event

        try:
            return self._loop.run(asyncio.wait_for(wait(), timeout))
        except TimeoutError:
            return None

    def close(self) -> None:
        """End the session; QEMU may be gone already."""

        async def leave() -> None:
            try:
                await asyncio.wait_for(self._client.disconnect(), 5)
            except (QMPError, TimeoutError, OSError, EOFError):
                return

        self._loop.run(leave())
        self._loop.close()
