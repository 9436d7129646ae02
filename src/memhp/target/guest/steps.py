"""What a guest can be told to do: the steps of a scenario, by the platform (QEMU) or by a user in the guest.

Each waits until the kernel is done with it: an ACPI request when QEMU says how it ended, added memory when its blocks
are there, a virtio-mem device when it has the size that was requested or no longer changes.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import time
from collections.abc import Callable
from dataclasses import replace
from errno import EINTR
from signal import SIGTERM
from typing import Any

import msgspec

from memhp.errors import BadInput
from memhp.scenario import schema
from memhp.spans import Span, SpanSet
from memhp.target.guest import users
from memhp.target.guest.dax import dax
from memhp.target.guest.monitor import Event, Refused
from memhp.target.guest.plugged import ERRNO, IDLE, SYS, GuestMachine
from memhp.target.model.steps import ONLINE_TEXT, asked_too_late
from memhp.target.target import Done
from memhp.units import parse_size


def plug(machine: GuestMachine, step: schema.Plug) -> Done:
    """Plug a DIMM; it comes where the step says, or where QEMU puts it."""
    size = parse_size(step.size, where="size")
    name = f"dimm{machine.count}"
    machine.count += 1
    monitor = machine.guest.monitor
    place = {} if step.at is None else {"addr": parse_size(step.at)}
    if place.get("addr") == 0:
        raise BadInput("QEMU takes 0 for any place", where="at", fix="name another, or none")
    path = f"/proc/{os.getpid()}/fd/{machine.guest.share(f'{name}-ram', size)}"
    backend = {"qom_type": "memory-backend-file", "id": f"{name}-ram", "size": size, "mem_path": path, "share": True}
    monitor.execute("object-add", **backend)
    try:
        monitor.execute("device_add", driver="pc-dimm", id=name, memdev=f"{name}-ram", node=step.node, **place)
    except Refused as error:
        monitor.execute("object-del", id=f"{name}-ram")
        machine.guest.forget(f"{name}-ram")
        raise BadInput(f"QEMU refuses: {error}", where="size", fix="change what is plugged, or the machine") from error
    start = int(machine.devices()[name]["addr"])
    span = Span(start, start + size)
    machine.dimms[name] = span
    machine.plugged.append(span)
    done = msgspec.structs.replace(step, at=start)
    first = span.start // machine.block_size
    blocks = span.size // machine.block_size
    failed = f"{start:#x}|add_memory failed|enumeration failure"
    before = _told(machine, failed)

    def added() -> bool:
        return len(machine.states(span)) == blocks or _told(machine, failed) > before

    if machine.until(added) and machine.read(f"{SYS}/auto_online_blocks") != "offline":
        machine.until(lambda: "offline" not in machine.states(span).values())
    states = machine.states(span)
    if len(states) != blocks:
        return Done(done, None, f"{len(states)} of {blocks} memory blocks from memory{first} on are there")
    if step.fault is not None and not machine.until(lambda: _bound(machine, name) == blocks, IDLE):
        return Done(done, "ENODEV", "the memory is there, but its device is without a driver")
    if step.online is None:
        return Done(done, "ok")
    offline = [block for block, state in states.items() if state == "offline"]
    ended = _each(machine, done, offline, step.online)
    if len(offline) < blocks and step.online != "auto":
        default = machine.read(f"{SYS}/auto_online_blocks")
        return replace(ended, reason=asked_too_late(blocks - len(offline), default, step.online))
    return ended


def _told(machine: GuestMachine, words: str) -> int:
    """How many lines of the log are of memory devices and of something."""
    return len(machine.guest.agent.run(f"dmesg | grep -E 'PNP0C80.*({words})'").text.splitlines())


def _bound(machine: GuestMachine, name: str) -> int:
    """How many memory blocks are bound to ACPI's device of a DIMM, which is called after its slot."""
    slot = int(machine.devices()[name]["slot"])
    folders = f"dirname $(grep -l 'MP{slot:02X}$' /sys/bus/acpi/devices/PNP0C80:*/path)"
    return len(machine.guest.agent.run(f"ls -d $({folders})/physical_node*").text.split())


def _each(machine: GuestMachine, step: schema.StepKind, blocks: list[int], zone: str) -> Done:
    """Write to the state of block after block, going on after a refusal; the first one counts."""
    text = ONLINE_TEXT.get(zone, zone)
    first = ""
    pinned = SpanSet(span for held in machine.pins.values() for span in held.places)
    for block in blocks:
        if text == "offline" and pinned.covered(block * machine.block_size, (block + 1) * machine.block_size):
            said = _in_vain(machine, block)
        else:
            said = machine.guest.agent.write(f"{SYS}/memory{block}/state", text, timeout=120)
        first = first or said
    return Done(step, ERRNO.get(first, first) if first else "ok")


TRY = 3
"""Seconds for which a block that a pinned page keeps is tried to be taken offline."""


def _in_vain(machine: GuestMachine, block: int) -> str:
    """Write to a block with a page that does not move: the kernel goes on trying until a signal comes."""
    write = f"echo offline > {SYS}/memory{block}/state"
    ended = machine.guest.agent.run(f"timeout {TRY} sh -c '{write}' 2>&1", timeout=120)
    return os.strerror(EINTR) if ended.status == 128 + SIGTERM else ended.text.strip().rpartition(": ")[2]


def online(machine: GuestMachine, step: schema.Online) -> Done:
    """Bring blocks online by hand."""
    return _each(machine, step, _blocks(machine, step, "offline"), step.zone)


def offline(machine: GuestMachine, step: schema.Offline) -> Done:
    """Take blocks offline by hand."""
    return _each(machine, step, _blocks(machine, step, "online"), "offline")


def _blocks(machine: GuestMachine, step: schema.Online | schema.Offline, state: str) -> list[int]:
    if step.blocks is not None:
        return list(step.blocks)
    states = machine.states(machine.range_of(step.at, step.size))
    return [block for block, each in states.items() if each == state]


def eject(machine: GuestMachine, step: schema.Eject) -> Done:
    """Ask for a DIMM back; QEMU tells how the guest answered (ACPI's ``_OST``)."""
    at = None if step.at is None else parse_size(step.at)
    name = next((each for each, span in reversed(machine.dimms.items()) if at in {None, span.start}), None)
    if name is None:
        raise BadInput("there is no such DIMM", where="at", fix="name one that was plugged")
    machine.guest.monitor.execute("device_del", id=name)
    answers: list[Done] = []

    def answered() -> bool:
        event = machine.guest.monitor.event(LOOK, EJECT_EVENTS)
        if event is not None and (done := _ejected(machine, step, name, event)) is not None:
            answers.append(done)
        return bool(answers)

    machine.until(answered, 2 * IDLE)
    return answers[0] if answers else Done(step, None, "the guest did not answer")


LOOK = 0.01
"""Seconds for an event that came already."""
EJECT_EVENTS = ("DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR", "MEM_UNPLUG_ERROR", "ACPI_DEVICE_OST")
OST_UNDER_WAY = {0, 0x84}
"""What ACPI's ``_OST`` says before it is known how an eject ends: success so far, and "in progress"."""


def _ejected(machine: GuestMachine, step: schema.Eject, name: str, event: Event) -> Done | None:
    """How an eject ended, if an event tells."""
    if event["event"] == "DEVICE_DELETED":
        if event["data"].get("device") != name:
            return None
        span = machine.dimms.pop(name)
        machine.plugged.remove(span)
        machine.guest.monitor.execute("object-del", id=f"{name}-ram")
        machine.guest.forget(f"{name}-ram")
        return Done(msgspec.structs.replace(step, at=span.start), "ok")
    if event["event"] == "ACPI_DEVICE_OST" and event["data"]["info"]["status"] in OST_UNDER_WAY:
        return None
    return Done(msgspec.structs.replace(step, at=machine.dimms[name].start), "EBUSY")


def virtio_mem(machine: GuestMachine, step: schema.VirtioMem) -> Done:
    """The guest has the device since its start; its driver is loaded before the first step, so only a size is asked."""
    return resize(machine, schema.Resize(to=step.requested, device=step.device, expect=step.expect))


def resize(machine: GuestMachine, step: schema.Resize) -> Done:
    """Request another size of a virtio-mem device, and wait until it is there or nothing changes any more."""
    have = [name for name, data in machine.devices().items() if "requested-size" in data]
    name = step.device or (have[0] if len(have) == 1 else "vm0")
    wanted = parse_size(step.to, where="to")
    path = f"/machine/peripheral/{name}"
    machine.guest.monitor.execute("qom-set", path=path, property="requested-size", value=wanted)
    size = 0

    def settled() -> bool:
        nonlocal size
        size = int(machine.devices()[name]["size"])
        return size == wanted

    machine.until(settled)
    machine.rest()
    machine.until(lambda: "going-offline" not in machine.states().values())
    done = msgspec.structs.replace(step, device=name)
    return Done(done, "ok" if size == wanted else None, f"the device has {size:#x} bytes plugged")


def wait(machine: GuestMachine, step: schema.Wait) -> Done:
    """Let real time pass."""
    time.sleep(step.seconds)
    return Done(step, "ok")


RUNNERS: dict[type, Callable[[GuestMachine, Any], Done]] = {
    schema.Plug: plug,
    schema.Online: online,
    schema.Offline: offline,
    schema.Eject: eject,
    schema.VirtioMem: virtio_mem,
    schema.Resize: resize,
    schema.Wait: wait,
    schema.Set: users.set_parameter,
    schema.Allocate: users.allocate,
    schema.Free: users.free,
    schema.Poison: users.poison,
    schema.Dax: dax,
}
"""Which function carries out which kind of step."""
