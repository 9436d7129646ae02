"""Messages and rings of a front end that sends anything: connections end, the process never does, nothing is left.

``MEMHP_FUZZ_RUNS`` sets how many messages are sent, from one seed.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import random
import resource
import struct
from contextlib import suppress
from pathlib import Path

from front_end import AVAILABLE, DATA, DESCRIPTORS, GUEST, SIZE, TABLE, USED, USER, FrontEnd, Served, served
from memhp.scenario.schema import Fault
from memhp.target.device.control import Ask
from memhp.units import MiB

RUNS = int(os.environ.get("MEMHP_FUZZ_RUNS", "10000"))
SEED = 24
SETTLED = 20_000
"""Messages after which memory does not grow any more."""
MOST_GROWTH = 16 * MiB
WORDS = (0, 1, 2, 3, 8, 63, 64, 65, 255, 256, 4096, 1 << 15, (1 << 16) - 1, 1 << 16, 1 << 31, (1 << 32) - 1)
LONG = (*WORDS, GUEST, GUEST + SIZE - 8, USER, USER + SIZE, 1 << 40, (1 << 64) - 1, (1 << 63) + 1)
SAID = (
    "a front end is connected",
    "the front end has gone",
    "the front end broke the protocol",
    "the driver's ring is",
)


class Hostile:
    """A front end that goes on with another connection where one has ended."""

    def __init__(self, host: Served, seed: int) -> None:
        self.host, self.random = host, random.Random(seed)
        self.front: FrontEnd | None = None
        self._before = 0

    def sent(self) -> int:
        """Messages so far, those that greet and those cut short included."""
        return self._before + (self.front.sent if self.front is not None else 0)

    def leave(self) -> None:
        """Go away, if there is a connection."""
        if self.front is not None:
            self._before += self.front.sent
            self.front.close()
            self.front = None
        self.host.turn()

    def word(self) -> int:
        """A 64-bit word, an interesting one mostly."""
        return self.random.choice(LONG) if self.random.random() < 0.8 else self.random.getrandbits(64)

    def short(self) -> int:
        """A 32-bit word."""
        return self.random.choice(WORDS) & 0xFFFFFFFF

    def connected(self) -> FrontEnd:
        """The connection there is, or a new one that gets along with the other side at first."""
        if self.front is None:
            self.front = FrontEnd(self.host.path, self.host.turn)
            if self.random.random() < 0.8:
                self.front.hello(self.random.choice([1 << 32 | 1 << 30 | 1 << 28, 1 << 32 | 1 << 30, 0]))
            self.front.line.setblocking(False)
        return self.front

    def step(self) -> None:
        """One hostile act."""
        front = self.connected()
        act = self.random.choice((self.message, self.message, self.bytes, self.ring, self.ring, self.platform))
        with suppress(BrokenPipeError, ConnectionResetError, BlockingIOError):
            act(front)
        gone = False
        with suppress(BlockingIOError):
            try:
                gone = front.line.recv(1 << 16) == b""
            except ConnectionResetError:
                gone = True
        if gone or self.random.random() < 0.01:
            self.leave()

    def message(self, front: FrontEnd) -> None:
        """A message with a payload of about the right shape, or of any."""
        request = self.random.choice((*range(45), 1 << 31))
        shapes = {
            5: lambda: front.table(
                *[(self.word(), self.word(), self.word(), self.word()) for _ in range(self.random.randrange(4))]
            ),
            9: lambda: struct.pack("<IIQQQQ", self.random.choice((0, 0, 1)), 0, *(self.word() for _ in range(4))),
            24: lambda: struct.pack("<III", self.short(), 8, 0) + bytes(8),
        }
        payload = shapes.get(request, lambda: struct.pack("<II", self.random.choice((0, 0, 0, 1)), self.short()))()
        if self.random.random() < 0.1:
            payload = self.random.randbytes(self.random.randrange(300))
        files = (front.fd, front.kick, front.call, front.far.fileno())
        fds = tuple(self.random.choices(files, k=self.random.choice((0, 1, 1, 2, 9))))
        front.send(request, payload, fds, flags=self.random.choice((1, 1, 1, 9, 9, 0, 5)))

    def bytes(self, front: FrontEnd) -> None:
        """A stream cut anywhere."""
        front.line.send(self.random.randbytes(self.random.randrange(1, 40)))
        front.sent += 1
        self.host.turn()

    def ring(self, front: FrontEnd) -> None:
        """Descriptors, indices and requests that may be anything."""
        for at in range(self.random.randrange(1, 6)):
            flags = self.random.choice((0, 1, 2, 3, 4, 5, 6))
            addr = self.random.choice((GUEST + DATA, GUEST + TABLE, self.word()))
            size = self.random.choice((0, 10, 24, 32, 48, self.short()))
            following = self.random.randrange(6)
            front.describe(at, addr, size, flags, following, self.random.choice((DESCRIPTORS, TABLE)))
        kind, at, count = (
            self.random.randrange(6),
            self.random.choice((8 << 30, self.word())),
            self.random.randrange(70),
        )
        front.memory[DATA : DATA + 24] = struct.pack("<H6xQH6x", kind, at, count)
        if self.random.random() < 0.6:
            front.queue(struct.pack("<H6xQH6x", kind, 8 << 30, count), indirect=self.random.random() < 0.5)
        elif self.random.random() < 0.8:
            front.offer(self.random.choice((0, 0, 1, 5, 63, 64, 65535)))
        else:
            place = self.random.choice((AVAILABLE, AVAILABLE + 2, USED, USED + 2))
            struct.pack_into("<H", front.memory, place, self.random.getrandbits(16))
            os.eventfd_write(front.kick, 1)
            self.host.turn()

    def platform(self, front: FrontEnd) -> None:
        """What is done to the device meanwhile, the guest's memory cut short included."""
        if self.random.random() < 0.1:
            os.ftruncate(front.fd, self.random.choice((0, DATA)))
            os.eventfd_write(front.kick, 1)
            self.host.turn()
            os.ftruncate(front.fd, SIZE)
        faults = [Fault(delay=self.random.choice((0, 0.5)), answer=self.random.choice((None, "BUSY", "ACK")))]
        self.host.server.answer(Ask(requested=self.random.randrange(64) * 2 * MiB, clear=True, faults=faults))
        self.host.clock.now += self.random.random()
        self.host.turn()


def _files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _memory() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_whatever_is_sent_the_server_serves_on(tmp_path: Path) -> None:
    before = _files()
    with served(tmp_path) as host:
        idle = _files()
        hostile, settled, said = Hostile(host, SEED), 0, set()
        while hostile.sent() < RUNS:
            hostile.step()
            if not settled and hostile.sent() > SETTLED:
                settled = _memory()
            said |= {next((each for each in SAID if line.startswith(each)), line) for line in host.said}
            host.said.clear()
        hostile.leave()
        assert said <= {*SAID, "the front end is not told of configuration changes any more: Broken pipe"}
        assert said >= set(SAID)
        assert _files() == idle
        if settled:
            assert _memory() - settled < MOST_GROWTH
        host.server.answer(Ask(clear=True))
        front = FrontEnd(host.path, host.turn)
        front.hello()
        assert front.number(17) == 1
        assert len(front.request(struct.pack("<H6xQH6x", 3, 8 << 30, 1))) == 10
        front.close()
    assert _files() == before
