"""A thread's side of a program: the calls by which it meets shared memory, and the greenlet that it runs on.

Every call is one step: it hands its operation to whoever asks for the thread's steps, and goes on with what that
returns.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from threading import local
from typing import NamedTuple, NoReturn

from greenlet import GreenletExit, getcurrent, greenlet

from memhp.errors import KernelBug
from memhp.explore.programs import cells, rwsem
from memhp.explore.programs.cells import CellOp

Body = Callable[["Shared"], Hashable]


class Shared:
    """A thread's view of shared memory; every call is one step."""

    def __init__(self) -> None:
        self.hub = getcurrent()
        """Who asks the thread for its steps."""
        self.given_up = False
        """Whether the thread is being taken down: it does no more steps."""

    def _ask(self, op: CellOp) -> Hashable:
        if self.given_up:
            raise GreenletExit
        return self.hub.switch(op)  # type: ignore[no-any-return]

    def load(self, cell: str) -> int:
        """Read a variable."""
        return self._ask(cells.load(cell))  # type: ignore[return-value]

    def store(self, cell: str, value: Hashable) -> None:
        """Write a variable."""
        self._ask(cells.store(cell, value))

    def update(self, cell: str, change: Callable[[Hashable], Hashable]) -> Hashable:
        """Change a variable in one atomic step; returns the value it had."""
        return self._ask(cells.update(cell, change))

    def wait(self, cell: str, ready: Callable[[Hashable], bool]) -> Hashable:
        """Block until `ready` holds of a variable's value; returns the value."""
        return self._ask(cells.wait(cell, ready))

    def do(self, op: CellOp) -> Hashable:
        """Do an operation of :mod:`memhp.explore.programs.cells`; returns what the thread gets to see."""
        return self._ask(op)

    def lock(self, name: str, *, write: bool = True) -> None:
        """Take a lock, alone or shared; blocks."""
        self._ask(cells.lock_op("lock", name, write=write))

    def trylock(self, name: str, *, write: bool = True) -> bool:
        """Take a lock if it can be had now."""
        return bool(self._ask(cells.lock_op("trylock", name, write=write)))

    def unlock(self, name: str, *, write: bool = True) -> None:
        """Let a lock go. KernelBug: the thread does not hold it."""
        if not self._ask(cells.lock_op("unlock", name, write=write)):
            raise KernelBug(f"a thread lets go of {name}, which it does not hold", place="explore")

    @contextmanager
    def locked(self, name: str, *, write: bool = True) -> Iterator[None]:
        """Hold a lock for the length of a ``with`` block."""
        self.lock(name, write=write)
        try:
            yield
        finally:
            self.unlock(name, write=write)

    @contextmanager
    def semaphore(self, name: str, *, write: bool) -> Iterator[None]:
        """Hold a read/write semaphore, which favours writers, for the length of a ``with`` block."""
        if not write:
            self._ask(rwsem.down_read(name))
        elif not self._ask(rwsem.come(name)):
            self._ask(rwsem.down_write(name))
        try:
            yield
        finally:
            self._ask(rwsem.up_write(name) if write else rwsem.up_read(name))

    def fails(self, site: str) -> bool:
        """Whether the allocation at `site` fails this time: both ways are explored."""
        return self._ask(cells.choose(f"allocate at {site}", 2)) == 1


class Ended(NamedTuple):
    """How a thread function has ended."""

    result: Hashable = None
    error: str | None = None


class _Idle(local):
    """Greenlets of finished threads: to make one is dearer than to explore a small program."""

    def __init__(self) -> None:
        self.greenlets: list[greenlet] = []


_idle = _Idle()


def hire() -> greenlet:
    """A greenlet; switched to with a thread function and its :class:`Shared`, it comes back with the first operation.

    Switched to with what an operation returns, it comes back with the next one, or with :class:`Ended`; after that it
    is ready for another function, or to be let go.
    """
    return _idle.greenlets.pop() if _idle.greenlets else greenlet(_serve)


def let_go(idle: greenlet) -> None:
    """Keep a greenlet, whose function has ended, for others; one of another thread is nobody else's."""
    if not idle.dead and idle.parent is getcurrent():
        _idle.greenlets.append(idle)


def _serve(body: Body, shared: Shared) -> NoReturn:
    """Run one thread function after another."""
    while True:
        try:
            ended = Ended(body(shared))
        except GreenletExit:
            ended = Ended()
        except Exception as error:
            ended = Ended(error=f"{type(error).__name__}: {error}")
        body, shared = shared.hub.switch(ended)
