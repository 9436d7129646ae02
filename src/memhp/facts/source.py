"""Files under Linux's own absolute paths, wherever they are kept: a live host, a tree, or files in memory.

:mod:`memhp.facts.open_source` finds out which one a path is.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from memhp.errors import BadInput
from memhp.facts import capture
from memhp.facts.host_files import LONG, attribute, kernel_log
from memhp.inputs import read_file
from memhp.limits import FILE_SIZE

Kind = Literal["live", "sysroot", "capture", "report"]

SYS_MEMORY = "/sys/devices/system/memory"
SYS_NODE = "/sys/devices/system/node"
ACPI_DEVICES = "/sys/bus/acpi/devices"
ACPI_MEMORY = "PNP0C80"
"""ACPI's id of memory devices: DIMMs are ``PNP0C80:00`` and so on."""
OSRELEASE = "/proc/sys/kernel/osrelease"
DMESG = "/var/log/dmesg"
"""Where a sysroot keeps the kernel log; a live host is asked for its own (``/dev/kmsg``)."""

SOS_MARK = "sos_commands"
"""The folder that every sosreport has at its top."""

BEGINNING = "Linux version "
"""What a kernel log begins with, unless so much was printed that its buffer lost it."""


class Source(ABC):
    """One machine at one moment. Paths are Linux's own, absolute."""

    def __init__(self, name: str, kind: Kind, step: str | None = None) -> None:
        self.name = name
        self.kind: Kind = kind
        self.step = step

    @abstractmethod
    def get(self, path: str) -> str | None:
        """The text of a file, or None where it does not exist or cannot be read. Empty files have an empty text."""

    @abstractmethod
    def listdir(self, path: str) -> tuple[str, ...]:
        """The names in a folder, numbers in their natural order; none where there is no such folder."""

    def entries(self, path: str) -> Iterable[str]:
        """The names in a folder in any order, for folders with many."""
        return self.listdir(path)

    @abstractmethod
    def where(self, path: str) -> str:
        """The file behind a path, as errors name it."""

    def rows(self, folder: str, entries: Iterable[str], files: Sequence[str]) -> Iterator[tuple[str | None, ...]]:
        """The texts of the same files in each of many folders of a folder, as :meth:`get` has them."""
        return (tuple(self.get(f"{folder}/{entry}/{file}") for file in files) for entry in entries)

    def read(self, path: str) -> str:
        """The text of a file that must be there. Raises :class:`BadInput` where it is missing or empty."""
        text = self.get(path)
        if text is None:
            raise BadInput("is not there", where=self.where(path), fix=self._advice(path))
        if not text:
            raise BadInput("is empty", where=self.where(path), fix=self._advice(path))
        return text

    def number(self, path: str, *, base: int = 0) -> int | None:
        """The number in a file, None where it cannot be read. Raises :class:`BadInput` for anything else in it."""
        text = self.get(path)
        if text is None:
            return None
        try:
            return int(text, base)
        except ValueError as error:
            kind = "hexadecimal number" if base == 16 else "number"
            raise BadInput(f"want a {kind}, got {text.strip()!r}", where=self.where(path)) from error

    def choice(self, path: str, values: Iterable[str]) -> str | None:
        """The word in a file, None where it cannot be read. Raises :class:`BadInput` for one not among `values`."""
        text = self.get(path)
        if text is not None and text.strip() not in values:
            raise BadInput(f"want one of {', '.join(values)}, got {text.strip()!r}", where=self.where(path))
        return None if text is None else text.strip()

    def boot_log(self) -> str | None:
        """The kernel log that tells of this machine's boot, where there is one.

        For a capture step without its own log this is the log of another step of the same capture, as its steps are
        moments of one boot: it may tell of later moments too.
        """
        return self.get(DMESG)

    def _advice(self, path: str) -> str:
        if self.kind == "live":
            return "read it as root, on a kernel built with CONFIG_MEMORY_HOTPLUG"
        if self.kind == "sysroot":
            return f"copy {path} from the machine into this tree"
        if self.kind == "report":
            return "take the report again, as root"
        return f"take the capture again, with {path}"


class TreeSource(Source):
    """Files under a root folder: a sysroot, or with ``/`` the live host."""

    def __init__(self, root: Path, kind: Kind) -> None:
        super().__init__("this machine" if kind == "live" else str(root), kind)
        self.root = root

    def get(self, path: str) -> str | None:
        """The text of a file, or None where it does not exist, cannot be read, or is a folder."""
        if path == DMESG and self.kind == "live":
            return kernel_log()
        file = self.root / path.lstrip("/")
        if file.is_dir():
            return None
        try:
            return decoded(read_file(file, FILE_SIZE), self.where(path), path)
        except OSError:
            return None

    def listdir(self, path: str) -> tuple[str, ...]:
        """The names in a folder, none where there is no such folder."""
        try:
            return natural_order(names_in(self.root / path.lstrip("/")))
        except OSError:
            return ()

    def entries(self, path: str) -> Iterable[str]:
        """The names in a folder, in any order."""
        try:
            return names_in(self.root / path.lstrip("/"))
        except OSError:
            return ()

    def rows(self, folder: str, entries: Iterable[str], files: Sequence[str]) -> Iterator[tuple[str | None, ...]]:
        """The texts of the same small files in each of many folders, with three system calls a file."""
        try:
            within = os.open(self.root / folder.lstrip("/"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            yield from super().rows(folder, entries, files)
            return
        try:
            for entry in entries:
                row = [attribute(within, f"{entry}/{file}") for file in files]
                yield tuple(self.get(f"{folder}/{entry}/{file}") if text is LONG else text
                            for file, text in zip(files, row, strict=True))  # fmt: skip
        finally:
            os.close(within)

    def where(self, path: str) -> str:
        """The path on this machine."""
        return path if self.kind == "live" else str(self.root / path.lstrip("/"))


class FileSource(Source):
    """Files held in memory: what was read from a capture step or an archive."""

    def __init__(
        self,
        name: str,
        kind: Kind,
        files: Mapping[str, capture.File],
        *,
        step: str | None = None,
        boot_log: str | None = None,
    ) -> None:
        super().__init__(name, kind, step)
        self._files = files
        self._boot_log = boot_log
        self._folders: dict[str, set[str]] = {}
        for path in files:
            at = PurePosixPath(path)
            while at.parent != at and at.name not in self._folders.setdefault(str(at.parent), set()):
                self._folders[str(at.parent)].add(at.name)
                at = at.parent

    def get(self, path: str) -> str | None:
        """The text of a file, or None where the capture or archive has no such file."""
        file = self._files.get(path)
        return None if file is None else file.text

    def listdir(self, path: str) -> tuple[str, ...]:
        """The names in a folder, none where there is no such folder."""
        return natural_order(self._folders.get(path.rstrip("/") or "/", ()))

    def where(self, path: str) -> str:
        """The flat file of the capture, with its line where it is a table; or the archive's member."""
        file = self._files.get(path)
        if file is not None:
            return file.where
        return f"{self.name}/{capture.file_of(path)}" if self.kind == "capture" else f"{self.name}{path}"

    def boot_log(self) -> str | None:
        """The step's own log if it has its beginning, or another step's."""
        return self._boot_log or self.get(DMESG)


def names_in(folder: Path) -> list[str]:
    """The names in a folder."""
    return os.listdir(folder)  # noqa: PTH208 (of Path objects there would be one for each of many thousand names)


def decoded(data: bytes, where: str, path: str) -> str:
    """The text of a file. Only the kernel log may hold other bytes than UTF-8: drivers print what devices say."""
    if path.endswith("dmesg"):
        return data.decode("utf-8", "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput("is not text", where=f"{where}:{line}", fix="take it again from the machine") from error


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names with the numbers in them in numeric order: memory2 before memory10 (``versionsort``)."""
    return tuple(sorted(names, key=lambda name: [_magnitude(part) for part in re.split(r"(\d+)", name)]))


def _magnitude(part: str) -> tuple[int, str]:
    """A key by which digits are in the order of the numbers they write, however many they are."""
    digits = part.lstrip("0") if part.isdecimal() else part
    return (len(digits) if part.isdecimal() else 0, digits)
