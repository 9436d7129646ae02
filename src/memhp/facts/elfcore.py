"""ELF cores: a dump of physical memory, or of nothing but its page tables, as QEMU, kdump and makedumpfile write them.

The reader is a :class:`~memhp.hw.reader.TableReader`: what the file does not hold is missing, never zero. Sources: the
System V ABI, chapters "ELF Header", "Program Header" and "Note Section"; elf(5).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import mmap
import struct
from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from memhp.errors import BadInput
from memhp.facts.frame_runs import FrameRuns, whole_frames
from memhp.facts.vmcoreinfo import VmCoreInfo, notes_in, parse_vmcoreinfo
from memhp.hw.format import U64, Format
from memhp.hw.reader import MissingTables
from memhp.inputs import open_regular, unpack_xz
from memhp.limits import CORE_HEADERS, CORE_NOTES, CORE_PACKED, CORE_SIZE
from memhp.linux.arch.registry import tables_port, tables_ports
from memhp.linux.port import Root
from memhp.spans import Span

ET_CORE = 4
PT_LOAD = 1
PT_NOTE = 4
PN_XNUM = 0xFFFF
NT_PRSTATUS = 1
_XZ = b"\xfd7zXZ\0"
LITTLE_ENDIAN = b"\x7fELF\2\1\1"
"""How the files begin that are written here: ``EI_MAG0`` to ``EI_VERSION``."""
_IDENT = {b"\x02\x01": "<", b"\x02\x02": ">"}
"""``EI_CLASS`` and ``EI_DATA`` of 64-bit files → the order of their bytes."""


class Headers(NamedTuple):
    """An ELF64 file's own structures, in the order of its bytes."""

    file: struct.Struct
    program: struct.Struct
    note: struct.Struct
    section: struct.Struct


def headers_of(order: str) -> Headers:
    """Those of a file whose numbers have that order, ``<`` or ``>``."""
    kinds = ("16sHHIQQQIHHHHHH", "IIQQQQQQ", "III", "IIQQQQIIQQ")
    return Headers(*(struct.Struct(order + kind) for kind in kinds))


class Note(NamedTuple):
    """One note: a CPU's registers under ``("CORE", NT_PRSTATUS)``, the kernel's own under ``("VMCOREINFO", 0)``."""

    name: str
    type: int
    desc: bytes


class Load(NamedTuple):
    """A run of physical memory: bytes ``[pa, pa + size)`` stand in the file from `offset` on."""

    pa: int
    size: int
    offset: int


class ElfCore:
    """An ELF64 core of one machine, plain or compressed with xz.

    Raises BadInput for anything else: another kind of file, a truncated one, an unknown machine, no VMCOREINFO. With
    `noted` False the last is told only when the notes are asked for.
    """

    live = False
    """Whether the kernel runs while it is read, so that segments do not end with the file."""

    def __init__(self, path: Path | str, *, noted: bool = True) -> None:
        self.where = str(path)
        self._file = self.contents(Path(path))
        self._layout = headers_of(_IDENT.get(bytes(self._file[4:6]), "<"))
        self.arch, headers = self._headers()
        self.notes = tuple(
            note for kind, start, size, _ in headers if kind == PT_NOTE for note in self._notes(start, size)
        )
        loads = (Load(pa, size, start) for kind, start, size, pa in headers if kind == PT_LOAD and size)
        self.loads = tuple(sorted(load for load in loads if self.usable(load)))
        if noted:
            _ = self.info if self.live else self._runs

    def contents(self, path: Path) -> bytes | mmap.mmap:
        """The file, or as much of it as headers and notes take."""
        return _contents(path)

    def usable(self, load: Load) -> bool:
        """Whether a segment is physical memory."""
        return True

    @cached_property
    def info(self) -> VmCoreInfo:
        """The kernel's own notes, which stand in its memory too where whoever dumped it did not ask for them.

        Raises BadInput where there are none, or another architecture's.
        """
        return self._vmcoreinfo()

    @cached_property
    def _runs(self) -> FrameRuns:
        return self.frame_runs(self.info.root().fmt)

    def frame_runs(self, fmt: Format) -> FrameRuns:
        """The frames of the dump that may hold tables of that format."""
        found = (whole_frames(self._file, load.offset, load.pa, load.size, fmt) for load in self.loads)
        return FrameRuns(fmt, chain.from_iterable(found))

    @property
    def prstatus(self) -> tuple[bytes, ...]:
        """The NT_PRSTATUS notes, one a CPU."""
        return tuple(note.desc for note in self.notes if (note.name, note.type) == ("CORE", NT_PRSTATUS))

    @property
    def page_size(self) -> int:
        """Bytes of a page of the dumped kernel."""
        return self.info.page_size

    @property
    def frames(self) -> tuple[Span, ...]:
        """The frames of tables that the file has room for, ascending: PFNs, where tables take a page each."""
        return self._runs.spans

    def root(self) -> Root:
        """The kernel's page tables."""
        return tables_port(self.arch).read_root(self.info.root(), self)

    def tables(self, pfns: U64) -> U64:
        """Whole frames of tables, a row each. Raises MissingTables for those that the file does not hold."""
        return self._runs.tables(pfns)

    def read(self, pa: int, size: int) -> bytes:
        """Bytes of physical memory. Raises MissingTables for what the file does not hold."""
        data = bytearray()
        while size:
            load = next((load for load in self.loads if load.pa <= pa < load.pa + load.size), None)
            if load is None:
                raise MissingTables([pa // self.page_size])
            part = min(size, load.pa + load.size - pa)
            start = load.offset + pa - load.pa
            data += self._file[start : start + part]
            pa, size = pa + part, size - part
        return bytes(data)

    def _headers(self) -> tuple[str, list[tuple[int, int, int, int]]]:
        """The architecture, and (type, file offset, size in the file, physical address) of each program header."""
        file = self._layout.file
        if len(self._file) < file.size or self._file[:4] != b"\x7fELF":
            raise BadInput("not an ELF file", where=self.where)
        ident, kind, machine, _, _, phoff, shoff, _, _, phentsize, phnum, _, _, _ = file.unpack_from(self._file)
        if ident[4:6] not in _IDENT or kind != ET_CORE:
            raise BadInput("not a 64-bit ELF core", where=self.where)
        machines = {each.elf_machine: each.name for each in tables_ports()}
        if machine not in machines:
            known = ", ".join(f"{name} ({number})" for number, name in machines.items())
            raise BadInput(f"ELF core of machine {machine}, not one of {known}", where=self.where)
        if phnum == PN_XNUM:
            section = self._layout.section
            phnum = section.unpack(self._slice(shoff, section.size, "section header"))[7]
        program = self._layout.program
        if phentsize != program.size:
            raise BadInput(f"program headers of {phentsize} bytes, not {program.size}", where=self.where)
        if phnum > CORE_HEADERS.most:
            raise CORE_HEADERS.refusal(self.where)
        table = self._slice(phoff, phnum * program.size, "the table of program headers")
        headers = [(p[0], p[2], p[5], p[4]) for p in program.iter_unpack(table)]
        for kind, start, size, pa in headers:
            if kind != PT_LOAD or not self.live:
                self._slice(start, size, f"segment at physical address {pa:#x}")
        return machines[machine], headers

    def _slice(self, start: int, size: int, what: str) -> bytes | memoryview:
        if start + size > len(self._file):
            raise BadInput(
                f"truncated: {what} ends at byte {start + size} of {len(self._file)}",
                where=self.where,
                fix="take the dump again, or copy it whole",
            )
        return memoryview(self._file)[start : start + size]

    def _notes(self, start: int, size: int) -> Iterator[Note]:
        end, header = start + size, self._layout.note
        if size > CORE_NOTES.most:
            raise CORE_NOTES.refusal(self.where)
        while start + header.size <= end:
            name_size, desc_size, kind = header.unpack_from(self._file, start)
            name_at = start + header.size
            desc_at = name_at + (name_size + 3 & ~3)
            if desc_at + desc_size > end:
                raise BadInput("a note is longer than its segment", where=self.where)
            name = bytes(self._file[name_at : name_at + name_size]).rstrip(b"\0").decode("ascii", "replace")
            yield Note(name, kind, bytes(self._file[desc_at : desc_at + desc_size]))
            start = desc_at + (desc_size + 3 & ~3)

    def _vmcoreinfo(self) -> VmCoreInfo:
        for note in self.notes:
            if note.name == "VMCOREINFO":
                info = parse_vmcoreinfo(note.desc, where=self.where)
                if info.arch != self.arch:
                    raise BadInput(f"ELF core of {self.arch} with VMCOREINFO of {info.arch}", where=self.where)
                return info
        in_memory = () if self.live else notes_in(self._file, self.where)
        for info in in_memory:
            if info.arch == self.arch:
                return info
        raise BadInput(
            "no VMCOREINFO note", where=self.where, fix="start QEMU with -device vmcoreinfo, the guest with fw_cfg"
        )


def _contents(path: Path) -> bytes | mmap.mmap:
    """The file's bytes, unpacked if need be."""
    try:
        with open_regular(path) as file:
            if file.read(len(_XZ)) != _XZ:
                if file.seek(0, 2) == 0:
                    raise BadInput("empty file", where=str(path))
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return unpack_xz(path, CORE_SIZE, CORE_PACKED)
    except OSError as error:
        raise BadInput(error.strerror or str(error), where=str(path)) from None
