"""The one queue of a virtio-mem device over vhost-user: its ring, its eventfds, and requests answered in order.

A slow answer holds the queue up, as the device does not take the next request before: one response at most is kept.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from memhp.hw.devices.virtio_mem import VirtioMemDevice
from memhp.hw.devices.virtio_mem_wire import REQUEST, RESPONSE
from memhp.target.device.memory import Memory
from memhp.target.device.messages import BrokenProtocol
from memhp.target.device.ring import MOST_ENTRIES, BrokenRing, Chain, Ring

EVENTFD = "anon_inode:[eventfd]"
"""What an event file descriptor is a link to, below ``/proc/self/fd``."""
NANOSECONDS = 1e-9


@dataclass
class Pending:
    """A response that is not given yet; `due` is a time of the clock, in seconds."""

    chain: Chain
    response: bytes
    due: float


@dataclass
class Queue:
    """The queue of a connection. `clock` gives seconds; `say` takes one line about a ring that broke. To be closed."""

    device: VirtioMemDevice
    memory: Memory
    clock: Callable[[], float]
    say: Callable[[str], None]
    ring: Ring = field(init=False)
    enabled: bool = False
    kick: int | None = None
    call: int | None = None
    error: int | None = None
    broken: bool = False
    pending: Pending | None = None

    def __post_init__(self) -> None:
        self.ring = Ring(self.memory)

    def resize(self, entries: int) -> None:
        """How many entries the ring has. Raises :class:`BrokenProtocol` for what no ring has."""
        if not 0 < entries <= MOST_ENTRIES or entries & (entries - 1):
            raise BrokenProtocol(f"a ring of {entries} entries")
        self.ring.entries = entries

    def place(self, descriptors: int, used: int, available: int) -> None:
        """Where the ring is, in the front end's addresses. Raises :class:`BrokenProtocol` if it is not aligned."""
        if descriptors % 16 or available % 2 or used % 4:
            raise BrokenProtocol(f"a ring at {descriptors:#x}, {available:#x} and {used:#x} is not aligned")
        self.ring.descriptors, self.ring.used, self.ring.available = descriptors, used, available
        self.ring.placed = True

    def set_event(self, name: str, fd: int | None) -> None:
        """Take over an eventfd: ``kick``, ``call`` or ``error``. Raises :class:`BrokenProtocol` for any other file."""
        if fd is not None and str(Path(f"/proc/self/fd/{fd}").readlink()) != EVENTFD:
            os.close(fd)
            raise BrokenProtocol(f"the file for {name} is no eventfd")
        if fd is not None:
            os.set_blocking(fd, False)
        old: int | None = getattr(self, name)
        if old is not None:
            os.close(old)
        setattr(self, name, fd)
        if name == "kick":
            self.broken = False

    def stop(self) -> int:
        """Give the answer that is pending, stop, and tell which request would have come next."""
        self._answer()
        self.set_event("kick", None)
        return self.ring.next_available

    def close(self) -> None:
        """Let go of the eventfds; a pending answer is not given."""
        self.pending = None
        for name in ("kick", "call", "error"):
            self.set_event(name, None)

    @property
    def running(self) -> bool:
        """Whether requests are looked for."""
        ready = self.enabled and self.ring.placed and self.ring.entries > 0
        return ready and self.kick is not None and not self.broken

    def due(self) -> float | None:
        """When the pending answer is to be given."""
        return None if self.pending is None else self.pending.due

    def kicked(self) -> None:
        """The driver says that there are requests."""
        if self.kick is not None:
            with suppress(BlockingIOError):
                os.eventfd_read(self.kick)
        self.work()

    def work(self) -> None:
        """Answer what is available, until the ring is empty or an answer is to take its time."""
        if self.pending is not None and self.pending.due <= self.clock():
            self._answer()
        if not self.running or self.pending is not None:
            return
        with self._guarded():
            for _ in range(self.ring.waiting()):
                chain = self.ring.take()
                if chain.writable() < RESPONSE.size:
                    raise BrokenRing(f"room for {chain.writable()} bytes of response, where {RESPONSE.size} are wanted")
                response, delay = self.device.handle(self.ring.read(chain, REQUEST.size))
                self.pending = Pending(chain, response, self.clock() + delay * NANOSECONDS)
                if delay:
                    return
                self._answer()

    def _answer(self) -> None:
        """Put the pending response back, and tell the driver if it wants to hear of it."""
        pending, self.pending = self.pending, None
        if pending is None or self.broken:
            return
        with self._guarded():
            self.ring.put_back(pending.chain, pending.response)
            if self.call is not None and self.ring.interrupts():
                _ring_bell(self.call)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """What a driver breaks inside the block breaks its ring and nothing else."""
        try:
            yield
        except BrokenRing as error:
            self.break_down(str(error))

    def break_down(self, why: str) -> None:
        """The ring is broken: nothing of it is looked at before it is started anew."""
        self.broken = True
        self.pending = None
        self.say(f"the driver's ring is broken: {why}")
        if self.error is not None:
            _ring_bell(self.error)


def _ring_bell(fd: int) -> None:
    with suppress(BlockingIOError):
        os.eventfd_write(fd, 1)
