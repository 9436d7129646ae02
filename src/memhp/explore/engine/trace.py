"""The format of a trace: what every step of an execution did, and what it changed in the machine.

Every view of an execution is made from these records, and ``--json`` prints them. They hold words for people beside
numbers for programs: addresses, entries and frame numbers are integers.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Literal

import msgspec

ChangeKind = Literal[
    "entry", "frames", "section", "block", "zone", "pages", "memblock", "iomem", "mapping", "lock",
    "stale", "exposed", "variable", "broken", "log", "end",
]  # fmt: skip
"""What a difference is about: a page-table entry; who uses frames; ``struct mem_section``; a memory block; a zone's
range and counters; the zone that struct pages say; memblock's regions; ``iomem_resource``; a device's mapping; a lock;
what CPUs may still translate; frames given back while they could still be reached; a variable of a small program; a law
broken; a line of the kernel log; an actor's end."""

End = Literal["broken", "deadlock", "livelock", "done", "unfinished"]
"""How an execution ended: a law broken or a thread that raised; nobody can go on; everybody is done; it was not
followed any further."""


class Value(msgspec.Struct, frozen=True):
    """What stands in a place: the raw value, where it is a number, and what it means."""

    raw: int | None
    text: str


class Change(msgspec.Struct, frozen=True):
    """One difference that a step made: what it is about, and how that was before and after."""

    kind: ChangeKind
    what: str
    old: str
    new: str


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a trace."""

    step: int
    """Counted from 1."""
    thread: int
    """The actor's number, which is that of its CPU; in a schedule its letter."""
    name: str
    place: str
    """``file:function`` of the kernel, or ``name:LINE`` of the user's code; empty for a small program, and for an actor
    of this package that stands for any caller."""
    kind: str
    """``load``, ``store``, ``lock``, ``claim``, ``flush`` …: see :class:`memhp.hw.stepper.Access`."""
    what: str
    """What the step is about, in short: ``PMD 0xbfffc[48]``, ``mem_hotplug_lock``, ``PFN [0x82200-0x82400)``."""
    about: str = ""
    """The same in words: what the table translates, how much memory the frames are."""
    address: int | None = None
    """The first virtual address that the entry translates, or that is flushed."""
    old: Value | None = None
    """What was there before; of a load, what was seen."""
    new: Value | None = None
    """What is there now, if that is something else."""
    result: str = ""
    """Which way the step went, where it can go several: ``fails``, ``succeeds``, ``busy``, ``taken``."""
    text: str = ""
    """The step in one line: ``store PMD 0xbfffc[48]: 0x208800e7 -> 0x0``."""
    changes: tuple[Change, ...] = ()
    """Everything that is different after it, where the trace was asked for that."""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """An execution: its steps, the schedule that gives it, and how it ended."""

    schedule: str
    end: End
    reason: str | None
    """What went wrong, if something did."""
    names: tuple[str, ...]
    """The actors."""
    waiting: tuple[str | None, ...]
    """By actor: the step that it would do next; None when it has ended."""
    preemptions: int
    """How often an actor was taken off its CPU although it could go on."""
    lines: tuple[Line, ...]
