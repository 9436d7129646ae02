"""The laws that a machine must obey, a module each; cheap enough to be checked after every step.

A law says what broke, and where. What it allows but a reader may want to know is a note. :func:`snapshot` keeps what
the machine was like for the laws that compare: taken right after boot, it serves a whole run.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.check import (
    altmaps,
    blocks,
    direct_map,
    frames,
    kasan,
    locks,
    memblock,
    memmap_storage,
    owners,
    page_tables,
    processes,
    resources,
    round_trip,
    table_counts,
    translations,
    vmemmap,
    zones,
)
from memhp.check.law import Breach, Law, Note
from memhp.check.machine_view import MachineView
from memhp.check.snapshot import Snapshot, snapshot
from memhp.check.watch import Watch, WrittenSince
from memhp.linux.state import Kernel

__all__ = [
    "LAWS", "Breach", "Law", "Note", "Snapshot", "Watch", "breaches_of", "check_all", "notes_of", "remember",
    "snapshot", "watch",
]  # fmt: skip

LAWS: tuple[Law, ...] = (
    frames.LAW,
    owners.LAW,
    direct_map.LAW,
    vmemmap.LAW,
    kasan.LAW,
    memmap_storage.LAW,
    altmaps.LAW,
    page_tables.LAW,
    table_counts.LAW,
    processes.LAW,
    translations.LAW,
    zones.LAW,
    blocks.LAW,
    resources.LAW,
    memblock.LAW,
    locks.LAW,
    round_trip.LAW,
)
"""Every law, in the order in which reports list them."""


def check_all(k: Kernel, baseline: Snapshot | None = None) -> list[Breach]:
    """Every place where a law does not hold now; `baseline` is what the machine was like before."""
    look = MachineView(k)
    return [breach for law in LAWS for breach in law.check_look(look, baseline)]


def remember(k: Kernel) -> None:
    """Look at a machine once, so that :func:`breaches_of` looks at a copy of it only where that has become another."""
    if k.hw.written is None:
        seen = watch(k)
        seen.breaches()
        k.hw.written = WrittenSince(k.hw.fmt, seen)


def breaches_of(k: Kernel, baseline: Snapshot | None = None) -> list[Breach]:
    """What :func:`check_all` finds, at the cost of what has changed where k, or what it is a copy of, is remembered."""
    if not isinstance(k.hw.written, WrittenSince):
        return check_all(k, baseline)
    seen = k.hw.written.watch
    found = seen.breaches()
    return found if baseline is None else [*found, *round_trip.LAW.check_look(seen.look, baseline)]


def notes_of(k: Kernel, baseline: Snapshot | None = None) -> list[Note]:
    """What the laws allow but a reader may want to know."""
    look = MachineView(k)
    return [note for law in LAWS for note in law.notes(look, baseline)]


def watch(k: Kernel, baseline: Snapshot | None = None) -> Watch:
    """Every law over the steps of a machine: finds what :func:`check_all` and :func:`notes_of` do, at the cost of what
    each step changes.
    """
    return Watch(k, LAWS, baseline)
