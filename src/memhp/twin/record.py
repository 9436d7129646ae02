"""The record of a twin's life: all that tools read and wrote, what was done to the machine, and what came of it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from typing import Literal

import msgspec

What = Literal["read", "list", "write", "open", "step", "uevent", "qmp", "qga", "event"]
"""``open`` is one that was refused; ``step`` is what the scenario or somebody at run time did to the machine; ``event``
is what QMP tells unasked."""

OK = "ok"


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"time": "time_ns"}):
    """One thing that happened.

    `path` is a file's, a device's (uevent), or what was asked for (step, QMP). `result` is ``ok``, an errno's name,
    ``BUG`` or ``PANIC``, or QMP's class of error; `reason` and `place` are the kernel's.
    """

    number: int
    time: int
    """Nanoseconds of machine time."""
    what: What
    path: str
    text: str = ""
    result: str = OK
    reason: str = ""
    place: str = ""
    pid: int = 0
    command: str = ""
    """What the process was called; only of writes."""
    times: int = 1
    """How often it happened in a row, by the same process."""


class Record:
    """The entries in order. The same read or listing again right after itself is counted, not told anew."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self.listeners: list[Callable[[Entry], None]] = []

    def add(
        self,
        time: int,
        what: What,
        path: str,
        text: str = "",
        *,
        result: str = OK,
        reason: str = "",
        place: str = "",
        pid: int = 0,
        command: str = "",
    ) -> None:
        """Note something."""
        last = self._entries[-1] if self._entries else None
        if (
            last is not None
            and what in ("read", "list")
            and (last.what, last.path, last.text, last.pid) == (what, path, text, pid)
        ):
            self._entries[-1] = msgspec.structs.replace(last, times=last.times + 1)
            return
        entry = Entry(
            number=len(self._entries),
            time=time,
            what=what,
            path=path,
            text=text,
            result=result,
            reason=reason,
            place=place,
            pid=pid,
            command=command,
        )
        self._entries.append(entry)
        for listener in self.listeners:
            listener(entry)

    @property
    def entries(self) -> list[Entry]:
        """All there are."""
        return self._entries
