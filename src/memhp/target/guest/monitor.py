"""QEMU's monitor, spoken to synchronously: commands, and events that came meanwhile (QMP, by qemu.qmp)."""
# SPDX-License-Identifier: GPL-2.0-or-later

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from qemu.qmp import ExecuteError, QMPClient, QMPError

from memhp.target.guest.agent import LOOK, GuestLost, GuestSlow

T = TypeVar("T")
CONNECT, ANSWER = 30, 60
"""Seconds for QEMU to be there, and to answer."""

Event = Mapping[str, Any]


class Refused(Exception):
    """QEMU refused a command, with its own words."""


async def _within(seconds: float, clock: Callable[[], float], act: Awaitable[T]) -> T:
    """What comes of something in so many seconds of the guest's time. Raises TimeoutError."""
    task, end = asyncio.ensure_future(act), clock() + seconds
    while not task.done() and clock() < end:
        await asyncio.wait({task}, timeout=LOOK)
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        raise TimeoutError
    return task.result()


class Monitor:
    """A session on a connected socket; `clock` tells the guest's time. To be closed."""

    def __init__(
        self, line: socket.socket, explain: Callable[[], str] = str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._explain = explain
        self.clock = clock
        self._loop = asyncio.Runner()
        self._client = QMPClient("memhp")
        try:
            self._loop.run(_within(CONNECT, clock, self._client.connect(line)))
        except TimeoutError:
            self._loop.close()
            raise GuestSlow(f"QEMU did not start in {CONNECT} s{explain()}") from None
        except (QMPError, OSError) as error:
            self._loop.close()
            raise GuestLost(f"QEMU did not start: {error}{explain()}") from error

    def execute(self, command: str, **arguments: Any) -> Any:
        """What a command returns. Raises :class:`Refused`, or :class:`GuestLost` when QEMU is gone."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            return self._loop.run(_within(ANSWER, self.clock, self._client.execute(command, named)))
        except ExecuteError as error:
            raise Refused(str(error)) from error
        except TimeoutError:
            raise GuestSlow(f"QEMU did not answer {command} in {ANSWER} s{self._explain()}") from None
        except QMPError as error:
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
