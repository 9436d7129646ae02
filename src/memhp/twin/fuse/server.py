"""A tree of computed files served to the kernel: one request at a time, none of them waited for.

What is read is what the file says at that moment: a text is made when a read begins at its start, and goes on to be
that text for whoever reads on, as with ``seq_file``. A write is passed on whole, as kernfs does.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
import os
import select
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from memhp.errors import KernelError
from memhp.linux.fs.kernfs.dir import kernfs_name_hash
from memhp.twin.fuse import wire
from memhp.twin.fuse.nodes import Node, Nodes, may_open, mode_of, rdev_of, size_of
from memhp.twin.fuse.wire import InitFlag, Op, OpenFlag, Request
from memhp.twin.tree import Attribute, Folder, Link, Stream, Window

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

    def check(self) -> None:
        """See that there is still a machine to be read. Raises EIO once it is dead."""

    def shape(self) -> Hashable:
        """Something that differs when files or folders have come or gone."""

    def read(self, pid: int, path: str, text: str) -> None:
        """A file was read from its start."""

    def listed(self, pid: int, path: str) -> None:
        """A folder was listed."""

    def wrote(self, pid: int, path: str, text: str, act: Callable[[str], None]) -> None:
        """A file is written: does what the file does. Raises :class:`KernelError`, or :class:`Later`."""

    def refused(self, pid: int, path: str, code: int) -> None:
        """A file could not be opened."""


@dataclass(slots=True)
class _Handle:
    """An open file or folder: what it says to whoever reads on, and how far a stream was read."""

    node: Node
    text: bytes = b""
    names: list[str] = field(default_factory=list)
    at: int = 0
    fresh: bool = True
    end: int = 0
    """Where the last read of a text ended."""


@dataclass(slots=True)
class _Waiting:
    """A read of a stream that has nothing to say yet."""

    unique: int
    handle: _Handle
    size: int


class Server:
    """A tree and the open ``/dev/fuse`` that it is served through. `owner` is the user and group of all files."""

    def __init__(self, device: int, root: Folder, journal: Journal, owner: tuple[int, int] = (0, 0)) -> None:
        self.device = device
        self.journal = journal
        self.owner = owner
        self.alive = True
        """Whether the kernel still has the mount."""
        self.nodes = Nodes(root)
        self._handles: dict[int, _Handle] = {}
        self._next_handle = 1
        self._waiting: list[_Waiting] = []
        self._polled: dict[int, int] = {}
        self.answers: dict[int, Callable[[Request], bytes | None]] = {
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
        self.entry_out = self._entry_heard
        """What is said of a node that is looked up."""
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
        act = self.answers.get(request.op)
        if act is None:
            self.send(wire.answer(request.unique, error=wire.REFUSED.get(request.op, errno.ENOSYS)))
            return True
        try:
            body = act(request)
        except KernelError as error:
            self.send(wire.answer(request.unique, error=error.errno))
        except OSError as error:
            self.send(wire.answer(request.unique, error=error.errno or errno.EIO))
        else:
            if body is not None:
                self.send(wire.answer(request.unique, body))
        return True

    def send(self, message: bytes) -> None:
        """Say something to the kernel."""
        try:
            os.write(self.device, message)
        except OSError as error:
            # ENOENT: whoever asked was interrupted and does not wait any more.
            if error.errno != errno.ENOENT:
                self.alive = False

    def moved(self) -> None:
        """Something may have changed, and streams may have more to say: answer whoever waits for that."""
        still: list[_Waiting] = []
        for waiting in self._waiting:
            record = self._record(waiting.handle)
            if record is None:
                still.append(waiting)
            elif len(record) > waiting.size:
                self.send(wire.answer(waiting.unique, error=errno.EINVAL))
            else:
                self.send(wire.answer(waiting.unique, record))
        self._waiting = still
        polled, self._polled = self._polled, {}
        for kh in polled.values():
            self.send(wire.notice(wire.Notify.POLL, wire.NOTIFY_POLL.pack(kh)))

    # Nodes ---------------------------------------------------------------------------------------------------

    def _attributes(self, node: Node) -> bytes:
        links = 2 if isinstance(node.entry, Folder) else 1
        mode, size, device = mode_of(node.entry), size_of(node.entry), rdev_of(node.entry)
        return wire.attributes(node.number, mode, size, links, self.owner, device=device)

    def _entry_heard(self, node: Node) -> bytes:
        """``struct fuse_entry_out`` of a node, which is looked up once more.

        The kernel may keep the name of a file for as long as that of its folder, which may vanish.
        """
        node.lookups += 1
        valid = 0 if isinstance(node.entry, Folder | Link) else wire.FOR_LONG
        return wire.ENTRY_OUT.pack(node.number, 0, valid, wire.FOR_LONG, 0, 0) + self._attributes(node)

    def _lookup(self, request: Request) -> bytes:
        name = bytes(request.body).rstrip(b"\0").decode(errors="surrogateescape")
        return self.entry_out(self.nodes.child(self.nodes.get(request.node), name))

    def _forget(self, request: Request) -> None:
        self.nodes.forget(request.node, *wire.FORGET_IN.unpack_from(request.body))

    def _batch_forget(self, request: Request) -> None:
        count, _ = wire.BATCH_FORGET_IN.unpack_from(request.body)
        for place in range(count):
            self.nodes.forget(*wire.FORGET_ONE.unpack_from(request.body, wire.BATCH_FORGET_IN.size + 16 * place))

    def _getattr(self, request: Request) -> bytes:
        return wire.ATTR_OUT.pack(wire.FOR_LONG, 0, 0) + self._attributes(self.nodes.get(request.node))

    def _setattr(self, request: Request) -> bytes | None:
        """Truncation, which ``>`` of a shell asks for, is for nothing here, as in sysfs; who owns what stays."""
        valid, *_ = wire.SETATTR_IN.unpack_from(request.body)
        if valid & (wire.FATTR_MODE | wire.FATTR_UID | wire.FATTR_GID):
            raise OSError(errno.EPERM, "files of the twin keep their owner and mode")
        return self.answers[Op.GETATTR](request)

    def _readlink(self, request: Request) -> bytes:
        entry = self.nodes.get(request.node).entry
        if not isinstance(entry, Link):
            raise OSError(errno.EINVAL, "no link")
        return entry.target.encode()

    def _statfs(self, _: Request) -> bytes:
        return wire.STATFS_OUT.pack(0, 0, 0, 0, 0, 4096, 255, 4096)

    def _init(self, request: Request) -> bytes:
        major, minor, readahead, flags = wire.INIT_IN.unpack_from(request.body)
        if major != wire.MAJOR or minor < wire.LEAST_MINOR:
            raise OSError(errno.EPROTO, "another protocol")
        # Not ATOMIC_O_TRUNC: under it the kernel has a size of 0 from O_TRUNC until a write that is taken, and readers
        # by sendfile() get nothing after one that is refused.
        wanted = flags & (InitFlag.BIG_WRITES | InitFlag.PARALLEL_DIROPS)
        return self._agreed(minor, readahead, wanted)

    def _agreed(self, minor: int, readahead: int, flags: int) -> bytes:
        version = min(minor, wire.MINOR)
        return wire.INIT_OUT.pack(wire.MAJOR, version, readahead, flags, 0, 0, wire.MOST_READ, 1, 0, 0, 0)

    # Files ---------------------------------------------------------------------------------------------------

    def _opened(self, handle: _Handle, flags: OpenFlag) -> bytes:
        number = self._next_handle
        self._next_handle += 1
        self._handles[number] = handle
        return wire.OPEN_OUT.pack(number, flags, 0)

    def _open(self, request: Request) -> bytes:
        node = self.nodes.get(request.node)
        flags, _ = wire.OPEN_IN.unpack_from(request.body)
        if not node.there:
            raise OSError(errno.ENOENT, node.path)
        if not may_open(node.entry, flags):
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
            return self._read_stream(request, handle, size, wait=not flags & os.O_NONBLOCK)
        assert isinstance(entry, Attribute) and entry.show is not None
        # Whoever does not read on where he was has the text made anew (``fs/seq_file.c:traverse``).
        if not offset or offset != handle.end:
            text = entry.show()
            handle.text, handle.fresh = text.encode(), False
            self.journal.read(request.pid, path, text)
        found = handle.text[offset : offset + size]
        handle.end = offset + len(found)
        return found

    def _record(self, handle: _Handle) -> bytes | None:
        entry = handle.node.entry
        assert isinstance(entry, Stream)
        record = entry.read(handle.at)
        handle.at += record is not None
        return record

    def _read_stream(self, request: Request, handle: _Handle, size: int, *, wait: bool) -> bytes | None:
        """The next record; one that is longer than there is room for is lost (``kernel/printk/printk.c``)."""
        if not handle.at:
            self.journal.read(request.pid, handle.node.path, "")
        record = self._record(handle)
        if record is None and not wait:
            raise OSError(errno.EAGAIN, "no record yet")
        if record is None:
            self._waiting.append(_Waiting(request.unique, handle, size))
        if record is not None and len(record) > size:
            raise OSError(errno.EINVAL, "no room for a record")
        return record

    def _write(self, request: Request) -> bytes | None:
        fh, *_ = wire.READ_IN.unpack_from(request.body)
        return self.write_to(self._active(fh).node, request)

    def write_to(self, node: Node, request: Request) -> bytes | None:
        """Do what a file does with what is written to it; None when it is answered later."""
        _, _, size, *_ = wire.READ_IN.unpack_from(request.body)
        assert isinstance(node.entry, Attribute | Stream) and node.entry.store is not None
        if isinstance(node.entry, Attribute) and node.entry.size:
            # A page at once (``fs/kernfs/file.c:kernfs_fop_write_iter``).
            size = min(size, node.entry.size)
        # What stands behind a NUL, no store function of the kernel sees: libdaxctl writes one.
        data = bytes(request.body[wire.READ_IN.size : wire.READ_IN.size + size]).partition(b"\0")[0]
        done, unique = wire.WRITE_OUT.pack(size, 0), request.unique
        try:
            self.journal.wrote(request.pid, node.path, data.decode(errors="surrogateescape"), node.entry.store)
        except Later as later:
            later.begin(lambda code: self.send(wire.answer(unique, b"" if code else done, error=code)))
            return None
        return done

    def _release(self, request: Request) -> bytes:
        fh, _ = wire.RELEASE_IN.unpack_from(request.body)
        self._handles.pop(fh, None)
        self._polled.pop(fh, None)
        return b""

    def _lseek(self, request: Request) -> bytes:
        """Where data or a hole is: a file of sysfs is data up to its size (``generic_file_llseek_size()``).

        Streams start anew, as /dev/kmsg does for SEEK_DATA; proc knows neither (``fs/seq_file.c:seq_lseek``).
        """
        fh, offset, whence, _ = wire.LSEEK_IN.unpack_from(request.body)
        entry = self._handle(fh).node.entry
        if isinstance(entry, Stream):
            return wire.LSEEK_OUT.pack(offset)
        size = size_of(entry)
        if not size:
            raise OSError(errno.EINVAL, "no data and no holes")
        return data_or_hole(size, offset, whence)

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
                self.send(wire.answer(unique, error=errno.EINTR))
        self._waiting = [each for each in self._waiting if each.unique != unique]

    # Folders -------------------------------------------------------------------------------------------------

    def _opendir(self, request: Request) -> bytes:
        node = self.nodes.get(request.node)
        if not isinstance(node.entry, Folder):
            raise OSError(errno.ENOTDIR, node.path)
        self.journal.listed(request.pid, node.path)
        return self._opened(_Handle(node), OpenFlag(0))

    def _readdir(self, request: Request) -> bytes:
        fh, offset, size, *_ = wire.READ_IN.unpack_from(request.body)
        handle = self._handle(fh)
        if not offset:
            handle.names = names_in(handle.node)
        return self.listing(handle.node, handle.names, offset, size)

    def listing(self, node: Node, names: Sequence[str], offset: int, size: int) -> bytes:
        """As many names of a folder as there is room for, from the one at `offset` on."""
        folder, found = node.entry, bytearray()
        assert isinstance(folder, Folder)
        for place in range(offset, len(names)):
            name = names[place]
            entry = folder if place < 2 else folder.child(name)
            if entry is None:
                continue
            number = self.nodes.number_of(f"{node.path}/{name}")
            record = wire.dirent(number, place + 1, mode_of(entry), name.encode())
            if len(found) + len(record) > size:
                break
            found += record
        return bytes(found)


def data_or_hole(size: int, offset: int, whence: int) -> bytes:
    """Where in a file that is data up to its size such data, or a hole, is next. Raises ENXIO beyond it."""
    if offset >= size:
        raise OSError(errno.ENXIO, "beyond the end")
    return wire.LSEEK_OUT.pack(size if whence == os.SEEK_HOLE else offset)


def names_in(node: Node) -> list[str]:
    """What a folder lists, in sysfs in its order; one whose device has gone has nothing in it.

    ``fs/kernfs/dir.c:kernfs_fop_readdir``: tools that act on what they read, and stop at the first refusal, see the
    order.
    """
    folder = node.entry
    assert isinstance(folder, Folder)
    names = folder.names() if folder.there() else ()
    return [".", "..", *(sorted(names, key=_place) if node.path.startswith("/sys/") else names)]


def _place(name: str) -> tuple[int, str]:
    return kernfs_name_hash(name), name
