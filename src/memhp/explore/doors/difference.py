"""What a step made different in a machine: two pictures of its state, compared.

A picture holds what is cheap to hold: runs of equal frames, sections and blocks as they are, never pages. Stale
translations are compared by identity, since each is replaced when something becomes of it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from operator import is_
from typing import Any, NamedTuple

from memhp.explore.doors import access_text
from memhp.explore.engine.trace import Change, ChangeKind
from memhp.hw.format import HEIGHT_NAMES
from memhp.hw.memory import Owner
from memhp.hw.tlb import Exposure, Stale
from memhp.linux.kernel.resource import iter_resources
from memhp.linux.mm.dev_pagemap import Memremap
from memhp.linux.mmzone import MemoryBlock, Section, ZoneRef
from memhp.linux.state import Kernel
from memhp.spans import Span

Runs = list[tuple[int, int, Any]]
"""An interval map's runs: (start, end, value)."""

ZONE_FIELDS = ("zone_start_pfn", "spanned_pages", "present_pages", "managed_pages", "nr_isolate_pageblock")


class Picture(NamedTuple):
    """A machine's state at one time, as far as differences tell of it."""

    owners: Runs
    sections: Runs
    blocks: Runs
    pages: Runs
    memblock: Runs
    mappings: Runs
    zones: dict[str, tuple[int, ...]]
    iomem: dict[str, int]
    locks: dict[str, tuple[int | None, tuple[int, ...]]]
    stale: list[Stale]
    exposed: list[Exposure]
    violations: int
    log: int


def picture(k: Kernel) -> Picture:
    """The machine as it is now."""
    hw = k.hw
    return Picture(
        owners=list(hw.memory.owners),
        sections=list(k.mem_section),
        blocks=list(k.memory_blocks),
        pages=list(k.page_zone),
        memblock=list(k.memblock.memory),
        mappings=[(start, end, id(pgmap)) for start, end, pgmap in k.statics(Memremap).pgmap_array],
        zones={
            f"zone {zone.name} of node {zone.nid}": (
                zone.start_pfn, zone.spanned, zone.present, zone.managed, zone.nr_isolate_pageblock,
            )
            for node in k.nodes.values()
            for zone in node.zones.values()
        },
        iomem={str(res): depth for depth, res in iter_resources(k.iomem_resource)},
        locks={name: (lock.writer, tuple(lock.readers)) for name, lock in hw.locks.items()},
        stale=list(hw.tlb.stale),
        exposed=list(hw.tlb.exposed),
        violations=len(hw.violations),
        log=len(hw.log_lines),
    )  # fmt: skip


def differences(k: Kernel, old: Picture, new: Picture, names: Sequence[str]) -> Iterator[Change]:
    """What became different between two pictures; `k` is the machine as in the later one, `names` its actors."""
    yield from _frames(old, new)
    yield from _stale(k, old, new)
    yield from _exposed(k, old, new)
    yield from _sections(old, new)
    yield from _blocks(old, new)
    yield from _pages(old, new)
    yield from _zones(old, new)
    yield from _memblock(old, new)
    yield from _iomem(old, new)
    yield from _mappings(old, new)
    yield from _locks(old, new, names)
    for violation in k.hw.violations[old.violations :]:
        yield Change("broken", violation.law, "", violation.text + (f" ({violation.where})" if violation.where else ""))
    for entry in k.hw.log_lines[old.log :]:
        yield Change("log", entry.level, "", entry.text)


def _changed(old: Runs, new: Runs) -> Iterator[tuple[Span, Any, Any]]:
    """Where two interval maps differ: (span, value before, value after); None for no value."""
    if old == new:
        return
    same = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    old, new = old[same:], new[same:]
    while old and new and old[-1] == new[-1]:
        old, new = old[:-1], new[:-1]
    edges = sorted({edge for start, end, _ in (*old, *new) for edge in (start, end)})
    found: list[tuple[Span, Any, Any]] = []
    for start, end in pairwise(edges):
        was, now = _value(old, start), _value(new, start)
        if was == now:
            continue
        if found and found[-1][0].end == start and found[-1][1:] == (was, now):
            found[-1] = (Span(found[-1][0].start, end), was, now)
        else:
            found.append((Span(start, end), was, now))
    yield from found


def _value(runs: Runs, at: int) -> Any:
    return next((value for start, end, value in runs if start <= at < end), None)


def _run_changes(
    kind: ChangeKind, old: Runs, new: Runs, what: Callable[[Span], str], text: Callable[[Any], str]
) -> Iterator[Change]:
    for span, was, now in _changed(old, new):
        yield Change(kind, what(span), text(was), text(now))


def _frames(old: Picture, new: Picture) -> Iterator[Change]:
    def text(owner: Owner | None) -> str:
        return "no memory" if owner is None else str(owner)

    yield from _run_changes("frames", old.owners, new.owners, access_text.pfns, text)


def _sections(old: Picture, new: Picture) -> Iterator[Change]:
    def text(section: Section | None) -> str:
        if section is None:
            return "not present"
        also = f"{', early' if section.early else ''}{', a device has part of it' if section.zone_device else ''}"
        return f"present, {'online' if section.online else 'offline'}, node {section.nid}{also}"

    yield from _run_changes("section", old.sections, new.sections, _numbered("section"), text)


def _blocks(old: Picture, new: Picture) -> Iterator[Change]:
    def text(block: MemoryBlock | None) -> str:
        if block is None:
            return "no device"
        zone = f" in {block.zone.title}" if block.zone is not None else ""
        return f"{block.state}{zone}{', hosts its own memmap' if block.altmap else ''}"

    yield from _run_changes("block", old.blocks, new.blocks, _numbered("memory"), text)


def _pages(old: Picture, new: Picture) -> Iterator[Change]:
    def what(span: Span) -> str:
        return f"struct pages of {access_text.pfns(span)}"

    def text(ref: ZoneRef | None) -> str:
        return "not initialised" if ref is None else f"node {ref.nid}, zone {ref.type.title}"

    yield from _run_changes("pages", old.pages, new.pages, what, text)


def _numbered(name: str) -> Callable[[Span], str]:
    def what(span: Span) -> str:
        return f"{name}{span.start}" if span.size == 1 else f"{name}{span.start}-{name}{span.end - 1}"

    return what


def _zones(old: Picture, new: Picture) -> Iterator[Change]:
    for name, now in new.zones.items():
        was = old.zones.get(name, (0,) * len(now))
        for field, before, after in zip(ZONE_FIELDS, was, now, strict=True):
            if before != after:
                form = "{:#x}" if field == "zone_start_pfn" else "{}"
                yield Change("zone", f"{name}: {field}", form.format(before), form.format(after))


def _memblock(old: Picture, new: Picture) -> Iterator[Change]:
    def what(span: Span) -> str:
        return f"memblock.memory {span.start:#x}-{span.end - 1:#x}"

    yield from _run_changes(
        "memblock", old.memblock, new.memblock, what, lambda region: "none" if region is None else "a region"
    )


def _iomem(old: Picture, new: Picture) -> Iterator[Change]:
    if old.iomem == new.iomem:
        return
    yield from (Change("iomem", name, "in the tree", "gone") for name in old.iomem if name not in new.iomem)
    yield from (Change("iomem", name, "", "in the tree") for name in new.iomem if name not in old.iomem)


def _mappings(old: Picture, new: Picture) -> Iterator[Change]:
    yield from _run_changes(
        "mapping",
        old.mappings,
        new.mappings,
        lambda span: f"pgmap_array, {access_text.pfns(span)}",
        lambda pgmap: "none" if pgmap is None else "a device's mapping",
    )


def _locks(old: Picture, new: Picture, names: Sequence[str]) -> Iterator[Change]:
    for name, now in new.locks.items():
        was = old.locks.get(name, (None, ()))
        if was != now:
            yield Change("lock", name, _holders(was, names), _holders(now, names))


def _holders(held: tuple[int | None, tuple[int, ...]], names: Sequence[str]) -> str:
    """Who has a lock."""

    def who(cpu: int) -> str:
        return f"{names[cpu]} (CPU {cpu})" if cpu < len(names) else f"CPU {cpu}"

    writer, readers = held
    if writer is not None:
        return f"held by {who(writer)}"
    return f"shared by {', '.join(map(who, readers))}" if readers else "free"


def _stale(k: Kernel, old: Picture, new: Picture) -> Iterator[Change]:
    """Translations that became stale, and what flushes left of the others."""
    was, now = old.stale, new.stale
    same = len(was) if len(now) >= len(was) and all(map(is_, was, now)) else 0
    if same == len(was):
        yield from _joined(k, [(piece, 0, piece.cpus) for piece in now[same:]])
        return
    kept = {id(piece) for piece in now} & {id(piece) for piece in was}
    pieces: list[tuple[Stale, int, int]] = []
    left = [piece for piece in now if id(piece) not in kept]
    for gone in (piece for piece in was if id(piece) not in kept):
        parts = sorted(
            (part for part in left if part.table == gone.table and part.leaves == gone.leaves
             and gone.index <= part.index and part.index + part.count <= gone.index + gone.count),
            key=lambda part: part.index,
        )  # fmt: skip
        at = gone.index
        for part in parts:
            pieces += [
                (piece, gone.cpus, 0) for piece in gone.part(at - gone.index, part.index - gone.index, gone.cpus)
            ]
            if part.cpus != gone.cpus:
                pieces.append((part, gone.cpus, part.cpus))
            at = part.index + part.count
        pieces += [(piece, gone.cpus, 0) for piece in gone.part(at - gone.index, gone.count, gone.cpus)]
    yield from _joined(k, pieces)


def _joined(k: Kernel, pieces: list[tuple[Stale, int, int]]) -> Iterator[Change]:
    """Neighbouring pieces that changed alike, as one change each: (piece, its CPUs before, after)."""
    everyone = k.hw.tlb.all_cpus

    def text(mask: int, *, after: bool) -> str:
        if mask:
            return f"stale on {access_text.cpus(mask, everyone)}"
        return "clean" if after else "valid"

    def where(one: tuple[Stale, int, int]) -> tuple[bool, Span]:
        return one[0].leaves, access_text.entry_span(k, one[0].table, one[0].index, one[0].count)

    joined: list[tuple[Span, str, str, str]] = []
    for piece, was, now in sorted(pieces, key=where):
        span = access_text.entry_span(k, piece.table, piece.index, piece.count)
        level = HEIGHT_NAMES[piece.table.height]
        what = f"{level} {'leaves' if piece.leaves else 'pointers to tables'}"
        row = (text(was, after=False), text(now, after=True))
        if joined and joined[-1][0].end == span.start and joined[-1][1] == what and joined[-1][2:] == row:
            joined[-1] = (Span(joined[-1][0].start, span.end), what, *row)
        else:
            joined.append((span, what, *row))
    for span, what, was_text, now_text in joined:
        addresses = f"{span.start:#x}-{span.end - 1:#x}{access_text.area(k, span, ', ')}"
        yield Change("stale", f"{what} for {addresses}", was_text, now_text)


def _exposed(k: Kernel, old: Picture, new: Picture) -> Iterator[Change]:
    """Frames that were given back too early, and those of them that nothing leads to any more."""
    was, now = old.exposed, new.exposed
    if len(now) >= len(was) and all(map(is_, was, now)):
        added, gone = now[len(was) :], []
    else:
        kept = {id(one) for one in was} & {id(one) for one in now}
        added = [one for one in now if id(one) not in kept]
        gone = [one for one in was if id(one) not in kept]
    for one in added:
        through = access_text.entry_name(one.stale.table, one.stale.index)
        how = f"given back, still reached through what {through} held"
        yield Change("exposed", access_text.pfns(one.frames), "", how)
    for one in gone:
        yield Change("exposed", access_text.pfns(one.frames), "reached through a stale entry", "out of reach")
