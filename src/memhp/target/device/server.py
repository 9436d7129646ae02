"""A virtio-mem device served to front ends, one after another, by one thread that waits for whatever comes next.

The device outlives a front end: one that comes back, or a guest that boots anew, finds what is plugged still plugged.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from memhp.errors import BadInput
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.scenario.schema import Fault
from memhp.spans import Span
from memhp.target.device.backend import Backend, Say
from memhp.target.device.control import Ask, Client
from memhp.target.device.faults import MOST_FAULTS, checked_rules
from memhp.target.device.messages import BrokenProtocol
from memhp.target.device.sockets import listen
from memhp.target.device.status import DeviceDocument, Journal, RequestRow, document

MOST_CLIENTS = 16
"""Connections to the control socket at once; the next ones wait."""


class Server:
    """A device behind two sockets: one for the front end, one that controls it. To be closed."""

    def __init__(
        self,
        geometry: Geometry,
        path: Path,
        control: Path,
        *,
        say: Say,
        heard: Callable[[RequestRow], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Listen at both paths. Raises :class:`BadInput`."""
        self.device = VirtioMemDevice(geometry, self)
        self.faults: list[Fault] = []
        self.journal = Journal(heard)
        self._say, self._clock = say, clock
        self._backend: Backend | None = None
        self._clients: dict[int, Client] = {}
        self._paths = (path, control)
        self._listener = listen(path, where="--socket")
        try:
            self._control = listen(control, where="--control")
        except BadInput:
            self._listener.close()
            path.unlink(missing_ok=True)
            raise
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.stopping = False

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # The memory behind the blocks ----------------------------------------------------------------------------

    def plug(self, span: Span) -> None:
        """The front end's machine has the memory already: nothing is to be done."""

    def access(self, name: str, *, changes: bool) -> None:
        """Requests come one after the other."""

    def unplug(self, span: Span) -> None:
        """What a guest gave back goes back to the host."""
        if self._backend is not None:
            self._backend.memory.discard(span)

    # The loop ------------------------------------------------------------------------------------------------

    def run(self, *, once: bool = False) -> None:
        """Serve until :meth:`stop`, or, with `once`, until the first front end has gone."""
        served = False
        while not self.stopping:
            self.turn()
            served = served or self._backend is not None
            if once and served and self._backend is None:
                return

    def stop(self) -> None:
        """End :meth:`run`, from any thread."""
        self.stopping = True
        os.eventfd_write(self._wake, 1)

    def turn(self, timeout: float | None = None) -> None:
        """Wait for the next thing that comes, at most so many seconds, and deal with it."""
        due = self._backend.queue.due() if self._backend is not None else None
        if due is not None:
            left = max(0.0, due - self._clock())
            timeout = left if timeout is None else min(timeout, left)
        with selectors.PollSelector() as selector:
            self._register(selector)
            ready = selector.select(timeout)
        for key, _ in ready:
            key.data()
        if self._backend is not None:
            self._served(lambda backend: backend.queue.work())
        self.journal.take(self.device.log)

    def _register(self, selector: selectors.BaseSelector) -> None:
        """Everything that something can come from now."""
        selector.register(self._wake, selectors.EVENT_READ, lambda: None)
        if len(self._clients) < MOST_CLIENTS:
            selector.register(self._control, selectors.EVENT_READ, self._accept_client)
        for fd, client in self._clients.items():
            event = selectors.EVENT_WRITE if client.answering else selectors.EVENT_READ
            selector.register(client.line, event, lambda fd=fd: self._client_turn(fd))
        if self._backend is None:
            selector.register(self._listener, selectors.EVENT_READ, self._accept)
            return
        selector.register(self._backend.line, selectors.EVENT_READ, self._message)
        queue = self._backend.queue
        if queue.running and queue.kick is not None and queue.pending is None:
            selector.register(queue.kick, selectors.EVENT_READ, self._kicked)

    def _accept(self) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            line, _ = self._listener.accept()
            self._backend = Backend(line, self.device, self._say, self._clock)
            self._say("a front end is connected")

    def _message(self) -> None:
        def take(backend: Backend) -> None:
            if not backend.received():
                self._end("the front end has gone")

        self._served(take)

    def _kicked(self) -> None:
        self._served(lambda backend: backend.queue.kicked())

    def _served(self, act: Callable[[Backend], None]) -> None:
        """Do something for the front end; where it breaks the protocol its connection ends."""
        if self._backend is None:
            return
        try:
            act(self._backend)
        except BrokenProtocol as error:
            self._end(f"the front end broke the protocol, its connection ends: {error}")

    def _end(self, why: str) -> None:
        if self._backend is not None:
            self._backend.close()
            self._backend = None
            self._say(why)

    # The control socket --------------------------------------------------------------------------------------

    def _accept_client(self) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            line, _ = self._control.accept()
            self._clients[line.fileno()] = Client(line)

    def _client_turn(self, fd: int) -> None:
        client = self._clients[fd]
        going_on = client.writable() if client.answering else client.readable(self.answer)
        if not going_on:
            del self._clients[fd]
            client.line.close()

    def answer(self, asked: Ask) -> DeviceDocument:
        """Do what is asked, all of it or nothing, and tell of the device. Raises :class:`BadInput`."""
        self.journal.take(self.device.log)
        kept = [] if asked.clear else self.faults
        if len(kept) + len(asked.faults) > MOST_FAULTS:
            raise BadInput(f"more than {MOST_FAULTS} faults", where="faults", fix="clear them")
        rules = checked_rules(asked.faults, self.device.geometry, where="faults")
        if asked.requested is not None:
            self.device.check_size(asked.requested)
        if asked.clear:
            self.device.rules.clear()
            self.device.matched.clear()
        self.device.rules += rules
        self.faults = [*kept, *asked.faults]
        if asked.requested is not None:
            self.device.resize(asked.requested)
        return self.status(asked.since)

    def status(self, since: int | None = None) -> DeviceDocument:
        """The device as it stands, with the requests from number `since` on."""
        rows = [] if since is None else self.journal.since(since)
        connected = self._backend is not None
        return document(self.device, self.faults, rows, answered=self.journal.count, connected=connected)

    def close(self) -> None:
        """Let go of every connection, and remove the sockets."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None
        for client in self._clients.values():
            client.line.close()
        self._clients.clear()
        lines: tuple[socket.socket, ...] = (self._listener, self._control)
        for line, path in zip(lines, self._paths, strict=True):
            line.close()
            path.unlink(missing_ok=True)
        os.close(self._wake)
