"""The files that the kernel knows by number: each from when it is first looked up until the kernel forgets it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
import os
import stat
from dataclasses import dataclass, field

from memhp.twin.fuse import wire
from memhp.twin.tree import Attribute, Device, Entry, Folder, Link, Stream, Window


@dataclass(slots=True)
class Node:
    """A file, link or folder that the kernel has looked up. `path` is that of the tree."""

    number: int
    path: str
    entry: Entry
    above: Folder
    """The folder that it is in."""
    lookups: int = 0
    text: bytes = b""
    names: list[str] = field(default_factory=list)
    """What the kernel was last told that a file says, or a folder has in it."""
    unreadable: bool = False
    """Whether a file that is there refused to say anything."""
    version: int = 0
    """How often that was something new."""

    @property
    def there(self) -> bool:
        """Whether the device that it belongs to is still there."""
        return self.above.there()


class Nodes:
    """All nodes, by number and by path."""

    def __init__(self, root: Folder) -> None:
        self.by_number: dict[int, Node] = {wire.ROOT: Node(wire.ROOT, "", root, root)}
        self._by_path: dict[str, int] = {"": wire.ROOT}
        self._next = wire.ROOT + 1

    def get(self, number: int) -> Node:
        """A node. Raises ESTALE for a number that means none."""
        node = self.by_number.get(number)
        if node is None:
            raise OSError(errno.ESTALE, "no such node")
        return node

    def child(self, parent: Node, name: str) -> Node:
        """What has a name in a folder, known by a number from now on. Raises ENOENT for nothing."""
        above = parent.entry
        entry = above.child(name) if isinstance(above, Folder) and above.there() else None
        if entry is None:
            raise OSError(errno.ENOENT, name)
        return self.known(parent, name, entry)

    def known(self, parent: Node, name: str, entry: Entry) -> Node:
        """What stands in a folder under a name, known by a number from now on."""
        above = parent.entry
        assert isinstance(above, Folder)
        path = f"{parent.path}/{name}"
        number = self._by_path.get(path)
        if number is None:
            number = self._by_path[path] = self._next
            self._next += 1
            node = self.by_number[number] = Node(number, path, entry, above)
        else:
            node = self.by_number[number]
            node.entry, node.above = entry, above
        return node

    def number_of(self, path: str) -> int:
        """The number of what was looked up at a path."""
        return self._by_path.get(path, UNKNOWN_NODE)

    def forget(self, number: int, lookups: int) -> None:
        """The kernel forgets so many of its lookups of a node, which goes with the last."""
        node = self.by_number.get(number)
        if node is None or number == wire.ROOT:
            return
        node.lookups -= lookups
        if node.lookups <= 0:
            del self.by_number[number]
            del self._by_path[node.path]


UNKNOWN_NODE = 0xFFFFFFFF
"""``FUSE_UNKNOWN_INO``: the number of a file that nobody has looked up."""


def mode_of(entry: Entry) -> int:
    """Type and permissions of a file, as ``st_mode`` has them."""
    if isinstance(entry, Folder):
        return stat.S_IFDIR | 0o755
    if isinstance(entry, Link):
        return stat.S_IFLNK | 0o777
    if isinstance(entry, Device):
        return stat.S_IFCHR | entry.mode
    return stat.S_IFREG | entry.mode


def size_of(entry: Entry) -> int:
    """What ``stat`` tells of a file's size."""
    return entry.size if isinstance(entry, Attribute) else len(entry.target) if isinstance(entry, Link) else 0


def rdev_of(entry: Entry) -> int:
    """The numbers of a device, as ``new_encode_dev()`` has them; 0 for anything else."""
    return os.makedev(entry.major, entry.minor) & 0xFFFFFFFF if isinstance(entry, Device) else 0


def may_open(entry: Entry, flags: int) -> bool:
    """Whether a file has the sides that it is opened for, whoever asks (``fs/kernfs/file.c:kernfs_fop_open``)."""
    access = flags & os.O_ACCMODE
    reads, writes = access != os.O_WRONLY, access != os.O_RDONLY
    if isinstance(entry, Attribute):
        return (not reads or entry.show is not None) and (not writes or entry.store is not None)
    if isinstance(entry, Stream):
        return not writes or entry.store is not None
    return isinstance(entry, Window) and not writes
