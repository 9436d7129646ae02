"""``/proc/kcore``: the memory of the kernel that runs here, as an ELF core that grows while one looks.

Only segments of RAM and of the kernel image have a physical address (``fs/proc/kcore.c:read_kcore_iter``); the
others, which stand for mappings, are passed over. Nothing holds the kernel still: a table that is freed while one walks
may show anything, as with every reader of a live kernel.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import weakref
from pathlib import Path

from memhp.errors import BadInput
from memhp.facts.elfcore import ElfCore, Load
from memhp.hw.format import U64
from memhp.hw.reader import MissingTables
from memhp.limits import KCORE_HEADERS

NO_ADDRESS = (1 << 64) - 1
"""``p_paddr`` of a segment that is no RAM."""


class Kcore(ElfCore):
    """A :class:`~memhp.hw.reader.TableReader` of a live kernel. Raises BadInput as a core file does."""

    live = True

    def __init__(self, path: Path | str) -> None:
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            raise BadInput("not allowed", where=str(path), fix="read it as root; lockdown forbids it to all") from None
        except OSError as error:
            raise BadInput(error.strerror or str(error), where=str(path)) from None
        weakref.finalize(self, os.close, self._fd)
        super().__init__(path)
        self.fmt = self.info.root().fmt

    def contents(self, path: Path) -> bytes:
        """The headers and notes, which stand at the beginning."""
        pieces, size = [], 0
        while size < KCORE_HEADERS.most:
            piece = os.pread(self._fd, min(1 << 20, KCORE_HEADERS.most - size), size)
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)

    def usable(self, load: Load) -> bool:
        """Whether a segment is RAM."""
        return load.pa != NO_ADDRESS

    def tables(self, pfns: U64) -> U64:
        """Whole frames, shape ``[n, fmt.frame_entries]``. Raises MissingTables for those that are no RAM."""
        size = 1 << self.fmt.table_shift
        frames = [self._frame(pfn * size, size) for pfn in pfns.tolist()]
        missing = [pfn for pfn, frame in zip(pfns.tolist(), frames, strict=True) if len(frame) != size]
        if missing:
            raise MissingTables(missing)
        return self.fmt.rows(b"".join(frames))

    def _frame(self, pa: int, size: int) -> bytes:
        for load in self.loads:
            if load.pa <= pa and pa + size <= load.pa + load.size:
                try:
                    return os.pread(self._fd, size, load.offset + pa - load.pa)
                except OSError:
                    continue
        return b""
