"""Rings that a driver may not make: they break, and nothing else does."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import struct

import pytest

from front_end import (
    AVAILABLE,
    BLOCK,
    DATA,
    DESCRIPTORS,
    ENTRIES,
    GUEST,
    SIZE,
    TABLE,
    USED,
    USER,
    FrontEnd,
    Served,
    plug,
)


def test_memory_cut_short_after_it_was_announced_breaks_the_ring_and_nothing_else(
    front: FrontEnd, host: Served
) -> None:
    front.hello()
    front.memory.close()
    os.ftruncate(front.fd, 0)
    os.eventfd_write(front.kick, 1)
    host.turn()
    assert host.said[1:] == ["the driver's ring is broken: memory that was announced is there no more"]
    assert os.eventfd_read(front.err) == 1
    assert front.config()[:8] == struct.pack("<Q", BLOCK)
    os.ftruncate(front.fd, SIZE)


def _loop(front: FrontEnd) -> None:
    front.describe(0, GUEST + DATA, 24, 1, 0)


def _far(front: FrontEnd) -> None:
    front.describe(0, GUEST + DATA, 24, 1, ENTRIES)


def _nowhere(front: FrontEnd) -> None:
    front.describe(0, GUEST + SIZE - 10, 24, 1, 1)


def _order(front: FrontEnd) -> None:
    front.describe(0, GUEST + DATA, 24, 3, 1)
    front.describe(1, GUEST + DATA, 24, 0)


def _short(front: FrontEnd) -> None:
    front.describe(0, GUEST + DATA, 23, 1, 1)
    front.describe(1, GUEST + DATA, 10, 2)


def _no_room(front: FrontEnd) -> None:
    front.describe(0, GUEST + DATA, 24, 1, 1)
    front.describe(1, GUEST + DATA, 9, 2)


def _nested(front: FrontEnd) -> None:
    front.describe(0, GUEST + TABLE, 32, 4)
    front.describe(0, GUEST + TABLE, 32, 4, 0, TABLE)


def _odd_table(front: FrontEnd) -> None:
    front.describe(0, GUEST + TABLE, 33, 4)


def _large_table(front: FrontEnd) -> None:
    front.describe(0, GUEST + TABLE, 16 * (ENTRIES + 1), 4)


def _table_and_next(front: FrontEnd) -> None:
    front.describe(0, GUEST + TABLE, 32, 4 | 1, 1)


BAD_CHAINS = {
    "loops": _loop,
    "points beyond the ring": _far,
    "lies outside of memory": _nowhere,
    "is to be read after it is written": _order,
    "is shorter than a request": _short,
    "has no room for a response": _no_room,
    "is a table in a table": _nested,
    "is a table that ends in a descriptor's middle": _odd_table,
    "is a table longer than the ring": _large_table,
    "is a table and goes on": _table_and_next,
}


@pytest.mark.parametrize("what", BAD_CHAINS)
def test_a_chain_that_may_not_be_breaks_the_ring_until_it_is_started_anew(
    what: str, front: FrontEnd, host: Served
) -> None:
    front.hello()
    front.describe(1, GUEST + DATA + 0x100, 10, 2)
    BAD_CHAINS[what](front)
    front.offer(0)
    (line,) = host.said[1:]
    assert line.startswith("the driver's ring is broken: ")
    assert os.eventfd_read(front.err) == 1
    front.queue(plug(0, 1, 3))
    assert (front.used(), len(host.said)) == (0, 2)
    front.ask(11, struct.pack("<II", 0, 0))
    front.start(base=front.index)
    front.request(plug(0, 1, 3))


def test_a_table_of_descriptors_is_refused_where_it_was_not_agreed_on(front: FrontEnd, host: Served) -> None:
    front.hello(features=1 << 32 | 1 << 30)
    front.queue(plug(0, 1, 3))
    assert host.said[1:] == ["the driver's ring is broken: a table of descriptors where none may be"]


def test_more_requests_than_the_ring_has_entries_break_it(front: FrontEnd, host: Served) -> None:
    front.hello()
    struct.pack_into("<H", front.memory, AVAILABLE + 2, ENTRIES + 1)
    os.eventfd_write(front.kick, 1)
    host.turn()
    assert host.said[1:] == ["the driver's ring is broken: 65 requests are available in a ring of 64"]


def test_a_ring_outside_of_memory_is_not_followed(front: FrontEnd, host: Served) -> None:
    front.hello()
    front.send(9, struct.pack("<IIQQQQ", 0, 0, USER + SIZE - 16, USER + USED, USER + AVAILABLE, 0))
    front.describe(0, GUEST + DATA, 24, 1, 1, DESCRIPTORS)
    front.offer(0)
    assert "are not announced" in host.said[1]
