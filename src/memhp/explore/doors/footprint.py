"""What an access at a door touches, for the search to tell which accesses commute.

It depends on the machine as it is: an entry that was valid leaves translations behind when it goes, a flush that has
something to drop meets more than one that has nothing, a walk goes through the tables as they are now.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np

from memhp.explore.doors.leading import mapping_areas
from memhp.explore.doors.table_lifetimes import INIT_MM, LINKS, WRITES, Ghost, links_touched
from memhp.explore.engine.counter_marks import change_touches, read_touches
from memhp.explore.engine.op import ALONE, SHARED, Stretch
from memhp.hw.format import U64
from memhp.hw.lifetime import walk
from memhp.hw.stepper import ALL_FRAMES, Access, Fields, Level, Part, any_of
from memhp.hw.tlb import Table
from memhp.linux.state import Kernel
from memhp.spans import Span

Touches = tuple[tuple[Hashable, int], ...]
"""Objects and the modes in which a step touches them (:attr:`memhp.explore.engine.op.Op.touches`)."""

FIELD_MODES = {"read": SHARED, "write": ALONE, "atomic": ALONE, "add": 2, "enter": 2, "leave": 2}
"""How accesses to a shared field outside page tables meet."""
CHANGED = 2
"""How a change of one of many fields that are called alike meets who looks for any of them; changes do not meet."""
OWNERS_CHUNK = 1 << 13
"""Frames by which claims and releases are told apart: those of different chunks have nothing to do with each other."""
LARGE = OWNERS_CHUNK << 12
"""Frames of a range that is not looked at chunk by chunk."""
RANGES = (4, 12, 20, 28, 40)
"""Bits of the sizes of ranges by which marks of a counter are told apart."""
UNMAPS, FLUSHES, GIVES, LEADS = 1, 2, 3, 4
"""Modes of the translations that CPUs may hold: entries that go, flushes, frames given back look at them."""


def touched(k: Kernel, access: Access, ghost: Ghost) -> Touches:
    """What an access touches, were it done now; `ghost` knows which frames are tables."""
    touches = _touched(k, access)
    if access.kind in ("store", "release", "unplug"):
        touches += _leads_to(ghost.below(k.hw, access))
    return touches


def _touched(k: Kernel, access: Access) -> Touches:
    target = access.target
    if isinstance(target, str):
        mode = FIELD_MODES.get(access.kind)
        if mode is not None:
            return _fields_touched((target,), mode)
        return ((("lock", target), ALONE if access.value else SHARED),)
    if isinstance(target, Table):
        return _entry_touched(k, access, target)
    if isinstance(target, Fields):
        return _fields_touched(target.names, FIELD_MODES[access.kind])
    if isinstance(target, Level):
        return _level_touched(k, access.kind, target)
    if isinstance(target, Part):
        return _parts_touched(target, FIELD_MODES[access.kind])
    assert isinstance(target, Span)
    if access.kind == "touch":
        return _walk_touched(k, access, target)
    if access.kind == "flush":
        return _flush_touched(k, target)
    if access.kind == "look" and target == ALL_FRAMES:
        return ((("owners", "any"), SHARED),)
    if access.kind == "look":
        return tuple((("owners", chunk), SHARED) for chunk in chunks(target.start, target.end))
    return _frames_touched(k, access, target)


@lru_cache(maxsize=1 << 12)
def _fields_touched(names: tuple[str, ...], mode: int) -> Touches:
    """Fields, and where they are changed all that are called alike, at which somebody may look who looks for any."""
    alike = dict.fromkeys(any_of(name) for name in names if any_of(name) != name) if mode == ALONE else ()
    return (*((("field", name), mode) for name in names), *((("field", name), CHANGED) for name in alike))


def _parts_touched(part: Part, mode: int) -> Touches:
    """By chunks, a range of a map; who looks at more of it than there may be looks for any part, and meets changes."""
    everywhere = ("part", part.name, "any")
    if mode == SHARED and part.end - part.start > LARGE:
        return ((everywhere, mode),)
    touches = tuple((("part", part.name, chunk), mode) for chunk in chunks(part.start, part.end))
    return touches if mode == SHARED else (*touches, (everywhere, CHANGED))


def chunks(start: int, end: int) -> range:
    """By number, the stretches of page frames that ``[start, end)`` touches, `OWNERS_CHUNK` each."""
    return range(start // OWNERS_CHUNK, (end - 1) // OWNERS_CHUNK + 1)


def _level_touched(k: Kernel, kind: str, level: Level) -> Touches:
    """What an access to a counter meets (:mod:`memhp.explore.engine.counter_marks`)."""
    if kind == "read":
        return read_touches(level.name, level.by, RANGES)
    assert level.by is not None
    return change_touches(level.name, k.hw.levels[level.name].count, level.by, RANGES)


def _entry_touched(k: Kernel, access: Access, table: Table) -> Touches:
    """Only an entry that was valid leaves translations behind."""
    hw = k.hw
    if access.kind == "load":
        return loads_touched(table, access.entry, access.entry + 1)
    touches: list[tuple[Hashable, int]] = [
        (("frame", table.frame), SHARED),
        (("entry", table.frame, access.entry), ALONE),
        *links_touched(hw.fmt, access, table),
        *_leads_touched(k, table, access.entry, (access.value,)),
    ]
    row = hw.memory.arena.row(table.frame)
    if row is None or int(row[access.entry]) & hw.fmt.valid:
        size = hw.fmt.levels[table.height].size
        start = table.va + access.entry * size
        touches += (*_translations(k, Span(start, start + size), UNMAPS), ("unmapped", UNMAPS))
    return tuple(touches)


def loads_touched(table: Table, start: int, end: int) -> Touches:
    """What loads of entries ``[start, end)`` touch: the frame that must be a table, and each of them."""
    one = ("entry", table.frame, start)
    return (("frame", table.frame), SHARED), (one if end - start == 1 else Stretch(one[:2], start, end), SHARED)


def stores_touched(k: Kernel, table: Table, index: int, values: U64) -> Touches:
    """What stores of these values touch, to entries from `index` on; where these lead to no tables, before or after."""
    hw = k.hw
    end = index + len(values)
    touches = loads_touched(table, index, end)
    touches = (touches[0], (touches[1][0], ALONE))
    size = hw.fmt.levels[table.height].size
    if values.any():
        touches += ((("place", table.height, table.va), WRITES), *_leads_touched(k, table, index, values))
    if table.height and table.mm == INIT_MM:
        touches += tuple((("place", table.height - 1, table.va + at * size), LINKS) for at in range(index, end))
    row = hw.memory.arena.row(table.frame)
    was_valid = True if row is None else (row[index:end] & np.uint64(hw.fmt.valid)).any()
    if was_valid:
        span = Span(table.va + index * size, table.va + end * size)
        touches += (*_translations(k, span, UNMAPS), ("unmapped", UNMAPS))
    return touches


def _leads_touched(k: Kernel, table: Table, index: int, values: Sequence[int] | U64) -> Touches:
    """What stores meet of leaves that map struct pages or for vmalloc: who frees what they lead to, before or after."""
    fmt = k.hw.fmt
    size = fmt.levels[table.height].size
    start = table.va + index * size
    span = Span(start, start + len(values) * size)
    if not any(area.overlaps(span) for area in mapping_areas(k)):
        return ()
    entries, pages = np.asarray(values, np.uint64), fmt.pages_at(table.height)
    firsts = fmt.leaf_pfn(entries[fmt.is_leaf(entries, table.height)], table.height).tolist()
    return _leads_to(Span(first, first + pages) for first in firsts)


def _leads_to(frames: Iterable[Span]) -> Touches:
    """What it meets that something comes to lead to these frames, or does no more: who frees them, before or after."""
    return tuple((("leads", chunk), LEADS) for chunk in sorted({chunk for span in frames for chunk in chunks(*span)}))


@lru_cache(maxsize=8)
def entries_in(shared: frozenset[Hashable]) -> Mapping[object, Sequence[int]]:
    """Of what actors are known to share, the entries of page tables: by the tables' frames, ascending."""
    found: dict[object, list[int]] = {}
    for target in shared:
        if isinstance(target, tuple) and target[0] == "entry":
            found.setdefault(target[1], []).append(target[2])
    return {frame: sorted(entries) for frame, entries in found.items()}


def _flush_touched(k: Kernel, span: Span) -> Touches:
    """A flush that finds nothing to drop only meets entries that go, and flushes that have dropped it."""
    tlb = k.hw.tlb
    if not tlb.reaches(span):
        return tuple(_translations(k, span, FLUSHES))
    exposed = (("exposed", FLUSHES),) if tlb.exposed else ()
    return (*_translations(k, span, ALONE), ("flushed", FLUSHES), *exposed)


def _translations(k: Kernel, span: Span, mode: int) -> Iterator[tuple[Hashable, int]]:
    """The translations of some addresses, by the areas of the kernel's address space that these lie in."""
    layout = k.layout
    covered = False
    for area in (layout.direct_map, layout.vmemmap, layout.vmalloc):
        if area.start < span.end and span.start < area.end:
            yield ("translations", area.name), mode
            covered = covered or (area.start <= span.start and span.end <= area.end)
    if not covered:
        yield ("translations", ""), mode


def _walk_touched(k: Kernel, access: Access, target: Span) -> Touches:
    """Every entry that the walker goes through as the tables are now, and the use of the frame that it comes to."""
    hw = k.hw
    touches: list[tuple[Hashable, int]] = []
    for hop in walk(hw, Table(access.entry, hw.fmt.root_height, 0), target.start):
        touches += [(("frame", hop.table.frame), SHARED), (("entry", hop.table.frame, hop.entry), SHARED)]
        if hop.frame is not None:
            touches.append((("owners", hop.frame // OWNERS_CHUNK), SHARED))
    return tuple(touches)


def _frames_touched(k: Kernel, access: Access, frames: Span) -> Touches:
    kind = access.kind
    places = chunks(frames.start, frames.end)
    touches: list[tuple[Hashable, int]] = [(("owners", chunk), ALONE) for chunk in places]
    touches.append((("owners", "any"), CHANGED))
    if kind == "claim":
        touches.append(("exposed", SHARED))
        tables = range(frames.start, frames.end) if frames.size == 1 or access.value else ()
        return (*touches, *((("frame", pfn), ALONE) for pfn in tables))
    if kind in ("release", "unplug"):
        touches += (("unmapped", GIVES), ("flushed", GIVES), *((("leads", chunk), GIVES) for chunk in places))
        arena = k.hw.memory.arena
        if frames.size == 1:
            touches.append((("frame", frames.start), ALONE))
        else:
            inside = (frames.clip(span) for span in arena.frames())
            touches += [(("frame", pfn), ALONE) for span in inside if span for pfn in range(span.start, span.end)]
    return tuple(touches)
