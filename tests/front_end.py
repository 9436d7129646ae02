"""A front end of vhost-user with a driver's queue, in plain bytes as QEMU's documentation lays them out."""
# SPDX-License-Identifier: GPL-2.0-or-later

import mmap
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from memhp.hw.devices.virtio_mem import Geometry
from memhp.hw.devices.virtio_mem_wire import Feature
from memhp.target.device.server import Server
from memhp.units import GiB, MiB

GUEST = 0x4000_0000
"""Where the guest's memory begins, of which the front end says that it has it at `USER`."""
USER = 0x7F00_0000_0000
SIZE = 1 * MiB
DESCRIPTORS, AVAILABLE, USED, DATA, TABLE = 0, 0x4000, 0x8000, 0x10000, 0x20000
"""Where the driver keeps what, as offsets in its memory."""
ENTRIES = 64
REGION = 2 * GiB
AT, BLOCK = 8 * GiB, 2 * MiB
"""Where the served device's region begins, and its blocks."""


def plug(place: int, count: int, kind: int = 0) -> bytes:
    """A request of that type for blocks, as Linux lays it out."""
    return struct.pack("<H6xQH6x", kind, AT + place * BLOCK, count)


class Clock:
    """Time that passes when it is told to, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Served:
    """A server and what it said, without a thread: whoever tests lets it turn."""

    def __init__(self, folder: Path, geometry: Geometry | None = None) -> None:
        self.said: list[str] = []
        self.clock = Clock()
        self.path, self.control = folder / "s", folder / "c"
        shape = geometry or Geometry(8 * GiB, REGION)
        self.server = Server(shape, self.path, self.control, say=self.said.append, clock=self.clock)

    def turn(self, times: int = 4) -> None:
        """Let the server deal with all that has come."""
        for _ in range(times):
            self.server.turn(0)


@contextmanager
def served(folder: Path, geometry: Geometry | None = None) -> Iterator[Served]:
    """A server for as long as the block runs."""
    found = Served(folder, geometry)
    try:
        yield found
    finally:
        found.server.close()


class FrontEnd:
    """A connection with `turn` to let the other side work. To be closed."""

    def __init__(self, path: Path, turn: Callable[[], None]) -> None:
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.line.connect(os.fspath(path))
        self.line.settimeout(5)
        self._turn = turn
        self.fd = os.memfd_create("guest")
        os.ftruncate(self.fd, SIZE)
        self.memory = mmap.mmap(self.fd, SIZE)
        self.kick, self.call, self.err = (os.eventfd(0, os.EFD_NONBLOCK) for _ in range(3))
        self.channel, far = socket.socketpair()
        self.channel.settimeout(5)
        self.far = far
        self.index = self.sent = 0
        turn()

    def close(self) -> None:
        """Go away."""
        self.memory.close()
        for fd in (self.fd, self.kick, self.call, self.err):
            os.close(fd)
        for line in (self.line, self.channel, self.far):
            line.close()

    # Messages ------------------------------------------------------------------------------------------------

    def send(self, request: int, payload: bytes = b"", fds: tuple[int, ...] = (), flags: int = 1) -> None:
        """A message."""
        self.sent += 1
        socket.send_fds(self.line, [struct.pack("<III", request, flags, len(payload)) + payload], list(fds))
        self._turn()

    def ask(self, request: int, payload: bytes = b"", fds: tuple[int, ...] = (), flags: int = 1) -> bytes:
        """A message, and the payload of its reply."""
        self.send(request, payload, fds, flags)
        answered, said, size = struct.unpack("<III", self.line.recv(12, socket.MSG_WAITALL))
        assert (answered, said) == (request, 1 | 4)
        return self.line.recv(size, socket.MSG_WAITALL) if size else b""

    def number(self, request: int) -> int:
        """A reply that is a number."""
        (value,) = struct.unpack("<Q", self.ask(request))
        return int(value)

    def ended(self) -> bool:
        """Whether the other side has closed, without an answer."""
        try:
            return self.line.recv(1) == b""
        except ConnectionResetError:
            return True

    def hello(self, features: int = 1 << 32 | 1 << 28 | 1 << 30 | 3) -> None:
        """Everything up to a ring that runs, in QEMU's order."""
        self.send(3)
        self.number(1)
        self.number(15)
        self.send(16, struct.pack("<Q", 1 << 9 | 1 << 5 | 1 << 3 | 1))
        self.number(17)
        self.send(21, fds=(self.far.fileno(),))
        self.send(2, struct.pack("<Q", features))
        self.start()

    def start(self, base: int = 0) -> None:
        """Memory, ring and eventfds."""
        assert self.ask(5, self.table(), (self.fd,), flags=1 | 8) == bytes(8)
        self.send(8, struct.pack("<II", 0, ENTRIES))
        self.send(10, struct.pack("<II", 0, base))
        self.send(9, struct.pack("<IIQQQQ", 0, 0, USER + DESCRIPTORS, USER + USED, USER + AVAILABLE, 0))
        self.send(13, struct.pack("<Q", 0), (self.call,))
        self.send(14, struct.pack("<Q", 0), (self.err,))
        self.send(12, struct.pack("<Q", 0), (self.kick,))
        self.send(18, struct.pack("<II", 0, 1))
        self.index = base

    def table(self, *regions: tuple[int, int, int, int]) -> bytes:
        """A memory table: the guest's memory, if nothing else is told."""
        told = regions or ((GUEST, SIZE, USER, 0),)
        return struct.pack("<II", len(told), 0) + b"".join(struct.pack("<QQQQ", *each) for each in told)

    def config(self, offset: int = 0, size: int = 56) -> bytes:
        """Configuration space."""
        return self.ask(24, struct.pack("<III", offset, size, 0) + bytes(size))[12:]

    # The queue -----------------------------------------------------------------------------------------------

    def describe(self, at: int, addr: int, size: int, flags: int, following: int = 0, base: int = DESCRIPTORS) -> None:
        """Write a descriptor."""
        struct.pack_into("<QIHH", self.memory, base + 16 * at, addr, size, flags, following)

    def offer(self, head: int) -> None:
        """Make a chain available, and kick."""
        struct.pack_into("<H", self.memory, AVAILABLE + 4 + 2 * (self.index % ENTRIES), head)
        self.index = (self.index + 1) & 0xFFFF
        struct.pack_into("<H", self.memory, AVAILABLE + 2, self.index)
        os.eventfd_write(self.kick, 1)
        self._turn()

    def queue(self, request: bytes, room: int = 10, *, indirect: bool = True) -> None:
        """A request as Linux puts it: a buffer to read and one to write, in a table of their own."""
        self.memory[DATA : DATA + len(request)] = request
        self.memory[DATA + 0x100 : DATA + 0x100 + 10] = b"\xff" * 10
        base = TABLE if indirect else DESCRIPTORS
        self.describe(0, GUEST + DATA, len(request), 1, 1, base)
        self.describe(1, GUEST + DATA + 0x100, room, 2, 0, base)
        if indirect:
            self.describe(0, GUEST + TABLE, 32, 4)
        self.offer(0)

    def used(self) -> int:
        """How many requests have come back."""
        (index,) = struct.unpack_from("<H", self.memory, USED + 2)
        return int(index)

    def request(self, data: bytes, *, indirect: bool = True) -> bytes:
        """A request, and the response that came back at once."""
        before = self.used()
        self.queue(data, indirect=indirect)
        assert self.used() == (before + 1) & 0xFFFF
        return bytes(self.memory[DATA + 0x100 : DATA + 0x10A])

    def interrupted(self) -> bool:
        """Whether the driver was interrupted since it was last asked."""
        try:
            return os.eventfd_read(self.call) > 0
        except BlockingIOError:
            return False


class RemoteDevice:
    """What a modelled driver talks to: a served device behind a front end. Its interrupts come with the next word."""

    def __init__(self, front: FrontEnd, host: Served) -> None:
        self.front, self.host = front, host
        self.config_changed: list[Callable[[], None]] = []
        self.name = "vm0"
        front.channel.setblocking(False)

    def hear(self) -> None:
        """Pass on what the back end told of its configuration."""
        self.host.turn()
        try:
            data = self.front.channel.recv(4096)
        except BlockingIOError:
            return
        assert data == struct.pack("<III", 2, 1, 0) * (len(data) // 12)
        for tell in list(self.config_changed):
            tell()

    def read_config(self) -> bytes:
        """Configuration space."""
        return self.front.config()

    def negotiate(self, supported: Feature) -> Feature:
        """What the device offers of it, as the front end passes it on."""
        agreed = self.front.number(1) & int(supported)
        self.front.send(2, struct.pack("<Q", agreed | 1 << 32 | 1 << 30 | 1 << 28))
        return Feature(agreed)

    def handle(self, data: bytes) -> tuple[bytes, int]:
        """A request; the time that the response takes passes for the device before it is here."""
        before, began = self.front.used(), self.host.clock.now
        self.front.queue(data)
        backend = self.host.server._backend
        assert backend is not None
        due = backend.queue.due()
        if due is not None:
            assert self.front.used() == before
            self.host.clock.now = due
            self.host.turn()
        assert self.front.used() == (before + 1) & 0xFFFF
        self.hear()
        return bytes(self.front.memory[DATA + 0x100 : DATA + 0x10A]), round((self.host.clock.now - began) * 1e9)

    def driver_ok(self, tell: Callable[[], None]) -> None:
        """The driver is ready."""
        self.config_changed.append(tell)

    def device_reset(self) -> None:
        """The driver goes."""
        self.config_changed.clear()
        self.front.send(34)
