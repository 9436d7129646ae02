"""Where facts come from: a live host, a sysroot tree, or a capture; all read under Linux's own absolute paths.

:func:`open_source` finds out which one a path is:

- ``/``: the machine that this runs on.
- a *sysroot*: a folder that holds ``sys/devices/system/memory``, such as the one that :mod:`memhp.facts.sysroot`
  writes; the same inside a tar archive.
- a *capture step*: a folder of flat files, ``proc_iomem``, ``sys_memory.tsv`` and so on (:mod:`memhp.facts.capture`).
- a *capture*: a folder of such steps, or a tar archive of them; ``CAPTURE/STEP`` names one, else the first is taken.
- a *report*: what a bug report carries (:mod:`memhp.facts.report`): a sosreport, folder or tar archive; a file with the
  kernel log; a file with what ``lsmem`` printed.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from memhp.errors import BadInput
from memhp.facts import capture, dmesg
from memhp.facts.live import LONG, attribute, kernel_log
from memhp.inputs import read_file
from memhp.limits import CAPTURE_STEPS, FILE_SIZE

Kind = Literal["live", "sysroot", "capture", "report"]

SYS_MEMORY = "/sys/devices/system/memory"
SYS_NODE = "/sys/devices/system/node"
OSRELEASE = "/proc/sys/kernel/osrelease"
DMESG = "/var/log/dmesg"
"""Where a sysroot keeps the kernel log; a live host is asked for its own (``/dev/kmsg``)."""

SOS_MARK = "sos_commands"
"""The folder that every sosreport has at its top."""

BEGINNING = "Linux version "
"""What a kernel log begins with, unless so much was printed that its buffer lost it."""

_SYSROOT = re.compile(r"(?:.+?/)?((?:sys/devices|sys/module|proc|var/log)/.+)")
_TAR = re.compile(r".+\.tar(\.(xz|gz|bz2))?|.+\.t[gx]z")


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
        """The text of a file, or None where it does not exist or cannot be read."""
        if path == DMESG and self.kind == "live":
            return kernel_log()
        try:
            return _decode(read_file(self.root / path.lstrip("/"), FILE_SIZE), self.where(path), path)
        except OSError:
            return None

    def listdir(self, path: str) -> tuple[str, ...]:
        """The names in a folder, none where there is no such folder."""
        try:
            return natural_order(_names(self.root / path.lstrip("/")))
        except OSError:
            return ()

    def entries(self, path: str) -> Iterable[str]:
        """The names in a folder, in any order."""
        try:
            return _names(self.root / path.lstrip("/"))
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


def open_source(path: str | Path, *, step: str | None = None) -> Source:
    """The machine behind a path; `step` (or the path's last part) names a step of a capture, else the first is taken.

    Raises :class:`BadInput` for a path that is none of a live host, a sysroot, a capture step, a capture, a report or
    an archive of those, for a step that the capture does not have, and for files that are not text or archives cut off.
    """
    found, named = _find(Path(path))
    if isinstance(found, Source):
        if step is not None:
            raise BadInput("is one machine, not a capture with steps", where=str(path), fix="name no step")
        return found
    chosen = step or named or next(iter(found.steps))
    if chosen not in found.steps:
        raise BadInput(f"has no step {chosen!r}", where=found.name, fix=f"one of: {', '.join(found.steps)}")
    return found.source(chosen)


def steps(path: str | Path) -> tuple[str, ...]:
    """The steps of a capture in their order; none for a source that has no steps.

    Raises :class:`BadInput` as :func:`open_source` does.
    """
    found, named = _find(Path(path))
    return () if isinstance(found, Source) or named is not None else tuple(found.steps)


def open_steps(path: str | Path) -> dict[str, Source]:
    """The machine at every step of a capture, in their order, an archive read once; none for what has no steps.

    Raises :class:`BadInput` as :func:`open_source` does.
    """
    found, named = _find(Path(path))
    return {} if isinstance(found, Source) or named is not None else {each: found.source(each) for each in found.steps}


class _Capture(NamedTuple):
    """A capture: for each step, in order, a function that reads its flat files."""

    name: str
    steps: Mapping[str, Callable[[], Mapping[str, bytes]]]

    def source(self, step: str) -> Source:
        name = f"{self.name}/{step}"
        flat = {
            file: (_decode(data, f"{name}/{file}", file), f"{name}/{file}")
            for file, data in self.steps[step]().items()
            if capture.is_read(file)
        }
        whole = BEGINNING in flat.get("dmesg", ("", ""))[0]
        log = None if whole else self._boot_log(flat.get("proc_cmdline", ("", ""))[0].strip())
        return FileSource(name, "capture", capture.expand(flat), step=step, boot_log=log)

    def _boot_log(self, cmdline: str) -> str | None:
        """The log of another step, if it tells of a boot with the same command line."""
        for step, read in self.steps.items():
            log = _decode(read().get("dmesg", b""), f"{self.name}/{step}/dmesg", "dmesg")
            if cmdline and (dmesg.parse(log).command_line or "").strip() == cmdline:
                return log
        return None


def _find(path: Path) -> tuple[Source | _Capture, str | None]:
    """What a path is, and the step that it names."""
    if path.is_dir():
        return _find_folder(path)
    archive = path
    while not archive.exists():
        archive = archive.parent
    if archive.is_dir():
        known = _step_folders(archive)
        raise BadInput("no such file or folder", where=str(path), fix=f"one of: {', '.join(known)}" if known else "")
    if not _TAR.fullmatch(archive.name):
        return _read_report(archive), None
    return _read_archive(archive), str(path.relative_to(archive)) if path != archive else None


def _find_folder(path: Path) -> tuple[Source | _Capture, str | None]:
    if path.resolve() == Path("/"):
        return TreeSource(path, "live"), None
    if (path / SOS_MARK).is_dir():
        return _sosreport(path), None
    if (path / SYS_MEMORY.lstrip("/")).is_dir():
        return TreeSource(path, "sysroot"), None
    if capture.is_step(_names(path)):
        path = path.resolve()
        return _Capture(str(path.parent), _step_folders(path.parent)), path.name
    found = _step_folders(path)
    if not found:
        raise BadInput(
            "holds neither a machine's files nor capture steps",
            where=str(path),
            fix="give /, a tree with sys/devices/system/memory, or a folder with proc_iomem and sys_memory.tsv",
        )
    return _Capture(str(path), found), None


def _names(folder: Path) -> list[str]:
    return os.listdir(folder)  # noqa: PTH208 (of Path objects there would be one for each of many thousand names)


def _step_folders(path: Path) -> dict[str, Callable[[], Mapping[str, bytes]]]:
    names = {file.parent.name for mark in capture.MARKS for file in path.glob(f"*/{mark}")}
    if len(names) > CAPTURE_STEPS.most:
        raise CAPTURE_STEPS.refusal(str(path))
    return {name: partial(_read_folder, path / name) for name in natural_order(names)}


def _read_folder(path: Path) -> Mapping[str, bytes]:
    return {file.name: read_file(file, FILE_SIZE) for file in path.iterdir() if capture.is_read(file.name)}


def _read_archive(path: Path) -> Source | _Capture:
    """The capture, or the sysroot, inside a tar archive. Folders around either do not matter."""
    from memhp.facts.archive import read_archive
    from memhp.facts.report import of_sos, top_of

    members = read_archive(path, _is_wanted)
    top = top_of(members)
    if top is not None:
        named = ((name.removeprefix(top), name) for name in members if name.startswith(top))
        return FileSource(str(path), "report", of_sos({name: _member(path, own, members) for name, own in named}))
    sysroot = [match for match in map(_SYSROOT.fullmatch, members) if match]
    if sysroot:
        return FileSource(str(path), "sysroot", {f"/{match[1]}": _member(path, match[0], members) for match in sysroot})
    folders: dict[PurePosixPath, dict[str, bytes]] = {}
    for name, data in members.items():
        folders.setdefault(PurePosixPath(name).parent, {})[PurePosixPath(name).name] = data
    found = [folder for folder in folders if capture.is_step(folders[folder])]
    if len({folder.parent for folder in found}) != 1:
        count = "more than one capture" if found else "no machine"
        raise BadInput(f"holds {count}", where=str(path), fix="pack one folder of steps with proc_iomem and the rest")
    steps_of = {folder.name or path.name.partition(".tar")[0]: folders[folder] for folder in found}
    return _Capture(str(path), {name: partial(dict, steps_of[name]) for name in natural_order(steps_of)})


def _is_wanted(member: str) -> bool:
    """Whether a file of an archive can be one of a capture, of a sysroot or of a sosreport."""
    from memhp.facts.report import is_wanted

    inside = member.partition("/")[2]
    return bool(
        capture.is_read(PurePosixPath(member).name)
        or _SYSROOT.fullmatch(member)
        or is_wanted(member)
        or is_wanted(inside)
    )


def _read_report(path: Path) -> Source:
    """A file that a bug report may carry: a kernel log, or what lsmem printed."""
    from memhp.facts.report import of_text

    try:
        data = read_file(path, FILE_SIZE) if path.is_file() else b"\0"
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", where=str(path)) from error
    files = None if b"\0" in data[:4096] else of_text(data.decode("utf-8", "replace"), str(path))
    if files is None:
        raise BadInput(
            "is a file, not a machine",
            where=str(path),
            fix="give a folder, a .tar.xz of one, a kernel log, or what lsmem printed",
        )
    return FileSource(str(path), "report", files)


def _sosreport(path: Path) -> Source:
    from memhp.facts.report import of_sos, wanted_files

    found = {
        name: capture.File(_decode(read_file(file, FILE_SIZE), str(file), name), str(file))
        for name, file in wanted_files(path).items()
    }
    return FileSource(str(path), "report", of_sos(found))


def _member(path: Path, name: str, members: Mapping[str, bytes]) -> capture.File:
    return capture.File(_decode(members[name], f"{path}/{name}", name), f"{path}/{name}")


def _decode(data: bytes, where: str, path: str) -> str:
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
