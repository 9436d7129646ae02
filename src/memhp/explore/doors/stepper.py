"""What stands behind a machine's doors while interleavings are explored: every access waits for its turn.

A new step is announced to the search, which says when it happens; one that is the actor's own affair is taken along
with the step before it (:mod:`memhp.explore.engine.fusion`). Steps that were done before, and are done again to
rebuild a state, are not announced: an actor goes on with them for as long as the next one is its own.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from collections.abc import Callable, Hashable, Sequence
from types import CodeType

from greenlet import GreenletExit

from memhp.explore.doors.again import Again, Done, sort_of
from memhp.explore.doors.alike import AlikeEntries
from memhp.explore.doors.containers import Container
from memhp.explore.doors.door_op import DoorOp, door_op, place
from memhp.explore.doors.footprint import FIELD_MODES, touched
from memhp.explore.doors.leading import Leading
from memhp.explore.doors.marked_field import MarkedField
from memhp.explore.doors.own_steps import OwnSteps
from memhp.explore.doors.put_in import PutIn
from memhp.explore.doors.table_lifetimes import SEEN
from memhp.explore.doors.user_code import is_users
from memhp.explore.doors.views import Keys
from memhp.explore.doors.waits import Waits
from memhp.explore.engine.races import Data
from memhp.hw.locks import LockDoors
from memhp.hw.machine import Machine
from memhp.hw.stepper import Access, Fields, Part, of_fields
from memhp.hw.tlb import Table
from memhp.linux.state import Kernel
from memhp.spans import Span

FEWEST_ENTRIES = 512
"""Of a page table below the root."""
OWNERSHIP = frozenset({"plug", "claim", "release", "retag"})
"""Accesses that change who has frames, after which whose they are is known."""


class Doors(AlikeEntries):
    """The stepper of a kernel under exploration.

    `built`: where page tables led before the first step. `failures`: the actors whose allocations may fail. `shared`:
    what actors share; None: no step is taken along. `again`: steps to be done once more. `written`: where sorts of
    state are noted that were written and whose reads are not announced.
    """

    def __init__(
        self,
        k: Kernel,
        built: Leading,
        failures: frozenset[int],
        shared: frozenset[Hashable] | None,
        again: Sequence[Done],
        written: set[Hashable],
    ) -> None:
        super().__init__(k, built, shared, again)
        self._failures = failures
        self.watched = reads_watched(shared)
        """Sorts of state whose reads are announced."""
        self._written = written
        self._belonging: dict[int, tuple[Access | None, set[tuple[object, ...]]]] = {}
        """By actor: a step of its own, and what code of the user's has accessed since that belongs to that one."""
        self.data_seen: dict[Data, str] = {}
        """Plain accesses to shared data since that step began; where and under which locks, if that is noted."""
        self.notes_places = False
        self.wrote_fields = False
        """Whether data was written since that step began, plain or in marked fields."""
        self.put_in: PutIn | None = None
        """What actors have put into the kernel's state, where they are a user's."""
        self._taken_in: dict[tuple[str, int], int] = {}
        """What actors have put there so far, by name and actor."""

    def __deepcopy__(self, memo: dict[int, object]) -> "Doors":
        raise TypeError("a kernel under exploration cannot be copied")

    def step(self, access: Access) -> None:
        """An access is about to happen."""
        if self.given_up:
            raise GreenletExit
        if self._waits_on:
            self._must_be_waited_on(access)
            return
        if self.is_looked_on():
            return
        if not 0 <= access.entry < FEWEST_ENTRIES and isinstance(access.target, Table):
            self._must_be_entry(access.target, access.entry)
        if access.kind == "look" and self._knows(access.target):
            return
        thread = self.thread
        self._last[thread] = access
        where: Callable[[object], str] = place
        if self._to_take.get(thread):
            self._to_take[thread] -= 1
            self._goes(access)
        elif (turn := self._turn(access)) is not None:
            where = turn[0].where
            self._note(access, a_step=True)
        else:
            touches = touched(self._kernel, access, self.ghost)
            if self._takes_along(access, touches):
                self._note(access)
            else:
                op = door_op(access, touches)
                self._ask(op)
                where = op.where
                self._note(access, a_step=True)
        if access.kind in SEEN:
            self.ghost.look(self._kernel.hw, access, where)

    def _knows(self, frames: object) -> bool:
        """Whether the actor's last step changed who has these frames."""
        last = self._last.get(self.thread)
        return (
            last is not None
            and last.kind in OWNERSHIP
            and isinstance(last.target, Span)
            and isinstance(frames, Span)
            and last.target.start <= frames.start
            and frames.end <= last.target.end
        )

    def marked(self, *names: str, write: bool, by_cpu: bool = False, whole: bool = False) -> bool:
        """Fields are accessed that are not behind a lock: a step of its own, unless the code has just taken one itself
        that is about them. `by_cpu`: it is a dictionary that is got, of which entries will be accessed. `whole`: it is
        a number or the like, read or written with all there is of it.

        Whether they may be changed now: that step changes them. TypeError: it changes the CPU's own entry alone.
        """
        if self._waits_on:
            self._must_be_waited_on(of_fields(*names, write=write))
            return False
        if self.is_looked_on():
            return True
        self.wrote_fields = self.wrote_fields or write
        last = self._last.get(self.thread)
        if last is not None and last.kind in FIELD_MODES and not (write and last.kind == "read"):
            about = last.target.names if isinstance(last.target, Fields) else (last.target,)
            if all(name in about for name in names) and not (whole and self._is_another(last, names, write)):
                if FIELD_MODES[last.kind] == FIELD_MODES["add"] and not by_cpu:
                    text = "after k.hw.adds() only the CPU's own entry of a dictionary is accessed"
                    raise TypeError(f"{names[0]}: {text}")
                return last.kind != "read"
        self.step(of_fields(*names, write=write))
        self._last.pop(self.thread, None)  # the next access is another one
        return write

    def _is_another(self, last: Access, names: tuple[str, ...], write: bool) -> bool:
        """Whether an access of the user's code does not belong to the actor's last step, which was about these fields,
        any more: it reads there for the second time, as in a loop, or reads what it has stored.
        """
        if self.is_ours:
            return False
        code, at = _site()
        if not is_users(code.co_filename):
            return False
        of, belonging = self._belonging.get(self.thread, (None, set()))
        if of is not last:
            belonging = set()
            self._belonging[self.thread] = last, belonging
        reads_again = last.kind == "write" and not write and any(wrote for *_, wrote in belonging)
        one = code, at, names, write
        if not write and (reads_again or one in belonging):
            return True
        belonging.add(one)
        return False

    def adds_own(self, name: str, key: object) -> bool:
        """Whether the actor's last step is about its own entry of a field's dictionary, and this is it."""
        last = self._last.get(self.thread)
        return last is not None and last[:2] == ("add", name) and key == self.thread and not self.is_looked_on()

    def data(self, name: str, start: int, end: int, *, write: bool) -> None:
        """An actor reads or writes shared data; new steps remember it, those that are done once more do not."""
        if not self.is_looked_on():
            self.wrote_fields = self.wrote_fields or write
            self._remember(Data(name, start, end, write))

    def wrote(self, sort: str) -> None:
        """A sort of state (:mod:`memhp.explore.doors.announced`) is written: its reads must be announced."""
        if self.watched is not None and sort not in self.watched and not self.is_looked_on():
            self._written.add(("reads of", sort))

    def takes_in(self, name: str) -> str:
        """What that goes by which an actor puts at `name`, where something else may have been before."""
        if self.is_looked_on():
            return name
        count = self._taken_in[name, self.thread] = self._taken_in.get((name, self.thread), 0) + 1
        return f"{name}(CPU {self.thread})" if count == 1 else f"{name}(CPU {self.thread}, {count})"

    def _note(self, access: Access, *, a_step: bool = False) -> None:
        if self.listens and isinstance(access.target, Part):
            self._remember(Data(*access.target, access.kind != "read", True, a_step))

    def _remember(self, one: Data) -> None:
        if self.notes_places:
            self.data_seen.setdefault(one, self._where())
        else:
            self.data_seen[one] = ""

    def _where(self) -> str:
        """The place of the actor that runs, and the locks that it holds."""
        locks = self._kernel.hw.locks.values()
        held = [lock.name + ("" if lock.writer == self.thread else " (shared)") for lock in locks
                if lock.held_by(self.thread)]  # fmt: skip
        return f"{place()} (holding {', '.join(held)})" if held else f"{place()} (holding no lock)"

    def begins(self, thread: int, op: DoorOp) -> None:
        """An actor is about to do a new step."""
        self._may_be_tired(thread)
        self.doing, self.along, self.changed, self.touched, self.data_seen = op, 0, [], [], {}
        self.alike_along = {}
        self.listens, self.wrote_fields = True, False

    def fails(self, site: str) -> bool:
        """Whether the allocation at `site` fails: both ways are explored for the actors that were named."""
        if self.thread not in self._failures:
            return False
        if self.given_up:
            raise GreenletExit
        self._last.pop(self.thread, None)
        op = DoorOp("allocate", (), site, choices=2)
        turn = self._turn(sort_of(op))
        return (turn[1] if turn is not None else self._ask(op)) == 1


def reads_watched(shared: frozenset[Hashable] | None) -> frozenset[str] | None:
    """Of what actors are known to share, the sorts of state whose reads are announced; None: all."""
    if shared is None:
        return None
    return frozenset(one[1] for one in shared if isinstance(one, tuple) and one[0] == "reads of")


BEHIND_DOORS = ("memhp.hw.", "memhp.explore.doors.")
"""Modules that access what other code has asked them to."""

WAITED = Doors, AlikeEntries, OwnSteps, Waits, Again, Machine, LockDoors, MarkedField, Container, Keys
WAITING = tuple(kind.__module__ for kind in WAITED)
"""The modules by whose functions an actor waits for its turn."""


def _site() -> tuple[CodeType, int]:
    """Where the code is that accesses something: a function's, and how far in it."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(BEHIND_DOORS):
        frame = frame.f_back
    return frame.f_code, frame.f_lasti
