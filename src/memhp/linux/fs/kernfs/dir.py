"""Nodes of kernfs, and the references of those who are inside their operations: ``fs/kernfs/dir.c``.

Whoever removes a node waits until nobody is inside any more, and nobody gets in from then on. So an operation must not
wait for what somebody may hold who removes the node.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field
from functools import lru_cache

from memhp.hw.machine import Machine
from memhp.hw.shared import marked
from memhp.linux.lib.kstrtox import INT_MAX

KERNEL_FILE = "fs/kernfs/dir.c"
GOLDEN_RATIO_64 = 0x61C8_8646_80B5_83EB
"""``include/linux/hash.h``."""


ACTIVE = marked(lambda kn: kn.name)
"""``kn->active``, an ``atomic_t``: who is inside, and whether anybody else may come."""


@dataclass(eq=False)
class KernfsNode:
    """``struct kernfs_node`` of a file."""

    name: str
    active: int = field(default=0, metadata=ACTIVE)
    """Callers that are inside an operation."""
    deactivated: bool = field(default=False, metadata=ACTIVE)


@dataclass
class KernfsNodes:
    """Files that somebody has open; all others are only ever as many as there are devices."""

    state: dict[int, KernfsNode] = field(default_factory=dict)
    """Memory block → its file ``state``."""
    allocate: dict[str, KernfsNode] = field(default_factory=dict)
    """PCI device → its file ``p2pmem/allocate``."""


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
    hw.wait(lambda: not kn.active, f"{kn.name} to be left", on=kn.name)


@lru_cache(maxsize=1 << 16)
def kernfs_name_hash(name: str) -> int:
    """The place of a name (ASCII, of no namespace) among those of a folder: readers get them by this, ascending.

    ``include/linux/stringhash.h`` hashes byte by byte; 0, 1 and the largest number are of no name.
    """
    found = 0
    for char in name.encode():
        found = (found + (char << 4) + (char >> 4)) * 11 & ((1 << 64) - 1)
    found = (found * GOLDEN_RATIO_64 >> 32) & INT_MAX
    return min(found + 2 if found < 2 else found, INT_MAX - 1)
