"""The kernel's page tables as an ELF core: the frames of tables and the kernel's notes, and nothing else of memory."""
# SPDX-License-Identifier: GPL-2.0-or-later

import lzma
from collections.abc import Iterator

import numpy as np

from memhp.errors import BadInput
from memhp.facts.elfcore import ET_CORE, LITTLE_ENDIAN, PT_LOAD, PT_NOTE, headers_of
from memhp.facts.kcore import Kcore
from memhp.facts.table_source import KCORE
from memhp.facts.vmcoreinfo import VmCoreInfo
from memhp.hw.format import U64
from memhp.hw.reader import TableReader
from memhp.hw.walker import tables
from memhp.linux.arch.registry import tables_port
from memhp.spans import Span, SpanSet

CORE = "pt.elf.xz"
"""Its name in a capture."""
_FILE, _PROGRAM, _NOTE, _ = headers_of("<")
AT_ONCE = 1 << 12
"""Frames that are read at a time."""


class _Noting:
    """A reader that notes the frames that were asked for."""

    def __init__(self, reader: TableReader) -> None:
        self._reader = reader
        self.asked: set[int] = set()

    def tables(self, pfns: U64) -> U64:
        self.asked |= set(pfns.tolist())
        return self._reader.tables(pfns)


def tables_core(reader: TableReader, info: VmCoreInfo, vmcoreinfo: bytes) -> bytes:
    """All tables of a kernel, as far as they can be read, compressed with xz: as ``memhp pagetables`` reads them.

    LoongArch's tables for what is not there, to which entries lead instead of nowhere, are looked at to find the root.
    """
    noting = _Noting(reader)
    root = tables_port(info.arch).read_root(info.root(), noting)
    found = tables(reader, root.fmt, root.pfn, root_index=root.index)
    frames = noting.asked | set(found.frame[found.present].tolist())
    runs = SpanSet((frame, frame + 1) for frame in sorted(frames))
    size = root.fmt.page_size
    name = b"VMCOREINFO\0"
    note = _NOTE.pack(len(name), len(vmcoreinfo), 0) + name.ljust(12, b"\0") + vmcoreinfo
    note += bytes(-len(note) % 4)
    at = _FILE.size + _PROGRAM.size * (1 + len(runs))
    header = _FILE.pack(
        LITTLE_ENDIAN, ET_CORE, tables_port(info.arch).elf_machine, 1, 0, _FILE.size, 0, 0, _FILE.size, _PROGRAM.size,
        1 + len(runs), 0, 0, 0,
    )  # fmt: skip
    header += _PROGRAM.pack(PT_NOTE, 0, at, 0, 0, len(note), len(note), 0)
    at += len(note)
    at += -at % size
    start = at
    for run in runs:
        header += _PROGRAM.pack(PT_LOAD, 0, at, 0, run.start * size, run.size * size, run.size * size, 0)
        at += run.size * size
    packer = lzma.LZMACompressor(preset=1)
    packed = packer.compress((header + note).ljust(start, b"\0"))
    for part in _parts(runs):
        packed += packer.compress(reader.tables(np.arange(*part, dtype=np.uint64)).astype("<u8").tobytes())
    return packed + packer.flush()


def own_tables_core() -> bytes:
    """The same of the kernel that runs here, from /proc/kcore. Raises :class:`BadInput` where that cannot be read."""
    core = Kcore(KCORE)
    root = core.root()
    if root.fmt.frame_entries * 8 != root.fmt.page_size:
        text = f"tables of {core.arch} do not take a page each"
        raise BadInput(text, where=str(KCORE), fix="leave the page tables out")
    noted = next(note.desc for note in core.notes if note.name == "VMCOREINFO")
    return tables_core(core, core.info, noted)


def _parts(runs: SpanSet) -> Iterator[Span]:
    for run in runs:
        for first in range(run.start, run.end, AT_ONCE):
            yield Span(first, min(run.end, first + AT_ONCE))
