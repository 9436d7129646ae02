"""The guest's memory as far as the front end announced it, and no byte beyond.

Memory is read and written by the kernel on this process's behalf (through a pipe): where the front end cuts a file
short after it announced it, that ends in EFAULT and not in SIGBUS, so a hostile front end ends its connection alone.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import errno
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

from memhp.spans import Span
from memhp.target.device.messages import BrokenProtocol, Region

MOST_COPIED = 4096
"""Bytes of one access: what an empty pipe takes at once."""
END = 1 << 64


class NotAnnounced(Exception):
    """An address outside the memory that the front end announced, or memory that is there no more."""


class Mapping:
    """One region, mapped."""

    def __init__(self, region: Region, fd: int) -> None:
        """Map `region` of the file `fd`, which stays the caller's. Raises :class:`BrokenProtocol`."""
        self.region = region
        start = region.offset - region.offset % mmap.ALLOCATIONGRANULARITY
        self._ahead = region.offset - start
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise BrokenProtocol("memory that is no file")
            self._map = mmap.mmap(fd, region.size + self._ahead, mmap.MAP_SHARED, offset=start)
        except (OSError, ValueError, OverflowError) as error:
            raise BrokenProtocol(f"memory at {region.guest:#x} cannot be mapped: {error}") from None
        self._view = memoryview(self._map)

    def piece(self, at: int, size: int) -> memoryview:
        """Bytes of the region from `at` on."""
        return self._view[self._ahead + at : self._ahead + at + size]

    def discard(self, at: int, size: int) -> None:
        """Give whole pages back to the host; the guest reads zeros there, or what it reads is undefined."""
        with suppress(OSError, ValueError):
            self._map.madvise(mmap.MADV_REMOVE, self._ahead + at, size)

    def close(self) -> None:
        """Let go of the memory."""
        self._view.release()
        self._map.close()


class Memory:
    """All regions of a connection. To be closed."""

    def __init__(self) -> None:
        self._mappings: list[Mapping] = []
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    @property
    def regions(self) -> tuple[Region, ...]:
        """What is announced now."""
        return tuple(mapping.region for mapping in self._mappings)

    def announce(self, regions: list[Region], fds: list[int]) -> None:
        """Take over another table of memory. Raises :class:`BrokenProtocol` for one that cannot be; then none holds."""
        self.forget()
        if len(fds) != len(regions):
            raise BrokenProtocol(f"{len(fds)} file descriptors for {len(regions)} regions of memory")
        for region in regions:
            if not region.size or max(region.guest, region.user, region.offset) + region.size > END:
                raise BrokenProtocol(f"a region of {region.size:#x} bytes at {region.guest:#x}")
        for name in ("guest", "user"):
            spans = sorted(Span(getattr(each, name), getattr(each, name) + each.size) for each in regions)
            if any(one.end > other.start for one, other in pairwise(spans)):
                raise BrokenProtocol(f"regions of memory overlap in {name} addresses")
        try:
            for region, fd in zip(regions, fds, strict=True):
                self._mappings.append(Mapping(region, fd))
        except BrokenProtocol:
            self.forget()
            raise

    def forget(self) -> None:
        """No memory is announced any more."""
        for mapping in self._mappings:
            mapping.close()
        self._mappings.clear()

    def close(self) -> None:
        """Let go of everything."""
        self.forget()
        os.close(self._read)
        os.close(self._write)

    def guest_of(self, user: int, size: int) -> int:
        """The guest physical address of what the front end has at `user`. Raises :class:`NotAnnounced`."""
        for mapping in self._mappings:
            region = mapping.region
            if region.user <= user and user + size <= region.user + region.size:
                return region.guest + user - region.user
        raise NotAnnounced(f"{size} bytes at {user:#x} of the front end are not announced")

    def read(self, guest: int, size: int) -> bytes:
        """Bytes of guest physical memory. Raises :class:`NotAnnounced`."""
        return b"".join(self._copied_out(piece) for piece in self._pieces(guest, size))

    def write(self, guest: int, data: bytes) -> None:
        """Write to guest physical memory, where all of it is announced. Raises :class:`NotAnnounced`."""
        at = 0
        for piece in list(self._pieces(guest, len(data))):
            self._copied_in(piece, data[at : at + len(piece)])
            at += len(piece)

    def discard(self, span: Span) -> None:
        """Give back to the host what of a range of guest physical memory is announced."""
        for mapping in self._mappings:
            region = mapping.region
            part = span.clip(Span(region.guest, region.guest + region.size))
            if part:
                mapping.discard(part.start - region.guest, part.size)

    def _pieces(self, guest: int, size: int) -> Iterator[memoryview]:
        """The mapped pieces that a range is made of."""
        if size > MOST_COPIED:
            raise NotAnnounced(f"{size} bytes at once")
        while size:
            mapping = next((each for each in self._mappings if 0 <= guest - each.region.guest < each.region.size), None)
            if mapping is None:
                raise NotAnnounced(f"{size} bytes at {guest:#x} are not announced")
            at = guest - mapping.region.guest
            part = min(size, mapping.region.size - at)
            yield mapping.piece(at, part)
            guest, size = guest + part, size - part

    def _copied_out(self, piece: memoryview) -> bytes:
        try:
            done = os.write(self._write, piece)
        except OSError as error:
            raise _gone(error) from None
        data = os.read(self._read, done)
        if done != len(piece):
            raise NotAnnounced("memory that was announced is there no more")
        return data

    def _copied_in(self, piece: memoryview, data: bytes) -> None:
        os.write(self._write, data)
        try:
            done = os.readv(self._read, [piece])
        except OSError as error:
            os.read(self._read, len(data))
            raise _gone(error) from None
        if done != len(data):
            os.read(self._read, len(data) - done)
            raise NotAnnounced("memory that was announced is there no more")


def _gone(error: OSError) -> NotAnnounced:
    if error.errno != errno.EFAULT:
        raise error
    return NotAnnounced("memory that was announced is there no more")
