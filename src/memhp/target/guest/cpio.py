"""The archive that a kernel unpacks as its first file system: cpio in the ``newc`` form, written without other tools.

Documentation/driver-api/early-userspace/buffer-format.rst of the kernel: a header of eight-digit hexadecimal numbers
after the magic 070701, name and data each padded to four bytes, and an entry ``TRAILER!!!`` at the end.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import stat
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A file, folder or device node; `mode` as in ``stat(2)``, `device` major and minor."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(name: str) -> Entry:
    """A folder that everybody may enter."""
    return Entry(name, stat.S_IFDIR | 0o755)


def file(name: str, data: bytes, *, executable: bool = False) -> Entry:
    """A regular file."""
    return Entry(name, stat.S_IFREG | (0o755 if executable else 0o644), data)


def character_device(name: str, major: int, minor: int) -> Entry:
    """A device node for root alone."""
    return Entry(name, stat.S_IFCHR | 0o600, device=(major, minor))


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive, the same bytes for the same entries: no times, no owners."""
    out = bytearray()
    for inode, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], start=1):
        name = entry.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        numbers = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
        out += b"070701" + b"".join(b"%08X" % number for number in numbers) + name
        out += bytes(-len(out) % 4)
        out += entry.data
        out += bytes(-len(out) % 4)
    return bytes(out)
