"""Talk with whoever listens at a Unix socket: never longer than a deadline, never more than a limit says."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import socket
import time
from pathlib import Path

from memhp.limits import AGENT_ANSWER, ANSWER_SECONDS, Limit


class SocketLine:
    """A connection whose answers end in some byte. To be closed. Raises OSError where nobody listens in time."""

    def __init__(self, path: Path, seconds: float = ANSWER_SECONDS.most) -> None:
        self.where = str(path)
        self._buffer = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(seconds)
            self._socket.connect(os.fspath(path))
        except BaseException:
            self._socket.close()
            raise

    def send(self, data: bytes) -> None:
        """Say something. Raises OSError."""
        self._socket.sendall(data)

    def until(self, end: bytes, seconds: float = ANSWER_SECONDS.most, limit: Limit = AGENT_ANSWER) -> bytes:
        """What is said up to `end`, which is taken off; the rest stays for the next time.

        Raises TimeoutError where it is not there in `seconds`, EOFError where the other side ends before, OSError, and
        :class:`~memhp.errors.BadInput` for more than the limit.
        """
        deadline = time.monotonic() + seconds
        found = -1
        while (found := self._buffer.find(end, max(0, found))) < 0:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no answer in {seconds:g} s")
            self._socket.settimeout(left)
            part = self._socket.recv(1 << 16)
            if not part:
                raise EOFError("it hung up")
            found = len(self._buffer)
            self._buffer += part
            if len(self._buffer) > limit.most:
                raise limit.refusal(self.where)
        said, self._buffer = self._buffer[:found], self._buffer[found + len(end) :]
        return said

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
