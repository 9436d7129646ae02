"""The cells of a small shared memory and what can be done to one: variables, locks, read/write locks, waits.

A cell's value is immutable, so that a step is taken back by putting the old value in its place.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable, Mapping
from copy import copy

from memhp.explore.engine.counter_marks import change_touches, read_touches
from memhp.explore.engine.op import ALONE, MISSED, SHARED, Op

Act = Callable[[Hashable, int, int], tuple[Hashable, Hashable]]
"""(the cell's value, the thread, the way to go) -> (its new value, what the thread gets to see)."""
Ready = Callable[[Hashable, int], bool]

Values = tuple[Hashable, ...]
ActOnAll = Callable[[Values, int, int], tuple[Values, Hashable]]
"""As `Act`, on all the cells of an operation at once."""
ReadyOfAll = Callable[[Values, int], bool]
Meets = Callable[[Hashable], tuple[tuple[Hashable, int], ...]]

SIZES = (0, 1, 3)
"""Of ranges by which marks of a counter are told apart: small, so that small programs have many."""
FREE: tuple[int | None, tuple[int, ...]] = (None, ())
"""A lock that nobody holds: (the thread that has it alone, the threads that share it)."""


class CellOp(Op):
    """An operation on one cell, or on several at once."""

    __slots__ = ("act", "cells", "meets", "ready", "taken")

    def __init__(self, text: str, cell: str, mode: int, act: Act, *, ready: Ready | None = None, ways: int = 1) -> None:
        super().__init__(text, ((cell, mode),) if cell else (), blocking=ready is not None, choices=ways)
        self.cells: tuple[str, ...] = (cell,)
        self.act: ActOnAll = _on_one(act)
        self.ready: ReadyOfAll | None = None if ready is None else _of_one(ready)
        self.taken: ReadyOfAll | None = None
        """Of an attempt: whether it gets the lock."""
        self.meets: Meets | None = None
        """What it touches, where that depends on the cells as they are."""

    @classmethod
    def on(cls, text: str, modes: Mapping[str, int], act: ActOnAll, ready: ReadyOfAll | None = None) -> "CellOp":
        """An operation on several cells, each in a mode of its own."""
        op = cls(text, "", ALONE, _keep)
        op.cells, op.touches, op.act = tuple(modes), tuple(modes.items()), act
        op.ready, op.blocking = ready, ready is not None
        return op

    def now(self, values: Mapping[str, Hashable]) -> "CellOp":
        """The operation with what it touches were it done where cells have these values."""
        if self.meets is None:
            return self
        touches = self.meets(values[self.cells[0]])
        if touches == self.touches:
            return self
        changed = copy(self)
        changed.touches = touches
        return changed


def _on_one(act: Act) -> ActOnAll:
    def acts(values: Values, thread: int, way: int) -> tuple[Values, Hashable]:
        new, seen = act(values[0], thread, way)
        return (new,), seen

    return acts


def _of_one(ready: Ready) -> ReadyOfAll:
    return lambda values, thread: ready(values[0], thread)


def _keep(value: Hashable, thread: int, way: int) -> tuple[Hashable, Hashable]:
    return value, None


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


def move(
    names: tuple[str, ...], change: Callable[[Values], Values], ready: Callable[[Values], bool] | None = None
) -> CellOp:
    """Change several variables in one step, with `ready` once their values satisfy it; the thread sees the old ones."""
    return CellOp.on(
        f"move {' '.join(names)}" if ready is None else f"wait for and move {' '.join(names)}",
        dict.fromkeys(names, ALONE), lambda values, thread, way: (change(values), values),
        None if ready is None else lambda values, thread: ready(values),
    )  # fmt: skip


def peek(looked_at: str, written: str) -> CellOp:
    """Copy a variable to another in one step; the thread sees both old values."""
    return CellOp.on(
        f"copy {looked_at} to {written}", {looked_at: SHARED, written: ALONE},
        lambda values, thread, way: ((values[0], values[0]), values),
    )  # fmt: skip


def wait_all(names: tuple[str, ...], ready: Callable[[Values], bool]) -> CellOp:
    """Block until the values of several variables together satisfy `ready`; the thread sees them."""
    return CellOp.on(
        f"wait for {' and '.join(names)}", dict.fromkeys(names, SHARED), lambda values, thread, way: (values, values),
        lambda values, thread: ready(values),
    )  # fmt: skip


def take_all(names: tuple[str, ...]) -> CellOp:
    """Take several locks in one step, when all are free."""
    return CellOp.on(
        f"lock {' and '.join(names)}", dict.fromkeys(names, ALONE), lambda values, thread, way: (
            tuple((thread, ()) for _ in values), True), lambda values, thread: all(value == FREE for value in values),
    )  # fmt: skip


def try_all(names: tuple[str, ...]) -> CellOp:
    """Take several locks in one step if all are free; the thread sees whether it has them."""

    def act(values: Values, thread: int, way: int) -> tuple[Values, Hashable]:
        if any(value != FREE for value in values):
            return values, False
        return tuple((thread, ()) for _ in values), True

    return CellOp.on(f"trylock {' and '.join(names)}", dict.fromkeys(names, ALONE), act)


def lock_when(lock: str, variable: str, ready: Callable[[Hashable], bool]) -> CellOp:
    """Take a lock, alone, and clear a variable in one step, once the one is free and the other's value is ready."""
    return CellOp.on(
        f"lock {lock} when {variable}", {lock: ALONE, variable: ALONE},
        lambda values, thread, way: (((thread, ()), 0), values[1]),
        lambda values, thread: values[0] == FREE and ready(values[1]),
    )  # fmt: skip


def unlock_and_store(lock: str, variable: str, value: Hashable) -> CellOp:
    """Let a lock go, which the thread holds alone, and write a variable in the same step."""
    return CellOp.on(
        f"unlock {lock} and store {variable}", {lock: ALONE, variable: ALONE},
        lambda values, thread, way: ((FREE, value), None),
    )  # fmt: skip


def above(counter: str, mark: int) -> CellOp:
    """Whether a counter is at a mark or above it; meets only changes that go past the mark."""
    op = CellOp(f"{counter} >= {mark}", counter, SHARED, lambda value, thread, way: (value, value >= mark))  # type: ignore[operator]
    op.touches = read_touches(counter, mark, SIZES)
    return op


def count(counter: str) -> CellOp:
    """Read a counter."""
    op = CellOp(f"count {counter}", counter, SHARED, lambda value, thread, way: (value, value))
    op.touches = read_touches(counter, None, SIZES)
    return op


def add(counter: str, by: int) -> CellOp:
    """Add to a counter."""
    op = CellOp(f"add {counter} {by:+}", counter, ALONE, lambda value, thread, way: (value + by, None))  # type: ignore[operator]
    op.changes_touched = True
    op.meets = lambda value: change_touches(counter, value, by, SIZES)  # type: ignore[arg-type]
    return op


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
        op.missed, op.taken = Op(text, ((cell, MISSED),)), _of_one(_TRIED[write])
    return op
