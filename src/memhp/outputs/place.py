"""Where an output goes: an open file of this process, something that is written through, or a file that is replaced."""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from memhp.errors import BadInput

STDOUT = 1
_DESCRIPTOR = re.compile(r"/dev/fd/(\d+)|/proc/(?:self|thread-self|(\d+))/fd/(\d+)")
_STANDARD = {"/dev/stdin": 0, "/dev/stdout": STDOUT, "/dev/stderr": 2}
_MOST_LINKS = 40
"""How many symbolic links the kernel follows (``include/linux/namei.h:MAXSYMLINKS``)."""


@dataclass(frozen=True)
class Place:
    """What stands at an output's path, every symbolic link followed."""

    path: Path
    """As the user wrote it."""
    target: Path
    """What it leads to."""
    descriptor: int | None
    """The open file of this process that it names: ``-``, ``/dev/stdout``, ``/dev/fd/3``."""
    status: os.stat_result | None
    """What is there; None if nothing is."""

    @property
    def replaced(self) -> bool:
        """Whether a file takes this place; else what is there is written to, and stays what it is."""
        return self.descriptor is None and (self.status is None or stat.S_ISREG(self.status.st_mode))

    @property
    def discards(self) -> bool:
        """Whether it is the null device, which any number of outputs may share."""
        status, null = self.status, Path(os.devnull).stat()
        return status is not None and stat.S_ISCHR(status.st_mode) and status.st_rdev == null.st_rdev

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for two paths that lead to one file: device and inode, or the folder's and a name for a new file."""
        if self.status is not None:
            return self.status.st_dev, self.status.st_ino
        folder = self.target.parent.stat()
        return folder.st_dev, folder.st_ino, self.target.name


def place_of(path: Path) -> Place:
    """Where `path` leads. Raises :class:`BadInput` for links in a circle and for what cannot be looked at."""
    try:
        if str(path) == "-":
            return Place(path, path, STDOUT, _status(STDOUT))
        target = _followed(path)
        descriptor = _descriptor(target)
        if descriptor is not None:
            return Place(path, target, descriptor, os.fstat(descriptor))
        try:
            status = target.stat()
        except FileNotFoundError:
            status = None
        return Place(path, target, None, status)
    except OSError as error:
        raise BadInput(f"cannot write: {error.strerror}", where=str(path), fix="name another file") from None
    except (ValueError, OverflowError) as error:
        raise BadInput(f"cannot write: {error}", where=str(path), fix="name another file") from None


def _status(descriptor: int) -> os.stat_result | None:
    try:
        return os.fstat(descriptor)
    except OSError:
        return None


def _followed(path: Path) -> Path:
    """The path with every symbolic link followed, but for those of the kernel that stand for open files."""
    target = path.absolute()
    for _ in range(_MOST_LINKS):
        if _descriptor(target) is not None:
            return target
        target = Path(os.path.realpath(target.parent)) / target.name
        if _descriptor(target) is not None or not target.is_symlink():
            return target
        target = target.parent / target.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _descriptor(target: Path) -> int | None:
    """The open file that a path names, if it is one of this process."""
    if (standard := _STANDARD.get(str(target))) is not None:
        return standard
    match = _DESCRIPTOR.fullmatch(str(target))
    if match is None or (match[2] is not None and int(match[2]) != os.getpid()):
        return None
    return int(match[1] or match[3])
