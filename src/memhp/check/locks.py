"""Locks: a step ends with none of them held, they are taken in the same order, and nobody sleeps who must not."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from memhp.check.law import Breach, Law
from memhp.check.machine_view import MachineView
from memhp.check.snapshot import Snapshot

NAME = "locks"


def find(look: MachineView, before: Snapshot | None) -> Iterator[Breach]:
    """Locks that some CPU still holds."""
    hw = look.k.hw
    for name in sorted(hw.lock_order.held):
        lock = hw.locks[name]
        if lock.writer is not None:
            yield Breach(NAME, f"{name} is still held by CPU {lock.writer}")
        for cpu, times in sorted(lock.readers.items()):
            often = "" if times == 1 else f" {times} times"
            yield Breach(NAME, f"{name} is still held for reading{often} by CPU {cpu}")


LAW = Law(
    NAME,
    "A step ends with no lock held; no locks are taken in a circle; nobody sleeps under a lock that spins",
    find,
    doors=("lock-order", "atomic-sleep"),
)
