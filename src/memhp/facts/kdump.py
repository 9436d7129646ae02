"""makedumpfile's compressed dumps (``KDUMP   ``, flattened or not), read through drgn and its libkdumpfile.

Needs the extra ``drgn``; no debug information of the kernel. Source: makedumpfile's IMPLEMENTATION, "kdump-compressed".
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from memhp.errors import BadInput
from memhp.facts.vmcoreinfo import VmCoreInfo, parse_vmcoreinfo
from memhp.hw.format import U64
from memhp.hw.reader import MissingTables

SIGNATURES = (b"KDUMP   ", b"DISKDUMP", b"makedumpfile\0")
"""How such files begin; the last is the flattened form that goes through pipes."""


class Kdump:
    """A :class:`~memhp.hw.reader.TableReader` of a compressed dump. Raises BadInput without drgn, or if it cannot."""

    def __init__(self, path: Path | str) -> None:
        self.where = str(path)
        try:
            self._drgn: Any = import_module("drgn")
        except ImportError:
            raise BadInput(
                "a dump that makedumpfile compressed: reading it needs drgn",
                where=self.where,
                fix="pip install 'memhp[drgn]', or make an ELF dump: makedumpfile -E",
            ) from None
        self._program = self._drgn.Program()
        try:
            self._program.set_core_dump(self.where)
            text = self._program["VMCOREINFO"].string_()
        except Exception as error:
            # libkdumpfile's complaints come as plain Exception.
            raise BadInput(f"drgn cannot read it: {error}", where=self.where, fix="copy the dump whole") from None
        self.info: VmCoreInfo = parse_vmcoreinfo(text, where=self.where)
        self.page_size = self.info.page_size

    def tables(self, pfns: U64) -> U64:
        """Whole frames, shape ``[n, page_size // 8]``. Raises MissingTables for those that were left out."""
        frames, missing = [], []
        for pfn in pfns.tolist():
            try:
                frames.append(self._program.read(pfn * self.page_size, self.page_size, True))
            except (self._drgn.FaultError, ValueError, OSError):
                missing.append(pfn)
        if missing:
            raise MissingTables(missing)
        return np.frombuffer(b"".join(frames), dtype="<u8").reshape(pfns.size, -1)
