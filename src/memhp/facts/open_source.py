"""What machine a path holds: a live host, a sysroot tree, a capture, or what a bug report carries.

:func:`open_source` finds out which one a path is:

- ``/``: the machine that this runs on.
- a *sysroot*: a folder that holds ``sys/devices/system/memory``, such as the one that :mod:`memhp.facts.sysroot`
  writes; the same inside a tar archive.
- a *capture step*: a folder of flat files, ``proc_iomem``, ``sys_memory.tsv`` and so on (:mod:`memhp.facts.capture`).
- a *capture*: a folder of such steps, or a tar archive of them; ``CAPTURE/STEP`` names one, else the first is taken.
- a *report*: what a bug report carries (:mod:`memhp.facts.bug_report`): a sosreport, folder or tar archive; a file with
  the kernel log; a file with what ``lsmem`` printed.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from memhp.errors import BadInput
from memhp.facts import capture, dmesg
from memhp.facts.archive import read_archive
from memhp.facts.bug_report import is_wanted, of_sos, of_text, top_of, wanted_files
from memhp.facts.source import (
    BEGINNING,
    SOS_MARK,
    SYS_MEMORY,
    FileSource,
    Source,
    TreeSource,
    decoded,
    names_in,
    natural_order,
)
from memhp.inputs import read_file
from memhp.limits import CAPTURE_STEPS, FILE_SIZE

_SYSROOT = re.compile(r"(?:.+?/)?((?:sys/devices|sys/module|proc|var/log)/.+)")
_TAR = re.compile(r".+\.tar(\.(xz|gz|bz2))?|.+\.t[gx]z")


def is_archive(path: Path) -> bool:
    """Whether a file is a tar archive, by its name."""
    return _TAR.fullmatch(path.name) is not None


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
            file: (decoded(data, f"{name}/{file}", file), f"{name}/{file}")
            for file, data in self.steps[step]().items()
            if capture.is_read(file)
        }
        whole = BEGINNING in flat.get("dmesg", ("", ""))[0]
        log = None if whole else self._boot_log(flat.get("proc_cmdline", ("", ""))[0].strip())
        return FileSource(name, "capture", capture.expand(flat), step=step, boot_log=log)

    def _boot_log(self, cmdline: str) -> str | None:
        """The log of another step, if it tells of a boot with the same command line."""
        for step, read in self.steps.items():
            log = decoded(read().get("dmesg", b""), f"{self.name}/{step}/dmesg", "dmesg")
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
    if not is_archive(archive):
        return _read_report(archive), None
    return _read_archive(archive), str(path.relative_to(archive)) if path != archive else None


def _find_folder(path: Path) -> tuple[Source | _Capture, str | None]:
    if path.resolve() == Path("/"):
        return TreeSource(path, "live"), None
    if (path / SOS_MARK).is_dir():
        return _sosreport(path), None
    if (path / SYS_MEMORY.lstrip("/")).is_dir():
        return TreeSource(path, "sysroot"), None
    if capture.is_step(names_in(path)):
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


def _step_folders(path: Path) -> dict[str, Callable[[], Mapping[str, bytes]]]:
    names = {file.parent.name for mark in capture.MARKS for file in path.glob(f"*/{mark}")}
    if len(names) > CAPTURE_STEPS.most:
        raise CAPTURE_STEPS.refusal(str(path))
    return {name: partial(_read_folder, path / name) for name in natural_order(names)}


def _read_folder(path: Path) -> Mapping[str, bytes]:
    return {file.name: read_file(file, FILE_SIZE) for file in path.iterdir() if capture.is_read(file.name)}


def _read_archive(path: Path) -> Source | _Capture:
    """The capture, or the sysroot, inside a tar archive. Folders around either do not matter."""
    members = read_archive(path, _is_wanted)
    top = top_of(members)
    if top is not None:
        named = {name.removeprefix(top): name for name in members if name.startswith(top)}
        wanted = {own: _member(path, name, members) for own, name in named.items() if is_wanted(own)}
        return FileSource(str(path), "report", of_sos(wanted))
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
    inside = member.partition("/")[2]
    return bool(
        capture.is_read(PurePosixPath(member).name)
        or _SYSROOT.fullmatch(member)
        or is_wanted(member)
        or is_wanted(inside)
    )


def _read_report(path: Path) -> Source:
    """A file that a bug report may carry: a kernel log, or what lsmem printed."""
    try:
        data = read_file(path, FILE_SIZE) if path.is_file() else b"\0"
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", where=str(path)) from error
    files = None if b"\0" in data[:4096] else of_text(data.decode("utf-8", "replace"), str(path))
    if files is None:
        raise BadInput(
            "is a file, not a machine",
            where=str(path),
            fix="give a folder, a .tar.xz of one, a kernel log, or what lsmem printed with its headings",
        )
    return FileSource(str(path), "report", files)


def _sosreport(path: Path) -> Source:
    found = {
        name: capture.File(decoded(read_file(file, FILE_SIZE), str(file), name), str(file))
        for name, file in wanted_files(path).items()
    }
    return FileSource(str(path), "report", of_sos(found))


def _member(path: Path, name: str, members: Mapping[str, bytes]) -> capture.File:
    return capture.File(decoded(members[name], f"{path}/{name}", name), f"{path}/{name}")
