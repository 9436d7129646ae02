"""The control socket of a served device: one line of JSON asks, one line answers, then it closes.

A request is an :class:`Ask`; the answer is a :class:`~memhp.target.device.status.DeviceDocument`, or ``error`` with one
line. Nothing changes where anything in a request is wrong.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from memhp.errors import BadInput, MemhpError
from memhp.json_text import json_decoded
from memhp.scenario.schema import Fault
from memhp.target.device.status import DeviceDocument
from memhp.target.socket_line import SocketLine

MOST_ASKED = 1 << 16
"""Bytes of a request."""


class Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is asked of a device; without a key it only tells of itself."""

    requested: int | None = None
    """Another requested size, in bytes."""
    clear: bool = False
    """No fault is in force any more, before those in `faults` are."""
    faults: list[Fault] = []
    since: int | None = None
    """Tell the requests from this number on; None for none."""


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Why nothing was done."""

    error: str


class Client:
    """Somebody who asks: a connection of the server, which keeps no more than one request and one answer."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self._asked = b""
        self._answer: memoryview | None = None
        line.setblocking(False)

    @property
    def answering(self) -> bool:
        """Whether the answer is on its way."""
        return self._answer is not None

    def readable(self, answer: Callable[[Ask], DeviceDocument]) -> bool:
        """Take what has come; False when there is nothing more to be done for this client."""
        try:
            data = self.line.recv(MOST_ASKED)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._asked += data
        if b"\n" not in self._asked and data and len(self._asked) < MOST_ASKED:
            return True
        if not self._asked:
            return False
        told: DeviceDocument | Trouble
        try:
            told = answer(json_decoded(self._asked.partition(b"\n")[0], Ask))
        except msgspec.MsgspecError as error:
            told = Trouble(error=f"the request cannot be read: {error}")
        except MemhpError as error:
            told = Trouble(error=str(error))
        self._asked = b""
        self._answer = memoryview(msgspec.json.encode(told) + b"\n")
        return self.writable()

    def writable(self) -> bool:
        """Send on; False when the answer is gone, or nobody wants it."""
        assert self._answer is not None
        try:
            self._answer = self._answer[self.line.send(self._answer) :]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return bool(self._answer)


def ask(path: Path, wanted: Ask) -> DeviceDocument:
    """Ask the device behind a control socket. Raises :class:`BadInput`, in its own words where it refuses."""
    where = f"control socket {path}"
    try:
        with closing(SocketLine(path)) as line:
            line.send(msgspec.json.encode(wanted) + b"\n")
            data = line.until(b"\n")
        told = json_decoded(data, dict[str, msgspec.Raw])
        if "error" in told:
            raise BadInput(json_decoded(bytes(told["error"]), str), where=where)
        return json_decoded(data, DeviceDocument)
    except (OSError, EOFError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it does not answer"
        raise BadInput(why, where=where, fix="start memhp device virtio-mem, and name its --control") from None
    except msgspec.MsgspecError:
        raise BadInput("what listens there is no served device", where=where) from None
