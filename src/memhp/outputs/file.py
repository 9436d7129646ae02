"""The one writer of output files: whole or not at all, and nothing of the user's becomes something else by it.

A regular file is replaced at once by a draft that was written beside it under a name that nobody can foresee, with the
mode, owner and extended attributes of the file before. Anything else (a device, a pipe, a socket, an open file of
this process) is written to. See :mod:`memhp.outputs.check` for what is refused beforehand.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
import os
import secrets
import stat
import sys
from contextlib import suppress
from pathlib import Path

from memhp.errors import BadInput
from memhp.outputs.ending_signals import uninterrupted
from memhp.outputs.place import Place, place_of
from memhp.outputs.whole import write_all

_CANNOT_REPLACE = frozenset({errno.EACCES, errno.EPERM, errno.EBUSY, errno.EXDEV, errno.EROFS})
"""Why a folder can refuse a draft, or a new owner, though the file in it can be written."""


def write_file(path: Path, text: str) -> None:
    """Write text as UTF-8 to where `path` leads. Raises :class:`BadInput` when it cannot be written.

    BrokenPipeError: the reader of a pipe went away.
    """
    data = text.encode("utf-8", "surrogateescape")
    place = place_of(path)
    try:
        if place.replaced:
            _replace(place, data)
        else:
            _write_through(place, data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise BadInput(f"cannot write: {error.strerror}", where=str(path)) from None


def _write_through(place: Place, data: bytes) -> None:
    """Write to what is there and stays what it is; to a pipe once somebody reads it, as for any writer."""
    if place.descriptor is None:
        fd = os.open(place.target, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
    else:
        sys.stdout.flush()
        fd = os.dup(place.descriptor)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def _replace(place: Place, data: bytes) -> None:
    folder, name = place.target.parent, place.target.name
    within = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    draft = f".{name[:40]}.{secrets.token_hex(8)}"
    try:
        _write_draft(within, draft, place, data)
        os.replace(draft, name, src_dir_fd=within, dst_dir_fd=within)
    except FileExistsError:
        raise
    except OSError as error:
        _remove(draft, within)
        if place.status is None or error.errno not in _CANNOT_REPLACE:
            raise
        _write_over(place.target, data)
    except BaseException:
        _remove(draft, within)
        raise
    finally:
        os.close(within)


def _remove(draft: str, within: int) -> None:
    with uninterrupted(), suppress(FileNotFoundError):
        os.unlink(draft, dir_fd=within)


def _write_draft(within: int, draft: str, place: Place, data: bytes) -> None:
    """Make a file with the data and, where it is to take another's place, with all that the other has."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(draft, flags, 0o666 if place.status is None else 0o600, dir_fd=within)
    try:
        if place.status is not None:
            _take_after(fd, place.target, place.status)
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def _take_after(fd: int, target: Path, before: os.stat_result) -> None:
    """Owner, mode and extended attributes (access lists among them) of the file before."""
    if (before.st_uid, before.st_gid) != (os.fstat(fd).st_uid, os.fstat(fd).st_gid):
        os.fchown(fd, before.st_uid, before.st_gid)
    os.fchmod(fd, stat.S_IMODE(before.st_mode))
    with suppress(OSError):
        for name in os.listxattr(target):
            with suppress(OSError):
                os.setxattr(fd, name, os.getxattr(target, name))


def _write_over(target: Path, data: bytes) -> None:
    """Write into the file that is there: where its folder takes no other file, or nobody else may own one there.

    Room is taken first, so that a full disk leaves the file as it is.
    """
    fd = os.open(target, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with uninterrupted():
            _make_room(fd, len(data))
            write_all(fd, data)
            os.ftruncate(fd, len(data))
    finally:
        os.close(fd)


def _make_room(fd: int, size: int) -> None:
    """Raise OSError, the file being as before, when so many bytes have no room in it."""
    before = os.fstat(fd).st_size
    if not size:
        return
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError:
        os.ftruncate(fd, before)
        raise
