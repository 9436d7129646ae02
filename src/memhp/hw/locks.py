"""Locks as a machine has them: who holds each, shared or alone. They live behind the machine's doors."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Lock:
    """A mutex, spin lock or read/write lock: at most one writer, or any number of readers, by CPU."""

    name: str
    writer: int | None = None
    readers: Counter[int] = field(default_factory=Counter)

    def can_take(self, cpu: int, *, write: bool) -> bool:
        """Whether `cpu` would get the lock now."""
        if write:
            return self.writer is None and not self.readers
        return self.writer is None

    def take(self, cpu: int, *, write: bool) -> None:
        """Give the lock to `cpu`; the caller has asked :meth:`can_take`."""
        if write:
            self.writer = cpu
        else:
            self.readers[cpu] += 1

    def drop(self, cpu: int, *, write: bool) -> bool:
        """Take the lock from `cpu`; False when it does not hold it."""
        if write:
            if self.writer != cpu:
                return False
            self.writer = None
            return True
        if not self.readers[cpu]:
            return False
        self.readers[cpu] -= 1
        if not self.readers[cpu]:
            del self.readers[cpu]
        return True

    def copy(self) -> "Lock":
        """The lock as it is now."""
        return Lock(self.name, self.writer, self.readers.copy())

    def held_by(self, cpu: int, *, write: bool = False) -> bool:
        """Whether `cpu` holds the lock (alone, when `write` is asked for)."""
        return self.writer == cpu or (not write and self.readers[cpu] > 0)
