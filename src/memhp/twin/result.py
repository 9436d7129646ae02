"""A run on a twin as it ended: the machine, the record, and whether all was as told."""
# SPDX-License-Identifier: GPL-2.0-or-later

import msgspec

from memhp.facts.memory_blocks import State
from memhp.linux.state import Kernel
from memhp.twin.record import Entry


class BlockRange(msgspec.Struct, frozen=True, kw_only=True):
    """Neighbouring memory blocks of one state: `first` to `last` inclusive, and their zone where they have one."""

    first: int
    last: int
    state: State
    zone: str


class TwinRun(msgspec.Struct, frozen=True, kw_only=True, rename={"time": "time_ns"}):
    """What came of a run."""

    title: str
    machine: str
    """The kernel's configuration in a line."""
    command: list[str]
    exit_code: int | None
    """The command's; None where there was none."""
    time: int
    """Nanoseconds of machine time that had passed."""
    entries: list[Entry]
    """The record."""
    blocks: list[BlockRange]
    """Memory blocks at the end."""
    unmet: list[str]
    """What was not as expected, a line each."""
    dead: str = ""
    """How the machine died, if it did."""

    @property
    def fine(self) -> bool:
        """Whether nothing was otherwise than told."""
        return not self.unmet and not self.dead


def block_ranges(k: Kernel) -> list[BlockRange]:
    """The memory blocks of a machine, neighbours that are alike as one."""
    found: list[BlockRange] = []
    for first, end, block in k.memory_blocks:
        zone = block.zone.title if block.zone is not None else ""
        last = found[-1] if found else None
        if last is not None and (last.last + 1, last.state, last.zone) == (first, block.state, zone):
            found[-1] = msgspec.structs.replace(last, last=end - 1)
        else:
            found.append(BlockRange(first=first, last=end - 1, state=block.state, zone=zone))
    return found
