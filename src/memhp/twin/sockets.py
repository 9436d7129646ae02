"""Sockets of a twin that whole lines come in through, and lines go out: of control, QMP and the guest agent."""
# SPDX-License-Identifier: GPL-2.0-or-later

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from memhp.target.device.sockets import listen
from memhp.twin.loop import Loop

MOST_LINE = 1 << 20
"""Bytes of a line; whoever sends a longer one is cut off."""
AT_ONCE = 1 << 16
BACKLOG = 128
"""Connections that may wait until the twin has time for them."""


class Talk(Protocol):
    """One side of a conversation: what is said first, and what to each line."""

    def greeting(self) -> bytes:
        """Said unasked when somebody connects."""

    def line(self, text: bytes) -> bytes:
        """The answer to a line; b"" for none."""

    def said(self) -> None:
        """The answer is on its way."""


class Client:
    """Somebody who is connected."""

    def __init__(self, line: socket.socket, talk: Talk) -> None:
        self.line = line
        self.talk = talk
        self._got = b""
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
        self._got += data
        while b"\n" in self._got:
            text, _, self._got = self._got.partition(b"\n")
            said = self.talk.line(text) if text.strip() else b""
            if said and not self.send(said):
                return False
            self.talk.said()
        return len(self._got) <= MOST_LINE


class LineServer:
    """A listening socket at a path, of mode 0600. To be closed."""

    def __init__(self, loop: Loop, path: Path, talk: Callable[["LineServer"], Talk]) -> None:
        self.clients: dict[int, Client] = {}
        self._loop = loop
        self._path = path
        self._talk = talk
        self._listener = listen(path, where="socket", backlog=BACKLOG)
        loop.add(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        with suppress(OSError):
            line, _ = self._listener.accept()
            client = Client(line, self._talk(self))
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
        client = self.clients.pop(number)
        self._loop.remove(number)
        client.line.close()

    def close(self) -> None:
        """Let go of everybody, and remove the socket."""
        for number in list(self.clients):
            self._drop(number)
        self._loop.remove(self._listener.fileno())
        self._listener.close()
        self._path.unlink(missing_ok=True)
