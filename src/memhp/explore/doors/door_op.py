"""A step of kernel code as the search sees it: an access at a door, a wait, an allocation that may fail."""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys

from memhp.explore.doors.footprint import FIELD_MODES, Touches
from memhp.explore.doors.user_code import line_at
from memhp.explore.engine.op import Op
from memhp.hw.format import HEIGHT_NAMES
from memhp.hw.stepper import Access, Fields, Level, Part
from memhp.hw.tlb import ALL_ADDRESSES, Table
from memhp.linux.place import NOWHERE
from memhp.linux.place import place as place_in_kernel
from memhp.linux.state import Kernel


class DoorOp(Op):
    """A step at a door."""

    __slots__ = ("access", "lock", "table", "waits", "write")

    def __init__(self, text: str, touches: Touches, place: str, access: Access | None = None, choices: int = 1) -> None:
        super().__init__(text, touches, choices=choices, place=place)
        self.access = access
        """None of a wait, and of an allocation that may fail."""
        self.lock = ""
        """The lock that the step takes and may have to wait for."""
        self.write = True
        self.waits = False
        """Whether it waits for something that can be asked of the machine as it is now only (:attr:`Doors.ready`)."""
        self.table: tuple[Table, int] | None = None
        """The entry that the step reads or writes."""

    def entry_in(self, k: Kernel) -> int | None:
        """What stands in the entry that the step is about."""
        if self.table is None:
            return None
        row = k.hw.memory.arena.row(self.table[0].frame)
        return None if row is None else int(row[self.table[1]])

    def where(self, target: object) -> str:
        """The place of the step, once it is known."""
        return self.place


def place(target: object = None) -> str:
    """Where in the kernel the actor looks at `target`, or where in the user's code, as ``name:LINE``."""
    found = place_in_kernel(target)
    return (line_at(sys._getframe(1)) or found) if found == NOWHERE else found


BEGIN = DoorOp("begin", (), NOWHERE)
"""The first step of every actor: whatever its code does before its first access belongs to it, and to no other time."""


def _level(kind: str, by: int | None) -> str:
    """How a counter is looked at or changed, in words."""
    if by is None:
        return ""
    return f" >= {by}" if kind == "read" else f" {by:+}"


def door_op(access: Access, touches: Touches) -> DoorOp:
    """The step that is an access which touches this."""
    kind, target = access.kind, access.target
    changes = False
    if isinstance(target, str):
        shared = kind not in FIELD_MODES and not access.value
        text = f"{kind} {target}" + (" shared" if shared else "")
    elif isinstance(target, Fields):
        text = f"{kind} {', '.join(target.names)}"
    elif isinstance(target, Level):
        text, changes = f"{kind} {target.name}{_level(kind, target.by)}", kind != "read"
    elif isinstance(target, Part):
        text = f"{kind} {target.name} [{target.start:#x}-{target.end:#x})"
    elif isinstance(target, Table):
        text = f"{kind} {HEIGHT_NAMES[target.height]} {target.frame:#x}[{access.entry}]"
        changes = kind == "store"
    elif kind == "touch":
        text, changes = f"read memory at {target.start:#x}", True
    elif kind == "flush":
        text = "flush everything" if target == ALL_ADDRESSES else f"flush [{target.start:#x}-{target.end:#x})"
        changes = True
    else:
        text, changes = f"{kind} PFN [{target.start:#x}-{target.end:#x})", kind in ("release", "unplug")
    op = DoorOp(text, touches, place(target), access)
    op.changes_touched = changes
    if isinstance(target, Table):
        op.table = (target, access.entry)
    elif isinstance(target, str) and kind == "lock":
        op.blocking, op.lock, op.write = True, target, bool(access.value)
    return op
