"""What the explorer knows of page tables beyond their contents: which frame is a table where, and which was unlinked.

A CPU that has read a pointer to a table goes on with it whatever others do in the meantime. Two things can go wrong
besides a table that is no table any more: it writes an entry into a table that nothing points to by then, so that what
it wrote is lost; or the frame was freed and is a table again, in another place of the tree. And what an
entry leads to may be freed while it still does: a table, the storage of struct pages, a page of vmalloc.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Hashable, Iterator, Sequence

from memhp.explore.doors.leading import Leading, Life
from memhp.explore.engine.op import ALONE
from memhp.hw.format import Format
from memhp.hw.ledger import Violation
from memhp.hw.machine import Machine
from memhp.hw.memory import Use
from memhp.hw.stepper import Access
from memhp.hw.tlb import Table
from memhp.spans import Span

INIT_MM = "init_mm"
"""The tree that counts: a process's own root entry may go while the kernel's stays."""

Place = Callable[[object], str]
"""Where in the kernel an access is made, given what it is about; asked where that matters."""

MAPPED = (Use.TABLE, Use.MEMMAP, Use.KERNEL)
"""What frames are used as that entries of page tables lead to, besides the direct map's."""

SEEN = frozenset({"load", "store", "flush", "claim", "release"})
"""Accesses that :meth:`Ghost.look` makes something of."""
WRITES, LINKS = 1, 2
"""Modes of a place in the tree: entries written in the table there, the entry that leads to it changed."""


class Ghost:
    """Watches accesses at the doors, each just before it happens.

    `built`: where the tables led that the kernel had before the first step; `areas` (bytes): whose leaves count.
    """

    def __init__(self, hw: Machine, built: Leading, areas: Sequence[Span]) -> None:
        self._fmt = hw.fmt
        self._areas = areas
        self._built = built
        self._lives = dict(built.lives)
        self._changed: dict[int, Leading | None] = {}
        """By frame: where tables lead that are new, or came to lead elsewhere; None: as they stand now. A table is
        filled before anything leads to it, or by stores, which are seen.
        """

    def look(self, hw: Machine, access: Access, place: Place) -> None:
        """Judge an access, and remember what it does. Breaks go to ``hw.violations``; `place` tells where."""
        target = access.target
        if isinstance(target, Table):
            self._entry(hw, access, target, place)
        elif access.kind == "flush":
            for stale in hw.tlb.standing:
                if not self._stands(hw, stale.table):
                    hw.tlb.left(stale)
        elif isinstance(target, Span) and access.kind in ("claim", "release"):
            if access.kind == "release" and self._is_watched(hw, target):
                self._freed(hw, target, place)
            for frame in self._known(target):
                del self._lives[frame]
                self._changed.pop(frame, None)

    def below(self, hw: Machine, access: Access) -> Iterator[Span]:
        """Where the tables lead that an access links or gives back (PFNs), with all that is below them."""
        table = access.target
        if isinstance(table, Table):
            if access.kind == "store" and self._fmt.is_table(access.value, table.height):
                yield from self._below(hw, hw.child(table, access.entry, self._fmt.table_pfn(access.value)))
        elif isinstance(table, Span) and access.kind in ("release", "unplug"):
            for frame in self._known(table):
                yield from self._below(hw, self._lives[frame].table)

    def _known(self, frames: Span) -> list[int]:
        """Which of these frames are tables, as far as is known."""
        if frames.size < len(self._lives):
            return [frame for frame in range(*frames) if frame in self._lives]
        return [frame for frame in self._lives if frame in frames]

    def _below(self, hw: Machine, table: Table) -> Iterator[Span]:
        row = hw.memory.arena.row(table.frame)
        if row is None or (row == self._fmt.empty[table.height]).all():
            return
        for lead in Leading(self._fmt, hw.memory.arena, [table], self._areas).all():
            yield lead.frames
            if lead.to_table:
                yield from self._below(hw, hw.child(table, lead.entry, lead.frames.start))

    def _is_watched(self, hw: Machine, frames: Span) -> bool:
        """Whether one of these frames is a table, holds struct pages, or may be mapped by vmalloc."""
        return any(owner.use in MAPPED for _, _, owner in hw.memory.owners.runs(*frames))

    def _freed(self, hw: Machine, frames: Span, place: Place) -> None:
        """Tables, struct pages or pages of vmalloc are freed. Where an entry leads to them still, CPUs may reach them
        until that is cleared and flushed, whether or not the code says that it is about to. A table that nothing points
        to any more leads nowhere once nobody has the entry that pointed to it.
        """
        found = [one for one in self._built.to(frames) if self._is_as_built(one.table)]
        for frame in self._changed:
            found += self._leading(hw, frame).to(frames)
        for table, entry, value, *_ in found:
            row = hw.memory.arena.row(table.frame)
            if row is None or row[entry] != value:
                continue
            if self._stands(hw, table):
                hw.expect_clear(table, entry, row[entry : entry + 1], place(table))
            elif hw.tlb.stale and self._is_held(hw, table):
                hw.leaves_behind(table, entry, row[entry : entry + 1], place(table))

    def _stands(self, hw: Machine, table: Table) -> bool:
        """Whether a walk from the kernel's root table, or that of a process, comes to a table as memory is now."""
        return any(self._leads_down(hw, root, table) for root in self._built.roots)

    def _is_held(self, hw: Machine, table: Table) -> bool:
        """Whether a CPU that holds an entry which no longer stands comes to a table by it."""
        return any(
            life.table.height >= table.height
            and hw.tlb.leads_to(life.table.frame)
            and self._leads_down(hw, life.table, table)
            for life in self._lives.values()
        )

    def _leads_down(self, hw: Machine, upper: Table, table: Table) -> bool:
        """Whether the walk to the addresses of a table comes by it from one above it, or the same."""
        while upper.height > table.height:
            entry = (table.va - upper.va) // self._fmt.levels[upper.height].size
            row = hw.memory.arena.row(upper.frame)
            if row is None or not 0 <= entry < len(row) or not self._fmt.is_table(int(row[entry]), upper.height):
                return False
            upper = hw.child(upper, entry, self._fmt.table_pfn(int(row[entry])))
        return upper.frame == table.frame

    def _is_as_built(self, table: Table) -> bool:
        """Whether a frame is still that table, and leads nowhere but where it led."""
        return table.frame not in self._changed and table.frame in self._lives

    def _leading(self, hw: Machine, frame: int) -> Leading:
        """Where the entries of a table lead that is not as it was built; what has changed since was cleared."""
        seen = self._changed[frame]
        if seen is None:
            there = [self._lives[frame].table] if hw.memory.arena.row(frame) is not None else []
            seen = self._changed[frame] = Leading(self._fmt, hw.memory.arena, there, self._areas)
        return seen

    def _entry(self, hw: Machine, access: Access, table: Table, place: Place) -> None:
        if hw.memory.arena.row(table.frame) is None:
            return
        life = self._life(table)
        if (life.table.height, life.table.va) != (table.height, table.va):
            text = (
                f"frame {table.frame:#x} is used as the table at {table.va:#x}, "
                f"but was freed and is the table at {life.table.va:#x}"
            )
            hw.violations.append(Violation("freed-table", text, place(table)))
        if access.kind != "store":
            return
        if access.value != self._fmt.empty[table.height]:
            self._changed[table.frame] = None
        if access.value and life.unlinked:
            text = f"entry {access.entry} of the table at {table.va:#x} is written, but {life.unlinked} unlinked it"
            hw.violations.append(Violation("lost-write", text, place(table)))
        self._link(hw, access, table, place)

    def _link(self, hw: Machine, access: Access, table: Table, place: Place) -> None:
        """The entry may have pointed to a table, and may point to one from now on."""
        row = hw.memory.arena.row(table.frame)
        assert row is not None
        old = int(row[access.entry])
        if old != access.value and table.mm == INIT_MM and self._fmt.is_table(old, table.height):
            child = hw.child(table, access.entry, self._fmt.table_pfn(old))
            life = self._life(child)
            if (life.table.height, life.table.va) == (child.height, child.va):
                self._lives[child.frame] = life._replace(unlinked=place(table))
        if self._fmt.is_table(access.value, table.height):
            child = hw.child(table, access.entry, self._fmt.table_pfn(access.value))
            if table.mm == INIT_MM or child.frame not in self._lives:
                self._begin(child)

    def _life(self, table: Table) -> Life:
        """What is known of a frame that is used as a table."""
        return self._lives.get(table.frame) or self._begin(table)

    def _begin(self, table: Table) -> Life:
        """A frame becomes a table."""
        life = self._lives[table.frame] = Life(table)
        self._changed[table.frame] = None
        return life


def links_touched(fmt: Format, access: Access, table: Table) -> Iterator[tuple[Hashable, int]]:
    """What a store touches besides its entry, for what the ghost makes of it depends on the order.

    A write into a table meets whatever changes the entry that leads there; linking a frame meets every access to it.
    """
    if access.value:
        yield ("place", table.height, table.va), WRITES
    if table.height and table.mm == INIT_MM:
        size = fmt.levels[table.height].size
        yield ("place", table.height - 1, table.va + access.entry * size), LINKS
    if fmt.is_table(access.value, table.height):
        yield ("frame", fmt.table_pfn(access.value)), ALONE
