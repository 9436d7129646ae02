"""Page tables are sound: a tree of frames that are tables, every table in it once, and no table outside of it.

Other address spaces share what hangs below the kernel's root entries (:mod:`memhp.check.processes`); here they count
with their root tables only.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from collections.abc import Iterator

import numpy as np

from memhp.check.law import Breach, Law
from memhp.check.machine_view import MachineView, minus, pfn_text
from memhp.check.snapshot import Snapshot
from memhp.hw.format import HEIGHT_NAMES
from memhp.hw.memory import Use
from memhp.hw.ranges import Ranges
from memhp.hw.runs import frame_spans
from memhp.spans import Span, SpanSet

NAME = "page-tables"


def find(look: MachineView, before: Snapshot | None) -> Iterator[Breach]:
    """Entries that lead nowhere or to what is no table, tables reached twice or not at all, counts that disagree."""
    yield from _missing(look)
    yield from reserved(look.ranges)
    yield from _twice(look)
    yield from _ownership(look)
    yield from _counts(look)


def _missing(look: MachineView) -> Iterator[Breach]:
    missing = look.ranges.missing
    for frame, height, va in zip(missing.frame.tolist(), missing.height.tolist(), missing.va.tolist(), strict=True):
        text = f"the entry for {va:#x} points to PFN {frame:#x} as a {HEIGHT_NAMES[height]} table, which holds none"
        yield Breach(NAME, text, pfns=Span(frame, frame + 1), vas=Span(va, va + 1))


def reserved(found: Ranges) -> Iterator[Breach]:
    """Entries that are valid, and neither a leaf nor lead to a table."""
    fmt = found.fmt
    none = np.array(fmt.empty, dtype=np.uint64)[found.height]
    for i in np.flatnonzero(~found.mapped & (found.entry != none)).tolist():
        entry, height, va = int(found.entry[i]), int(found.height[i]), int(found.va[i])
        if not fmt.is_marked(entry, height):
            continue
        text = f"the {HEIGHT_NAMES[height]} entry {entry:#x} for {va:#x} is valid, but its encoding is reserved"
        yield Breach(NAME, text, vas=Span(va, va + int(found.size[i])))


def _twice(look: MachineView) -> Iterator[Breach]:
    frames, counts = np.unique(look.tables.frame, return_counts=True)
    for span in frame_spans(frames[counts > 1]):
        at = look.tables.va[look.tables.frame == np.uint64(span.start)]
        text = f"table {pfn_text(span)} is reached more than once: for {' and '.join(f'{va:#x}' for va in at.tolist())}"
        yield Breach(NAME, text, pfns=span)


def _ownership(look: MachineView) -> Iterator[Breach]:
    reached = SpanSet.joined(frame_spans(np.sort(look.tables.frame)))
    for root in look.k.pgd.values():
        if look.near is None or root.frame in look.near.pfns:
            reached.add(root.frame, root.frame + 1)
    owned = look.frames[Use.TABLE]
    for lost in minus(owned, reached):
        yield Breach(NAME, f"table {pfn_text(lost)} is reached from no root: it leaked", pfns=lost)
    for wrong in minus(reached, owned):
        owner = look.k.hw.memory.owners.get(wrong.start)
        text = f"{pfn_text(wrong)} is reached as a table, but is {owner or 'no memory'}"
        yield Breach(NAME, text, pfns=wrong)


def _counts(look: MachineView) -> Iterator[Breach]:
    ledger, root = look.k.hw.ledger, look.k.hw.fmt.root_height
    heights = np.bincount(look.tables.height, minlength=root + 1).tolist()
    counted = Counter(ledger.tables_allocated)
    counted.subtract(ledger.tables_freed)
    for height in range(root):
        if counted[height] != heights[height]:
            text = (
                f"{ledger.tables_allocated[height]} {HEIGHT_NAMES[height]} tables were allocated and "
                f"{ledger.tables_freed[height]} freed, but {heights[height]} are reached"
            )
            yield Breach(NAME, text)


def still(look: MachineView, near: MachineView) -> bool:
    """Frames of tables are looked at where something changed, entries and sums anew."""
    if near.nothing:
        return next(_counts(look), None) is None
    found = (_missing(look), reserved(look.ranges), _twice(near), _ownership(near), _counts(look))
    return not any(next(each, None) for each in found)


LAW = Law(
    NAME,
    "Page tables are a tree: every table frame is reached exactly once, and entries lead to tables or memory",
    find,
    doors=("page-tables", "lost-write"),
    still=still,
)
