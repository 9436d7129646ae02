"""No frame is given back while a CPU may still reach it: through a translation it caches or a table pointer it caches.

What was still reachable when it was given to the next user is recorded at the doors. What was reachable for a while
and flushed before anybody got it breaks nothing, but a reader of patches wants the count: a note.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator

from memhp.check.law import Breach, Law, Note
from memhp.check.machine_view import MachineView, pfn_text, va_text
from memhp.check.snapshot import Snapshot
from memhp.hw.format import HEIGHT_NAMES
from memhp.hw.tlb import Stale
from memhp.spans import Span

NAME = "flush-before-free"


def find(look: MachineView, before: Snapshot | None) -> Iterator[Breach]:
    """Frames that are given back and that a stale entry still leads to."""
    for exposure in look.k.hw.tlb.exposed:
        stale = exposure.stale
        kind = "translation" if stale.leaves else "table pointer"
        text = (
            f"{pfn_text(exposure.frames)}, given back in {exposure.where}, can still be reached through a cached "
            f"{HEIGHT_NAMES[stale.table.height]} {kind} for {va_text(reach(look, stale))}, cleared in {stale.where} "
            "and not flushed"
        )
        yield Breach(NAME, text, pfns=exposure.frames, vas=reach(look, stale))


def reach(look: MachineView, stale: Stale) -> Span:
    """The addresses (bytes) that a run of stale entries translates."""
    size = look.k.hw.fmt.levels[stale.table.height].size
    start = stale.table.va + stale.index * size
    return Span(start, start + stale.count * size)


def find_notes(look: MachineView, before: Snapshot | None) -> Iterator[Note]:
    """How many frames were given back before the flush that covers them, since the snapshot or since boot."""
    count = look.k.hw.tlb.exposed_frames - (before.exposed_frames if before is not None else 0)
    if count > 0:
        yield Note(NAME, f"{count} frames were given back before the flush that covers them", count)


LAW = Law(
    NAME,
    "No frame is given back while a cached translation or table pointer may still lead to it",
    find,
    doors=("flush-before-free", "freed-table"),
    find_notes=find_notes,
)
