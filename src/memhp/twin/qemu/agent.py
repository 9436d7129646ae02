"""The guest agent's commands on memory blocks, carried out through the twin's own files (``qga/commands-linux.c``)."""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
from typing import Any

from memhp.errors import KernelError
from memhp.facts.source import SYS_MEMORY
from memhp.twin.files.memory import block_ids
from memhp.twin.fuse.server import Later
from memhp.twin.machine import Twin
from memhp.twin.qemu.protocol import Arguments, Command, Parameter, QmpError, dispatch, error_body, fits, parse, reply
from memhp.twin.tree import Attribute, Folder, resolve

VERSION = "11.1.3"
SENTINEL = b"\xff"
"""What a delimited answer begins with, and a client may send to have what came before forgotten."""
STRAY = "JSON parse error, stray '\\uFFFD'"
"""What is answered to that."""
MEMBERS = {"phys-index": ("integer", True), "online": ("boolean", True), "can-offline": ("boolean", False)}
"""Members of ``GuestMemoryBlock``: type, and whether each has to be there."""


class Agent:
    """Somebody who is connected to the agent (:class:`~memhp.twin.sockets.Talk`)."""

    def __init__(self, twin: Twin, root: Folder) -> None:
        self.twin = twin
        self.root = root

    def greeting(self) -> bytes:
        """Nothing is said unasked."""
        return b""

    def said(self) -> None:
        """Nothing follows from that."""

    def line(self, text: bytes) -> bytes:
        """The answer to a request."""
        *before, text = text.split(SENTINEL)
        stray = reply({}, error_body(QmpError(STRAY))) if before else b""
        return stray + self._answer(text) if text.strip() else stray

    def _answer(self, text: bytes) -> bytes:
        request: dict[str, Any] = {}
        said = text.decode(errors="replace").strip()
        try:
            request = parse(text, 1)
            result = dispatch(COMMANDS, self, request)
        except QmpError as error:
            self.twin.note("qga", str(request.get("execute", "")), said, result=error.kind, reason=error.text)
            return reply(request, error_body(error))
        self.twin.note("qga", str(request["execute"]), said)
        head = SENTINEL if request["execute"] == "guest-sync-delimited" else b""
        return head + reply(request, {"return": result})

    def read(self, block: int, name: str) -> str | None:
        """A block's file; None where there is none."""
        entry = resolve(self.root, f"{SYS_MEMORY}/memory{block}/{name}")
        return entry.show().strip() if isinstance(entry, Attribute) and entry.show is not None else None


def get_memory_blocks(agent: Agent, _: Arguments) -> list[dict[str, Any]]:
    """``guest-get-memory-blocks``."""
    return [
        {
            "phys-index": block, "online": agent.read(block, "state") == "online",
            "can-offline": agent.read(block, "removable") != "0",
        }
        for block in block_ids(agent.twin.session.k)
    ]  # fmt: skip


def set_memory_blocks(agent: Agent, arguments: Arguments) -> list[dict[str, Any]]:
    """``guest-set-memory-blocks``: block after block; each tells how it went. Raises :class:`QmpError`."""
    for place, wanted in enumerate(arguments["mem-blks"]):
        _check(f"mem-blks[{place}]", wanted)
    return [_set(agent, wanted["phys-index"], online=wanted["online"]) for wanted in arguments["mem-blks"]]


def _check(where: str, wanted: object) -> None:
    """See that a block is told as it has to be. Raises :class:`QmpError`."""
    if not isinstance(wanted, dict):
        raise QmpError(f"Invalid parameter type for '{where}', expected: object")
    for key, (word, needed) in MEMBERS.items():
        if key not in wanted:
            if needed:
                raise QmpError(f"Parameter '{where}.{key}' is missing")
        elif not fits(wanted[key], word):
            if word == "integer":
                raise QmpError(f"Parameter '{where}.{key}' expects uint64")
            raise QmpError(f"Invalid parameter type for '{where}.{key}', expected: {word}")
    extra = next((key for key in wanted if key not in MEMBERS), None)
    if extra is not None:
        raise QmpError(f"Parameter '{where}.{extra}' is unexpected")


def _set(agent: Agent, block: int, *, online: bool) -> dict[str, Any]:
    state = agent.read(block, "state")
    if state is None:
        return {"phys-index": block, "response": "not-found", "error-code": errno.ENOENT}
    if online == (state == "online"):
        return {"phys-index": block, "response": "success"}
    path = f"{SYS_MEMORY}/memory{block}/state"
    entry = resolve(agent.root, path)
    assert isinstance(entry, Attribute) and entry.store is not None
    try:
        agent.twin.wrote(0, path, "online" if online else "offline", entry.store)
    except KernelError as error:
        return {"phys-index": block, "response": "operation-failed", "error-code": error.errno}
    except Later as later:
        later.begin(lambda _: None)
    return {"phys-index": block, "response": "success"}


def info(_: Agent, __: Arguments) -> dict[str, Any]:
    """``guest-info``."""
    commands = [{"name": name, "enabled": True, "success-response": True} for name in COMMANDS]
    return {"version": VERSION, "supported_commands": commands}


ID = {"id": Parameter("integer")}
COMMANDS: dict[str, Command] = {
    "guest-sync": Command(lambda _, arguments: arguments["id"], ID),
    "guest-sync-delimited": Command(lambda _, arguments: arguments["id"], ID),
    "guest-ping": Command(lambda *_: {}),
    "guest-info": Command(info),
    "guest-get-memory-blocks": Command(get_memory_blocks),
    "guest-set-memory-blocks": Command(set_memory_blocks, {"mem-blks": Parameter("array")}),
    "guest-get-memory-block-info": Command(lambda agent, _: {"size": agent.twin.session.k.memory_block_size}),
}
"""By name."""
