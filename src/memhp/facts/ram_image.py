"""The RAM of a virtual machine as it lies in files: what QEMU shares (``memory-backend-file``, ``-memfd``), or a copy.

Such a file says nothing of itself. The kernel's VMCOREINFO note is searched for in it; where each part of the file
lies in physical memory, whoever has the machine knows.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import mmap
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from memhp.errors import BadInput
from memhp.facts.frame_runs import FrameRuns, whole_frames
from memhp.facts.vmcoreinfo import VmCoreInfo, notes_in
from memhp.hw.format import Format
from memhp.inputs import open_regular
from memhp.limits import RAM_PIECES, Limit
from memhp.linux.arch.registry import tables_port
from memhp.units import MiB

FIRST_HOLE = 256 * MiB
"""Where the RAM of QEMU's machines that starts at 0 has its first hole, at the earliest."""


class Piece(NamedTuple):
    """Bytes ``[offset, offset + size)`` of a file stand for physical memory from `pa` on."""

    path: Path
    pa: int
    offset: int
    size: int


class RamImage:
    """A :class:`~memhp.hw.reader.TableReader` of RAM in files. `info` is None where no note was found.

    Raises BadInput for what is no file of RAM, or where its parts lie is not known.
    """

    def __init__(self, path: Path | str, pieces: Sequence[Piece] = (), limit: Limit = RAM_PIECES) -> None:
        self.where = str(path)
        files = {each: _mapped(each) for each in {piece.path for piece in pieces} or {Path(path)}}
        found = (info for data in files.values() for info in notes_in(data, self.where))
        self.info = next(found, None)
        if not pieces:
            pieces = (_whole(Path(path), len(files[Path(path)]), self.info),)
        if len(pieces) > limit.most:
            raise limit.refusal(self.where)
        for piece in pieces:
            if piece.offset + piece.size > len(files[piece.path]):
                raise BadInput(
                    f"bytes {piece.offset:#x}-{piece.offset + piece.size - 1:#x} are not in the file",
                    where=str(piece.path),
                    fix=f"it ends at {len(files[piece.path]):#x}",
                )
        self._pieces, self._files = tuple(pieces), files

    def frame_runs(self, fmt: Format) -> FrameRuns:
        """The frames of the RAM that may hold tables of that format."""
        found = (
            whole_frames(self._files[piece.path], piece.offset, piece.pa, piece.size, fmt) for piece in self._pieces
        )
        return FrameRuns(fmt, chain.from_iterable(found))


def _whole(path: Path, size: int, info: VmCoreInfo | None) -> Piece:
    """The file as one piece, where RAM begins on QEMU's machine of that architecture."""
    fix = "say what lies where, as QEMU's info mtree -f does: --ram 0:0:2G --ram 4G:2G"
    if info is None:
        raise BadInput("neither a dump nor RAM with a VMCOREINFO note in it", where=str(path), fix=fix)
    machine = tables_port(info.arch)
    start = machine.ram_start
    if machine.ram_has_hole and size > FIRST_HOLE:
        raise BadInput(f"where its {size:#x} bytes of RAM lie is not known: there is a hole", where=str(path), fix=fix)
    return Piece(path, start, 0, size)


def _mapped(path: Path) -> mmap.mmap:
    try:
        with open_regular(path) as file:
            if file.seek(0, 2) == 0:
                raise BadInput("empty file", where=str(path))
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise BadInput(error.strerror or str(error), where=str(path)) from None
