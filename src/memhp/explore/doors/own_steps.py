"""Steps that are an actor's own affair: nobody else looks at what they touch, and they are taken along.

One by one, or of page tables' entries several at once, where the order within them can be told by nobody.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from bisect import bisect_left
from collections.abc import Hashable, Sequence

from greenlet import GreenletExit

from memhp.explore.doors.again import Done
from memhp.explore.doors.door_op import place
from memhp.explore.doors.footprint import Touches, entries_in, loads_touched, stores_touched
from memhp.explore.doors.leading import Leading, mapping_areas
from memhp.explore.doors.table_lifetimes import Ghost
from memhp.explore.doors.waits import Waits
from memhp.explore.engine.fusion import MOST_ALONG
from memhp.hw.format import U64
from memhp.hw.stepper import Access
from memhp.hw.tlb import Table
from memhp.linux.state import Kernel

LOOKS = frozenset({"load", "look", "read", "touch"})
"""Accesses that change nothing."""


class OwnSteps(Waits):
    """What actors take along.

    `built`: where page tables led before the first step. `shared`: what actors share; None: no step is taken along.
    """

    def __init__(self, k: Kernel, built: Leading, shared: frozenset[Hashable] | None, again: Sequence[Done]) -> None:
        super().__init__(k, again)
        self._shared = shared
        self.ghost = Ghost(k.hw, built, mapping_areas(k))
        self.along = 0
        """How many steps were taken along since a new step began."""
        self.changed: list[Access] = []
        """Those of them that change something."""
        self.touched: list[tuple[Hashable, int]] = []
        """What they touch."""
        self.in_one_go = False
        """Whether entries of a page table are being dealt with that are alike (:mod:`memhp.explore.doors.alike`)."""

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
        if shared is None or (table.height and not self.in_one_go):
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

    def _must_be_entry(self, table: Table, index: int) -> None:
        """IndexError: a table has no such entry; counted from the end, as Python does, it would be another one."""
        entries = self._kernel.hw.fmt.levels[table.height].entries
        if not 0 <= index < entries:
            raise IndexError(f"entry {index} of a page table of {entries}")

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
