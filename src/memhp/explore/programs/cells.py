"""The cells of a small shared memory and what can be done to one: variables, locks, read/write locks, waits.

A cell's value is immutable, so that a step is taken back by putting the old value in its place.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable

from memhp.explore.engine.op import ALONE, MISSED, SHARED, Op

Act = Callable[[Hashable, int, int], tuple[Hashable, Hashable]]
"""(the cell's value, the thread, the way to go) -> (its new value, what the thread gets to see)."""
Ready = Callable[[Hashable, int], bool]

FREE: tuple[int | None, tuple[int, ...]] = (None, ())
"""A lock that nobody holds: (the thread that has it alone, the threads that share it)."""


class CellOp(Op):
    """An operation on one cell."""

    __slots__ = ("act", "cell", "ready", "taken")

    def __init__(self, text: str, cell: str, mode: int, act: Act, *, ready: Ready | None = None, ways: int = 1) -> None:
        super().__init__(text, ((cell, mode),) if cell else (), blocking=ready is not None, choices=ways)
        self.cell = cell
        self.act = act
        self.ready = ready
        self.taken: Ready | None = None
        """Of an attempt: whether it gets the lock."""


def load(cell: str) -> CellOp:
    """Read a variable."""
    return CellOp(f"load {cell}", cell, SHARED, lambda value, thread, way: (value, value))


def store(cell: str, value: Hashable) -> CellOp:
    """Write a variable."""
    return CellOp(f"store {cell}", cell, ALONE, lambda old, thread, way: (value, None))


def update(cell: str, change: Callable[[Hashable], Hashable]) -> CellOp:
    """Change a variable in one step, as an atomic instruction does; the thread sees the old value."""
    return CellOp(f"update {cell}", cell, ALONE, lambda old, thread, way: (change(old), old))


def wait(cell: str, ready: Callable[[Hashable], bool]) -> CellOp:
    """Block until a variable's value satisfies `ready`; the thread sees the value."""
    return CellOp(
        f"wait for {cell}", cell, SHARED, lambda value, thread, way: (value, value), ready=lambda v, _: ready(v)
    )


def choose(site: str, ways: int) -> CellOp:
    """A step that touches nothing and goes one of several ways: an allocation that may fail."""
    return CellOp(site, "", ALONE, lambda value, thread, way: (value, way), ways=ways)


def _can_write(value: Hashable, thread: int) -> bool:
    return value == FREE


def _can_read(value: Hashable, thread: int) -> bool:
    return value[0] is None  # type: ignore[index]


def _take(value: Hashable, thread: int, way: int) -> tuple[Hashable, Hashable]:
    return (thread, ()), True


def _share(value: Hashable, thread: int, way: int) -> tuple[Hashable, Hashable]:
    return (None, tuple(sorted((*value[1], thread)))), True  # type: ignore[index]


def _try_take(value: Hashable, thread: int, way: int) -> tuple[Hashable, Hashable]:
    return _take(value, thread, way) if _can_write(value, thread) else (value, False)


def _try_share(value: Hashable, thread: int, way: int) -> tuple[Hashable, Hashable]:
    return _share(value, thread, way) if _can_read(value, thread) else (value, False)


def _drop(value: Hashable, thread: int, way: int) -> tuple[Hashable, Hashable]:
    return (FREE, True) if value[0] == thread else (value, False)  # type: ignore[index]


def _drop_share(value: Hashable, thread: int, way: int) -> tuple[Hashable, Hashable]:
    readers = list(value[1])  # type: ignore[index]
    if thread not in readers:
        return value, False
    readers.remove(thread)
    return (value[0], tuple(readers)), True  # type: ignore[index]


_TRIED: dict[bool, Ready] = {True: _can_write, False: _can_read}
_LOCKS: dict[tuple[str, bool], tuple[int, Act, Ready | None]] = {
    ("lock", True): (ALONE, _take, _can_write),
    ("lock", False): (SHARED, _share, _can_read),
    ("trylock", True): (ALONE, _try_take, None),
    ("trylock", False): (SHARED, _try_share, None),
    ("unlock", True): (ALONE, _drop, None),
    ("unlock", False): (SHARED, _drop_share, None),
}


def lock_op(kind: str, cell: str, *, write: bool) -> CellOp:
    """``lock``, ``trylock`` or ``unlock`` of a lock, alone (`write`) or shared; the thread sees whether it worked."""
    mode, act, ready = _LOCKS[kind, write]
    text = f"{kind} {cell}" + ("" if write else " shared")
    op = CellOp(text, cell, mode, act, ready=ready)
    if kind == "trylock":
        op.missed, op.taken = Op(text, ((cell, MISSED),)), _TRIED[write]
    return op
