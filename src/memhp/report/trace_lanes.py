"""What a sequence diagram of a trace is about: its CPUs and the objects that they meet on, and who touches which.

Objects are what steps are about: locks, the tables that entries are in, runs of frames, TLBs, shared fields.
There may be very many, so those that several CPUs touch and those that the last step touches get a lifeline of their
own, and the others share one for each sort.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence
from dataclasses import dataclass

from memhp.explore.engine.trace import Trace
from memhp.report.trace_fold import Row, fold

SORTS = {
    "load": "tables", "store": "tables", "lock": "locks", "trylock": "locks", "unlock": "locks", "claim": "frames",
    "release": "frames", "retag": "frames", "flush": "TLBs", "read": "fields", "write": "fields",
    "atomic": "fields", "wait": "fields",
}  # fmt: skip
"""The sort of object that a kind of access is about; a step of any other kind is about none."""
MOST_LANES = 6
"""Objects with a lifeline of their own."""


@dataclass(frozen=True)
class Event:
    """An arrow: a row of the trace, from its CPU to the lane of what it is about (None: it stays with the CPU)."""

    row: Row
    lane: int | None


@dataclass(frozen=True)
class Lanes:
    """The lifelines, CPUs left out, and the arrows in order."""

    names: tuple[str, ...]
    events: tuple[Event, ...]


def lanes(trace: Trace, *, full: bool = False) -> Lanes:
    """The lifelines and arrows of a trace."""
    rows = fold(trace.lines, full=full)
    objects = [_object(row) for row in rows]
    own = _own(rows, objects)
    names: list[str] = []
    events = []
    for row, about in zip(rows, objects, strict=True):
        lane = None
        if about is not None:
            sort, name = about
            name = (
                name if name in own else f"other {sort}" if any(_sort_of(one, objects) == sort for one in own) else sort
            )
            if name not in names:
                names.append(name)
            lane = names.index(name)
        events.append(Event(row, lane))
    return Lanes(tuple(names), tuple(events))


def _object(row: Row) -> tuple[str, str] | None:
    """What a row is about: (sort, name)."""
    line = row.first
    sort = SORTS.get(line.kind)
    if sort is None:
        return None
    if sort == "tables":
        return sort, line.what.partition("[")[0]
    return sort, sort if sort == "TLBs" else line.what


def _sort_of(name: str, objects: Sequence[tuple[str, str] | None]) -> str:
    return next((about[0] for about in objects if about is not None and about[1] == name), "")


def _own(rows: Sequence[Row], objects: Sequence[tuple[str, str] | None]) -> frozenset[str]:
    """The objects with a lifeline of their own: the last one, and those that most CPUs touch."""
    users: dict[str, set[int]] = {}
    count: dict[str, int] = {}
    for row, about in zip(rows, objects, strict=True):
        if about is not None:
            users.setdefault(about[1], set()).add(row.first.thread)
            count[about[1]] = count.get(about[1], 0) + 1
    last = objects[-1][1] if objects and objects[-1] is not None else ""
    order = sorted(users, key=lambda name: (name != last, -len(users[name]), -count[name], name))
    shared = [name for name in order if len(users[name]) > 1 or name == last]
    return frozenset((shared if len(order) > MOST_LANES else order)[:MOST_LANES])
