"""What stands behind a machine's doors while interleavings are explored: every access waits for its turn.

A new step is announced to the search, which says when it happens; one that is the actor's own affair is taken along
with the step before it (:mod:`memhp.explore.engine.fusion`). Steps that were done before, and are done again to
rebuild a state, are not announced: an actor goes on with them for as long as the next one is its own.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from types import CodeType

from greenlet import GreenletExit, getcurrent

from memhp.errors import BadInput
from memhp.explore.doors.again import Again, Done, sort_of
from memhp.explore.doors.containers import Container
from memhp.explore.doors.door_op import DoorOp, door_op, place
from memhp.explore.doors.footprint import FIELD_MODES, Touches, entries_in, loads_touched, stores_touched, touched
from memhp.explore.doors.leading import Leading, mapping_areas
from memhp.explore.doors.marked_field import MarkedField
from memhp.explore.doors.put_in import PutIn
from memhp.explore.doors.table_lifetimes import SEEN, Ghost
from memhp.explore.doors.user_code import is_users
from memhp.explore.doors.views import Keys
from memhp.explore.engine.fusion import MOST_ALONG
from memhp.explore.engine.op import SHARED
from memhp.explore.engine.races import Data
from memhp.hw.format import U64
from memhp.hw.locks import LockDoors
from memhp.hw.machine import Machine
from memhp.hw.stepper import Access, Fields, Part, of_fields
from memhp.hw.tlb import Table
from memhp.linux.state import Kernel
from memhp.spans import Span

LOOKS = frozenset({"load", "look", "read", "touch"})
"""Accesses that change nothing."""


FEWEST_ENTRIES = 512
"""Of a page table below the root."""
OWNERSHIP = frozenset({"plug", "claim", "release", "retag"})
"""Accesses that change who has frames, after which whose they are is known."""


class Doors(Again):
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
        super().__init__(again)
        self._kernel = k
        self._failures = failures
        self._shared = shared
        self.watched = reads_watched(shared)
        """Sorts of state whose reads are announced."""
        self._written = written
        self.ghost = Ghost(k.hw, built, mapping_areas(k))
        self._last: dict[int, Access] = {}
        """By actor: its last step, where that may stand for what its code does next."""
        self._belonging: dict[int, tuple[Access | None, set[tuple[object, ...]]]] = {}
        """By actor: a step of its own, and what code of the user's has accessed since that belongs to that one."""
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
        self.wrote_fields = False
        """Whether data was written since that step began, plain or in marked fields."""
        self.is_ours = False
        """Whether no code of a user's takes part, for whose loops more is looked at."""
        self.put_in: PutIn | None = None
        """What actors have put into the kernel's state, where they are a user's."""
        self._taken_in: dict[tuple[str, int], int] = {}
        """What actors have put there so far, by name and actor."""
        self._ready: dict[int, tuple[Callable[[], bool], str]] = {}
        """By actor: what it waits for, or did when it last waited, and on which name."""
        self.given_up = False
        self._waits_on = ""
        """What an actor waits for, while it is looked at whether that has come: the wait is about that name alone."""

    def __deepcopy__(self, memo: dict[int, object]) -> "Doors":
        raise TypeError("a kernel under exploration cannot be copied")

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
        self._goes(access)
        if access.kind not in LOOKS:
            self.changed.append(access)
        return True

    def _takes_loads_along(self, table: Table, index: int, count: int) -> int:
        """How many of these loads, the first ones, are the actor's own affair; they are taken then."""
        together = self._own_entries(self._shared_now(), table, index, min(count, MOST_ALONG - self.along))
        if together:
            self._taken_along(together, loads_touched(table, index, index + together))
        return together

    def _own_entries(self, shared: frozenset[Hashable] | None, table: Table, index: int, count: int) -> int:
        """How many entries from `index` on, at most `count`, no other actor looks at or changes."""
        if shared is None or ("frame", table.frame) in shared:
            return 0
        end = index + count
        others = entries_in(shared).get(table.frame)
        if others is not None:
            end = min(end, next(iter(others[bisect_left(others, index) :]), end))
        return max(end - index, 0)

    def _own_stores(self, table: Table, index: int, values: U64) -> tuple[int, Touches]:
        """How many of these stores, the first ones, are the actor's own affair, and what they touch."""
        shared = self._shared
        if shared is None or table.height:
            return 0, ()
        together = self._own_entries(shared, table, index, len(values))
        touches = stores_touched(self._kernel, table, index, values[:together]) if together else ()
        return (0, ()) if any(target in shared for target, _ in touches) else (together, touches)

    def _shared_now(self) -> frozenset[Hashable] | None:
        """What actors share; None where this one takes no step along."""
        return None if self.thread in self._tired or self._along_now() >= MOST_ALONG else self._shared

    def _taken_along(self, count: int, touches: Touches) -> None:
        self.along += count
        if self.along >= MOST_ALONG:
            self._tired.add(self.thread)  # it takes none along from then on
        self.touched += touches

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

    def _must_be_entry(self, table: Table, index: int) -> None:
        """IndexError: a table has no such entry; counted from the end, as Python does, it would be another one."""
        entries = self._kernel.hw.fmt.levels[table.height].entries
        if not 0 <= index < entries:
            raise IndexError(f"entry {index} of a page table of {entries}")

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

    def is_looked_on(self) -> bool:
        """Whether it is no actor that runs, but who looks on: that is no access."""
        return getcurrent() is self._hub

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

    def loads(self, table: Table, index: int, count: int) -> int:
        """How many of these loads are steps that are taken along, and so happen now."""
        self._must_be_entry(table, index)
        if self.given_up:
            raise GreenletExit
        if self._waits_on:
            self._must_be_waited_on(Access("load", table, index))
        if self.is_looked_on():
            return count
        if self._to_take.get(self.thread):
            together = min(self._to_take[self.thread], count)
            self._to_take[self.thread] -= together
        elif self.at < self._nr_again:
            return 0
        else:
            together = self._takes_loads_along(table, index, count)
        if together:
            self._last.pop(self.thread, None)
            self.ghost.look(self._kernel.hw, Access("load", table, index), place)
        return together

    def stores(self, table: Table, index: int, values: U64) -> int:
        """How many of these stores are steps that are taken along, and so happen now."""
        self._must_be_entry(table, index)
        if self.given_up:
            raise GreenletExit
        left = self._to_take.get(self.thread, 0)
        if not left and (self.at < self._nr_again or self._shared_now() is None):
            return 0
        together, touches = self._own_stores(table, index, values)
        together = min(together, left or MOST_ALONG - self.along)
        if not together:
            return 0
        written = Access("store", table, index, int.from_bytes(values[:together].tobytes(), "little"))
        if left:
            self._to_take[self.thread] -= together
        else:
            self._taken_along(together, touches)
            self.changed.append(written)
        self._goes(written)
        self._last.pop(self.thread, None)
        self.ghost.look(self._kernel.hw, Access("store", table, index, int(values[:together].max())), place)
        return together

    def own(self, table: Table, index: int, count: int) -> int:
        """How many entries from `index` on are empty, and no other actor's affair; the same when that is done again."""
        row = self._kernel.hw.memory.arena.row(table.frame)
        shared = self._shared_now()
        if table.height or row is None or shared is None or ("place", 0, table.va) in shared:
            return 0
        together = self._own_entries(shared, table, index, min(count, (MOST_ALONG - self._along_now()) // 2))
        full = row[index : index + together] != self._kernel.hw.fmt.empty[0]
        return int(full.argmax()) if full.any() else together

    def _along_now(self) -> int:
        """How many steps the actor has taken along with its last one."""
        if self.listens:
            return self.along
        last = self._last_done.get(self.thread)
        return 0 if last is None else last.along - self._to_take.get(self.thread, 0)

    def begins(self, thread: int, op: DoorOp) -> None:
        """An actor is about to do a new step."""
        self._may_be_tired(thread)
        self.doing, self.along, self.changed, self.touched, self.data_seen = op, 0, [], [], {}
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

    def wait(self, ready: Callable[[], bool], why: str, on: str) -> None:
        """Go on when `ready()`, which looks at the shared field `on`."""
        if self.given_up:
            raise GreenletExit
        if not on or not isinstance(on, str):
            wanted = "on=, the name of the field that it looks at and others change"
            raise BadInput(f"a wait for {why}: wanted {wanted}", where="wait")
        if not callable(ready):
            wanted = f"wanted a function that says whether to go on, not {type(ready).__name__}"
            raise BadInput(f"a wait for {why}: {wanted}", where="wait")
        self._ready[self.thread] = ready, on
        self._last.pop(self.thread, None)
        op = DoorOp(f"wait for {why}", ((("field", on), SHARED),), "")
        op.blocking = op.waits = True
        if self._turn(sort_of(op)) is None:
            op.place = place()
            self._ask(op)
        if self.listens:
            self.is_ready(self.thread)  # what is read there belongs to this step

    def waited_by(self, thread: int) -> Callable[[], bool]:
        """The function that says whether an actor may go on."""
        return self._ready[thread][0]

    def is_ready(self, thread: int) -> bool:
        """Whether what an actor waits for has come. BadInput: that looks at more than it names."""
        ready, self._waits_on = self._ready[thread]
        made = len(self._kernel._statics)
        try:
            return ready()
        finally:
            self._waits_on = ""
            while len(self._kernel._statics) > made:  # who looks changes nothing
                self._kernel._statics.popitem()

    def _must_be_waited_on(self, access: Access) -> None:
        """BadInput: who waits looks at something else than the wait names."""
        if access.target != self._waits_on or access.kind != "read":
            does = door_op(access, ()).text
            fix = "all that a wait looks at without a lock goes by one name"
            self._raise(BadInput(f"a wait on {self._waits_on} does {does!r}", where="wait", fix=fix))


def reads_watched(shared: frozenset[Hashable] | None) -> frozenset[str] | None:
    """Of what actors are known to share, the sorts of state whose reads are announced; None: all."""
    if shared is None:
        return None
    return frozenset(one[1] for one in shared if isinstance(one, tuple) and one[0] == "reads of")


BEHIND_DOORS = ("memhp.hw.", "memhp.explore.doors.")
"""Modules that access what other code has asked them to."""

WAITING = tuple(kind.__module__ for kind in (Doors, Again, Machine, LockDoors, MarkedField, Container, Keys))
"""The modules by whose functions an actor waits for its turn."""


def _site() -> tuple[CodeType, int]:
    """Where the code is that accesses something: a function's, and how far in it."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(BEHIND_DOORS):
        frame = frame.f_back
    return frame.f_code, frame.f_lasti
