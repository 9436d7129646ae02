"""What a front end of vhost-user may rely on, and what it cannot do to the process that serves it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path

import pytest

from front_end import (
    AT,
    AVAILABLE,
    BLOCK,
    DATA,
    GUEST,
    REGION,
    SIZE,
    USED,
    USER,
    FrontEnd,
    Served,
    plug,
    served,
)
from memhp.errors import BadInput
from memhp.hw.devices.virtio_mem import Geometry
from memhp.scenario.schema import Fault
from memhp.target.device.control import Ask
from memhp.units import MiB


def fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_sockets_are_of_their_owner_alone_and_go_with_the_server(tmp_path: Path) -> None:
    with served(tmp_path) as host:
        for path in (host.path, host.control):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == []


def test_what_another_server_left_is_cleared_away_and_what_it_uses_is_not(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(os.fspath(tmp_path / "s"))
    left.close()
    with served(tmp_path), pytest.raises(BadInput, match="another program listens there"), served(tmp_path):
        pass
    (tmp_path / "s").write_text("mine")
    with pytest.raises(BadInput, match="is there already, and no socket"), served(tmp_path):
        pass
    assert (tmp_path / "s").read_text() == "mine"


def test_features_and_configuration_are_those_of_the_device(front: FrontEnd, host: Served) -> None:
    assert front.number(1) == 1 << 32 | 1 << 30 | 1 << 28 | 1 << 1 | 1 << 0
    assert front.number(15) == 1 << 13 | 1 << 9 | 1 << 5 | 1 << 3 | 1 << 0
    assert front.number(17) == 1
    host.server.answer(Ask(requested=512 * MiB))
    assert front.config() == struct.pack("<QH6xQQQQQ", BLOCK, 0, AT, REGION, 768 * MiB, 0, 512 * MiB)
    assert front.config(48, 8) == struct.pack("<Q", 512 * MiB)
    assert front.ask(24, struct.pack("<III", 52, 8, 0) + bytes(8)) == b""


def test_nobody_writes_to_configuration_space(front: FrontEnd) -> None:
    front.send(16, struct.pack("<Q", 1 << 9 | 1 << 3))
    before = front.config()
    assert front.ask(25, struct.pack("<III", 48, 8, 0) + b"\xff" * 8, flags=1 | 8) != bytes(8)
    assert front.config() == before


@pytest.mark.parametrize("indirect", [True, False])
def test_requests_are_answered_in_the_queue_and_the_driver_is_interrupted(
    front: FrontEnd, host: Served, indirect: bool
) -> None:
    front.hello()
    answers = [front.request(data, indirect=indirect) for data in (plug(0, 4), plug(2, 1), plug(0, 1, 3), plug(4, 5))]
    assert [struct.unpack("<H6xH", each) for each in answers] == [(0, 0), (3, 0), (0, 0), (1, 0)]
    assert front.interrupted()
    assert struct.unpack_from("<II", front.memory, USED + 4) == (0, 10)
    assert host.server.status().plugged_size == 4 * BLOCK


def test_a_driver_that_wants_no_interrupts_gets_none(front: FrontEnd) -> None:
    front.hello()
    struct.pack_into("<H", front.memory, AVAILABLE, 1)
    front.request(plug(0, 1, 3))
    assert not front.interrupted()


def test_a_request_in_pieces_across_regions_of_memory_is_one(front: FrontEnd) -> None:
    front.hello()
    half = SIZE // 2
    table = front.table((GUEST, half, USER, 0), (GUEST + half, half, USER + half, half))
    assert front.ask(5, table, (front.fd, front.fd), flags=1 | 8) == bytes(8)
    data, at = plug(0, 1, 3), half - 5
    front.memory[at : at + 24] = data
    front.describe(0, GUEST + at, 7, 1, 1)
    front.describe(1, GUEST + at + 7, 17, 1, 2)
    front.describe(2, GUEST + DATA, 4, 3, 3)
    front.describe(3, GUEST + DATA + 4, 30, 2)
    front.offer(0)
    assert front.used() == 1
    assert struct.unpack_from("<H6xH", front.memory, DATA) == (0, 1)
    assert struct.unpack_from("<II", front.memory, USED + 4) == (0, 10)


def test_the_front_end_hears_of_another_requested_size(front: FrontEnd, host: Served) -> None:
    front.hello()
    host.server.answer(Ask(requested=64 * BLOCK))
    assert front.channel.recv(100) == struct.pack("<III", 2, 1, 0)
    host.server.answer(Ask(requested=64 * BLOCK))
    front.channel.setblocking(False)
    with pytest.raises(BlockingIOError):
        front.channel.recv(1)


def test_a_front_end_that_does_not_listen_is_not_waited_for(front: FrontEnd, host: Served) -> None:
    front.hello()
    for count in range(100_000):
        host.server.answer(Ask(requested=(count % 2) * BLOCK))
        if len(host.said) > 1:
            break
    assert host.said[1:] == [
        "the front end is not told of configuration changes any more: Resource temporarily unavailable"
    ]
    assert front.config()[48:] == struct.pack("<Q", (count % 2) * BLOCK)


def test_a_disabled_or_stopped_ring_waits_and_goes_on_where_it_was(front: FrontEnd) -> None:
    front.hello()
    front.send(18, struct.pack("<II", 0, 0))
    front.queue(plug(0, 1, 3))
    assert front.used() == 0
    front.send(18, struct.pack("<II", 0, 1))
    assert front.used() == 1
    assert front.ask(11, struct.pack("<II", 0, 0)) == struct.pack("<II", 0, 1)
    front.queue(plug(0, 1, 3))
    assert front.used() == 1
    front.start(base=1)
    assert front.used() == 2
    front.index = 2
    front.request(plug(0, 1, 3))


def test_what_is_plugged_outlives_reset_and_reconnection(front: FrontEnd, host: Served) -> None:
    front.hello()
    front.request(plug(0, 8))
    front.send(34)
    front.queue(plug(0, 1, 3))
    assert front.used() == 1
    front.start()
    front.line.close()
    host.turn()
    second = FrontEnd(host.path, host.turn)
    second.hello()
    assert second.config()[40:48] == struct.pack("<Q", 8 * BLOCK)
    assert struct.unpack("<H6xH", second.request(plug(0, 8, 3))) == (0, 0)
    second.close()
    host.turn()
    assert host.said == ["a front end is connected", "the front end has gone"] * 2


def test_an_answer_that_is_due_later_comes_later_and_holds_the_queue_up(front: FrontEnd, host: Served) -> None:
    front.hello()
    host.server.answer(Ask(faults=[Fault(delay=2.5)]))
    front.queue(plug(0, 1, 3))
    front.offer(0)
    host.clock.now = 2.4
    host.turn()
    assert front.used() == 0
    host.clock.now = 2.5
    host.turn()
    assert front.used() == 2
    assert [row.delay for row in host.server.status(since=0).requests] == [2.5, 0]


def test_a_stopped_ring_has_no_answer_outstanding(front: FrontEnd, host: Served) -> None:
    front.hello()
    host.server.answer(Ask(faults=[Fault(delay=3600)]))
    front.queue(plug(0, 1, 3))
    assert front.ask(11, struct.pack("<II", 0, 0)) == struct.pack("<II", 0, 1)
    assert front.used() == 1


def test_unplugged_memory_goes_back_to_the_host(tmp_path: Path) -> None:
    page = 4096
    with served(tmp_path, Geometry(GUEST + SIZE // 2, SIZE // 2, 64 * 1024)) as host:
        front = FrontEnd(host.path, host.turn)
        front.hello()
        host.server.answer(Ask(requested=SIZE // 2))
        half = SIZE // 2
        front.memory[:] = front.memory[:half] + b"\x55" * half
        before = os.fstat(front.fd).st_blocks * 512
        assert front.request(struct.pack("<H6xQH6x", 0, GUEST + half, 4))[0] == 0
        assert front.memory[half] == 0x55
        assert front.request(struct.pack("<H6xQH6x", 1, GUEST + half, 4))[0] == 0
        assert before - os.fstat(front.fd).st_blocks * 512 == 64 * page
        assert front.memory[half : half + 4 * 64 * 1024] == bytes(4 * 64 * 1024)
        assert front.memory[half + 4 * 64 * 1024 :] == b"\x55" * (half - 4 * 64 * 1024)
        front.close()


STATE = struct.pack("<II", 0, 64)
BAD_MESSAGES = {
    "an unknown request": (99, b"", ()),
    "a request for another kind of device": (26, bytes(16), ()),
    "no payload where one is wanted": (2, b"", ()),
    "a payload that is too short": (8, bytes(4), ()),
    "a payload that is too long": (8, bytes(12), ()),
    "a payload where none is wanted": (1, bytes(8), ()),
    "features that were not offered": (2, struct.pack("<Q", 1 << 34), ()),
    "protocol features that were not offered": (16, struct.pack("<Q", 1 << 2), ()),
    "a second ring": (8, struct.pack("<II", 1, 64), ()),
    "a ring of no entries": (8, struct.pack("<II", 0, 0), ()),
    "a ring of 3 entries": (8, struct.pack("<II", 0, 3), ()),
    "a ring that is too large": (8, struct.pack("<II", 0, 1 << 16), ()),
    "a ring that is not aligned": (9, struct.pack("<IIQQQQ", 0, 0, 8, 0, 0, 0), ()),
    "a ring whose writes are to be logged": (9, struct.pack("<IIQQQQ", 0, 1, 0, 0, 0, 0), ()),
    "a place in the ring that there is not": (10, struct.pack("<II", 0, 1 << 16), ()),
    "a ring to be polled": (12, struct.pack("<Q", 1 << 8), ()),
    "a kick without its file": (12, struct.pack("<Q", 0), ()),
    "a kick that is no eventfd": (12, struct.pack("<Q", 0), ("memory",)),
    "a call with two files": (13, struct.pack("<Q", 0), ("kick", "kick")),
    "a file where none is wanted": (1, b"", ("kick",)),
    "a channel that is no socket": (21, b"", ("kick",)),
    "a channel without its file": (21, b"", ()),
    "configuration of another length than said": (24, struct.pack("<III", 0, 8, 0), ()),
    "configuration without a range": (25, bytes(4), ()),
    "a memory table without a count": (5, bytes(4), ()),
    "a memory table of 9 regions": (5, struct.pack("<II", 9, 0) + bytes(32 * 8), ()),
    "a memory table that is cut short": (5, struct.pack("<II", 2, 0) + bytes(32), ("memory",)),
    "memory without its file": (5, struct.pack("<IIQQQQ", 1, 0, GUEST, SIZE, USER, 0), ()),
    "memory that is no file": (5, struct.pack("<IIQQQQ", 1, 0, GUEST, SIZE, USER, 0), ("kick",)),
    "memory beyond the end of its file": (5, struct.pack("<IIQQQQ", 1, 0, GUEST, SIZE + 1, USER, 0), ("memory",)),
    "memory at an offset beyond its file": (5, struct.pack("<IIQQQQ", 1, 0, GUEST, SIZE, USER, 1 << 40), ("memory",)),
    "memory at the end of the world": (5, struct.pack("<IIQQQQ", 1, 0, (1 << 64) - 8, SIZE, USER, 0), ("memory",)),
    "memory of no size": (5, struct.pack("<IIQQQQ", 1, 0, GUEST, 0, USER, 0), ("memory",)),
    "memory twice at one address": (
        5,
        struct.pack("<II", 2, 0) + struct.pack("<QQQQ", GUEST, 4096, USER, 0) * 2,
        ("memory", "memory"),
    ),
    "more files than regions": (5, struct.pack("<IIQQQQ", 1, 0, GUEST, SIZE, USER, 0), ("memory", "memory")),
}


@pytest.mark.parametrize("what", BAD_MESSAGES)
def test_a_message_that_may_not_be_ends_its_connection_with_one_line(what: str, host: Served) -> None:
    host.turn()
    before = fds()
    front = FrontEnd(host.path, host.turn)
    front.hello()
    known = {"memory": front.fd, "kick": front.kick}
    request, payload, files = BAD_MESSAGES[what]
    front.send(request, payload, tuple(known[each] for each in files))
    assert front.ended(), what
    front.close()
    host.turn()
    assert host.said[0] == "a front end is connected"
    (line,) = host.said[1:]
    assert line.startswith("the front end broke the protocol, its connection ends: ")
    assert fds() == before
    again = FrontEnd(host.path, host.turn)
    again.hello()
    assert again.request(plug(0, 1, 3))[0] == 0
    again.close()


@pytest.mark.parametrize("flags", [0, 2, 1 | 4])
def test_a_header_of_no_request_ends_the_connection(flags: int, front: FrontEnd, host: Served) -> None:
    front.send(1, flags=flags)
    assert front.ended()
    assert len(host.said) == 2


def test_a_payload_that_is_announced_too_long_is_never_waited_for(front: FrontEnd, host: Served) -> None:
    front.line.send(struct.pack("<III", 5, 1, 1 << 31))
    host.turn()
    assert front.ended()
    assert "a payload of 2147483648 bytes" in host.said[1]


@pytest.mark.parametrize("size", [1, 11, 12, 15])
def test_a_message_that_is_cut_short_ends_the_connection(size: int, front: FrontEnd, host: Served) -> None:
    front.line.send(struct.pack("<IIIII", 8, 1, 8, 0, 64)[:size])
    front.line.close()
    host.turn()
    (line,) = host.said[1:]
    assert "before the end of a message" in line


def test_a_message_may_come_byte_by_byte(front: FrontEnd, host: Served) -> None:
    for byte in struct.pack("<IIIQ", 16, 1, 8, 1 << 9):
        front.line.send(bytes([byte]))
        host.turn()
    assert front.config()[:8] == struct.pack("<Q", BLOCK)


def test_a_front_end_that_never_reads_is_left(front: FrontEnd, host: Served) -> None:
    front.line.setblocking(False)
    while len(host.said) == 1:
        with suppress(BlockingIOError, BrokenPipeError):
            front.line.send(struct.pack("<III", 1, 1, 0) * 100)
        host.turn()
    assert host.said[1].endswith("the front end does not read its answers")


def test_nine_files_with_one_message_are_closed_again(front: FrontEnd, host: Served) -> None:
    host.turn()
    before = fds()
    socket.send_fds(front.line, [struct.pack("<III", 1, 1, 0)], [front.fd] * 9)
    host.turn()
    assert front.ended()
    assert fds() < before


def test_while_one_front_end_is_served_the_next_waits(front: FrontEnd, host: Served) -> None:
    front.hello()
    second = socket.socket(socket.AF_UNIX)
    second.connect(os.fspath(host.path))
    second.send(struct.pack("<III", 17, 1, 0))
    host.turn()
    assert front.request(plug(0, 1, 3))[0] == 0
    front.line.close()
    host.turn()
    assert second.recv(20) == struct.pack("<IIIQ", 17, 5, 8, 1)
    second.close()
