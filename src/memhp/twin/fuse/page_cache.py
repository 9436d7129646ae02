"""Files whose texts the kernel keeps: what was read once is read again without asking, until something may differ.

Neither opening nor reading what is kept comes to the server, so that a tool reads as fast as from files in memory.
Before anybody hears that something changed, the kernel is told of every node that it was told about since the last
change: its attributes are invalid then (``FUSE_NOTIFY_INVAL_INODE`` without a range, which waits for no lock of a page
that somebody reads). Whoever reads or opens next has them asked for, and where the time of the last change is another
one, the kernel drops what it kept (``FUSE_AUTO_INVAL_DATA``). Of folders that have gone it is told the same; their
names stay with the kernel, but no way leads through them, as their attributes are refused.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
from collections.abc import Hashable
from functools import lru_cache

from memhp.errors import KernelError
from memhp.twin.fuse import wire
from memhp.twin.fuse.nodes import UNKNOWN_NODE, Node, mode_of, size_of
from memhp.twin.fuse.server import READY, Journal, Server, data_or_hole, names_in
from memhp.twin.fuse.wire import InitFlag, Op, Request
from memhp.twin.tree import Attribute, Folder

NEEDED = InitFlag.NO_OPEN_SUPPORT | InitFlag.NO_OPENDIR_SUPPORT | InitFlag.AUTO_INVAL_DATA | InitFlag.DO_READDIRPLUS
"""What a kernel has to offer so that it can keep files (Linux 5.1); from an older one everything is heard."""


class KeptServer(Server):
    """A tree of attributes, links and folders that the kernel keeps. `owner` is the user and group of all files.

    ``stat`` tells the length of a text, where sysfs tells 4096: the kernel reads no further than to there.
    """

    def __init__(self, device: int, root: Folder, journal: Journal, owner: tuple[int, int] = (0, 0)) -> None:
        super().__init__(device, root, journal, owner)
        self._told: set[int] = set()
        self._shape: Hashable = journal.shape()

    def _init(self, request: Request) -> bytes:
        _, minor, readahead, flags = wire.INIT_IN.unpack_from(request.body)
        if NEEDED & ~flags:
            return super()._init(request)
        self.answers |= {
            Op.GETATTR: self._getattr_kept,
            Op.SETATTR: self._setattr_kept,
            Op.READLINK: self._readlink_kept,
            Op.READ: self._read_kept,
            Op.WRITE: self._write_kept,
            Op.OPEN: self._no_open,
            Op.OPENDIR: self._no_open,
            Op.READDIR: self._readdir_kept,
            Op.READDIRPLUS: self._readdirplus,
            Op.POLL: self._poll_kept,
            Op.LSEEK: self._lseek_kept,
        }
        self.entry_out = self._entry_kept
        more = flags & (InitFlag.PARALLEL_DIROPS | InitFlag.BIG_WRITES)
        return self._agreed(minor, readahead, NEEDED | more)

    def fill(self) -> None:
        """Give the kernel the texts of all files that it has looked up.

        That waits for whoever reads them, so nobody may: it is done before the command begins.
        """
        for node in list(self.nodes.by_number.values()):
            if node.text:
                head = wire.NOTIFY_STORE.pack(node.number, 0, len(node.text), 0)
                self.send(wire.notice(wire.Notify.STORE, head + node.text))

    def moved(self) -> None:
        """Something may have changed: what the kernel was told is not valid any more."""
        super().moved()
        shape = self.journal.shape()
        stale = self._told if shape == self._shape else list(self.nodes.by_number)
        self._shape = shape
        for number in stale:
            self.send(wire.notice(wire.Notify.INVAL_INODE, wire.NOTIFY_INVAL_INODE.pack(number, -1, 0)))
        self._told.clear()

    def _no_open(self, _: Request) -> bytes:
        """Files and folders need not be opened, the kernel is told by the first."""
        raise OSError(errno.ENOSYS, "nothing to do")

    # What the kernel is told ---------------------------------------------------------------------------------

    def _look(self, node: Node) -> None:
        """Find out what a node says now. Raises ENODEV for a file whose device has gone, ENOENT for anything else."""
        self.journal.check()
        entry = node.entry
        if isinstance(entry, Attribute):
            if not node.there:
                raise OSError(errno.ENODEV, node.path)
            try:
                text = entry.show().encode() if entry.show is not None else b""
                node.unreadable = False
            except KernelError as error:
                if error.errno == errno.ENODEV:
                    raise
                text, node.unreadable = b"", True
            if text != node.text:
                node.text, node.version = text, node.version + 1
            if not entry.fixed:
                self._told.add(node.number)
        elif isinstance(entry, Folder):
            names = names_in(node)
            if not entry.there():
                raise OSError(errno.ENOENT, node.path)
            if names != node.names:
                node.names, node.version = names, node.version + 1
        elif not node.there or node.above.child(node.path.rpartition("/")[2]) is None:
            raise OSError(errno.ENOENT, node.path)

    def _told_of(self, node: Node) -> bytes:
        """``struct fuse_attr`` of a node as it was looked at."""
        entry = node.entry
        told = isinstance(entry, Attribute) and entry.show is not None and not node.unreadable
        size = len(node.text) if told else size_of(entry)
        links = 2 if isinstance(entry, Folder) else 1
        return wire.attributes(node.number, mode_of(entry), size, links, self.owner, node.version)

    def _entry_kept(self, node: Node) -> bytes:
        self._look(node)
        node.lookups += 1
        return wire.ENTRY_OUT.pack(node.number, 0, wire.FOR_LONG, wire.FOR_LONG, 0, 0) + self._told_of(node)

    def _getattr_kept(self, request: Request) -> bytes:
        node = self.nodes.get(request.node)
        self._look(node)
        return wire.ATTR_OUT.pack(wire.FOR_LONG, 0, 0) + self._told_of(node)

    def _setattr_kept(self, request: Request) -> bytes | None:
        """Truncation is the first that is heard of ``>``: it is refused where sysfs refuses to open."""
        entry = self.nodes.get(request.node).entry
        if isinstance(entry, Attribute) and entry.store is None:
            raise OSError(errno.EACCES, "nothing can be written")
        return self._setattr(request)

    def _readlink_kept(self, request: Request) -> bytes:
        self._look(self.nodes.get(request.node))
        return self._readlink(request)

    # Files and folders ---------------------------------------------------------------------------------------

    def _read_kept(self, request: Request) -> bytes:
        """What the file said when its size was told: the kernel asks for that before it reads.

        Raises what the file refuses with.
        """
        _, offset, size, *_ = wire.READ_IN.unpack_from(request.body)
        node = self.nodes.get(request.node)
        if not isinstance(node.entry, Attribute) or node.entry.show is None:
            raise OSError(errno.EACCES, node.path)
        if not node.there:
            raise OSError(errno.ENODEV, node.path)
        if node.unreadable:
            node.entry.show()
        return node.text[offset : offset + size]

    def _write_kept(self, request: Request) -> bytes | None:
        node = self.nodes.get(request.node)
        if not isinstance(node.entry, Attribute) or node.entry.store is None:
            raise OSError(errno.EACCES, node.path)
        # What is written stands in the page that the kernel keeps: whatever came of it, the text is to be read anew.
        node.version += 1
        self._told.add(node.number)
        return self.write_to(node, request)

    def _lseek_kept(self, request: Request) -> bytes:
        _, offset, whence, _ = wire.LSEEK_IN.unpack_from(request.body)
        return data_or_hole(len(self.nodes.get(request.node).text), offset, whence)

    def _poll_kept(self, _: Request) -> bytes:
        """A file that is polled was read before, as far as can be known."""
        return wire.POLL_OUT.pack(READY, 0)

    def _names(self, node: Node, offset: int) -> list[str]:
        if not offset:
            self._look(node)
        return node.names

    def _readdir_kept(self, request: Request) -> bytes:
        _, offset, size, *_ = wire.READ_IN.unpack_from(request.body)
        node = self.nodes.get(request.node)
        return self.listing(node, self._names(node, offset), offset, size)

    def _readdirplus(self, request: Request) -> bytes:
        """Names, and of what tools usually look at all that a lookup would give."""
        _, offset, size, *_ = wire.READ_IN.unpack_from(request.body)
        parent = self.nodes.get(request.node)
        folder, found, length = parent.entry, list[bytes](), 0
        names = self._names(parent, offset)
        assert isinstance(folder, Folder)
        for place in range(offset, len(names)):
            name = names[place]
            if length + wire.NAME_OFFSET_PLUS + len(name) + 8 > size:
                break
            entry = folder if place < 2 else folder.child(name)
            if entry is None:
                continue
            if place >= 2 and isinstance(entry, Attribute | Folder) and entry.usual:
                try:
                    node = self.nodes.known(parent, name, entry)
                    told = self._entry_kept(node)
                except (OSError, KernelError):
                    continue
                record = told + wire.dirent(node.number, place + 1, mode_of(entry), name.encode())
            else:
                record = _named(place, mode_of(entry), name)
            length += len(record)
            found.append(record)
        return b"".join(found)


@lru_cache(maxsize=1024)
def _named(place: int, mode: int, name: str) -> bytes:
    """A name in a listing, whose file the kernel looks up once somebody wants it."""
    return wire.NO_ENTRY + wire.dirent(UNKNOWN_NODE, place + 1, mode, name.encode())
