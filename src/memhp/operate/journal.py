"""The journal of a plan that is carried out: a record before each write to a block and one after, on the disk first.

Records have one size and a checksum, and room for all of them is taken before anything is done, so that a full disk
shows then and not in between. What a crash cut off does not count; recovery reads the same records as any later run.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from memhp.errors import BadInput

RECORD = 512
"""Bytes of a record: a sector, which disks write whole or not at all."""
LONGEST = 150
"""Characters of a result that any record has room for, each written as two bytes at most."""
SUFFIX = ".journal"

Event = Literal["start", "begin", "end", "undo", "undone", "stop", "done", "rolled-back", "abandoned", "rebooted"]
FINAL = frozenset({"done", "rolled-back", "abandoned", "rebooted"})
"""What nothing follows; ``abandoned``: left as it stood; ``rebooted``: the machine has booted since, and what was done
to its blocks is gone.
"""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record. `step` counts from 0; `result` is ``ok``, an errno, or why it stopped."""

    event: Event
    plan: str = ""
    boot: str = ""
    """Of the start: which boot of the machine the plan is for."""
    step: int = -1
    result: str = ""


class Journal:
    """An open journal. To be closed."""

    def __init__(self, path: Path, fd: int, entries: list[Entry]) -> None:
        self.path = path
        self.entries = entries
        self._fd = fd

    @classmethod
    def create(cls, path: Path, plan: str, records: int, boot: str = "") -> "Journal":
        """A new journal with room for so many records. Raises :class:`BadInput` where it cannot be kept."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _refusal(path, error) from error
        journal = cls(path, fd, [])
        try:
            journal.reserve(records + 1)
            journal.add(Entry(event="start", plan=plan, boot=boot))
            _sync_folder(path.parent)
        except BaseException:
            journal.close()
            path.unlink(missing_ok=True)
            raise
        return journal

    @classmethod
    def open(cls, path: Path) -> "Journal":
        """A journal that is there, with the records that are whole. Raises :class:`BadInput`."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _refusal(path, error) from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise BadInput("is no journal: no regular file", where=str(path), fix="remove it, or --journal")
        return cls(path, fd, list(_entries(fd)))

    @property
    def plan(self) -> str:
        """The plan that it is of; "" for one that a crash ended before anything was done."""
        return self.entries[0].plan if self.entries else ""

    @property
    def boot(self) -> str:
        """Which boot of the machine it is for; "" where the machine does not tell."""
        return self.entries[0].boot if self.entries else ""

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self.entries or self.entries[-1].event in FINAL

    def reserve(self, records: int) -> None:
        """Take room on the disk for so many records more. Raises :class:`BadInput` where there is none."""
        try:
            os.posix_fallocate(self._fd, len(self.entries) * RECORD, records * RECORD)
            os.fsync(self._fd)
        except OSError as error:
            raise _refusal(self.path, error) from error

    def add(self, entry: Entry) -> None:
        """Write a record and wait until it is on the disk. Raises :class:`BadInput` where it cannot be written."""
        line = _line(entry)
        if len(line) >= RECORD:
            line = _line(msgspec.structs.replace(entry, result=ascii(entry.result)[:LONGEST]))
        try:
            os.pwrite(self._fd, line.ljust(RECORD - 1) + b"\n", len(self.entries) * RECORD)
            os.fdatasync(self._fd)
        except OSError as error:
            raise _refusal(self.path, error) from error
        self.entries.append(entry)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _line(entry: Entry) -> bytes:
    body = msgspec.json.encode(entry)
    return b"%08x %s" % (zlib.crc32(body), body)


def _entries(fd: int) -> Iterator[Entry]:
    """The records up to the first that is not whole."""
    at = 0
    while len(record := os.pread(fd, RECORD, at)) == RECORD:
        checksum, _, body = record.rstrip().partition(b" ")
        if checksum != b"%08x" % zlib.crc32(body) or not body:
            return
        try:
            yield msgspec.json.decode(body, type=Entry)
        except msgspec.DecodeError:
            return
        at += RECORD


def unfinished(folder: Path) -> list[Path]:
    """The journals in a folder of plans that were begun and are not over."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        journal = Journal.open(path)
        if not journal.finished:
            found.append(path)
        journal.close()
    return found


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _refusal(path: Path, error: OSError) -> BadInput:
    return BadInput(f"cannot keep the journal: {error.strerror}", where=str(path), fix="name another folder: --journal")
