"""A step that an actor has taken, and the state that it led to."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping
from dataclasses import dataclass

from memhp.explore.doors import trace_line
from memhp.explore.doors.door_op import DoorOp
from memhp.explore.engine.op import Op
from memhp.hw.stepper import Access


@dataclass
class Taken:
    """A step that was taken, and the state it led to."""

    thread: int
    way: int
    op: DoorOp
    told: trace_line.Step
    pending: list[Op | None]
    enabled: list[bool]
    broken: str | None
    along: int
    """How many steps were taken along with it."""
    alike: Mapping[int, tuple[int, int]]
    """Where entries of a page table were dealt with in one go (:attr:`memhp.explore.doors.again.Done.alike`)."""
    course: int
    """What tells all that the actor has taken along so far from anything else."""
    changed: tuple[Access, ...]
    """Those of them that change something."""
