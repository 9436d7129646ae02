"""The laws that page tables and /proc/iomem are enough for, on the tables of a real kernel.

They are those of :mod:`memhp.check.page_tables`, :mod:`~memhp.check.direct_map` and :mod:`~memhp.check.vmemmap`, as far
as a machine in use keeps them: drivers change how pages of theirs are cached, and single pages are taken out of the
direct map on purpose (secretmem, KFENCE, hwpoison, ``set_direct_map_invalid_noflush()``): those are notes.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from memhp.check.kernel_data import broken_rules
from memhp.check.law import Breach, Note, as_many_as_are_told
from memhp.check.machine_view import Leaves, leaves_in, merged, minus, pfn_text, va_text
from memhp.check.page_tables import reserved
from memhp.hw.format import HEIGHT_NAMES
from memhp.hw.ranges import Ranges
from memhp.hw.runs import frame_spans
from memhp.hw.walker import Tables
from memhp.linux.memory_maps import MemoryMaps
from memhp.linux.port import WRITABLE
from memhp.spans import Span, SpanSet
from memhp.units import exact_size

NEVER = frozenset({"executable", "executable by user space", "open to user space"})
"""Rules about kernel data that no driver has a reason to break. Read-only code may be executable: riscv lets aliases of
modules' text follow it (arch/riscv/mm/pageattr.c:__set_memory), and x86 has its real-mode trampoline there."""


@dataclass(frozen=True)
class DumpedTables:
    """The kernel's half of a real machine's page tables: ranges of everything, holes included, and the tables.

    `maps` is None where the kernel's notes do not tell where memory is mapped. `ram` are the PFNs of System RAM,
    `memory` of all that may be mapped, both None without /proc/iomem.
    """

    ranges: Ranges
    tables: Tables
    maps: MemoryMaps | None
    ram: SpanSet | None = None
    memory: SpanSet | None = None

    def leaves(self, area: Span) -> Leaves:
        """The leaves that translate some of `area` (bytes), those at its edges whole."""
        return leaves_in(self.ranges, area)


@dataclass(frozen=True)
class Finding:
    """One law on a real machine: where it does not hold, what is worth knowing; `unchecked` says why it was not looked
    at.
    """

    law: str
    sentence: str
    breaches: tuple[Breach, ...] = ()
    notes: tuple[Note, ...] = ()
    unchecked: str = ""


@dataclass(frozen=True)
class DumpedLaw:
    """A law and what it needs beside page tables."""

    name: str
    sentence: str
    find: Callable[[DumpedTables], Iterator[Breach | Note]]
    needs_maps: bool = True
    needs_memory: bool = True


def check_dumped(seen: DumpedTables) -> list[Finding]:
    """Every law, whether it holds on these page tables."""
    return [_checked(law, seen) for law in LAWS]


def _checked(law: DumpedLaw, seen: DumpedTables) -> Finding:
    if law.needs_maps and seen.maps is None:
        return Finding(law.name, law.sentence, unchecked="where the kernel maps its memory is not noted")
    if law.needs_memory and seen.memory is None:
        return Finding(law.name, law.sentence, unchecked="which memory there is is not known: no /proc/iomem")
    found = list(law.find(seen))
    breaches = as_many_as_are_told(law.name, [each for each in found if isinstance(each, Breach)])
    return Finding(law.name, law.sentence, tuple(breaches), tuple(each for each in found if isinstance(each, Note)))


def page_tables(seen: DumpedTables) -> Iterator[Breach | Note]:
    """Tables that are not there, encodings that are reserved, tables reached by more than one way."""
    found = seen.ranges
    for frame, height, va in zip(*(column.tolist() for column in found.missing), strict=True):
        text = f"the entry for {va:#x} points to PFN {frame:#x} as a {HEIGHT_NAMES[height]} table, which is not there"
        yield Breach("page-tables", text, pfns=Span(frame, frame + 1), vas=Span(va, va + 1))
    yield from reserved(found)
    yield from _shared(seen)


def _shared(seen: DumpedTables) -> Iterator[Breach | Note]:
    """Tables that several entries point to: on purpose outside of the areas that hotplug changes, never inside."""
    frames, counts = np.unique(seen.tables.frame, return_counts=True)
    again = frames[counts > 1]
    if not again.size:
        return
    areas = [] if seen.maps is None else [seen.maps.direct_map, seen.maps.vmemmap]
    for span in frame_spans(again):
        inside = (seen.tables.frame >= np.uint64(span.start)) & (seen.tables.frame < np.uint64(span.end))
        at = seen.tables.va[inside].tolist()
        places = [va for va in at if any(area.start <= va < area.end for area in areas)]
        if places:
            text = f"table {pfn_text(span)} is reached more than once: for {' and '.join(f'{va:#x}' for va in at[:4])}"
            yield Breach("page-tables", text, pfns=span)
    yield Note("page-tables", f"{again.size} tables serve several addresses", int(again.size))


def direct_map(seen: DumpedTables) -> Iterator[Breach | Note]:
    """Memory that is not mapped, mappings of what is no memory or elsewhere, attributes that kernel data never has."""
    maps = seen.maps
    assert maps is not None
    assert seen.ram is not None
    assert seen.memory is not None
    if not maps.direct_map:
        return
    shift, base = maps.page_shift, np.uint64(maps.direct_map_base)
    leaves = _ordinary(seen.leaves(maps.direct_map), maps)
    for i in np.flatnonzero(leaves.pa + base != leaves.va).tolist():
        vas = Span(int(leaves.va[i]), int(leaves.va[i] + leaves.size[i]))
        text = f"{va_text(vas)} translates to {int(leaves.pa[i]):#x} instead of {int(leaves.va[i] - base):#x}"
        yield Breach("direct-map", text, vas=vas)
    mapped, _ = merged(leaves.pa >> np.uint64(shift), (leaves.pa + leaves.size) >> np.uint64(shift))
    wanted, allowed = seen.ram.copy(), seen.memory.copy()
    for part in maps.set_apart:
        wanted.remove(part.start >> shift, part.end >> shift)
    yield from _unmapped(maps, minus(wanted, mapped))
    for part in maps.always_mapped:
        allowed.add(part.start >> shift, part.end >> shift)
    for extra in minus(mapped, allowed):
        text = f"{pfn_text(extra)} is mapped, {exact_size(extra.size << shift)}, but is no memory"
        yield Breach("direct-map", text, pfns=extra)
    broken = broken_rules(seen.ranges.fmt, maps.data_rules, leaves)
    read_only = np.zeros(leaves.va.size, dtype=np.bool_)
    for rule, wrong in broken:
        read_only |= wrong if rule.what == WRITABLE else False
    for rule, wrong in broken:
        for i in np.flatnonzero(wrong & ~read_only).tolist() if rule.what in NEVER else ():
            vas = Span(int(leaves.va[i]), int(leaves.va[i] + leaves.size[i]))
            text = f"{va_text(vas)} is writable and {rule.what}: its leaves have attributes {int(leaves.bits[i]):#x}"
            yield Breach("direct-map", text, vas=vas)


def _ordinary(leaves: Leaves, maps: MemoryMaps) -> Leaves:
    """Those that are the direct map's own."""
    kept = np.ones(leaves.va.size, dtype=np.bool_)
    for part in maps.set_apart:
        start, end = np.uint64(maps.phys_to_virt(part.start)), np.uint64(maps.phys_to_virt(part.end))
        kept &= (leaves.va < start) | (leaves.va + leaves.size > end)
    return leaves.chosen(kept)


def _unmapped(maps: MemoryMaps, gaps: list[Span]) -> Iterator[Breach | Note]:
    """System RAM without a translation: a breach where a whole sub-section is, else pages taken out one by one."""
    unit = maps.subsection_pages
    single = [gap for gap in gaps if gap.size < unit]
    for gap in gaps:
        if gap.size >= unit:
            at = maps.phys_to_virt(gap.start << maps.page_shift)
            text = f"System RAM {pfn_text(gap)} is not mapped at {at:#x}"
            yield Breach("direct-map", text, pfns=gap)
    if single:
        pages = sum(gap.size for gap in single)
        yield Note("direct-map", f"{pages} pages of System RAM are taken out of the direct map", pages)


def vmemmap(seen: DumpedTables) -> Iterator[Breach | Note]:
    """System RAM without struct pages, struct pages of what is no memory."""
    maps = seen.maps
    assert maps is not None
    assert seen.ram is not None
    assert seen.memory is not None
    leaves = seen.leaves(maps.vmemmap_usable)
    mapped, _ = merged(leaves.va, leaves.va + leaves.size)
    page = 1 << maps.page_shift
    wanted = SpanSet()
    for part in seen.ram:
        memmap = maps.memmap(*part)
        wanted.add(memmap.start // page * page, -(-memmap.end // page) * page)
    for gap in minus(wanted, mapped):
        first, last = maps.page_to_pfn(gap.start), maps.page_to_pfn(gap.end - 1)
        text = f"the struct pages of PFN {first:#x}-{last:#x} are not mapped at {va_text(gap)}"
        yield Breach("vmemmap", text, pfns=Span(first, last + 1), vas=gap)
    per, largest = maps.section_pages, maps.memmap_leaf
    allowed = SpanSet()
    for part in seen.memory:
        memmap = maps.memmap(part.start // per * per, -(-part.end // per) * per)
        allowed.add(memmap.start // largest * largest, -(-memmap.end // largest) * largest)
    for extra in minus(mapped, allowed):
        low, high = maps.page_to_pfn(extra.start), maps.page_to_pfn(extra.end - 1)
        text = f"{va_text(extra)} maps struct pages of PFN {low:#x}-{high:#x}, where no memory is"
        yield Breach("vmemmap", f"{text}: {exact_size(extra.size)} stay taken", pfns=Span(low, high + 1), vas=extra)


LAWS = (
    DumpedLaw(
        "page-tables",
        "Page tables are a tree, and every entry leads to a table or maps memory",
        page_tables,
        needs_maps=False,
        needs_memory=False,
    ),
    DumpedLaw(
        "direct-map",
        "The direct map translates exactly the memory there is, to itself, never writable and executable",
        direct_map,
    ),
    DumpedLaw("vmemmap", "vmemmap maps the struct pages of exactly the memory there is", vmemmap),
)
"""Every law that is checked on real page tables."""
