"""What stands behind a machine's doors while interleavings are explored: every access waits for its turn.

A new step is announced to the search, which says when it happens; one that is the actor's own affair is taken along
with the step before it (:mod:`memhp.explore.engine.fusion`). Steps that were done before, and are done again to
rebuild a state, are not announced: an actor goes on with them for as long as the next one is its own.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from greenlet import GreenletExit, getcurrent

from memhp.errors import BadInput
from memhp.explore.doors.footprint import FIELD_MODES, Touches, entries_in, loads_touched, touched
from memhp.explore.doors.table_lifetimes import Ghost
from memhp.explore.doors.user_code import line_at
from memhp.explore.engine.fusion import MOST_ALONG
from memhp.explore.engine.op import SHARED, Op
from memhp.explore.engine.races import Data
from memhp.hw.format import HEIGHT_NAMES
from memhp.hw.stepper import Access, Fields, Level, Part, of_fields
from memhp.hw.tlb import ALL_ADDRESSES, Table
from memhp.linux.place import NOWHERE
from memhp.linux.place import place as place_in_kernel
from memhp.linux.state import Kernel
from memhp.spans import Span

LOOKS = frozenset({"load", "look", "read", "touch"})
"""Accesses that change nothing."""


OWNERSHIP = frozenset({"plug", "claim", "release", "retag"})
"""Accesses that change who has frames, after which whose they are is known."""


class DoorOp(Op):
    """A step at a door."""

    __slots__ = ("access", "lock", "table", "waits", "write")

    def __init__(self, text: str, touches: Touches, place: str, access: Access | None = None, choices: int = 1) -> None:
        super().__init__(text, touches, choices=choices, place=place)
        self.access = access
        """None of a wait, and of an allocation that may fail."""
        self.lock = ""
        """The lock that the step takes and may have to wait for."""
        self.write = True
        self.waits = False
        """Whether it waits for something that can be asked of the machine as it is now only (:attr:`Doors.ready`)."""
        self.table: tuple[Table, int] | None = None
        """The entry that the step reads or writes."""

    def where(self, target: object) -> str:
        """The place of the step, once it is known."""
        return self.place


def place(target: object = None) -> str:
    """Where in the kernel the actor looks at `target`, or where in the user's code, as ``name:LINE``."""
    found = place_in_kernel(target)
    return (line_at(sys._getframe(1)) or found) if found == NOWHERE else found


BEGIN = DoorOp("begin", (), NOWHERE)
"""The first step of every actor: whatever its code does before its first access belongs to it, and to no other time."""


class Done(Protocol):
    """A step that was done."""

    thread: int
    way: int
    op: DoorOp
    along: int
    """How many steps were taken along with it."""


class Astray(RuntimeError):
    """An actor does not do again what it did."""


class Doors:
    """The stepper of a kernel under exploration.

    `failures`: the actors whose allocations may fail. `shared`: what actors share; None: no step is taken along.
    `again`: steps to be done once more. `written`: where sorts of state are noted that were written and whose reads are
    not announced.
    """

    def __init__(
        self,
        k: Kernel,
        failures: frozenset[int],
        shared: frozenset[Hashable] | None,
        again: Sequence[Done],
        written: set[Hashable],
    ) -> None:
        self._kernel = k
        self._failures = failures
        self._shared = shared
        self.watched = reads_watched(shared)
        """Sorts of state whose reads are announced."""
        self._written = written
        self._ghost = Ghost(k.hw, k.layout.vmemmap.span)
        self._hub = getcurrent()
        self._again = again
        self._nr_again = len(again)
        self._to_take: dict[int, int] = {}
        """By actor: steps that it takes along before its next one of those that are done once more."""
        self._tired: set[int] = set()
        self._last: dict[int, Access] = {}
        """By actor: its last step, where that may stand for what its code does next."""
        self.at = 0
        """How many of the steps to be done once more are done."""
        self.thread = 0
        """The actor that runs."""
        self.doing: DoorOp | None = None
        """The new step that it was told to take."""
        self.listens = False
        """Whether it does a new step; what those do that are done once more is known."""
        self.along = 0
        """How many steps it has taken along since."""
        self.changed: list[Access] = []
        """Those of them that change something."""
        self.touched: list[tuple[Hashable, int]] = []
        """What they touch."""
        self.data_seen: dict[Data, str] = {}
        """Plain accesses to shared data since that step began; where and under which locks, if that is noted."""
        self.notes_places = False
        self._taken_in: dict[tuple[str, int], int] = {}
        """What actors have put there so far, by name and actor."""
        self.ready: dict[int, Callable[[], bool]] = {}
        """By actor: what it waits for, or did when it last waited."""
        self.given_up = False

    def __deepcopy__(self, memo: dict[int, object]) -> "Doors":
        raise TypeError("a kernel under exploration cannot be copied")

    def _ask(self, op: DoorOp) -> int:
        """Announce a new step; the way it is to go, when its turn has come."""
        return int(self._hub.switch(op))

    def _turn(self, access: Access | None) -> tuple[DoorOp, int] | None:
        """Wait for the turn of a step that is done once more, and the way it went; None: it is a new one."""
        if self.at >= self._nr_again:
            return None
        if self._again[self.at].thread != self.thread:
            way = self._hub.switch(None)
            if self.at >= self._nr_again:
                assert self.doing is not None
                return self.doing, way
        done = self._again[self.at]
        if done.op.access != access:
            now = _op(access, ()).text if access is not None else "a wait, or an allocation"
            raise Astray(f"does {now!r}, and did {done.op.text!r} when the same steps were done before")
        self.begun(self.thread)
        return done.op, done.way

    def begun(self, thread: int) -> None:
        """An actor does the next of the steps that are done once more."""
        along = self._again[self.at].along
        self.at += 1
        self._to_take[thread] = along
        if along >= MOST_ALONG:
            self._tired.add(thread)

    def _look_for_tired(self, along: int) -> None:
        """An actor that has taken very many steps along takes none from then on."""
        if along >= MOST_ALONG:
            self._tired.add(self.thread)

    def _takes_along(self, access: Access, touches: Touches) -> bool:
        """Whether a new step is the actor's own affair, and can be taken now."""
        shared = self._shared_now()
        if shared is None:
            return False
        for target, _ in touches:
            if target in shared:
                return False
        if access.kind == "lock":
            assert isinstance(access.target, str)
            lock = self._kernel.hw.locks.get(access.target)
            if lock is not None and not lock.can_take(self.thread, write=bool(access.value)):
                return False
        self._taken_along(1, touches)
        if access.kind not in LOOKS:
            self.changed.append(access)
        return True

    def _takes_loads_along(self, table: Table, index: int, count: int) -> int:
        """How many of these loads, the first ones, are the actor's own affair; they are taken then."""
        shared = self._shared_now()
        if shared is None:
            return 0
        if ("frame", table.frame) in shared:
            return 0
        end = index + min(count, MOST_ALONG - self.along)
        others = entries_in(shared).get(table.frame)
        if others is not None:
            end = min(end, next(iter(others[bisect_left(others, index) :]), end))
        if end <= index:
            return 0
        self._taken_along(end - index, loads_touched(table, index, end))
        return end - index

    def _shared_now(self) -> frozenset[Hashable] | None:
        """What actors share; None where this one takes no step along."""
        return None if self.thread in self._tired else self._shared

    def _taken_along(self, count: int, touches: Touches) -> None:
        self.along += count
        self._look_for_tired(self.along)
        self.touched += touches

    def step(self, access: Access) -> None:
        """An access is about to happen."""
        if self.given_up:
            raise GreenletExit
        if getcurrent() is self._hub:
            return  # it is not an actor that looks
        if access.kind == "look" and self._knows(access.target):
            return
        self._last[self.thread] = access
        hw = self._kernel.hw
        if self._to_take.get(self.thread):
            self._to_take[self.thread] -= 1
            self._ghost.look(hw, access, place)
            return
        turn = self._turn(access)
        if turn is not None:
            op = turn[0]
        else:
            touches = touched(self._kernel, access)
            if self._takes_along(access, touches):
                self._ghost.look(hw, access, place)
                self._note(access)
                return
            op = _op(access, touches)
            self._ask(op)
        self._ghost.look(hw, access, op.where)
        self._note(access, a_step=True)

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

    def marked(self, *names: str, write: bool) -> bool:
        """Fields are accessed that are not behind a lock: a step of its own, unless the code has just taken one itself
        that is about them.

        Whether they may be changed now: that step changes them.
        """
        if getcurrent() is self._hub:
            return True
        last = self._last.get(self.thread)
        if last is not None and last.kind in FIELD_MODES and not (write and last.kind == "read"):
            about = last.target.names if isinstance(last.target, Fields) else (last.target,)
            if all(name in about for name in names):
                return last.kind != "read"
        self.step(of_fields(*names, write=write))
        self._last.pop(self.thread, None)  # the next access is another one
        return write

    def data(self, name: str, start: int, end: int, *, write: bool) -> None:
        """An actor reads or writes shared data; new steps remember it, those that are done once more do not."""
        if getcurrent() is not self._hub:
            self._remember(Data(name, start, end, write))

    def wrote(self, sort: str) -> None:
        """A sort of state (:mod:`memhp.explore.doors.announced`) is written: its reads must be announced."""
        if self.watched is not None and sort not in self.watched and getcurrent() is not self._hub:
            self._written.add(("reads of", sort))

    def takes_in(self, name: str) -> str:
        """What that goes by which an actor puts at `name`, where something else may have been before."""
        if getcurrent() is self._hub:
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

    def loads(self, table: Table, index: int, count: int) -> int:
        """How many of these loads are steps that are taken along, and so happen now."""
        if self.given_up:
            raise GreenletExit
        if self._to_take.get(self.thread):
            together = min(self._to_take[self.thread], count)
            self._to_take[self.thread] -= together
        elif self.at < self._nr_again:
            return 0
        else:
            together = self._takes_loads_along(table, index, count)
        if together:
            self._ghost.look(self._kernel.hw, Access("load", table, index), place)
        return together

    def fails(self, site: str) -> bool:
        """Whether the allocation at `site` fails: both ways are explored for the actors that were named."""
        if self.thread not in self._failures:
            return False
        if self.given_up:
            raise GreenletExit
        self._last.pop(self.thread, None)
        turn = self._turn(None)
        return (turn[1] if turn is not None else self._ask(DoorOp("allocate", (), site, choices=2))) == 1

    def wait(self, ready: Callable[[], bool], why: str, on: str) -> None:
        """Go on when `ready()`, which looks at the shared field `on`."""
        if self.given_up:
            raise GreenletExit
        if not on:
            raise BadInput(f"a wait for {why}: wanted on=, the field that it looks at and others change", where="wait")
        self.ready[self.thread] = ready
        self._last.pop(self.thread, None)
        if self._turn(None) is None:
            op = DoorOp(f"wait for {why}", ((("field", on), SHARED),), place())
            op.blocking = op.waits = True
            self._ask(op)


def reads_watched(shared: frozenset[Hashable] | None) -> frozenset[str] | None:
    """Of what actors are known to share, the sorts of state whose reads are announced; None: all."""
    if shared is None:
        return None
    return frozenset(one[1] for one in shared if isinstance(one, tuple) and one[0] == "reads of")


def _level(kind: str, by: int | None) -> str:
    """How a counter is looked at or changed, in words."""
    if by is None:
        return ""
    return f" >= {by}" if kind == "read" else f" {by:+}"


def _op(access: Access, touches: Touches) -> DoorOp:
    kind, target = access.kind, access.target
    changes = False
    if isinstance(target, str):
        shared = kind not in FIELD_MODES and not access.value
        text = f"{kind} {target}" + (" shared" if shared else "")
    elif isinstance(target, Fields):
        text = f"{kind} {', '.join(target.names)}"
    elif isinstance(target, Level):
        text, changes = f"{kind} {target.name}{_level(kind, target.by)}", kind != "read"
    elif isinstance(target, Part):
        text = f"{kind} {target.name} [{target.start:#x}-{target.end:#x})"
    elif isinstance(target, Table):
        text = f"{kind} {HEIGHT_NAMES[target.height]} {target.frame:#x}[{access.entry}]"
        changes = kind == "store"
    elif kind == "touch":
        text, changes = f"read memory at {target.start:#x}", True
    elif kind == "flush":
        text = "flush everything" if target == ALL_ADDRESSES else f"flush [{target.start:#x}-{target.end:#x})"
        changes = True
    else:
        text = f"{kind} PFN [{target.start:#x}-{target.end:#x})"
    op = DoorOp(text, touches, place(target), access)
    op.changes_touched = changes
    if isinstance(target, Table):
        op.table = (target, access.entry)
    elif isinstance(target, str) and kind == "lock":
        op.blocking, op.lock, op.write = True, target, bool(access.value)
    return op
