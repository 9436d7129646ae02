"""The same QMP script on a twin and on a real QEMU with a real guest: replies, events and files are compared."""
# SPDX-License-Identifier: GPL-2.0-or-later

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memhp.target.guest.cache import user_cache
from memhp.target.guest.guest import Guest, running
from memhp.target.guest.kernel import fetched
from memhp.target.guest.monitor import Refused
from memhp.target.guest.qemu import GuestSpec, find_qemu
from memhp.target.guest.versions import newest
from qmp_clients import SCRIPTS
from qmp_script import Machine, play
from twin_qmp import TwinMachine, differences

PATIENCE = 120
"""Seconds for what an event tells to happen."""
EVENTS = ("ACPI_DEVICE_OST", "DEVICE_DELETED", "MEMORY_DEVICE_SIZE_CHANGE", "DEVICE_UNPLUG_GUEST_ERROR")


class RealMachine(Machine):
    """QEMU and its guest."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    def ask(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"return": self.guest.monitor.execute(command, **arguments)}
        except Refused as refused:
            return {"error": str(refused)}

    def events(self, wanted: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = []
        end = time.monotonic() + PATIENCE
        while not wanted(seen):
            event = self.guest.monitor.event(end - time.monotonic(), EVENTS)
            if event is None:
                break
            seen.append(dict(event))
        # What belongs to the same act follows at once.
        while (event := self.guest.monitor.event(0.5, EVENTS)) is not None:
            seen.append(dict(event))
        return seen

    def file(self, path: str, text: str | None) -> str:
        if text is None:
            return self.guest.agent.run(f"cat {path} 2> /dev/null").text.strip()
        self.guest.agent.write(path, text)
        return ""


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    found = {each.release: each for each in fetched(user_cache()) if each.arch == "x86_64"}
    if not found:
        pytest.skip("NO QEMU WAS COMPARED WITH A TWIN: run memhp guest fetch 7.2:x86_64")
    spec = GuestSpec(
        found[newest(found)],
        append="memhp_default_state=online_movable",
        dimms=True,
        extra=("-device", "pcie-root-port,id=port0"),
    )
    with running(user_cache(), find_qemu(user_cache(), "x86_64"), spec) as started:
        started.load("virtio_mem")
        yield started


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_twin_answers_and_tells_what_qemu_with_a_guest_does(guest: Guest, tmp_path: Path, name: str) -> None:
    real = play(RealMachine(guest), SCRIPTS[name])
    ours = play(TwinMachine(tmp_path), SCRIPTS[name])
    assert differences(real, ours) == []
