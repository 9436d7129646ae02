"""Nodes of kernfs, and the references of those who are inside their operations: ``fs/kernfs/dir.c``.

Whoever removes a node waits until nobody is inside any more, and nobody gets in from then on. So an operation must not
wait for what somebody may hold who removes the node.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field

from memhp.hw.machine import Machine
from memhp.hw.shared import MARKED

KERNEL_FILE = "fs/kernfs/dir.c"


@dataclass(eq=False)
class KernfsNode:
    """``struct kernfs_node`` of a file."""

    name: str
    active: int = field(default=0, metadata=MARKED)
    """Callers that are inside an operation."""
    deactivated: bool = field(default=False, metadata=MARKED)


@dataclass
class KernfsNodes:
    """Files that somebody writes to on their own; all others are only ever as many as there are devices."""

    state: dict[int, KernfsNode] = field(default_factory=dict)
    """Memory block → its file ``state``."""


def kernfs_get_active(hw: Machine, kn: KernfsNode) -> bool:
    """Get inside; False where the node is being removed."""
    hw.atomic(kn.name)
    if kn.deactivated:
        return False
    kn.active += 1
    return True


def kernfs_put_active(hw: Machine, kn: KernfsNode) -> None:
    """Leave."""
    hw.atomic(kn.name)
    kn.active -= 1


def kernfs_drain(hw: Machine, kn: KernfsNode) -> None:
    """Let nobody in any more, and wait for those who are inside: ``kernfs_deactivate()``, ``kernfs_drain()``."""
    hw.atomic(kn.name)
    kn.deactivated = True
    hw.wait(lambda: not kn.active, f"{kn.name} is being written to", on=kn.name)
