"""The messages between kernel and file server: ``include/uapi/linux/fuse.h``, protocol 7.31 and what came later.

Native byte order throughout, as both ends are on one machine.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
import stat
from enum import IntEnum, IntFlag
from struct import Struct
from typing import NamedTuple

ROOT = 1
"""``FUSE_ROOT_ID``: the node of the root folder."""
MAJOR, MINOR = 7, 31
LEAST_MINOR = 23
"""The oldest protocol whose messages have the form that they have here (Linux 3.15)."""

MOST_READ = 1 << 17
BUFFER = MOST_READ + (1 << 13)
"""Bytes of the longest message that the kernel sends, with its head."""


class Op(IntEnum):
    """``enum fuse_opcode``: those that a tree of computed files has to answer."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    INTERRUPT = 36
    DESTROY = 38
    POLL = 40
    BATCH_FORGET = 42
    READDIRPLUS = 44
    LSEEK = 46


REFUSED = {35: errno.EACCES, **dict.fromkeys((6, 8, 9, 10, 11, 12, 13, 45), errno.EPERM)}
"""``FUSE_CREATE``, and what else would change which files there are, with what sysfs says to it."""


class Notify(IntEnum):
    """``enum fuse_notify_code``: what the server tells the kernel unasked, as a negative error."""

    POLL = 1
    INVAL_INODE = 2
    STORE = 4


class InitFlag(IntFlag):
    """Flags of ``FUSE_INIT``."""

    BIG_WRITES = 1 << 5
    ATOMIC_O_TRUNC = 1 << 3
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    NO_OPENDIR_SUPPORT = 1 << 24


class OpenFlag(IntFlag):
    """``FOPEN_*``: how the kernel is to treat an open file."""

    DIRECT_IO = 1 << 0
    NONSEEKABLE = 1 << 2
    STREAM = 1 << 4


POLL_SCHEDULE_NOTIFY = 1
FATTR_MODE, FATTR_UID, FATTR_GID = 1, 2, 4

HEAD = Struct("=IIQQIIIHH")
"""``struct fuse_in_header``: len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding."""
OUT = Struct("=IiQ")
"""``struct fuse_out_header``: len, error, unique."""
INIT_IN = Struct("=IIII")
INIT_OUT = Struct("=IIIIHHIIHHI28x")
ATTR = Struct("=QQQQQQIIIIIIIIII")
"""``struct fuse_attr``: ino, size, blocks, times, their nanoseconds, mode, nlink, uid, gid, rdev, blksize, flags."""
ENTRY_OUT = Struct("=QQQQII")
"""``struct fuse_entry_out`` without its attributes: nodeid, generation, how long entry and attributes are valid."""
ATTR_OUT = Struct("=QII")
OPEN_IN = Struct("=II")
OPEN_OUT = Struct("=QIi")
READ_IN = Struct("=QQIIQII")
WRITE_OUT = Struct("=II")
SETATTR_IN = Struct("=IIQQ")
RELEASE_IN = Struct("=QI")
POLL_IN = Struct("=QQII")
POLL_OUT = Struct("=II")
LSEEK_IN = Struct("=QQII")
LSEEK_OUT = Struct("=Q")
FORGET_IN = Struct("=Q")
BATCH_FORGET_IN = Struct("=II")
FORGET_ONE = Struct("=QQ")
INTERRUPT_IN = Struct("=Q")
DIRENT = Struct("=QQII")
NO_ENTRY = bytes(ENTRY_OUT.size + ATTR.size)
"""``struct fuse_entry_out`` of what the kernel is to look up itself once somebody wants it, as of ``.`` and ``..``."""
NAME_OFFSET_PLUS = len(NO_ENTRY) + DIRENT.size
"""``FUSE_NAME_OFFSET_DIRENTPLUS``."""
STATFS_OUT = Struct("=QQQQQIII4x24x")
NOTIFY_POLL = Struct("=Q")
NOTIFY_STORE = Struct("=QQII")
"""Node, where in the file, how much of it; what is to stand there follows."""
NOTIFY_INVAL_INODE = Struct("=Qqq")
"""Node, where in the file, how much of it; from -1 on nothing of it, only the attributes."""

FOR_LONG = 1 << 30
"""Seconds that the kernel may keep what does not change."""


class Request(NamedTuple):
    """A message of the kernel: what it wants, of which node, for which process, and the rest of its bytes."""

    op: int
    unique: int
    node: int
    pid: int
    body: memoryview


def parse(message: memoryview) -> Request:
    """A message taken apart. Raises struct.error for one that is cut off, which no kernel sends."""
    _, op, unique, node, _, _, pid, extra, _ = HEAD.unpack_from(message)
    end = len(message) - 8 * extra
    return Request(op, unique, node, pid, message[HEAD.size : end])


def answer(unique: int, body: bytes = b"", *, error: int = 0) -> bytes:
    """The answer to a message; `error` is a positive errno."""
    return OUT.pack(OUT.size + len(body), -error, unique) + body


def notice(code: Notify, body: bytes) -> bytes:
    """Something that the kernel is told unasked."""
    return OUT.pack(OUT.size + len(body), code, 0) + body


def attributes(
    node: int, mode: int, size: int, links: int, owner: tuple[int, int], changed: int = 0, device: int = 0
) -> bytes:
    """``struct fuse_attr`` of a file without times, but for when it was `changed`, in seconds; `device` is ``rdev``."""
    return ATTR.pack(node, size, 0, 0, changed, 0, 0, 0, 0, mode, links, *owner, device, ATTRIBUTE_BLOCK, 0)


ATTRIBUTE_BLOCK = 4096


def dirent(node: int, offset: int, mode: int, name: bytes) -> bytes:
    """``struct fuse_dirent``, filled up to eight bytes: `offset` is where the next one begins."""
    text = DIRENT.pack(node, offset, len(name), stat.S_IFMT(mode) >> 12) + name
    return text + bytes(-len(text) % 8)
