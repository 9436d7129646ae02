"""The QEMU guest agent: which memory blocks of the guest are online, which may go offline, and to change that.

Lines of JSON over a Unix socket (``-device virtserialport,name=org.qemu.guest_agent.0``). Source: QEMU's
qga/qapi-schema.json (guest-sync-delimited, guest-get-memory-blocks, guest-set-memory-blocks,
guest-get-memory-block-info).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from memhp.errors import BadInput
from memhp.limits import ANSWER_SECONDS
from memhp.printable import printable
from memhp.target.socket_line import SocketLine
from memhp.target.vm import VmDevice, VmLost, VmRefused, VmStatus
from memhp.target.vm_resize import Change, Patience, Progress, Why, follow, why_stuck
from memhp.units import GiB, exact_size, format_count

T = TypeVar("T")
DELIMITER = b"\xff"
OFFLINE_MOST = GiB
"""Linux adds no more memory of a virtio-mem device while so much, or two blocks, would not be online:
``drivers/virtio/virtio_mem.c:virtio_mem_could_add_memory``.
"""


class GuestBlock(msgspec.Struct, frozen=True, kw_only=True):
    """A memory block of the guest: its number (``phys_index``), and whether the kernel would take it offline (None:
    that is not told).
    """

    number: int
    online: bool
    can_offline: bool | None = None


class _Info(msgspec.Struct):
    size: Annotated[int, msgspec.Meta(gt=0)]


class _Told(msgspec.Struct, rename="kebab"):
    phys_index: Annotated[int, msgspec.Meta(ge=0)]
    online: bool
    can_offline: bool | None = None


class _Response(msgspec.Struct, rename="kebab"):
    phys_index: int
    response: str
    error_code: int | None = None


def _read(answer: object, kind: type[T]) -> T:
    """An answer as what the schema says it is: the guest may answer anything. Raises :class:`VmLost`."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise VmLost(f"the guest agent's answer is none: {error}") from None


class GuestAgent:
    """A session with an agent. To be closed."""

    def __init__(self, path: Path, timeout: float = ANSWER_SECONDS.most) -> None:
        self.where, self._timeout = str(path), timeout
        try:
            self._line = SocketLine(path, timeout)
            try:
                self._synchronise()
            except BaseException:
                self._line.close()
                raise
        except (OSError, VmLost, VmRefused) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else "no guest agent answers"
            raise BadInput(why, where=self.where, fix="start qemu-guest-agent in the guest") from None

    def _synchronise(self) -> None:
        """Skip what an earlier session left on the line."""
        token = secrets.randbelow(1 << 31)
        request = {"execute": "guest-sync-delimited", "arguments": {"id": token}}
        self._line.send(DELIMITER + json.dumps(request).encode() + b"\n")
        self._until(DELIMITER)
        if self._answer() != token:
            raise VmLost("the guest agent answers somebody else")

    def ask(self, command: str, **arguments: Any) -> Any:
        """What a command returns. Raises :class:`VmRefused` with the agent's words, :class:`VmLost`."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        request = {"execute": command} | ({"arguments": named} if named else {})
        try:
            self._line.send(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise VmLost(f"the guest agent is gone: {error.strerror}") from None
        return self._answer()

    def _answer(self) -> Any:
        line = self._until(b"\n")
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            raise VmLost(f"the guest agent does not speak JSON: {line[:80]!r}") from None
        if not isinstance(answer, dict) or "return" not in answer:
            error = answer.get("error", {}) if isinstance(answer, dict) else {}
            raise VmRefused(str(error.get("desc") or line[:200]) if isinstance(error, dict) else str(error))
        return answer["return"]

    def _until(self, end: bytes) -> bytes:
        try:
            return self._line.until(end, self._timeout)
        except (OSError, EOFError):
            raise VmLost(f"the guest agent does not answer in {self._timeout:g} s") from None

    def block_size(self) -> int:
        """Bytes of a memory block."""
        return _read(self.ask("guest-get-memory-block-info"), _Info).size

    def blocks(self) -> list[GuestBlock]:
        """Every memory block, by number."""
        found = [
            GuestBlock(number=each.phys_index, online=each.online, can_offline=each.can_offline)
            for each in _read(self.ask("guest-get-memory-blocks"), list[_Told])
        ]
        return sorted(found, key=lambda each: each.number)

    def change(self, numbers: Iterable[int], *, online: bool) -> dict[int, str]:
        """Bring blocks online or offline: by number "", or why not."""
        wanted = [{"phys-index": number, "online": online} for number in numbers]
        answers = _read(self.ask("guest-set-memory-blocks", mem_blks=wanted), list[_Response])
        return {each.phys_index: _said(each) for each in answers}

    def close(self) -> None:
        """End the session."""
        self._line.close()


def _said(answer: _Response) -> str:
    if answer.response == "success":
        return ""
    code = "" if answer.error_code is None else f", errno {answer.error_code}"
    return printable(answer.response[:200].replace("-", " ")) + code


def brings_online(agent: GuestAgent, status: VmStatus) -> bool | None:
    """Whether all memory that devices gave the guest is online now, as its agent tells; None: there is none of it."""
    unit = agent.block_size()
    given = [
        (device.at // unit, (device.at + (device.most or device.size)) // unit)
        for device in status.devices if device.at is not None and device.kind in ("dimm", "virtio-mem")
    ]  # fmt: skip
    here = [block.online for block in agent.blocks() if any(first <= block.number < last for first, last in given)]
    return all(here) if here else None


def why_with(agent: GuestAgent) -> Why:
    """Why a device is stuck, with what the agent says of its blocks beside what the host can tell."""

    def why(status: VmStatus, device: VmDevice, size: int) -> str:
        text = why_stuck(status, device, size)
        try:
            unit, blocks = agent.block_size(), agent.blocks()
        except (VmLost, VmRefused) as error:
            return f"{text}; {error}"
        first, last = (device.at or 0) // unit, ((device.at or 0) + (device.most or 0)) // unit
        here = [block for block in blocks if first <= block.number < last]
        offline = [block for block in here if not block.online]
        fixed = [block for block in here if block.online and block.can_offline is False]
        all_of_it = f"{format_count(len(here), 'memory block')} of {exact_size(unit)}"
        told = f"of its {all_of_it} {len(here) - len(offline)} are online"
        if device.size > size and fixed:
            return f"{text}; {told}, {len(fixed)} of them cannot go offline, from memory{fixed[0].number} on"
        if device.size < size and (len(offline) + 1) * unit > max(2 * unit, OFFLINE_MOST):
            most = f"its driver keeps no more than {exact_size(max(2 * unit, OFFLINE_MOST))} offline"
            return f"{told}, and {most}: memory{offline[0].number} waits to be brought online (memhp vm online)"
        if device.size < size and offline:
            return f"{text}; {told}: memory{offline[0].number} waits to be brought online"
        return f"{text}; {told}"

    return why


def follow_plugged(
    agent: GuestAgent,
    device: VmDevice,
    patience: Patience,
    progress: Progress | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Change:
    """See a DIMM through that was plugged, until the guest has all its memory blocks online; of a refusal the host
    hears nothing, as the kernel says that it took the device all the same (``drivers/acpi/scan.c:acpi_bus_attach``).
    """
    unit, began = agent.block_size(), clock()
    first, last = (device.at or 0) // unit, ((device.at or 0) + device.size) // unit

    def online(blocks: Sequence[GuestBlock]) -> int:
        return sum(block.online for block in blocks) * unit

    def look() -> tuple[int, Sequence[GuestBlock]]:
        here = [block for block in agent.blocks() if first <= block.number < last]
        return online(here), here

    ended, here = follow(look, lambda now: now >= device.size, patience, progress, clock=clock, wait=sleep)
    return Change(
        device=device.id, before=0, wanted=device.size, now=online(here), ended=ended, seconds=clock() - began,
        why="" if ended == "reached" else _why_unused(here, last - first),
    )  # fmt: skip


def _why_unused(here: Sequence[GuestBlock], count: int) -> str:
    """What keeps the memory of a DIMM from use, as far as its blocks tell."""
    if not here:
        return "the guest did not add it; its log says why: no memory for struct pages, or a range that it cannot add"
    waiting = [block.number for block in here if not block.online]
    told = f"of its {format_count(count, 'memory block')} {len(here)} are there"
    if not waiting:
        return f"{told}: the guest's log says why not the others"
    return f"{told}, and memory{waiting[0]} waits to be brought online (memhp vm online)"
