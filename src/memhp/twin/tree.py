"""A tree of files that are computed when they are asked for: attributes, windows, streams, devices, links and folders.

Everything in it is a description; nothing is kept. What a file says and what a write to it does are functions over the
machine, which raise :class:`~memhp.errors.KernelError` as the kernel's ``show`` and ``store`` return an errno.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

ATTRIBUTE_SIZE = 4096
"""What sysfs says is the size of an attribute (``fs/sysfs/file.c:sysfs_add_file_mode_ns``)."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """A file with a text: `show` makes it, `store` takes what is written, each None where the file has no such side.

    `size` is what ``stat`` tells: that of a page in sysfs, 0 in proc and debugfs. `fixed` is said of a text that never
    changes, `usual` of one that tools read of every device, so that the kernel is told of it with its folder.
    """

    mode: int
    show: Callable[[], str] | None = None
    store: Callable[[str], None] | None = None
    size: int = ATTRIBUTE_SIZE
    fixed: bool = False
    usual: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """A file that is read at any offset, such as ``/proc/kpageflags``: `read` takes offset and length in bytes."""

    mode: int
    read: Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class Stream:
    """A file whose reads take one record each, such as ``/dev/kmsg``: `read` takes its number, None at the end."""

    mode: int
    read: Callable[[int], bytes | None]
    store: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link, and where it points."""

    target: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder: the names in it now, and what has a name; None for no such name.

    `there` says whether it is still there: a process may hold on to a folder, or a file in it, when its device goes.
    `usual` is said of one that tools look into of every device of its kind.
    """

    names: Callable[[], Iterable[str]]
    child: Callable[[str], "Entry | None"]
    there: Callable[[], bool] = lambda: True
    usual: bool = False


@dataclass(frozen=True, slots=True)
class Device:
    """A character device, by its numbers: it can be seen, and not be opened, as nothing of its driver is there."""

    mode: int
    major: int
    minor: int


File: TypeAlias = Attribute | Window | Stream | Device
Entry: TypeAlias = File | Link | Folder


def folder(entries: Mapping[str, Entry]) -> Folder:
    """A folder that never changes."""
    return Folder(lambda: entries, entries.get)


def joined(*parts: Folder) -> Folder:
    """One folder of what is in several; of a name that is in more than one, the first counts."""

    def names() -> Iterator[str]:
        for part in parts:
            yield from part.names()

    def child(name: str) -> Entry | None:
        for part in parts:
            found = part.child(name)
            if found is not None:
                return found
        return None

    usual = any(part.usual for part in parts)
    return Folder(names, child, lambda: all(part.there() for part in parts), usual)


def planted(files: Mapping[str, Entry]) -> Folder:
    """A tree with each entry at its path, ``/sys/devices/system/memory``; the folders above never change.

    Where an entry lies within another that is a folder, it is added to what is in there.
    """
    heads: dict[str, dict[str, Entry]] = {}
    own: dict[str, Entry] = {}
    for path, entry in files.items():
        head, _, rest = path.strip("/").partition("/")
        if rest:
            heads.setdefault(head, {})[rest] = entry
        else:
            own[head] = entry
    made: dict[str, Entry] = dict(own)
    for head, below in heads.items():
        inner, outer = planted(below), own.get(head)
        made[head] = joined(inner, outer) if isinstance(outer, Folder) else inner
    return folder(made)


def resolve(root: Folder, path: str) -> Entry | None:
    """What stands at a path, links not followed; None for nothing."""
    entry: Entry | None = root
    for name in filter(None, path.split("/")):
        if not isinstance(entry, Folder):
            return None
        entry = entry.child(name)
    return entry
