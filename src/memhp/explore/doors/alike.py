"""Entries of a page table that a loop deals with one like the other: of many in a row, most are done in one go.

Two have been dealt with by single steps, and both took as many. What is left of a run like them, and nobody else's
affair, is taken at once then, through the same doors, and counts for as many steps as it would have been: schedules
that tell every step know no difference. Bulk work costs what tables do, not what pages do.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np

from memhp.explore.doors.again import Done
from memhp.explore.doors.door_op import DoorOp
from memhp.explore.doors.footprint import UNMAPS, chunks
from memhp.explore.doors.kernel_image import unwatched
from memhp.explore.doors.leading import Leading
from memhp.explore.doors.own_steps import OwnSteps
from memhp.explore.engine.fusion import MOST_ALONG
from memhp.hw.format import U64, Format
from memhp.hw.memory import Owner
from memhp.hw.tlb import Table
from memhp.linux.mm.pgalloc import PageRefs
from memhp.linux.mmzone import PageFlags, ZoneRef
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanMap

V = TypeVar("V")

APART = PageFlags.RESERVED | PageFlags.HWPOISON
"""What has a page freed otherwise than others."""


class Pages(NamedTuple):
    """What decides how pages are freed: who has them, what their flags are, and where they belong."""

    owner: Owner | None
    flags: PageFlags | None
    zone: ZoneRef | None


class Entry(NamedTuple):
    """An entry that an actor has come to, before it is dealt with."""

    table: Table
    at: int
    value: int
    leads_to: int | None
    """The first frame (PFN) behind it, if it is a leaf."""
    pages: Pages
    """Of that frame."""
    doing: DoorOp | None
    """The step that the actor was told to take last."""
    along: int
    """How many steps it had taken along with that."""
    touched: int
    """How many objects these have touched."""


class Like(NamedTuple):
    """What an entry was like, of the table in a frame."""

    frame: int
    follows: int
    """The entry behind it."""
    kind: tuple[int, Pages]
    steps: int
    """How many it took to deal with it."""


class AlikeEntries(OwnSteps):
    """What actors take along of loops over page tables."""

    def __init__(self, k: Kernel, built: Leading, shared: frozenset[Hashable] | None, again: Sequence[Done]) -> None:
        super().__init__(k, built, shared, again)
        self.is_ours = False
        """Whether no code of a user's takes part, for whose loops more is looked at."""
        self.alike_along: dict[int, tuple[int, int]] = {}
        """Since a new step began, by the number of steps taken along before: how many entries were dealt with in one
        go, and the steps of each.
        """
        self._entries: dict[int, Entry] = {}
        """By actor: where it is."""
        self._likes: dict[int, Like] = {}
        """By actor: what it dealt with last."""
        self._begun = 0
        """Of what is being done in one go: how many steps were taken along before."""

    def comes_to(self, table: Table, index: int) -> None:
        """The actor is about to deal with an entry."""
        row, fmt = self._kernel.hw.memory.arena.row(table.frame), self._kernel.hw.fmt
        if not self.listens or not self.is_ours or row is None:
            return
        value = int(row[index])
        pfn = fmt.leaf_pfn(value, table.height) if fmt.is_leaf(value, table.height) else None
        pages = self._pages(pfn) if pfn is not None else Pages(None, None, None)
        self._entries[self.thread] = Entry(table, index, value, pfn, pages, self.doing, self.along, len(self.touched))

    def alike(self, table: Table, index: int, count: int) -> int:
        """How many of `count` entries from `index` on are dealt with in one go, as the two before them were."""
        if self.listens:
            together, steps = self._alike_now(table, index, count)
            if together:
                self.alike_along[self.along] = together, steps
        else:
            last = self._last_done.get(self.thread)
            together, _ = (0, 0) if last is None else last.alike.get(self._along_now(), (0, 0))
        self._begun, self.in_one_go = self._along_now(), together > 0
        return together

    def were_alike(self) -> None:
        """They have been dealt with: so many steps are taken along as if each had been by itself."""
        known = self.alike_along if self.listens else self._last_done[self.thread].alike
        if self._begun not in known:
            raise AssertionError("an entry that was dealt with together with others took a turn of its own")
        together, steps = known[self._begun]
        more = together * steps - (self._along_now() - self._begun)
        if more < 0:
            raise AssertionError(f"{together} entries of {steps} steps each took {-more} more than by themselves")
        if self.listens:
            self.along += more
        else:
            self._to_take[self.thread] -= more

    def _alike_now(self, table: Table, index: int, count: int) -> tuple[int, int]:
        """How many entries are like the two that were dealt with last, and how many steps each of those took."""
        entry, before = self._entries.pop(self.thread, None), self._likes.pop(self.thread, None)
        if entry is None or (entry.table, entry.at + 1) != (table, index) or entry.doing is not self.doing:
            return 0, 0
        steps = self.along - entry.along
        kind = entry.value & self._kernel.hw.fmt.attribute_mask(table.height), entry.pages
        self._likes[self.thread] = Like(table.frame, index, kind, steps)
        if before != Like(table.frame, index - 1, kind, steps) or not steps:
            return 0, 0
        together = self._run(entry, min(count, (MOST_ALONG - 1 - self.along) // steps))
        return together, steps

    def _run(self, entry: Entry, count: int) -> int:
        """How many entries behind this one, at most `count`, can be told from it by nothing, and are the actor's own
        affair.
        """
        hw, table, first = self._kernel.hw, entry.table, entry.at + 1
        shared, row = self._shared_now(), hw.memory.arena.row(table.frame)
        if count < 1 or shared is None or row is None or hw.violations or table.height == hw.fmt.root_height:
            return 0
        count = _same(hw.fmt, entry, row[first : first + self._own_entries(shared, table, first, count)])
        touched = [(target, mode) for target, mode in self.touched[entry.touched :] if isinstance(target, tuple)]
        touches = dict.fromkeys(target for target, _ in touched)
        flushes = any(target[0] == "translations" and mode != UNMAPS for target, mode in touched)
        frees = any(target[0] == "owners" for target in touches)
        if (frees or flushes) and hw.tlb.stale:
            return 0  # what is freed could be reached, or a flush of many may drop more or less than one for each
        frames = Span(0, 0)
        if entry.leads_to is not None:
            pages = hw.fmt.pages_at(table.height)
            start = entry.leads_to + pages
            if frees:
                count = self._freed_alike(entry.pages, Span(start, start + pages * count)) // pages
            frames = Span(start, start + pages * count)
        places, size = range(first, first + count), hw.fmt.levels[table.height].size
        return 0 if any(_meets(shared, target, entry, places, frames, size) for target in touches) else count

    def _pages(self, pfn: int) -> Pages:
        """What decides how a page is freed."""
        k = self._kernel
        with unwatched(k):
            return Pages(k.hw.memory.owners.get(pfn), k.page_flags.get(pfn), k.page_zone.get(pfn))

    def _freed_alike(self, pages: Pages, frames: Span) -> int:
        """How many of these frames are freed as pages like this: those before the first of another sort."""
        k = self._kernel
        refs = k._statics.get(PageRefs)
        if (pages.flags or PageFlags.NONE) & APART or (isinstance(refs, PageRefs) and refs.more):
            return 0
        with unwatched(k):
            end = min(
                _first_other(k.hw.memory.owners, pages.owner, frames),
                _first_other(k.page_flags, pages.flags, frames),
                _first_other(k.page_zone, pages.zone, frames),
            )
            if pages.zone is not None:
                nid, kind = pages.zone
                isolated = next(k.nodes[nid].zones[kind].isolated.runs(frames.start - 1, end), None)
                end = end if isolated is None else max(frames.start, isolated.start)
            return end - frames.start


def _same(fmt: Format, entry: Entry, values: U64) -> int:
    """How many of these entries, the first ones, go on as this one: they are empty too, or leaves with the same
    attributes that lead to the next frames.
    """
    height, value, pfn = entry.table.height, entry.value, entry.leads_to
    if pfn is None and not fmt.is_none(value, height):
        return 0  # a table, or what hardware faults on
    if pfn is None:
        expected: U64 = np.full(len(values), value, dtype=np.uint64)
    else:
        attributes = int(fmt.attributes(value, height))
        if attributes | int(fmt.encode_pfn(pfn)) != value:
            return 0
        pfns = np.arange(1, len(values) + 1, dtype=np.uint64) * np.uint64(fmt.pages_at(height)) + np.uint64(pfn)
        expected = np.asarray(fmt.encode_pfn(pfns)) | np.uint64(attributes)
    others = np.flatnonzero(values != expected)
    return int(others[0]) if len(others) else len(values)


def _first_other(known: SpanMap[V], wanted: V | None, frames: Span) -> int:
    """The first of these frames at which a map does not have the wanted value, or their end."""
    at = frames.start
    for start, end, value in known.runs(*frames):
        if start > at and wanted is not None:
            return at
        if value != wanted:
            return start
        at = end
    return frames.end if wanted is None else at


@lru_cache(maxsize=16)
def _of_sort(shared: frozenset[Hashable], sort: str) -> frozenset[Any]:
    """What actors are known to share in any way: the counters of which there is a ``level``, the tables' frames."""
    return frozenset(one[1] for one in shared if isinstance(one, tuple) and one[0] == sort)


def _meets(
    shared: frozenset[Hashable], target: tuple[Any, ...], entry: Entry, places: Iterable[int], frames: Span, size: int
) -> bool:
    """Whether something is shared that the entries at `places`, which lead to `frames`, touch where `entry` has touched
    `target`; each translates `size` bytes.
    """
    sort, *of = target
    if sort in ("owners", "leads") and of != ["any"]:
        return any((sort, chunk) in shared for chunk in chunks(*frames))
    if sort == "part" and of[1] != "any":
        by_frame = of[1] in chunks(frames.start - 1, frames.start)
        return not by_frame or any((sort, of[0], chunk) in shared for chunk in chunks(*frames))
    if sort == "level":
        return of[0] in _of_sort(shared, sort)
    if sort == "frame" and of[0] != entry.table.frame:
        return any(frame in frames for frame in _of_sort(shared, sort))
    if sort == "place" and of[0] != entry.table.height:
        return any((sort, of[0], entry.table.va + place * size) in shared for place in places)
    return False
