"""What user space is told of devices that come, go, or change state: ``lib/kobject_uevent.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from memhp.linux.state import Kernel

KERNEL_FILE = "lib/kobject_uevent.c"

Action = Literal["add", "remove", "change", "online", "offline", "bind", "unbind"]
"""``enum kobject_action`` by the words of ``kobject_actions[]``."""


class Uevent(NamedTuple):
    """One event: what happened to which device (a path below ``/sys``), of which subsystem, in which order."""

    action: Action
    devpath: str
    subsystem: str
    seqnum: int
    extra: tuple[tuple[str, str], ...] = ()

    @property
    def environment(self) -> tuple[tuple[str, str], ...]:
        """The variables in the order in which the kernel adds them."""
        head = (("ACTION", self.action), ("DEVPATH", self.devpath), ("SUBSYSTEM", self.subsystem))
        return (*head, *self.extra, ("SEQNUM", str(self.seqnum)))

    @property
    def message(self) -> bytes:
        """The message of a NETLINK_KOBJECT_UEVENT socket."""
        texts = [f"{self.action}@{self.devpath}", *(f"{name}={value}" for name, value in self.environment)]
        return b"".join(text.encode() + b"\0" for text in texts)


@dataclass
class Uevents:
    """``uevent_seqnum``, and who listens: as long as nobody does, nothing is told."""

    listeners: list[Callable[[Uevent], None]] = field(default_factory=list)
    seqnum: int = 0


def kobject_uevent(
    k: Kernel, action: Action, devpath: str, subsystem: str, extra: tuple[tuple[str, str], ...] = ()
) -> None:
    """Tell everybody who listens."""
    uevents = k.statics(Uevents)
    if not uevents.listeners:
        return
    uevents.seqnum += 1
    event = Uevent(action, devpath, subsystem, uevents.seqnum, extra)
    for listener in uevents.listeners:
        listener(event)


def block_uevents(k: Kernel, action: Action, start_block: int, end_block: int) -> None:
    """Tell of memory blocks, one after the other."""
    if k.statics(Uevents).listeners:
        for block_id in range(start_block, end_block):
            kobject_uevent(k, action, f"/devices/system/memory/memory{block_id}", "memory")
