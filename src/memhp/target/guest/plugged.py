"""A guest with what was plugged into it: what its files say, and how to wait for it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from memhp.errors import ERRNO_NAMES, BadInput
from memhp.scenario import schema
from memhp.spans import Span
from memhp.target.guest.agent import GuestSlow
from memhp.target.guest.busy import Idle
from memhp.target.guest.guest import Guest
from memhp.units import parse_size

SYS = "/sys/devices/system/memory"
SETTLE = 0.2
"""Seconds between two looks at a guest that is still busy."""
IDLE = 5.0
"""Seconds without anything to do after which a guest that is not done will not get done."""
PATIENCE = 600
"""Seconds of its own time that a guest may be at work."""

ERRNO = {os.strerror(number): name for number, name in ERRNO_NAMES.items()}
"""Errno's names by what the shell prints (musl and glibc agree on those that matter here)."""


class Pinned(NamedTuple):
    """A process that has memory pinned, and where that is (bytes, physical)."""

    process: int
    places: tuple[Span, ...]


class GuestMachine:
    """A guest and what was plugged into it."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.dimms: dict[str, Span] = {}
        self.plugged: list[Span] = []
        self.count = 0
        self.pools: dict[str, int] = {}
        """Huge pages that were added to the pool, by tag."""
        self.pins: dict[str, Pinned] = {}
        """Who has memory pinned, by tag."""
        self.dax_loaded = False
        """Whether the drivers of persistent memory are."""
        self.dax: dict[str, str] = {}
        """The driver that each dax device has, by the device's name."""
        self.dax_seeds: dict[str, str] = {}
        """What claimed the namespace of each device of the DAX bus."""
        self.dax_map: dict[str, str] = {}
        self.dax_align: dict[str, int] = {}
        self.known_to_kmem: set[str] = set()
        """Devices that kmem was told of, which stay known to it."""
        self.counted: dict[str, int] = {}
        """What fault injection has counted so far, by its folder in debugfs."""
        self.block_size = int(self.read(f"{SYS}/block_size_bytes"), 16)

    def read(self, path: str) -> str:
        """The text of a file in the guest."""
        return self.guest.agent.run(f"cat {path}").text.strip()

    def states(self, span: Span | None = None) -> dict[int, str]:
        """The state of each memory block of a range that is there."""
        text = self.guest.agent.run(f"grep -Hs . {SYS}/memory*/state").text
        found = {}
        for line in text.splitlines():
            path, _, state = line.rpartition(":")
            found[int(path.split("/")[-2].removeprefix("memory"))] = state
        wanted = None if span is None else range(span.start // self.block_size, -(-span.end // self.block_size))
        return {block: found[block] for block in sorted(found) if wanted is None or block in wanted}

    def devices(self) -> dict[str, dict[str, Any]]:
        """QEMU's memory devices by name."""
        return {each["data"]["id"]: each["data"] for each in self.guest.monitor.execute("query-memory-devices")}

    def until(self, done: Callable[[], bool], idle: float = IDLE) -> bool:
        """Wait for something to be so; whether it came before the guest had nothing more to do for `idle` seconds.

        Raises :class:`GuestSlow` for a guest that is still at work after :data:`PATIENCE`.
        """
        rest, end = Idle(self.guest.child.pid), self.guest.clock() + PATIENCE
        while not done():
            if rest.seconds > idle:
                return False
            if self.guest.clock() > end:
                raise GuestSlow(f"the guest is at work for more than {PATIENCE} s")
            rest.pause(SETTLE)
        return True

    def rest(self) -> None:
        """Wait until the guest has nothing to do: work may go on after what was asked for is there."""
        self.until(lambda: False, idle=0)

    def range_of(self, at: schema.Size | None, size: schema.Size | None) -> Span | None:
        """The range that a step names, or what was plugged last; None for all memory."""
        if at is None:
            return self.plugged[-1] if self.plugged else None
        start = parse_size(at)
        if size is not None:
            return Span(start, start + parse_size(size))
        known = next((span for span in self.plugged if span.start == start), None)
        if known is None:
            raise BadInput(f"nothing was plugged at {start:#x}", where="at", fix="write `size` too")
        return known
