"""A tree of computed files served to the kernel: one request at a time, none of them waited for.

What is read is what the file says at that moment: a text is made when a read begins at its start, and goes on to be
that text for whoever reads on, as with ``seq_file``. A write is passed on whole, as kernfs does.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
import os
import select
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from memhp.errors import KernelError
from memhp.twin.fuse import wire
from memhp.twin.fuse.wire import InitFlag, Op, OpenFlag, Request
from memhp.twin.tree import Attribute, Entry, Folder, Link, Stream, Window

READY = select.POLLIN | select.POLLOUT | 0x40 | 0x100
"""``DEFAULT_POLLMASK``, with POLLRDNORM and POLLWRNORM."""
CHANGED = select.POLLERR | select.POLLPRI
"""What poll says of a sysfs file that was not read since it was opened (``fs/kernfs/file.c:kernfs_generic_poll``)."""


class Later(Exception):
    """An operation that goes on: whoever raised it answers by and by, through the function that it is given."""

    def __init__(self, begin: Callable[[Callable[[int], None]], None]) -> None:
        self.begin = begin
        """Is called with what is to be called with the errno, 0 for none, when the operation is over."""


class Journal(Protocol):
    """Whoever is told what is done to the files. Paths are those of the tree."""

    def read(self, pid: int, path: str, text: str) -> None:
        """A file was read from its start."""

    def listed(self, pid: int, path: str) -> None:
        """A folder was listed."""

    def wrote(self, pid: int, path: str, text: str, act: Callable[[str], None]) -> None:
        """A file is written: does what the file does. Raises :class:`KernelError`, or :class:`Later`."""

    def refused(self, pid: int, path: str, code: int) -> None:
        """A file could not be opened."""


@dataclass(slots=True)
class _Node:
    path: str
    entry: Entry
    above: Folder
    """The folder that it is in."""
    lookups: int = 0

    @property
    def there(self) -> bool:
        """Whether the device that it belongs to is still there."""
        return self.above.there()


@dataclass(slots=True)
class _Handle:
    """An open file or folder: what it says to whoever reads on, and how far a stream was read."""

    node: _Node
    text: bytes = b""
    names: list[str] = field(default_factory=list)
    at: int = 0
    fresh: bool = True


@dataclass(slots=True)
class _Waiting:
    """A read of a stream that has nothing to say yet."""

    unique: int
    handle: _Handle


class Server:
    """A tree and the open ``/dev/fuse`` that it is served through. `owner` is the user and group of all files."""

    def __init__(self, device: int, root: Folder, journal: Journal, owner: tuple[int, int] = (0, 0)) -> None:
        self.device = device
        self.journal = journal
        self.owner = owner
        self.alive = True
        """Whether the kernel still has the mount."""
        self._nodes: dict[int, _Node] = {wire.ROOT: _Node("", root, root)}
        self._by_path: dict[str, int] = {"": wire.ROOT}
        self._next = wire.ROOT + 1
        self._handles: dict[int, _Handle] = {}
        self._next_handle = 1
        self._waiting: list[_Waiting] = []
        self._polled: dict[int, int] = {}
        self._answers: dict[int, Callable[[Request], bytes | None]] = {
            Op.LOOKUP: self._lookup,
            Op.FORGET: self._forget,
            Op.BATCH_FORGET: self._batch_forget,
            Op.GETATTR: self._getattr,
            Op.SETATTR: self._setattr,
            Op.READLINK: self._readlink,
            Op.OPEN: self._open,
            Op.READ: self._read,
            Op.WRITE: self._write,
            Op.STATFS: self._statfs,
            Op.RELEASE: self._release,
            Op.INIT: self._init,
            Op.OPENDIR: self._opendir,
            Op.READDIR: self._readdir,
            Op.RELEASEDIR: self._release,
            Op.INTERRUPT: self._interrupt,
            Op.DESTROY: lambda _: b"",
            Op.POLL: self._poll,
            Op.LSEEK: self._lseek,
        }
        self._buffer = bytearray(wire.BUFFER)

    def serve(self) -> bool:
        """Take one request, if there is one, and answer it; False when there was none."""
        try:
            size = os.readv(self.device, [self._buffer])
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return True
            self.alive = False
            return False
        request = wire.parse(memoryview(self._buffer)[:size])
        act = self._answers.get(request.op)
        if act is None:
            self._send(wire.answer(request.unique, error=wire.REFUSED.get(request.op, errno.ENOSYS)))
            return True
        try:
            body = act(request)
        except KernelError as error:
            self._send(wire.answer(request.unique, error=error.errno))
        except OSError as error:
            self._send(wire.answer(request.unique, error=error.errno or errno.EIO))
        else:
            if body is not None:
                self._send(wire.answer(request.unique, body))
        return True

    def _send(self, message: bytes) -> None:
        try:
            os.write(self.device, message)
        except OSError as error:
            # ENOENT: whoever asked was interrupted and does not wait any more.
            if error.errno != errno.ENOENT:
                self.alive = False

    def streams_moved(self) -> None:
        """Streams may have more to say: answer whoever waits for that."""
        still: list[_Waiting] = []
        for waiting in self._waiting:
            record = self._record(waiting.handle)
            if record is None:
                still.append(waiting)
            else:
                self._send(wire.answer(waiting.unique, record))
        self._waiting = still
        polled, self._polled = self._polled, {}
        for kh in polled.values():
            self._send(wire.notice(wire.Notify.POLL, wire.NOTIFY_POLL.pack(kh)))

    # Nodes ---------------------------------------------------------------------------------------------------

    def _node(self, request: Request) -> _Node:
        node = self._nodes.get(request.node)
        if node is None:
            raise OSError(errno.ESTALE, "no such node")
        return node

    def _id_of(self, path: str, entry: Entry, above: Folder) -> int:
        number = self._by_path.get(path)
        if number is None:
            number = self._next
            self._next += 1
            self._by_path[path] = number
            self._nodes[number] = _Node(path, entry, above)
        else:
            self._nodes[number].entry = entry
        return number

    def _attributes(self, number: int, entry: Entry) -> bytes:
        size = entry.size if isinstance(entry, Attribute) else len(entry.target) if isinstance(entry, Link) else 0
        return wire.attributes(number, mode_of(entry), size, 2 if isinstance(entry, Folder) else 1, self.owner)

    def _lookup(self, request: Request) -> bytes:
        parent = self._node(request)
        name = bytes(request.body).rstrip(b"\0").decode(errors="surrogateescape")
        above = parent.entry
        entry = above.child(name) if isinstance(above, Folder) and above.there() else None
        if entry is None or not isinstance(above, Folder):
            raise OSError(errno.ENOENT, name)
        number = self._id_of(f"{parent.path}/{name}", entry, above)
        self._nodes[number].lookups += 1
        return wire.ENTRY_OUT.pack(number, 0, self._valid(entry), wire.FOR_LONG, 0, 0) + self._attributes(number, entry)

    def _valid(self, entry: Entry) -> int:
        """Seconds that the kernel may keep a name: a file's for as long as that of its folder, which may vanish."""
        return 0 if isinstance(entry, Folder | Link) else wire.FOR_LONG

    def _forget(self, request: Request) -> None:
        self._let_go(request.node, *wire.FORGET_IN.unpack_from(request.body))

    def _batch_forget(self, request: Request) -> None:
        count, _ = wire.BATCH_FORGET_IN.unpack_from(request.body)
        for place in range(count):
            self._let_go(*wire.FORGET_ONE.unpack_from(request.body, wire.BATCH_FORGET_IN.size + 16 * place))

    def _let_go(self, number: int, lookups: int) -> None:
        node = self._nodes.get(number)
        if node is None or number == wire.ROOT:
            return
        node.lookups -= lookups
        if node.lookups <= 0:
            del self._nodes[number]
            del self._by_path[node.path]

    def _getattr(self, request: Request) -> bytes:
        return wire.ATTR_OUT.pack(wire.FOR_LONG, 0, 0) + self._attributes(request.node, self._node(request).entry)

    def _setattr(self, request: Request) -> bytes:
        """Truncation, which ``>`` of a shell asks for, is for nothing here, as in sysfs; who owns what stays."""
        valid, *_ = wire.SETATTR_IN.unpack_from(request.body)
        if valid & (wire.FATTR_MODE | wire.FATTR_UID | wire.FATTR_GID):
            raise OSError(errno.EPERM, "files of the twin keep their owner and mode")
        return self._getattr(request)

    def _readlink(self, request: Request) -> bytes:
        entry = self._node(request).entry
        if not isinstance(entry, Link):
            raise OSError(errno.EINVAL, "no link")
        return entry.target.encode()

    def _statfs(self, _: Request) -> bytes:
        return wire.STATFS_OUT.pack(0, 0, 0, 0, 0, 4096, 255, 4096)

    def _init(self, request: Request) -> bytes:
        major, minor, readahead, flags = wire.INIT_IN.unpack_from(request.body)
        if major != wire.MAJOR or minor < wire.LEAST_MINOR:
            raise OSError(errno.EPROTO, "another protocol")
        wanted = flags & (InitFlag.ATOMIC_O_TRUNC | InitFlag.BIG_WRITES | InitFlag.PARALLEL_DIROPS)
        return wire.INIT_OUT.pack(
            wire.MAJOR, min(minor, wire.MINOR), readahead, wanted, 0, 0, wire.MOST_READ, 1, 0, 0, 0
        )

    # Files ---------------------------------------------------------------------------------------------------

    def _opened(self, handle: _Handle, flags: OpenFlag) -> bytes:
        number = self._next_handle
        self._next_handle += 1
        self._handles[number] = handle
        return wire.OPEN_OUT.pack(number, flags, 0)

    def _open(self, request: Request) -> bytes:
        node = self._node(request)
        flags, _ = wire.OPEN_IN.unpack_from(request.body)
        if not node.there:
            raise OSError(errno.ENOENT, node.path)
        access = flags & os.O_ACCMODE
        if not may_open(node.entry, reads=access != os.O_WRONLY, writes=access != os.O_RDONLY):
            self.journal.refused(request.pid, node.path, errno.EACCES)
            raise OSError(errno.EACCES, node.path)
        streams = OpenFlag.STREAM | OpenFlag.NONSEEKABLE if isinstance(node.entry, Stream) else OpenFlag(0)
        return self._opened(_Handle(node), OpenFlag.DIRECT_IO | streams)

    def _handle(self, number: int) -> _Handle:
        handle = self._handles.get(number)
        if handle is None:
            raise OSError(errno.EBADF, "no such handle")
        return handle

    def _active(self, number: int) -> _Handle:
        """An open file whose device is there. Raises ENODEV, as ``fs/kernfs/file.c`` does, for one that has gone."""
        handle = self._handle(number)
        if not handle.node.there:
            raise OSError(errno.ENODEV, handle.node.path)
        return handle

    def _read(self, request: Request) -> bytes | None:
        fh, offset, size, _, _, flags, _ = wire.READ_IN.unpack_from(request.body)
        handle = self._active(fh)
        entry, path = handle.node.entry, handle.node.path
        if isinstance(entry, Window):
            if not offset:
                self.journal.read(request.pid, path, "")
            return entry.read(offset, size)
        if isinstance(entry, Stream):
            return self._read_stream(request, handle, wait=not flags & os.O_NONBLOCK)
        assert isinstance(entry, Attribute) and entry.show is not None
        if not offset:
            text = entry.show()
            handle.text, handle.fresh = text.encode(), False
            self.journal.read(request.pid, path, text)
        return handle.text[offset : offset + size]

    def _record(self, handle: _Handle) -> bytes | None:
        entry = handle.node.entry
        assert isinstance(entry, Stream)
        record = entry.read(handle.at)
        handle.at += record is not None
        return record

    def _read_stream(self, request: Request, handle: _Handle, *, wait: bool) -> bytes | None:
        if not handle.at:
            self.journal.read(request.pid, handle.node.path, "")
        record = self._record(handle)
        if record is None and not wait:
            raise OSError(errno.EAGAIN, "no record yet")
        if record is None:
            self._waiting.append(_Waiting(request.unique, handle))
        return record

    def _write(self, request: Request) -> bytes | None:
        fh, _, size, _, _, _, _ = wire.READ_IN.unpack_from(request.body)
        data = bytes(request.body[wire.READ_IN.size : wire.READ_IN.size + size])
        node = self._active(fh).node
        assert isinstance(node.entry, Attribute | Stream) and node.entry.store is not None
        done, unique = wire.WRITE_OUT.pack(size, 0), request.unique
        try:
            self.journal.wrote(request.pid, node.path, data.decode(errors="surrogateescape"), node.entry.store)
        except Later as later:
            later.begin(lambda code: self._send(wire.answer(unique, b"" if code else done, error=code)))
            return None
        return done

    def _release(self, request: Request) -> bytes:
        fh, _ = wire.RELEASE_IN.unpack_from(request.body)
        self._handles.pop(fh, None)
        self._polled.pop(fh, None)
        return b""

    def _lseek(self, request: Request) -> bytes:
        """Streams start anew, as /dev/kmsg does for SEEK_SET and SEEK_DATA; other files are seeked in by the kernel."""
        fh, offset, _, _ = wire.LSEEK_IN.unpack_from(request.body)
        return wire.LSEEK_OUT.pack(offset if self._handle(fh) else 0)

    def _poll(self, request: Request) -> bytes:
        fh, kh, flags, _ = wire.POLL_IN.unpack_from(request.body)
        handle = self._handle(fh)
        entry = handle.node.entry
        if isinstance(entry, Stream):
            if entry.read(handle.at) is not None:
                return wire.POLL_OUT.pack(select.POLLIN | 0x40, 0)
            if flags & wire.POLL_SCHEDULE_NOTIFY:
                self._polled[fh] = kh
            return wire.POLL_OUT.pack(0, 0)
        counted = isinstance(entry, Attribute) and handle.node.path.startswith("/sys/") and handle.fresh
        return wire.POLL_OUT.pack(READY | (CHANGED if counted else 0), 0)

    def _interrupt(self, request: Request) -> None:
        (unique,) = wire.INTERRUPT_IN.unpack_from(request.body)
        for waiting in self._waiting:
            if waiting.unique == unique:
                self._send(wire.answer(unique, error=errno.EINTR))
        self._waiting = [each for each in self._waiting if each.unique != unique]

    # Folders -------------------------------------------------------------------------------------------------

    def _opendir(self, request: Request) -> bytes:
        node = self._node(request)
        if not isinstance(node.entry, Folder):
            raise OSError(errno.ENOTDIR, node.path)
        self.journal.listed(request.pid, node.path)
        return self._opened(_Handle(node), OpenFlag(0))

    def _readdir(self, request: Request) -> bytes:
        fh, offset, size, *_ = wire.READ_IN.unpack_from(request.body)
        handle = self._handle(fh)
        assert isinstance(handle.node.entry, Folder)
        if not offset:
            handle.names = [".", "..", *(handle.node.entry.names() if handle.node.entry.there() else ())]
        found = bytearray()
        for place in range(offset, len(handle.names)):
            name = handle.names[place]
            entry = handle.node.entry if place < 2 else handle.node.entry.child(name)
            if entry is None:
                continue
            number = self._by_path.get(f"{handle.node.path}/{name}", UNKNOWN_NODE)
            record = wire.dirent(number, place + 1, mode_of(entry), name.encode())
            if len(found) + len(record) > size:
                break
            found += record
        return bytes(found)


UNKNOWN_NODE = 0xFFFFFFFF
"""``FUSE_UNKNOWN_INO``: the number of a file that nobody has looked up."""


def mode_of(entry: Entry) -> int:
    """Type and permissions of a file, as ``st_mode`` has them."""
    if isinstance(entry, Folder):
        return stat.S_IFDIR | 0o755
    if isinstance(entry, Link):
        return stat.S_IFLNK | 0o777
    return stat.S_IFREG | entry.mode


def may_open(entry: Entry, *, reads: bool, writes: bool) -> bool:
    """Whether a file has the sides that it is opened for, whoever asks (``fs/kernfs/file.c:kernfs_fop_open``)."""
    if isinstance(entry, Attribute):
        return (not reads or entry.show is not None) and (not writes or entry.store is not None)
    if isinstance(entry, Stream):
        return not writes or entry.store is not None
    return isinstance(entry, Window) and not writes
