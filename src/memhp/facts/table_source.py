"""Where page tables are read from: whichever kind of file it is, opened, with the root found.

The kernel's notes say where its root table is; else the registers of a CPU do, if they are given. A walk of a file
takes time and memory in proportion to the file, whatever the tables in it say: :class:`Bounded` stops it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memhp.errors import BadInput
from memhp.facts import s390_dump
from memhp.facts.elfcore import ElfCore
from memhp.facts.frame_runs import FrameRuns
from memhp.facts.kcore import Kcore
from memhp.facts.kdump import Kdump
from memhp.facts.kdump_file import SIGNATURES, KdumpFile, KdumpFrames
from memhp.facts.ram_image import Piece, RamImage
from memhp.facts.vmcoreinfo import VmCoreInfo
from memhp.hw.format import U64, Format
from memhp.hw.reader import MissingTables, TableReader
from memhp.inputs import open_regular
from memhp.limits import DUMP_SEGMENTS, TABLE_ENTRIES
from memhp.linux.arch.registry import tables_port, tables_ports
from memhp.linux.port import Root

KCORE = Path("/proc/kcore")
ELF, XZ = b"\x7fELF", b"\xfd7zXZ\0"
LEAST_ENTRIES = 1 << 20
"""So many entries are read of any file in one walk."""
REREAD = 2
"""One walk reads a file's frames so many times on average at most: kernels share few tables among addresses."""


class Bounded:
    """A reader for one walk, which gives up when that asks for more than an honest dump of `frames` frames has."""

    def __init__(self, reader: TableReader, where: str, fmt: Format, frames: int) -> None:
        self._reader, self._where = reader, where
        self._left = self._most = min(max(LEAST_ENTRIES, REREAD * frames * fmt.frame_entries), TABLE_ENTRIES.most)

    def tables(self, pfns: U64) -> U64:
        """What the reader has. Raises BadInput when it is too much."""
        rows = self._reader.tables(pfns)
        self._left -= rows.size
        if self._left < 0:
            raise BadInput(
                f"no sound page tables: more than {self._most} entries are reached in them", where=self._where
            )
        return rows


@dataclass(frozen=True)
class TableSource:
    """Page tables to be walked: where they begin, what the kernel noted (None: nothing was found).

    `kind` says what the source is, `memory` reads its `frames` frames. `live`: the kernel runs meanwhile.
    """

    where: str
    kind: str
    memory: TableReader
    frames: int
    root: Root
    info: VmCoreInfo | None
    live: bool = False

    @property
    def reader(self) -> TableReader:
        """What one walk reads through; the next walk is to ask for another."""
        return Bounded(self.memory, self.where, self.root.fmt, self.frames)


def open_tables(
    path: Path,
    *,
    registers: Mapping[str, int] | None = None,
    arch: str | None = None,
    ram: Sequence[Piece] = (),
) -> TableSource:
    """Open a dump, RAM or ``/proc/kcore``. `registers` (lower case) and `arch` count before what the dump notes.

    Raises BadInput for what is neither, is truncated, or does not tell where its page tables are.
    """
    if ram:
        return _of_ram(path, registers, arch, ram)
    if path == KCORE or _is_endless(path):
        core = Kcore(path)
        frames = sum(load.size for load in core.loads) >> core.fmt.table_shift
        root = _root_of(core.info, registers, arch, str(path))
        return _source(path, "live kernel", core, core.info, root, frames, live=True)
    begin = _begin(path)
    if begin.startswith(SIGNATURES):
        return _of_kdump(path, registers, arch)
    if begin.startswith((ELF, XZ)):
        return _of_elf(path, registers, arch)
    if begin.startswith(s390_dump.SIGNATURES):
        return _of_s390(path, registers)
    return _of_ram(path, registers, arch, ())


def _is_endless(path: Path) -> bool:
    """Whether a path is another name of the kernel's own file, which is as long as the address space."""
    try:
        return path.samefile(KCORE)
    except OSError:
        return False


def _of_elf(path: Path, registers: Mapping[str, int] | None, arch: str | None) -> TableSource:
    core = ElfCore(path, noted=not registers)
    info = None if registers else core.info
    root = _root_of(info, registers, arch or core.arch, str(path))
    return _of_runs(path, "ELF core", core.frame_runs(root.fmt), info, root)


def _of_ram(path: Path, registers: Mapping[str, int] | None, arch: str | None, pieces: Sequence[Piece]) -> TableSource:
    image = RamImage(path, pieces)
    root = _root_of(image.info, registers, arch, str(path))
    return _of_runs(path, "RAM", image.frame_runs(root.fmt), image.info, root)


def _of_kdump(path: Path, registers: Mapping[str, int] | None, arch: str | None) -> TableSource:
    dump = KdumpFile(path)
    if not dump.packed:
        root = _root_of(dump.info, registers, arch, str(path))
        frames = dump.page_count * dump.block_size >> root.fmt.table_shift
        return _source(path, "compressed dump", KdumpFrames(dump, root.fmt), dump.info, root, frames)
    kdump = Kdump(path)
    frames = path.stat().st_size * 8 >> kdump.fmt.table_shift
    root = _root_of(kdump.info, registers, arch, str(path))
    return _source(path, "compressed dump", kdump, kdump.info, root, frames)


def _of_s390(path: Path, registers: Mapping[str, int] | None) -> TableSource:
    image = RamImage(path, s390_dump.pieces_of(path), DUMP_SEGMENTS)
    root = _root_of(image.info, registers, "s390x", str(path))
    return _of_runs(path, "s390 dump", image.frame_runs(root.fmt), image.info, root)


def _of_runs(path: Path, kind: str, runs: FrameRuns, info: VmCoreInfo | None, root: Root) -> TableSource:
    return _source(path, kind, runs, info, root, sum(span.size for span in runs.spans))


def _source(
    path: Path,
    kind: str,
    reader: FrameRuns | Kcore | Kdump | KdumpFrames,
    info: VmCoreInfo | None,
    root: Root,
    frames: int,
    *,
    live: bool = False,
) -> TableSource:
    where = str(path)
    try:
        root = tables_port(root.fmt.arch).read_root(root, reader)
    except MissingTables as error:
        raise BadInput(f"page table at {error.pfns[0] << root.fmt.table_shift:#x} is missing", where=where) from None
    return TableSource(where, kind, reader, frames, root, info, live)


def _root_of(info: VmCoreInfo | None, registers: Mapping[str, int] | None, arch: str | None, where: str) -> Root:
    """The root by registers if they are given, else by the notes."""
    if registers:
        asked = [each for each in tables_ports() if arch in (None, each.name)]
        for each in asked:
            root = each.registers_root(registers)
            if root is not None:
                return root
        names = ", ".join(sorted(registers))
        raise BadInput(
            f"{names} {'does' if len(registers) == 1 else 'do'} not say where page tables are",
            where=where,
            fix="cr3 and cr4, satp, ttbr1_el1 and tcr_el1, or c13",
        )
    if info is None:
        raise BadInput(
            "no VMCOREINFO note in it",
            where=where,
            fix="give --register cr3=… and cr4=…, satp=…, ttbr1_el1=…, or c13=…",
        )
    if arch is not None and arch != info.arch:
        raise BadInput(
            f"the notes are of {info.arch}, not {arch}",
            where=where,
            fix=f"one of {', '.join(each.name for each in tables_ports())}",
        )
    return info.root()


def _begin(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(16)
    except OSError as error:
        raise BadInput(error.strerror or str(error), where=str(path)) from None
