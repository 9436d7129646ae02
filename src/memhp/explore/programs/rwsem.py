"""Read/write semaphores that favour writers: one that came while readers hold it goes before those that come later.

``kernel/locking/rwsem.c``, as :class:`memhp.hw.locks.Lock` has it for kernel code. Whoever reads already is not
excepted: to read once more with a writer waiting is a deadlock.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable
from typing import cast

from memhp.explore.engine.op import ALONE, SHARED
from memhp.explore.programs.cells import FREE, CellOp

Semaphore = tuple[int | None, tuple[int, ...], tuple[int, ...]]
"""The writer, the readers, and the writers that wait for readers to go."""


def come(name: str) -> CellOp:
    """A writer takes the semaphore, or a place before readers that come later; it sees whether it has it."""

    def act(value: Hashable, thread: int, way: int) -> tuple[Hashable, Hashable]:
        writer, readers, queue = _of(value)
        if readers:
            return _told(writer, readers, (*queue, thread)), False
        return _told(thread, readers, queue), True

    def ready(value: Hashable, thread: int) -> bool:
        writer, readers, queue = _of(value)
        return writer is None and (not readers or thread not in queue)

    return CellOp(f"down_write {name}", name, ALONE, act, ready=ready)


def down_write(name: str) -> CellOp:
    """A writer that has a place takes the semaphore when nobody has it."""

    def act(value: Hashable, thread: int, way: int) -> tuple[Hashable, Hashable]:
        _, readers, queue = _of(value)
        return _told(thread, readers, tuple(who for who in queue if who != thread)), True

    def ready(value: Hashable, thread: int) -> bool:
        writer, readers, _ = _of(value)
        return writer is None and not readers

    return CellOp(f"down_write {name}, its turn", name, ALONE, act, ready=ready)


def down_read(name: str) -> CellOp:
    """A reader takes the semaphore when no writer has it or waits for it."""

    def act(value: Hashable, thread: int, way: int) -> tuple[Hashable, Hashable]:
        writer, readers, queue = _of(value)
        return _told(writer, tuple(sorted((*readers, thread))), queue), True

    def ready(value: Hashable, thread: int) -> bool:
        writer, _, queue = _of(value)
        return writer is None and not queue

    return CellOp(f"down_read {name}", name, SHARED, act, ready=ready)


def up_write(name: str) -> CellOp:
    """The writer lets go."""

    def act(value: Hashable, thread: int, way: int) -> tuple[Hashable, Hashable]:
        _, readers, queue = _of(value)
        return _told(None, readers, queue), None

    return CellOp(f"up_write {name}", name, ALONE, act)


def up_read(name: str) -> CellOp:
    """A reader lets go."""

    def act(value: Hashable, thread: int, way: int) -> tuple[Hashable, Hashable]:
        writer, readers, queue = _of(value)
        left = list(readers)
        left.remove(thread)
        return _told(writer, tuple(left), queue), None

    return CellOp(f"up_read {name}", name, SHARED, act)


def _of(value: Hashable) -> Semaphore:
    return (None, (), ()) if value == FREE else cast(Semaphore, value)


def _told(writer: int | None, readers: tuple[int, ...], queue: tuple[int, ...]) -> Hashable:
    """A semaphore that nobody has or waits for is a cell that was never touched."""
    return (writer, readers, queue) if writer is not None or readers or queue else FREE
