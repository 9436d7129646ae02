"""Sockets of a twin that requests come in through, and lines go out: of control, QMP and the guest agent."""
# SPDX-License-Identifier: GPL-2.0-or-later

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from memhp.target.device.sockets import listen
from memhp.twin.loop import Loop

MOST_REQUEST = 1 << 20
"""Bytes of a request; whoever sends a longer one is cut off."""
AT_ONCE = 1 << 16
BACKLOG = 128
"""Connections that may wait until the twin has time for them."""


class Talk(Protocol):
    """One side of a conversation: what is said first, and what to each request."""

    def greeting(self) -> bytes:
        """Said unasked when somebody connects."""

    def line(self, text: bytes) -> bytes:
        """The answer to a request; b"" for none."""

    def said(self) -> None:
        """The answer is on its way."""


class Frames(Protocol):
    """Where requests end."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The requests that are whole with what has come now; the rest is kept."""

    def __len__(self) -> int:
        """Bytes of a request that is not whole yet."""


class Lines:
    """A request is a line."""

    def __init__(self) -> None:
        self._got = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Every whole line."""
        *whole, self._got = (self._got + data).split(b"\n")
        yield from whole

    def __len__(self) -> int:
        return len(self._got)


class Client:
    """Somebody who is connected."""

    def __init__(self, line: socket.socket, talk: Talk, frames: Frames) -> None:
        self.line = line
        self.talk = talk
        self._frames = frames
        line.settimeout(10)

    def send(self, data: bytes) -> bool:
        """Say something; False when nobody listens any more."""
        try:
            self.line.sendall(data)
        except OSError:
            return False
        return True

    def readable(self) -> bool:
        """Take what has come, and answer it; False when there is nothing more to be done."""
        try:
            data = self.line.recv(AT_ONCE)
        except OSError:
            return False
        if not data:
            return False
        for text in self._frames.feed(data):
            said = self.talk.line(text) if text.strip() else b""
            if said and not self.send(said):
                return False
            self.talk.said()
        return len(self._frames) <= MOST_REQUEST


class LineServer:
    """A listening socket at a path, of mode 0600; `frames` says where requests end. To be closed."""

    def __init__(
        self, loop: Loop, path: Path, talk: Callable[["LineServer"], Talk], frames: Callable[[], Frames] = Lines
    ) -> None:
        self.clients: dict[int, Client] = {}
        self._loop = loop
        self._path = path
        self._talk = talk
        self._frames = frames
        self._listener = listen(path, where="socket", backlog=BACKLOG)
        loop.add(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        with suppress(OSError):
            line, _ = self._listener.accept()
            client = Client(line, self._talk(self), self._frames())
            number = line.fileno()
            self.clients[number] = client
            self._loop.add(number, lambda: self._turn(number))
            greeting = client.talk.greeting()
            if greeting and not client.send(greeting):
                self._drop(number)

    def _turn(self, number: int) -> None:
        if not self.clients[number].readable():
            self._drop(number)

    def _drop(self, number: int) -> None:
        client = self.clients.pop(number, None)
        if client is not None:
            self._loop.remove(number)
            client.line.close()

    def close(self) -> None:
        """Let go of everybody, and remove the socket; once is enough."""
        if self._listener.fileno() < 0:
            return
        for number in list(self.clients):
            self._drop(number)
        self._loop.remove(self._listener.fileno())
        self._listener.close()
        self._path.unlink(missing_ok=True)
