"""A split virtqueue as the device sees it: requests taken out, responses put back (virtio specification, 2.7).

The driver is not trusted: every index, length and address is looked at before it is used. A driver that breaks a rule
has a broken ring, which is left alone until it is set up anew: what the specification calls a device that needs reset.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from memhp.target.device.memory import Memory, NotAnnounced

DESCRIPTOR = Struct("<QIHH")
"""``struct virtq_desc``: address, length, flags, next."""
USED = Struct("<II")
"""``struct virtq_used_elem``: head of the chain, bytes written."""
U16 = Struct("<H")

NEXT, WRITE, INDIRECT = 1, 2, 4
"""``VIRTQ_DESC_F_*``."""
NO_INTERRUPT = 1
"""``VIRTQ_AVAIL_F_NO_INTERRUPT``."""
MOST_ENTRIES = 1 << 15
"""The largest queue that there may be."""
WRAP = 1 << 16


class BrokenRing(Exception):
    """The driver made available what no driver may."""


class Buffer(NamedTuple):
    """One descriptor: a run of guest physical memory."""

    addr: int
    size: int
    writable: bool


@dataclass(frozen=True)
class Chain:
    """The buffers of one request: those to be read come before those to be written."""

    head: int
    buffers: tuple[Buffer, ...]

    def readable(self) -> int:
        """Bytes that the device may read."""
        return sum(each.size for each in self.buffers if not each.writable)

    def writable(self) -> int:
        """Bytes that the device may write."""
        return sum(each.size for each in self.buffers if each.writable)


@dataclass
class Ring:
    """Where a ring is, in addresses of the front end, and how far the device is with it."""

    memory: Memory
    entries: int = 0
    descriptors: int = 0
    available: int = 0
    used: int = 0
    placed: bool = False
    """Whether the front end has said where it is."""
    next_available: int = 0
    indirect: bool = False
    """Whether tables of descriptors were agreed on."""

    def waiting(self) -> int:
        """How many requests are available and not yet taken. Raises :class:`BrokenRing`."""
        index = self._u16(self.available, 2)
        count = (index - self.next_available) % WRAP
        if count > self.entries:
            raise BrokenRing(f"{count} requests are available in a ring of {self.entries}")
        return count

    def take(self) -> Chain:
        """The next request that is available. Raises :class:`BrokenRing`."""
        head = self._u16(self.available, 4 + 2 * (self.next_available % self.entries))
        chain = Chain(head, tuple(self._buffers(head)))
        self.next_available = (self.next_available + 1) % WRAP
        return chain

    def read(self, chain: Chain, size: int) -> bytes:
        """The first bytes of a request. Raises :class:`BrokenRing` for one that has fewer."""
        if chain.readable() < size:
            raise BrokenRing(f"a request of {chain.readable()} bytes, where {size} are wanted")
        data = b""
        for buffer in chain.buffers:
            if not buffer.writable and len(data) < size:
                data += self._read(buffer.addr, min(buffer.size, size - len(data)))
        return data

    def put_back(self, chain: Chain, data: bytes) -> None:
        """Write a response into a chain and hand it back. Raises :class:`BrokenRing`."""
        rest = data
        for buffer in chain.buffers:
            if buffer.writable and rest:
                self._write(buffer.addr, rest[: buffer.size])
                rest = rest[buffer.size :]
        at = self._guest(self.used, 4 + USED.size * self.entries)
        (index,) = U16.unpack(self._read(at + 2, 2))
        self._write(at + 4 + USED.size * (index % self.entries), USED.pack(chain.head, len(data) - len(rest)))
        self._write(at + 2, U16.pack((index + 1) % WRAP))

    def interrupts(self) -> bool:
        """Whether the driver wants to be told of what was put back. Raises :class:`BrokenRing`."""
        return not self._u16(self.available, 0) & NO_INTERRUPT

    def _buffers(self, head: int) -> list[Buffer]:
        found: list[Buffer] = []
        table, count, at = self._guest(self.descriptors, DESCRIPTOR.size * self.entries), self.entries, head
        seen, inside = 0, False
        while True:
            if at >= count:
                raise BrokenRing(f"descriptor {at} of {count}")
            seen += 1
            if seen > self.entries + inside:
                raise BrokenRing("a chain of descriptors that is longer than its ring")
            addr, size, flags, following = DESCRIPTOR.unpack(self._read(table + DESCRIPTOR.size * at, DESCRIPTOR.size))
            if flags & INDIRECT:
                if not self.indirect or inside or flags & NEXT:
                    raise BrokenRing("a table of descriptors where none may be")
                if not size or size % DESCRIPTOR.size or size > DESCRIPTOR.size * self.entries:
                    raise BrokenRing(f"a table of descriptors of {size} bytes")
                table, count, at, inside = addr, size // DESCRIPTOR.size, 0, True
                continue
            writable = bool(flags & WRITE)
            if found and found[-1].writable and not writable:
                raise BrokenRing("a buffer to be read after one to be written")
            found.append(Buffer(addr, size, writable))
            if not flags & NEXT:
                return found
            at = following

    def _guest(self, user: int, size: int) -> int:
        try:
            return self.memory.guest_of(user, size)
        except NotAnnounced as error:
            raise BrokenRing(str(error)) from None

    def _u16(self, user: int, at: int) -> int:
        (value,) = U16.unpack(self._read(self._guest(user, 4 + 2 * self.entries) + at, 2))
        return int(value)

    def _read(self, guest: int, size: int) -> bytes:
        try:
            return self.memory.read(guest, size)
        except NotAnnounced as error:
            raise BrokenRing(str(error)) from None

    def _write(self, guest: int, data: bytes) -> None:
        try:
            self.memory.write(guest, data)
        except NotAnnounced as error:
            raise BrokenRing(str(error)) from None
