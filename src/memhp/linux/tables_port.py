"""What an architecture is to whoever reads its kernel's page tables: format, root, layout, the style of its dump.

A :class:`~memhp.linux.port.Port` answers all of it; an architecture whose memory hotplug is not modelled has an object
that answers just this, in the module ``tables`` of its folder. Types, and what such objects have in common.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from memhp.hw.unchanging import Unchanging

if TYPE_CHECKING:
    from memhp.hw.format import Format
    from memhp.hw.ranges import Ranges
    from memhp.hw.reader import TableReader
    from memhp.linux.areas import Area, Marker
    from memhp.linux.memory_maps import MemoryMaps
    from memhp.linux.mm.ptdump_style import Style
    from memhp.linux.port import Root, VmCoreNotes
    from memhp.spans import Span


class NotedAreas(NamedTuple):
    """Where a dumped kernel keeps what: its areas, ascending, its dump's sections, and where it maps its memory, if its
    notes tell that.
    """

    areas: tuple[Area, ...]
    markers: tuple[Marker, ...]
    maps: MemoryMaps | None = None


class TablesPort(Protocol):
    """One architecture's page tables; each member is as in :class:`memhp.linux.port.Port`."""

    name: str
    elf_machine: int
    formats: tuple[Format, ...]
    ram_start: int
    ram_has_hole: bool
    ptdump_style: Style
    vmcoreinfo_mark: str

    def ptdump_style_of(self, fmt: Format) -> Style:
        """How that dump prints a range of tables of that format."""

    def ptdump_spans(self, fmt: Format) -> tuple[Span, ...]:
        """The addresses that its page-table dump covers."""

    def vmcoreinfo_is_ours(self, notes: VmCoreNotes) -> bool:
        """Whether a kernel of this architecture made these notes."""

    def vmcoreinfo_root(self, info: VmCoreNotes) -> Root:
        """Where ``swapper_pg_dir`` is and how to read it. Raises :class:`memhp.errors.BadInput`."""

    def registers_root(self, registers: Mapping[str, int]) -> Root | None:
        """The page tables that a CPU's registers (lower case) point to; None where they do not say."""

    def read_root(self, root: Root, reader: TableReader) -> Root:
        """The same, with what only memory tells."""


class GenericTables(Unchanging):
    """The answers to a reader of page tables that most architectures share."""

    ram_has_hole = False
    ptdump_style: Style
    vmcoreinfo_mark: str

    def ptdump_style_of(self, fmt: Format) -> Style:
        """The same with all page sizes."""
        return self.ptdump_style

    def vmcoreinfo_is_ours(self, notes: VmCoreNotes) -> bool:
        """It has the line that only ``arch_crash_save_vmcoreinfo()`` of this architecture writes."""
        return notes.noted(self.vmcoreinfo_mark)

    def registers_root(self, registers: Mapping[str, int]) -> Root | None:
        """Registers that can be read from outside do not say."""
        return None

    def read_root(self, root: Root, reader: TableReader) -> Root:
        """The notes tell all, and entries that lead nowhere are zero."""
        return root


class ReadTables(GenericTables, TablesPort):
    """An architecture of which page tables are read and no more is known."""

    uname_words: tuple[str, ...]
    """As in :class:`memhp.linux.port.Port`."""
    ram_start = 0

    @abstractmethod
    def vmcoreinfo_areas(self, info: VmCoreNotes, root: Root, found: Ranges) -> NotedAreas:
        """What the notes, and the leaves found below `root`, tell of the areas. Raises BadInput."""
