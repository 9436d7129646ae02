"""The line to the agent in a guest: requests and answers over a stream socket."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import secrets
import shlex
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from memhp.errors import MemhpError
from memhp.target.guest.initramfs import READY

DEATH = re.compile(r"\bBUG: (?!soft lockup)|\bOops\b|Kernel panic")
"""What a kernel says on its console that will not go on."""
TROUBLE = re.compile(rf"{DEATH.pattern}|blocked for more than|soft lockup|self-detected stall")
"""What else it says where something hangs, or on a machine so busy that it thinks so."""
LOOK = 1.0
"""Seconds between two looks at the time that a guest had."""
ANSWER = 120
"""Seconds for commands that have none of their own."""


class GuestLost(MemhpError):
    """The guest, or its agent, does not answer any more."""


class GuestSlow(GuestLost):
    """The guest has not answered in time, or is not done; nothing says that it will not, on a faster machine."""


class Answer(NamedTuple):
    """What commands printed, and the status of the last."""

    output: bytes
    status: int

    @property
    def text(self) -> str:
        """The output as text."""
        return self.output.decode("utf-8", "replace")


class Agent:
    """One agent; `explain` says what the guest's console showed last, for errors. `clock` tells the guest's time."""

    def __init__(
        self, line: socket.socket, explain: Callable[[], str] = str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._line = line
        self._explain = explain
        self._clock = clock
        self._buffer = b""

    def wait(self, timeout: float) -> str:
        """Wait until the agent is there; the kernel's release.

        Raises :class:`GuestLost`: a kernel that says no more than that something hangs may come up another time.
        """
        said = self._until(READY.encode() + b" ", timeout, DEATH)
        del said
        return self._until(b"\n", timeout, DEATH).decode().strip()

    def run(self, commands: str, timeout: float = ANSWER) -> Answer:
        """Carry out shell commands, on one line. Raises :class:`GuestLost` without an answer in `timeout` s."""
        token = secrets.token_hex(8)
        assert "\n" not in commands
        self._line.settimeout(timeout)
        try:
            self._line.sendall(f"{token} {commands}\n".encode())
        except OSError:
            raise GuestLost(f"the guest is gone{self._explain()}") from None
        output = self._until(f"\n{token} ".encode(), timeout)
        return Answer(output, int(self._until(b"\n", timeout)))

    def write(self, path: str, text: str, timeout: float = ANSWER) -> str:
        """``echo TEXT > PATH``: the error's text, "" when it was taken."""
        answer = self.run(f"echo {shlex.quote(text)} > {shlex.quote(path)}", timeout)
        return "" if answer.status == 0 else answer.text.strip().rpartition(": ")[2] or "failed"

    def _late(self, timeout: float, trouble: re.Pattern[str]) -> GuestLost:
        """A guest whose console tells of trouble is lost, another one may be slow."""
        said = self._explain()
        return (GuestLost if trouble.search(said) else GuestSlow)(f"no answer in {timeout:g} s{said}")

    def _until(self, end: bytes, timeout: float, trouble: re.Pattern[str] = TROUBLE) -> bytes:
        """What comes before `end`, which is taken too."""
        deadline = self._clock() + timeout
        start = 0
        while (at := self._buffer.find(end, start)) < 0:
            start = max(0, len(self._buffer) - len(end))
            left = deadline - self._clock()
            if left <= 0:
                raise self._late(timeout, trouble)
            self._line.settimeout(min(LOOK, left))
            try:
                part = self._line.recv(1 << 20)
            except TimeoutError:
                continue
            except OSError:
                part = b""
            if not part:
                raise GuestLost(f"the guest is gone{self._explain()}")
            self._buffer += part
        found, self._buffer = self._buffer[:at], self._buffer[at + len(end) :]
        return found
