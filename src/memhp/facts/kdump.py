"""makedumpfile's dumps compressed by LZO, snappy or zstd, flattened or not, read through drgn and its libkdumpfile.

Needs the extra ``drgn``; no debug information of the kernel. The library maps the file and dies of one that is cut off
(SIGBUS), so it reads in a process of its own. Source: makedumpfile's IMPLEMENTATION, "kdump-compressed".
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from functools import partial
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from memhp.errors import BadInput
from memhp.facts.own_process import OwnProcess
from memhp.facts.vmcoreinfo import VmCoreInfo, parse_vmcoreinfo
from memhp.hw.format import U64
from memhp.hw.reader import MissingTables

_ELF = "make another dump of it: makedumpfile -c, or -E"


def drgn_there() -> bool:
    """Whether drgn is installed."""
    try:
        return find_spec("drgn") is not None
    except ValueError:
        return False


class Kdump:
    """A :class:`~memhp.hw.reader.TableReader` of a compressed dump. Raises BadInput without drgn, or if it cannot."""

    def __init__(self, path: Path | str) -> None:
        self.where = str(path)
        if not drgn_there():
            raise BadInput(
                "a dump that LZO, snappy or zstd compressed: reading it needs drgn",
                where=self.where,
                fix=f"pip install 'memhp[drgn]', or {_ELF}",
            )
        self._process = OwnProcess(partial(_serve, self.where), who="drgn", where=self.where)
        error, text = self._process.answer()
        if error:
            raise self._refusal(error)
        self.info: VmCoreInfo = parse_vmcoreinfo(text, where=self.where)
        self.fmt = self.info.root().fmt

    def tables(self, pfns: U64) -> U64:
        """Whole frames, shape ``[n, fmt.frame_entries]``. Raises MissingTables for those that were left out."""
        frames: list[bytes | str] = self._process.ask((pfns.tolist(), 1 << self.fmt.table_shift))
        for error in (frame for frame in frames if isinstance(frame, str)):
            if "nsupported" in error:
                raise self._refusal(error)
        missing = [pfn for pfn, frame in zip(pfns.tolist(), frames, strict=True) if isinstance(frame, str)]
        if missing:
            raise MissingTables(missing)
        return self.fmt.rows(b"".join(frame for frame in frames if isinstance(frame, bytes)))

    def _refusal(self, error: str) -> BadInput:
        """What to say of an error of the library, which knows fewer architectures and page sizes than makedumpfile."""
        if "ARCH_NAME" in error:
            return BadInput("drgn's libkdumpfile does not know its architecture", where=self.where, fix=_ELF)
        if "nsupported" in error:
            return BadInput(f"drgn's libkdumpfile cannot read it: {error}", where=self.where, fix=_ELF)
        return BadInput(f"drgn cannot read it: {error}", where=self.where, fix="copy the dump whole")


def _serve(where: str, line: Connection) -> None:
    """The process of its own: send what the dump notes, then the frames that are asked for; for one that cannot be
    read, what the library complains of.
    """
    drgn: Any = import_module("drgn")
    program = drgn.Program()
    try:
        program.set_core_dump(where)
        line.send(("", program["VMCOREINFO"].string_()))
    except Exception as error:
        # libkdumpfile's complaints come as plain Exception.
        line.send((str(error) or type(error).__name__, b""))
        return
    while True:
        try:
            pfns, size = line.recv()
        except EOFError:
            return
        line.send([_frame(program, drgn, pfn * size, size) for pfn in pfns])


def _frame(program: Any, drgn: Any, pa: int, size: int) -> bytes | str:
    try:
        found: bytes = program.read(pa, size, True)
    except (drgn.FaultError, ValueError, OSError, OverflowError) as error:
        return str(error).removeprefix("could not read memory from kdump: ")
    return found
