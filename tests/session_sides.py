"""A twin and a real guest behind the same clients: busybox's shell on the inside, two monitors on the outside.

The shell that carries out commands is the guest's agent on both sides, the same program from the same package, and QEMU
is spoken to by the same library; all that differs is who answers.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memhp.conform.dumped_pages import shown_pages
from memhp.target.guest.agent import Agent, GuestLost
from memhp.target.guest.cache import user_cache
from memhp.target.guest.guest import Guest
from memhp.target.guest.initramfs import AGENT, READY
from memhp.target.guest.launch import ended, start
from memhp.target.guest.monitor import Monitor, Refused
from memhp.twin.control import ask
from qmp_script import SIZE_CHANGE, settled
from tool_sessions import SYS, Act, Then

EVENTS = ("ACPI_DEVICE_OST", "DEVICE_DELETED", SIZE_CHANGE, "DEVICE_UNPLUG_GUEST_ERROR")
PATIENCE = 60
"""Seconds for what an act is over with."""
FOLLOWS = 0.3
"""Seconds in which everything else that belongs to the same act has come."""
IN_PROGRESS = 0x84
_SCRIPT = re.compile(r"^(\S*(agent|sh)|eval): (line \d+: )?")
_DENIED = re.compile(r".*: Permission denied")
"""Where the kernel keeps files it lets root open them, and refuses what follows (docs/twin.md): the words differ."""


@dataclass
class Side:
    """One of both machines. Requests that QEMU may refuse end in its words."""

    monitors: tuple[Monitor, Monitor]
    agent: Agent

    def do(self, act: Act) -> dict[str, Any]:
        """Do an act, wait until it is over, and tell what came of it in a form that does not depend on time."""
        came: dict[str, Any] = {}
        with ThreadPoolExecutor(1) as inside:
            shell = inside.submit(self.shell, act.shell) if act.shell else None
            if act.ask is not None:
                came["reply"] = self.ask(*act.ask, by=act.by)
            if shell is not None:
                came["shell"] = shell.result()
        if act.then is not None and "return" in came["reply"]:
            came["events"] = settled(self.events(act.then))
        return came

    def shell(self, commands: str) -> list[Any]:
        """The status of commands and what they printed, without the name of the shell's script."""
        answer = self.agent.run(commands)
        lines = (_SCRIPT.sub("", line) for line in answer.text.splitlines())
        return [answer.status, [_DENIED.sub("Permission denied", line) for line in lines]]

    def log(self) -> list[str]:
        """The kernel log, without times."""
        return [line.partition("] ")[2] for line in self.agent.run("dmesg").text.splitlines()]

    def ask(self, command: str, arguments: dict[str, Any], by: int = 0) -> dict[str, Any]:
        """A reply. What QEMU keeps in hash tables has no order."""
        try:
            return {"return": self.monitors[by].execute(command, **arguments)}
        except Refused as refused:
            return {"error": str(refused)}

    def events(self, then: Then) -> list[dict[str, Any]]:
        """The events until an act is over."""
        monitor, seen = self.monitors[0], list[dict[str, Any]]()
        end = time.monotonic() + PATIENCE
        while not _over(seen, then) and time.monotonic() < end:
            if (event := monitor.event(max(0.0, end - time.monotonic()), EVENTS)) is not None:
                seen.append(dict(event))
        while (event := monitor.event(FOLLOWS, EVENTS)) is not None:
            seen.append(dict(event))
        return seen


def _over(seen: list[dict[str, Any]], then: Then) -> bool:
    named = [(event["event"], event.get("data", {})) for event in seen]
    if then[0] == "size":
        sizes = [data["size"] for name, data in named if name == SIZE_CHANGE and data["id"] == then[1]]
        return sizes[-1:] == [then[2]]
    if then[0] == "gone":
        return [name for name, _ in named].count("DEVICE_DELETED") >= then[1]
    return any(name == "ACPI_DEVICE_OST" and data["info"]["status"] != IN_PROGRESS for name, data in named)


def second_monitor(path: Path) -> tuple[str, ...]:
    """QEMU's options for another monitor, at a socket."""
    return ("-chardev", f"socket,id=second,path={path},server=on,wait=off", "-mon", "chardev=second,mode=control")


@contextmanager
def guest_side(guest: Guest, path: Path) -> Iterator[Side]:
    """A real guest, whose second monitor is at a socket."""
    second = Monitor(connected(path))
    try:
        yield Side((guest.monitor, second), guest.agent)
    finally:
        second.close()


class TwinSide(Side):
    """A twin, and the pages of it that a kernel showed to be in use; `control` is None where nobody may tell it."""

    def __init__(self, monitors: tuple[Monitor, Monitor], agent: Agent, control: Path | None) -> None:
        super().__init__(monitors, agent)
        self.control = control
        self._told: set[int] = set()

    def tell(self, real: Side, log: list[str]) -> bool:
        """Use what the real kernel met in use, until its block is offline; False where the twin cannot be told."""
        gone = {pfn for pfn in self._told if real.agent.run(f"cat {SYS}/memory{pfn >> 15}/state").text != "online\n"}
        met = set(shown_pages(log)) - self._told
        if (gone or met) and self.control is None:
            return False
        for pfn in gone:
            ask(self.control or Path(), {"do": "free", "tag": f"{pfn:#x}"})
        for pfn in met:
            use = {"do": "allocate", "size": 4096, "kind": "kernel", "tag": f"{pfn:#x}", "at": pfn << 12}
            ask(self.control or Path(), use)
        self._told = (self._told - gone) | met
        return True


@contextmanager
def twin_side(machine: Path, folder: Path, *, exact: bool, options: tuple[str, ...] = ()) -> Iterator[TwinSide]:
    """``memhp twin`` of a machine; its shell is that of the guests, or the host's where there are none."""
    busybox = user_cache().busybox / "amd64" / "usr/bin/busybox"
    shell = [str(busybox), "sh"] if busybox.is_file() else ["/bin/sh"]
    script = folder / "agent"
    script.write_text(AGENT.replace("READY", READY).replace("exec 3<>$1", "exec 3<&0"))
    sockets = [folder / name for name in ("qmp", "ctl")]
    control = ("--ctl", str(sockets[1])) if exact else ()
    words = [sys.executable, "-m", "memhp", "twin", "--qmp", str(sockets[0]), *control, *options, str(machine), "--"]
    ours, its = socket.socketpair()
    with ExitStack() as stack:
        stack.enter_context(ours)
        with its, (folder / "said").open("wb") as said:
            command = [*words, *shell, str(script)]
            child = start(command, stdin=its.fileno(), output=said.fileno())
        stack.enter_context(ended(child))
        agent = Agent(ours, lambda: (folder / "said").read_text(errors="replace"))
        agent.wait(PATIENCE)
        monitors = (Monitor(connected(sockets[0])), Monitor(connected(sockets[0])))
        for monitor in monitors:
            stack.callback(monitor.close)
        yield TwinSide(monitors, agent, sockets[1] if exact else None)


def connected(path: Path) -> socket.socket:
    """A socket that is connected to a path. Raises :class:`GuestLost` where nobody listens."""
    line = socket.socket(socket.AF_UNIX)
    try:
        line.connect(str(path))
    except OSError as error:
        line.close()
        raise GuestLost(f"{path}: {error.strerror}") from error
    return line
