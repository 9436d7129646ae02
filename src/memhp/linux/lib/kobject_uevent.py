"""What user space is told of devices that come, go, or change state: ``lib/kobject_uevent.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from errno import EINVAL
from typing import Literal, NamedTuple, cast, get_args

from memhp.errors import KernelError
from memhp.hw.shared import marked
from memhp.linux.place import here
from memhp.linux.state import Kernel

KERNEL_FILE = "lib/kobject_uevent.c"
SEQNUM = "uevent_seqnum"

Action = Literal["add", "remove", "change", "move", "online", "offline", "bind", "unbind"]
"""``enum kobject_action`` by the words of ``kobject_actions[]``."""
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ARGUMENT = re.compile(r"([0-9A-Za-z]+)=([0-9A-Za-z]+)")


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
    seqnum: int = field(default=0, metadata=marked(SEQNUM))
    """Atomic in 6.12; in 6.1 counted under ``uevent_sock_mutex``, in one go as well."""


def kobject_uevent(
    k: Kernel, action: Action, devpath: str, subsystem: str, extra: tuple[tuple[str, str], ...] = ()
) -> None:
    """Tell everybody who listens."""
    uevents = k.statics(Uevents)
    if not uevents.listeners:
        return
    k.hw.atomic(SEQNUM)
    seqnum = uevents.seqnum = uevents.seqnum + 1
    event = Uevent(action, devpath, subsystem, seqnum, extra)
    for listener in uevents.listeners:
        listener(event)


def block_uevents(k: Kernel, action: Action, start_block: int, end_block: int) -> None:
    """Tell of memory blocks, one after the other."""
    if k.statics(Uevents).listeners:
        for block_id in range(start_block, end_block):
            kobject_uevent(k, action, f"/devices/system/memory/memory{block_id}", "memory")


def kobject_synth_uevent(k: Kernel, devpath: str, subsystem: str, text: str) -> None:
    """What is written to a device's ``uevent``: an action, and maybe a UUID and values ``KEY=VALUE`` to come along.

    A device without a subsystem has no events (``drivers/base/core.c:dev_uevent_filter``). Raises EINVAL for any other
    text, which the log tells.
    """
    action, space, rest = text.removesuffix("\n").partition(" ")
    uuid, *arguments = rest.split(" ")
    pairs = [_ARGUMENT.fullmatch(each) for each in arguments]
    wrong = ""
    if action not in get_args(Action):
        wrong = "unknown uevent action string"
    elif space and not (_UUID.fullmatch(uuid) and all(pairs)):
        wrong = "incorrect uevent action arguments"
    if wrong:
        k.hw.log(f"synth uevent: {devpath}: {wrong}", "warn")
        raise KernelError(EINVAL, f"{text!r}: {wrong}", place=here())
    extra = [(f"SYNTH_ARG_{pair[1]}", pair[2]) for pair in pairs if pair]
    if subsystem:
        kobject_uevent(k, cast(Action, action), devpath, subsystem, (("SYNTH_UUID", uuid if space else "0"), *extra))
