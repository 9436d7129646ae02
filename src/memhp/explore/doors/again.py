"""Steps that were done before, done once more to rebuild a state: whose turn it is, and whether actors do as before.

An actor goes by its kernel alone, so it comes to the same steps each time. One that does not is *astray*, and what was
found out is worth nothing.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from greenlet import getcurrent, greenlet

from memhp.explore.doors.door_op import BEGIN, DoorOp, door_op
from memhp.explore.doors.user_code import ends_it_all
from memhp.explore.engine.fusion import MOST_ALONG
from memhp.explore.engine.op import Op
from memhp.hw.stepper import Access


class Done(Protocol):
    """A step that was done."""

    thread: int
    way: int
    op: DoorOp
    along: int
    """How many steps were taken along with it."""
    alike: Mapping[int, tuple[int, int]]
    """Where entries of a page table were dealt with in one go meanwhile, by the number of steps taken along before: how
    many, and the steps of each.
    """
    course: int
    """What :attr:`Again.course` said of the actor when they were done."""


class Astray(RuntimeError):
    """An actor does not do again what it did."""


class Over:
    """What stands behind the doors of a machine whose execution is over: who comes to it has an object of that one."""

    def __getattr__(self, name: str) -> Any:
        raise Astray("reaches into the kernel of another execution")

    def __reduce__(self) -> str:
        return "OVER"


OVER = Over()


class Again:
    """The steps that are to be done once more, and what actors have come to."""

    def __init__(self, steps: Sequence[Done]) -> None:
        self._hub = getcurrent()
        self._again = steps
        self._nr_again = len(steps)
        self.at = 0
        """How many of them are done."""
        self._last_done: dict[int, Done] = {}
        """By actor: the last of them that it has done."""
        self._to_take: dict[int, int] = {}
        """By actor: steps that it takes along before its next one of them."""
        self._tired: set[int] = set()
        """Actors that have taken very many steps along, and take none from then on."""
        self.course: dict[int, int] = {}
        """By actor: a number that tells what it has taken along so far from anything else."""
        self.thread = 0
        """The actor that runs."""
        self.switches = 0
        """How often that was another one than before."""
        self.doing: DoorOp | None = None
        """The new step that it was told to take."""
        self._running: greenlet | None = None
        self._came_to: dict[int, Hashable] = {}
        """By actor that waits for its turn: at which step."""
        self._wrong: BaseException | None = None
        """What was raised within an actor and must be heard, whatever its code makes of that."""

    def resume(self, thread: int, running: greenlet, told: object) -> object:
        """Let an actor go on; the step that it comes to, None if that was done before, or what it returns at its end.

        Astray: it does not do what it did, or comes back from elsewhere than from a step.
        """
        self.switches += thread != self.thread
        self.thread, self._running = thread, running
        self._came_to.pop(thread, None)
        said = running.switch(told)
        if self._wrong is not None:
            raise self._wrong
        if not running.dead and thread not in self._came_to:
            raise Astray("switches greenlets itself")
        return said

    def _wait_for_turn(self, op: DoorOp | None, came_to: Hashable) -> int:
        """Wait until the actor's turn has come to take a step; the way that this is to go."""
        if getcurrent() is not self._running:
            self._raise(Astray("takes a step in a greenlet of its own"))
        self._must_not_be_ending()
        self._came_to[self.thread] = came_to
        return int(self._hub.switch(op))

    def _ask(self, op: DoorOp) -> int:
        """Announce a new step; the way it is to go, when its turn has come."""
        return self._wait_for_turn(op, sort_of(op))

    def _turn(self, sort: Hashable) -> tuple[DoorOp, int] | None:
        """Wait for the turn of a step that is done once more, and the way it went; None: it is a new one."""
        if self.at >= self._nr_again:
            return None
        if self._again[self.at].thread != self.thread:
            way = self._wait_for_turn(None, sort)
            if self.at >= self._nr_again:
                assert self.doing is not None
                return self.doing, way
        done = self._again[self.at]
        if sort_of(done.op) != sort:
            self._raise(_another(sort, done.op))
        self.begun(self.thread)
        return done.op, done.way

    def begun(self, thread: int) -> None:
        """An actor does the next of the steps that are done once more."""
        self._must_have_gone_on_as_before(thread)
        self._may_be_tired(thread)
        done = self._last_done[thread] = self._again[self.at]
        self.at += 1
        self._to_take[thread] = done.along

    def _may_be_tired(self, thread: int) -> None:
        """An actor that has taken very many steps along with one that is done again takes none with later ones."""
        last = self._last_done.get(thread)
        if last is not None and last.along >= MOST_ALONG:
            self._tired.add(thread)

    def _goes(self, access: Access) -> None:
        """A step is taken along, or several stores in one. Loads come one by one or several at once, so they do not
        count.
        """
        if access.kind != "load":
            self.course[self.thread] = hash((self.course.get(self.thread, 0), access))

    def _must_have_gone_on_as_before(self, thread: int) -> None:
        last = self._last_done.get(thread)
        if last is not None and last.course != self.course.get(thread, 0):
            self._raise(Astray(f"does not go on after {last.op.text!r} as when the same steps were done before"))

    def must_stand_at(self, thread: int, op: Op | None) -> None:
        """Astray: all is done once more, and an actor has come to another step than this, or not to its end (None)."""
        self._must_have_gone_on_as_before(thread)
        sort = self._came_to.get(thread)
        if op is not BEGIN and sort != (sort_of(op) if isinstance(op, DoorOp) else None):
            raise _another(sort, op)

    def _must_not_be_ending(self) -> None:
        """What is raised for an end of it all: what an actor undoes on its way out, in a ``finally``, is no step."""
        error = sys.exc_info()[1]
        while error is not None:
            if ends_it_all(error):
                self._wrong = error
                raise error
            error = error.__context__

    def _raise(self, error: Exception) -> NoReturn:
        self._must_not_be_ending()
        self._wrong = self._wrong or error
        raise error


def sort_of(op: DoorOp) -> Hashable:
    """What tells a step from others that an actor may come to."""
    return op.access if op.access is not None else op.text if op.waits else op.place


def _another(sort: Hashable, before: Op | None) -> Astray:
    """What to raise where an actor has come to another sort of step than before, None being its end."""
    now = door_op(sort, ()).text if isinstance(sort, Access) else sort
    does = "has ended" if sort is None else f"does {now!r}"
    did = "had ended" if before is None else f"did {before.text!r}"
    return Astray(f"{does}, and {did} when the same steps were done before")
