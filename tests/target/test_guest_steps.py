"""Steps in a guest, against an agent and a monitor that answer by themselves: what is written, what is said of it."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Any, cast

import pytest

from memhp.scenario import schema
from memhp.target.guest import dax, steps
from memhp.target.guest.agent import Answer
from memhp.target.guest.plugged import SYS, GuestMachine
from memhp.units import GiB, MiB

BLOCK = 128 * MiB


class Guest:
    """A guest with a DIMM of two blocks in it, whose kernel brings blocks online by a policy."""

    def __init__(self, policy: str, online: int) -> None:
        first = 4 * GiB // BLOCK
        self.state = {first + n: "online" if n < online else "offline" for n in range(2)}
        self.files = {f"{SYS}/block_size_bytes": f"{BLOCK:x}", f"{SYS}/auto_online_blocks": policy}
        self.written: list[tuple[str, str]] = []
        self.agent = self.monitor = self
        self.child = self
        self.pid = 1

    def share(self, name: str, size: int) -> int:
        return 3

    def load(self, module: str) -> None: ...

    def clock(self) -> float:
        return 0.0

    def execute(self, command: str, **arguments: Any) -> Any:
        return [{"data": {"id": "dimm0", "addr": 4 * GiB}}] if command == "query-memory-devices" else {}

    def run(self, commands: str) -> Answer:
        if commands.startswith("cat "):
            return Answer(self.files.get(commands[4:], "").encode(), 0)
        lines = [f"{SYS}/memory{block}/state:{state}" for block, state in self.state.items()]
        return Answer("\n".join(lines).encode() if commands.startswith("grep -Hs") else b"", 0)

    def write(self, path: str, text: str, timeout: float = 0) -> str:
        self.written.append((path, text))
        return ""


def machine(policy: str = "offline", online: int = 0) -> tuple[GuestMachine, Guest]:
    guest = Guest(policy, online)
    return GuestMachine(cast("Any", guest)), guest


@pytest.mark.parametrize(
    ("policy", "online", "zone", "reason"),
    [
        ("offline", 0, "movable", ""),
        ("online", 2, "auto", ""),
        (
            "online",
            2,
            "movable",
            "2 blocks went online unasked, as the kernel's default says (online); asking for movable comes too late",
        ),
    ],
)
def test_a_zone_that_is_asked_for_too_late_is_told(policy: str, online: int, zone: schema.Zone, reason: str) -> None:
    plugged, guest = machine(policy, online)
    done = steps.plug(plugged, schema.Plug(size=2 * BLOCK, online=zone))
    assert (done.result, done.reason) == ("ok", reason)
    assert [text for path, text in guest.written if path.endswith("/state")] == ["online_movable"] * (2 - online)


def test_buses_of_persistent_memory_are_told_once_to_bind_nothing_by_themselves() -> None:
    plugged, guest = machine()
    for _ in range(2):
        dax.dax(plugged, schema.Dax(at=4 * GiB, size=GiB))
    assert [path for path, _ in guest.written] == [f"{bus}/drivers_autoprobe" for bus in (dax.ND, dax.DAX)]
