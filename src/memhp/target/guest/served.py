"""Steps of a virtio-mem device that memhp serves to a guest: it tells what it was asked, and makes faults."""
# SPDX-License-Identifier: GPL-2.0-or-later

import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from memhp.scenario import schema
from memhp.target.device.control import Ask, ask
from memhp.target.device.status import RequestRow
from memhp.target.guest.plugged import SETTLE, GuestMachine
from memhp.target.target import Done
from memhp.units import parse_size


@dataclass(frozen=True)
class Served:
    """The device: its name, the socket that controls it, and where its region begins (bytes)."""

    name: str
    control: Path
    at: int

    def requests(self, since: int = 0) -> list[RequestRow]:
        """The requests that it answered, from that number on."""
        rows: list[RequestRow] = []
        while more := ask(self.control, Ask(since=since + len(rows))).requests:
            rows += more
        return rows


def virtio_mem(machine: GuestMachine, device: Served, step: schema.VirtioMem) -> Done:
    """The guest has the device since its start, and the driver is loaded: a size is asked, with the faults."""
    asked = schema.Resize(to=step.requested, device=step.device, faults=step.faults)
    done = resize(machine, device, asked)
    return Done(msgspec.structs.replace(step, at=device.at), done.result, done.reason)


def resize(machine: GuestMachine, device: Served, step: schema.Resize) -> Done:
    """Request another size, with faults from now on, and wait until it is there or nothing changes any more.

    The step that was done says how long the device had the driver wait.
    """
    first = ask(device.control, Ask()).answered
    told = ask(device.control, Ask(requested=parse_size(step.to, where="to"), faults=step.faults))

    def settled() -> bool:
        nonlocal told
        told = ask(device.control, Ask())
        return told.plugged_size == told.requested_size

    machine.until(settled)
    # The device has done what it answers later: the driver goes on once it hears of it.
    time.sleep(max((row.fault.delay for row in told.faults), default=0))
    machine.rest()
    machine.until(lambda: "going-offline" not in machine.states().values())
    settled()
    size, wanted = told.plugged_size, told.requested_size
    delays = sum(row.delay for row in device.requests(first))
    done = msgspec.structs.replace(step, device=device.name, wait=delays + SETTLE)
    return Done(done, "ok" if size == wanted else None, f"the device has {size:#x} bytes plugged")
