"""How ptdump prints a range: columns as tables, the same for writing and for reading.

Each architecture has a style of its own (``note_page()`` and what it calls), which its port names.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

EVERY = 1 << 10
"""More section markers than any dump has."""


class Line(NamedTuple):
    """A range of the dump: addresses in bytes (`end` 0 is the end of the address space), the level's name as printed,
    the entry bits that the columns show, and on riscv64 the physical address of the first entry.
    """

    start: int
    end: int
    level: str
    prot: int
    pa: int = 0


class Column(NamedTuple):
    """One column: its text for each value of the bits `mask`, `otherwise` for values that have none.

    At a level (0 PGD … 4 PTE) that is not among `levels` it is printed as if the bits were clear.
    """

    mask: int
    texts: Mapping[int, str]
    otherwise: str = ""
    levels: range = range(5)

    def text(self, prot: int, level: int) -> str:
        """What the column says about these entry bits."""
        return self.texts.get(prot & self.mask if level in self.levels else 0, self.otherwise)

    def values(self, level: int) -> Iterator[int]:
        """Every value that the column's bits can have, those with a text of their own first."""
        yield from self.texts if level in self.levels else (0,)
        value = self.mask if level in self.levels else 0
        while value:
            value = (value - 1) & self.mask
            if value not in self.texts:
                yield value


@dataclass(frozen=True)
class Style:
    """An architecture's manner of printing, and of grouping entries into ranges.

    `prot` are the entry bits that tell ranges apart. `advance_first` and `advance_break` say how many section markers
    the dump may pass at its first entry and between two ranges. With `holes` ranges that map nothing are printed too.
    """

    arch: str
    prot: int
    columns: tuple[Column, ...]
    separator: str
    units: str
    level_names: tuple[str, ...] = ("PGD", "P4D", "PUD", "PMD", "PTE")
    name_last: bool = False
    physical: bool = False
    holes: bool = True
    effective: bool = False
    advance_first: int = 0
    advance_break: int = 1
    blank_without: int = 0
    """A bit without which the columns stay blank (x86: present)."""
    leaf_bit: int = 0
    """A bit that makes an entry above the lowest level a leaf for the dump, valid or not (x86: page size)."""
    section_limits: Mapping[str, int] = field(default_factory=dict)
    """Sections → how many of their ranges are printed at most."""
    gap: str = "   "
    """Between the addresses of a range and what follows."""
    last_byte: bool = False
    """Whether a range is printed with its last address, not its end (powerpc)."""
    after_name: str = ""
    """What follows the level's name, before the columns."""
    hole: int = 0
    """The bits that ranges of entries that map nothing are told by; invalid entries of page tables are among them if
    there are such bits (s390)."""
    hole_text: str = ""
    """What is printed for the columns there."""
    root_is_pgd: bool = True
    """Whether holes in the root table are the PGD's however few levels there are; else levels count from the PTE up."""
    ends_with_span: bool = False
    """Whether the last range ends where the dump does, not with the address space."""

    def size(self, size: int) -> str:
        """A size in bytes as the kernel prints it: divided by 1024 for as long as that leaves no rest."""
        value = size if self.units[0] in "B " else size >> 10
        unit = 0
        while value % 1024 == 0 and unit < len(self.units) - 1:
            value //= 1024
            unit += 1
        return f"{value:>9}{self.units[unit]}"

    def attributes(self, prot: int, level: str) -> str:
        """The columns of one range: empty, or blank to the same width, where nothing is mapped."""
        at = self.level_names.index(level)
        if self.hole and prot & self.hole:
            return self.separator + self.hole_text
        texts = [column.text(prot, at) for column in self.columns]
        if self.blank_without and not prot & self.blank_without:
            return " " * sum(map(len, texts))
        return "".join(self.separator + text for text in texts if text) if prot or self.hole else ""

    def format(self, line: Line) -> str:
        """The line as the kernel prints it, without the newline."""
        pa = f" 0x{line.pa:016x} " if self.physical else ""
        size = self.size((line.end - line.start) % (1 << 64))
        attributes = self.attributes(line.prot, line.level)
        rest = attributes + line.level if self.name_last else line.level + self.after_name + attributes
        end = (line.end - self.last_byte) % (1 << 64)
        return f"0x{line.start:016x}-0x{end:016x}{self.gap}{pa}{size} {rest}"

    @cached_property
    def _range(self) -> re.Pattern[str]:
        return re.compile(rf"0x([0-9a-f]{{16}})-0x([0-9a-f]{{16}}){self.gap}( 0x([0-9a-f]{{16}}) )?( *\d+[ A-Z]) (.*)")

    def parse(self, text: str) -> Line | None:
        """The range that a line of this style describes, None if it is something else."""
        match = self._range.fullmatch(text)
        if match is None or bool(match[3]) != self.physical:
            return None
        rest = match[6]
        names = [name for name in self.level_names if (rest.endswith if self.name_last else rest.startswith)(name)]
        if not names:
            return None
        level = names[0]
        columns = rest[: -len(level)] if self.name_last else rest[len(level + self.after_name) :]
        prot = self._prot(columns, self.level_names.index(level))
        if prot is None:
            return None
        end = (int(match[2], 16) + self.last_byte) % (1 << 64)
        return Line(int(match[1], 16), end, level, prot, int(match[4], 16) if match[4] else 0)

    def _prot(self, text: str, level: int) -> int | None:
        """The entry bits behind the columns: those of the likeliest entry, where the text leaves a choice."""
        if self.hole and text == self.separator + self.hole_text:
            return self.hole
        if not text.strip():
            return 0
        prot = known = 0
        for column in self.columns:
            mask = column.mask if level in column.levels else 0
            for value in sorted(column.values(level), key=lambda value: -len(column.text(value, level))):
                name = column.text(value, level)
                word = self.separator + name if name else ""
                if text.startswith(word) and not (value ^ prot) & known & mask:
                    prot, known, text = prot | value, known | mask, text[len(word) :]
                    break
            else:
                return None
        return None if text else prot | self.blank_without


def flag(mask: int, text: str, clear: str, levels: range = range(5)) -> Column:
    """The column of a single bit: its text where set, and where clear."""
    return Column(mask, {mask: text, 0: clear}, levels=levels)
