"""The kernel's own page-table dump, ``/sys/kernel/debug/kernel_page_tables``: made from any page tables, and read back.

The text is that of CONFIG_PTDUMP_DEBUGFS: ranges of like entries under section markers. Ranges merge whatever their
physical addresses are. Sources: mm/ptdump.c, mm/pagewalk.c, and ``note_page`` of arch/{x86,arm64,riscv}.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from memhp.errors import BadInput
from memhp.hw.format import Format
from memhp.hw.ranges import ranges
from memhp.hw.reader import TableReader
from memhp.hw.walker import ALL, End, walk
from memhp.linux.arch.registry import tables_port
from memhp.linux.mm.ptdump_style import Line, Style
from memhp.linux.port import Root

_SECTION = re.compile(r"---\[ (.*) \]---")
_SKIPPED = re.compile(r"\.\.\. (\d+) entr(?:y|ies) skipped \.\.\. ")
_FLUSH = -1
"""The level of the note that ends a dump."""


class Marker(NamedTuple):
    """A section of the address space: first address, name, and how many ranges of it x86 prints at most (0: all)."""

    va: int
    name: str
    max_lines: int = 0


class Section(NamedTuple):
    """A section marker in the dump."""

    name: str


class Skipped(NamedTuple):
    """How many ranges of a section x86 left out."""

    ranges: int


Event = Line | Section | Skipped


class _Note(NamedTuple):
    """What the kernel's walk reports: an entry's address, level (0 PGD … 4 PTE), attribute bits and combined rights."""

    va: int
    level: int
    prot: int
    rights: int
    pa: int


class _State:
    """``struct pg_state``: the range being collected and the section that it is in."""

    def __init__(self, style: Style, markers: Sequence[Marker]) -> None:
        self.style = style
        self.markers = (*markers, Marker(ALL - 1, ""))
        self.section = 0
        self.lines = 0
        self.current: _Note | None = None

    def next_marker(self) -> int:
        """Where the next section starts."""
        return self.markers[self.section + 1].va

    def note(self, new: _Note) -> Iterator[Event]:
        """``note_page()``: what is printed when the walk comes to an entry."""
        old = self.current
        if old is None:
            self.current = new
            yield Section(self.markers[0].name)
            yield from self._advance(new.va, self.style.advance_first)
        elif new[1:4] != old[1:4] or new.va >= self.next_marker():
            if self.style.holes or old.prot:
                limit = self.markers[self.section].max_lines
                if not limit or self.lines < limit:
                    yield Line(old.va, new.va, self.style.level_names[old.level], old.prot, old.pa)
                self.lines += 1
            yield from self._advance(new.va, self.style.advance_break)
            self.current = new

    def _advance(self, va: int, most: int) -> Iterator[Event]:
        while most and va >= self.next_marker():
            limit = self.markers[self.section].max_lines
            if limit and self.lines > limit:
                yield Skipped(self.lines - limit)
            self.section += 1
            self.lines = 0
            most -= 1
            yield Section(self.markers[self.section].name)


def dump(reader: TableReader, root: Root, markers: Sequence[Marker], *, style: Style | None = None) -> Iterator[Event]:
    """What ptdump prints of these page tables, with the sections of the kernel's layout (ascending addresses).

    `style` is the architecture's current one unless given. Raises BadInput when a table is missing: the kernel's dump
    has no way to say so.
    """
    reads = tables_port(root.fmt.arch)
    style = style or reads.ptdump_style_of(root.fmt)
    state = _State(style, markers)
    end = 0
    for start, end in reads.ptdump_spans(root.fmt):
        for notes in _notes(reader, root, style, start, end, state):
            yield from state.note(notes)
    yield from state.note(_Note(end if style.ends_with_span else 0, _FLUSH, 0, 0, 0))


def _notes(reader: TableReader, root: Root, style: Style, start: int, end: int, state: _State) -> Iterator[_Note]:
    """The entries that the walk reports, but of each run of like ones only the first and those at section starts."""
    fmt = root.fmt
    found = ranges(
        reader,
        fmt,
        root.pfn,
        root_index=root.index,
        va_start=start,
        va_end=end,
        bits=(style.prot,) * len(fmt.levels),
        contiguous=False,
        holes=True,
        effective=style.effective,
    )
    if found.missing.frame.size:
        pa = int(found.missing.frame[0]) << fmt.table_shift
        raise BadInput(f"page table at {pa:#x} is missing, and {found.missing.frame.size - 1} more")
    columns = (found.va, found.size, found.height, found.bits, found.rights, found.entry, found.mapped)
    for va, size, height, bits, rights, entry, mapped in zip(*(column.tolist() for column in columns), strict=True):
        nowhere = fmt.is_none(entry, height) or bool(style.hole and not height and not mapped)
        if height and not nowhere and not mapped and not entry & style.leaf_bit:
            continue
        prot = style.hole if nowhere else bits
        level = _level(fmt, style, height, mapped)
        pa = fmt.leaf_pfn(entry, height) << fmt.page_shift if style.physical else 0
        yield _Note(va, level, prot, rights, pa)
        step = fmt.levels[height].size
        at = va
        while state.next_marker() < va + size:
            at = max(at + step, va + -(-(state.next_marker() - va) // step) * step)
            if at >= va + size:
                break
            yield _Note(at, level, prot, rights, _first_frame(reader, root, at) if style.physical else 0)


def _level(fmt: Format, style: Style, height: int, mapped: bool) -> int:
    """The level that the dump names: the root is PGD as a rule, save for arm64's section leaves of two-level tables."""
    if style.root_is_pgd and height == fmt.root_height and not (mapped and height == 1):
        return 0
    return 4 - height


def _first_frame(reader: TableReader, root: Root, va: int) -> int:
    """The physical address that the entry for `va` holds, 0 if it maps nothing."""
    found = walk(reader, root.fmt, root.pfn, va, root_index=root.index)
    if found.end != End.MAPPED:
        return 0
    return root.fmt.leaf_pfn(found.leaf.entry, found.leaf.height) << root.fmt.page_shift


def render(events: Iterable[Event], style: Style) -> str:
    """The text of a dump."""
    return "".join(f"{_text(event, style)}\n" for event in events)


def _text(event: Event, style: Style) -> str:
    if isinstance(event, Section):
        return f"---[ {event.name} ]---"
    if isinstance(event, Skipped):
        return f"... {event.ranges} entr{'y' if event.ranges == 1 else 'ies'} skipped ... "
    return style.format(event)


def parse(text: str, style: Style, *, where: str = "ptdump") -> list[Event]:
    """The ranges and sections of a kernel's dump. Raises BadInput that names the first line that is neither."""
    events: list[Event] = []
    for number, line in enumerate(text.splitlines(), 1):
        section, skipped = _SECTION.fullmatch(line), _SKIPPED.fullmatch(line)
        found = style.parse(line)
        if section:
            events.append(Section(section[1]))
        elif skipped:
            events.append(Skipped(int(skipped[1])))
        elif found:
            events.append(found)
        else:
            raise BadInput(f"not a line of a {style.arch} page-table dump: {line[:80]!r}", where=f"{where}:{number}")
    return events
