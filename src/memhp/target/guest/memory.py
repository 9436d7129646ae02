"""The physical memory of a running guest, read from the files that hold it, while it runs.

QEMU says which part of which file is at which physical address (``info mtree -f``); the kernel says where its
VMCOREINFO note is (``/sys/kernel/vmcoreinfo``). A frame in memory that is not in such a file is missing, never zero.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import re
from typing import NamedTuple

import numpy as np

from memhp.errors import BadInput
from memhp.facts.elfcore import headers_of
from memhp.facts.vmcoreinfo import VmCoreInfo, parse_vmcoreinfo
from memhp.hw.format import U64
from memhp.hw.reader import MissingTables
from memhp.linux.arch.registry import port
from memhp.linux.port import Root
from memhp.target.guest.guest import Guest

_RAM = re.compile(r" +([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, ram\): (\S+)(?: @([0-9a-f]{16}))?.*")
_VIEW = "FlatView #"
_SYSTEM = re.compile(r' Root memory region: system| AS "memory", root: system')
"""The view of all physical memory; where it is one region alone, that is its root."""
_NOTE = headers_of("<").note


class Piece(NamedTuple):
    """A run of physical memory, bytes ``[start, end)``, and where it is: a file and an offset in it."""

    start: int
    end: int
    fd: int
    offset: int


def pieces(mtree: str, files: dict[str, int]) -> tuple[Piece, ...]:
    """Where each run of RAM is, from QEMU's flat view of the whole system; RAM of no known file is left out."""
    found = set()
    system = False
    for line in mtree.splitlines():
        if line.startswith(_VIEW):
            system = False
        system |= _SYSTEM.fullmatch(line.rstrip()) is not None
        match = _RAM.fullmatch(line.rstrip())
        if match and system and match[3] in files:
            start, end = int(match[1], 16), int(match[2], 16) + 1
            found.add(Piece(start, end, files[match[3]], int(match[4] or "0", 16)))
    return tuple(sorted(found))


class GuestMemory:
    """A :class:`~memhp.hw.reader.TableReader` of a guest. Raises :class:`BadInput` where it has no VMCOREINFO."""

    def __init__(self, guest: Guest) -> None:
        mtree = guest.monitor.execute("human-monitor-command", command_line="info mtree -f")
        self.pieces = pieces(mtree, guest.shared)
        self.noted = self._noted(guest)
        """The text of the kernel's own notes."""
        self.info: VmCoreInfo = parse_vmcoreinfo(self.noted, where=f"guest {guest.release}")

    def root(self) -> Root:
        """The kernel's page tables."""
        return port(self.info.arch).read_root(self.info.root(), self)

    def read(self, start: int, size: int) -> bytes | None:
        """Bytes of physical memory; None for what is in no file, or in more than one piece."""
        for piece in self.pieces:
            if piece.start <= start and start + size <= piece.end:
                return os.pread(piece.fd, size, piece.offset + start - piece.start)
        return None

    def tables(self, pfns: U64) -> U64:
        """Whole frames, shape ``[n, page_size // 8]``. Raises :class:`MissingTables`."""
        size = self.info.page_size
        frames = [self.read(pfn * size, size) for pfn in pfns.tolist()]
        missing = [pfn for pfn, frame in zip(pfns.tolist(), frames, strict=True) if frame is None]
        if missing:
            raise MissingTables(missing)
        return np.frombuffer(b"".join(frame or b"" for frame in frames), dtype="<u8").reshape(pfns.size, -1)

    def _noted(self, guest: Guest) -> bytes:
        words = guest.agent.run("cat /sys/kernel/vmcoreinfo").text.split()
        note = self.read(int(words[0], 16), int(words[1], 16)) if len(words) == 2 else None
        if note is None:
            raise BadInput(
                "the kernel shows no /sys/kernel/vmcoreinfo", where="page tables", fix="CONFIG_VMCORE_INFO=y"
            )
        name_size, text_size, _ = _NOTE.unpack_from(note)
        start = _NOTE.size + (name_size + 3 & ~3)
        return note[start : start + text_size]
