"""Locks as a machine has them: who holds each, shared or alone, in which order they are taken, and their doors."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from memhp.errors import KernelBug
from memhp.hw.ledger import Violation
from memhp.hw.stepper import Access, Stepper


class LockKind(StrEnum):
    """What a lock is, by its C type; :attr:`UNKNOWN` says nothing of whether a CPU may sleep."""

    SPIN = "spinlock_t"
    RWLOCK = "rwlock_t"
    SEQ = "seqlock_t"
    MUTEX = "struct mutex"
    RWSEM = "struct rw_semaphore"
    PERCPU_RWSEM = "struct percpu_rw_semaphore"
    UNKNOWN = ""

    @property
    def spins(self) -> bool:
        """Whether who waits for it spins, and nobody may sleep who holds it."""
        return self in {LockKind.SPIN, LockKind.RWLOCK, LockKind.SEQ}

    @property
    def sleeps(self) -> bool:
        """Whether who waits for it sleeps."""
        return self in {LockKind.MUTEX, LockKind.RWSEM, LockKind.PERCPU_RWSEM}


def of_no_kind(name: str) -> LockKind:
    """Nothing is known of a lock."""
    return LockKind.UNKNOWN


@dataclass
class Lock:
    """A mutex, spin lock or read/write lock: at most one writer, or any number of readers, by CPU.

    A writer that has come while readers held the lock goes before readers that come after it, those that hold the lock
    already not excepted: ``kernel/locking/rwsem.c``, ``percpu-rwsem.c``.
    """

    name: str
    writer: int | None = None
    readers: Counter[int] = field(default_factory=Counter)
    queue: set[int] = field(default_factory=set)
    """Writers that wait for readers to let go."""
    kind: LockKind = LockKind.UNKNOWN

    def can_take(self, cpu: int, *, write: bool) -> bool:
        """Whether `cpu` would get the lock now."""
        if write:
            return self.writer is None and not self.readers
        return self.writer is None and not self.queue

    def can_come(self, cpu: int, *, write: bool) -> bool:
        """Whether `cpu` would get the lock now, or a place before readers that come later."""
        return self.can_take(cpu, write=write) or (write and bool(self.readers) and cpu not in self.queue)

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
        return Lock(self.name, self.writer, self.readers.copy(), self.queue.copy(), self.kind)

    def held_by(self, cpu: int, *, write: bool = False) -> bool:
        """Whether `cpu` holds the lock (alone, when `write` is asked for)."""
        return self.writer == cpu or (not write and self.readers[cpu] > 0)


class LockOrder:
    """Which locks were ever taken while which others were held: two that are taken in both orders may deadlock.

    What ``kernel/locking/lockdep.c:check_noncircular()`` finds: no CPU has to wait for another one for it.
    """

    def __init__(self) -> None:
        self._after: dict[str, set[str]] = {}
        """By lock: those that were taken while it was held."""
        self._held: defaultdict[int, list[str]] = defaultdict(list)
        """By CPU: the locks that it holds, in the order in which it took them."""

    def __deepcopy__(self, memo: dict[int, object]) -> "LockOrder":
        copy = LockOrder()
        copy._after = {name: set(after) for name, after in self._after.items()}
        copy._held.update((cpu, held[:]) for cpu, held in self._held.items())
        return copy

    @property
    def held(self) -> set[str]:
        """The locks that CPUs hold."""
        return {name for held in self._held.values() for name in held}

    def waits(self, cpu: int, name: str) -> Sequence[str]:
        """A CPU is about to wait for a lock: the locks of a circle that this closes, if it does, `name` at its ends."""
        for held in self._held[cpu]:
            after = self._after.setdefault(held, set())
            if name not in after and name != held:
                circle = self._path(name, held)
                if circle:
                    return [*circle, name]
                after.add(name)
        return ()

    def has(self, cpu: int, name: str) -> None:
        """A CPU has taken a lock."""
        self._held[cpu].append(name)

    def lets_go(self, cpu: int, name: str) -> None:
        """A CPU has let go of a lock."""
        if name in self._held[cpu]:
            self._held[cpu].remove(name)

    def _path(self, first: str, last: str) -> list[str]:
        """Locks from `first` to `last`, each taken while the one before it was held; none when there is no such way."""
        came_from = {first: ""}
        todo = [first]
        while todo:
            at = todo.pop()
            if at == last:
                path = [at]
                while came_from[path[0]]:
                    path.insert(0, came_from[path[0]])
                return path
            for then in sorted(self._after.get(at, set()) - came_from.keys()):
                came_from[then] = at
                todo.append(then)
        return []


class LockDoors:
    """The doors of a machine that take locks and let them go."""

    cpu: int
    """The CPU that runs."""
    stepper: Stepper | None
    violations: list[Violation]

    def __init__(self) -> None:
        self.locks: dict[str, Lock] = {}
        self.lock_order = LockOrder()
        self._sections: dict[str, dict[int, list[int]]] = {}
        self._entered = 0
        self.callbacks: list[tuple[str, frozenset[int], Callable[[], None]]] = []
        """What is to be done once these sections, of that name, have ended."""
        self.kind_of: Callable[[str], LockKind] = of_no_kind
        """The kind of a lock by name."""
        self._spinning: defaultdict[int, list[str]] = defaultdict(list)
        """By CPU: the locks that spin and that it holds."""

    def lock(self, name: str, *, write: bool = True, ordered: bool = True) -> None:
        """Take a lock, alone or shared. Taking one that can never be had is a deadlock: KernelBug.

        `ordered` is False for a lock that has no place in the order of locks: ``lockdep_set_novalidate_class()``.
        """
        lock = self._lock(name)
        if lock.kind.sleeps:
            self.might_sleep(f"{name} is taken")
        if self.stepper is not None:
            self.stepper.step(Access("lock", name, 0, int(write)))
            if write and lock.readers:
                lock.queue.add(self.cpu)
                self.stepper.step(Access("lock", name, 0, 1))
                lock.queue.discard(self.cpu)
        if ordered and (circle := self.lock_order.waits(self.cpu, name)):
            text = f"{' under '.join(reversed(circle))}: locks that are taken in a circle"
            self.violations.append(Violation("lock-order", text, ""))
        if not lock.can_take(self.cpu, write=write):
            raise KernelBug(f"deadlock: CPU {self.cpu} waits for {name}, which is never let go", place="hw")
        lock.take(self.cpu, write=write)
        if lock.kind.spins:
            self._spinning[self.cpu].append(name)
        if ordered:
            self.lock_order.has(self.cpu, name)

    def trylock(self, name: str, *, write: bool = True) -> bool:
        """Take a lock if it is free now."""
        lock = self._lock(name)
        if self.stepper is not None:
            self.stepper.step(Access("trylock", name, 0, int(write)))
        if not lock.can_take(self.cpu, write=write):
            return False
        lock.take(self.cpu, write=write)
        if lock.kind.spins:
            self._spinning[self.cpu].append(name)
        self.lock_order.has(self.cpu, name)
        return True

    def unlock(self, name: str, *, write: bool = True) -> None:
        """Let a lock go."""
        if self.stepper is not None:
            self.stepper.step(Access("unlock", name, 0, int(write)))
        lock = self.locks.get(name)
        if lock is None or not lock.drop(self.cpu, write=write):
            raise KernelBug(f"CPU {self.cpu} lets go of {name}, which it does not hold", place="hw")
        self.lock_order.lets_go(self.cpu, name)
        if lock.kind.spins:
            self._spinning[self.cpu].remove(name)
            self.do_due_callbacks()

    def might_sleep(self, what: str) -> None:
        """The running CPU is about to do what may sleep: that breaks ``atomic-sleep`` where it must not.

        It must not under a lock that spins, nor in a read-side section: ``kernel/sched/core.c:__might_resched()``.
        """
        inside = [f"{section}_read_lock()" for section, by_cpu in self._sections.items() if by_cpu.get(self.cpu)]
        under = [*self._spinning[self.cpu], *inside]
        if under:
            text = f"sleeping function called from invalid context: {what} under {', '.join(under)}"
            self.violations.append(Violation("atomic-sleep", text, ""))

    def enter(self, section: str) -> None:
        """The running CPU enters a read-side section, which :meth:`readers_of` tells from then on."""
        if self.stepper is not None:
            self.stepper.step(Access("enter", section))
        self._entered += 1
        self._sections.setdefault(section, {}).setdefault(self.cpu, []).append(self._entered)

    def leave(self, section: str) -> None:
        """The running CPU leaves a read-side section, the one that it entered last."""
        if self.stepper is not None:
            self.stepper.step(Access("leave", section))
        self._sections[section][self.cpu].pop()
        self.do_due_callbacks()

    def do_due_callbacks(self) -> None:
        """Do what waits for sections that have ended by now, where no stepper does, and no lock is held that spins."""
        while self.stepper is None and self.callbacks and not self._spinning[self.cpu]:
            section, before, callback = self.callbacks[0]
            if before & self.readers_of(section):
                return
            del self.callbacks[0]
            callback()

    def section(self, section: str) -> "Within":
        """Be in a read-side section for the length of a ``with`` block."""
        return Within(self, section)

    def grace_period(self, section: str) -> frozenset[int]:
        """A grace period begins: the read-side sections that it waits for, as :meth:`readers_of` has them."""
        if self.stepper is not None:
            self.stepper.step(Access("atomic", section))
        return self.readers_of(section)

    def readers_of(self, section: str) -> frozenset[int]:
        """The outermost read-side sections that some CPU is in, each by a number of its own."""
        return frozenset(inside[0] for inside in self._sections.get(section, {}).values() if inside)

    def outermost(self, section: str) -> int | None:
        """The number of the read-side section that the running CPU is in; None when it is in none."""
        inside = self._sections.get(section, {}).get(self.cpu)
        return inside[0] if inside else None

    def holds(self, name: str, *, write: bool = False) -> bool:
        """Whether the running CPU holds a lock: ``lockdep_assert_held()``."""
        lock = self.locks.get(name)
        return lock is not None and lock.held_by(self.cpu, write=write)

    def locked(self, name: str, *, write: bool = True, ordered: bool = True) -> "Held":
        """Hold a lock for the length of a ``with`` block; `ordered` as for :meth:`lock`."""
        return Held(self, name, write, ordered)

    def _lock(self, name: str) -> Lock:
        lock = self.locks.get(name)
        if lock is None:
            lock = self.locks[name] = Lock(name, kind=self.kind_of(name))
        return lock


class Held:
    """A lock that is held for the length of a ``with`` block."""

    __slots__ = ("doors", "name", "ordered", "write")

    def __init__(self, doors: LockDoors, name: str, write: bool, ordered: bool) -> None:
        self.doors, self.name, self.write, self.ordered = doors, name, write, ordered

    def __enter__(self) -> None:
        self.doors.lock(self.name, write=self.write, ordered=self.ordered)

    def __exit__(self, *_: object) -> None:
        self.doors.unlock(self.name, write=self.write)


class Within:
    """A read-side section that the running CPU is in for the length of a ``with`` block."""

    __slots__ = ("doors", "name")

    def __init__(self, doors: LockDoors, name: str) -> None:
        self.doors, self.name = doors, name

    def __enter__(self) -> None:
        self.doors.enter(self.name)

    def __exit__(self, *_: object) -> None:
        self.doors.leave(self.name)
