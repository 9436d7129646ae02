"""What a front end and a back end of vhost-user say to each other, byte for byte.

QEMU's ``docs/interop/vhost-user.rst``; names are its own. A message is a header of three 32-bit words, a payload, and
file descriptors beside its first byte. All words are little-endian here, as on every machine that this runs on.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from enum import IntEnum, IntFlag
from struct import Struct
from typing import NamedTuple

HEADER = Struct("<III")
"""Request, flags, bytes of payload."""
U64 = Struct("<Q")
VRING_STATE = Struct("<II")
"""Index of a ring and a number."""
VRING_ADDR = Struct("<IIQQQQ")
"""Index, flags, and the front end's addresses of descriptors, used ring, available ring and log."""
REGIONS = Struct("<I4x")
REGION = Struct("<QQQQ")
CONFIG = Struct("<III")
"""Offset, size and flags; as many bytes follow."""

VERSION = 1
VERSION_MASK = 3
REPLY = 1 << 2
NEED_REPLY = 1 << 3

MOST_REGIONS = 8
"""Regions of memory in one table, and file descriptors with one message."""
MOST_CONFIG = 256
"""Bytes of configuration space that one message carries."""
MOST_PAYLOAD = CONFIG.size + MOST_CONFIG
"""No message of a device without live migration, IOMMU or crypto is longer than a piece of configuration space."""

RING_INDEX = 0xFF
NO_FD = 1 << 8
"""In what comes with a kick, call or error descriptor: there is none."""


class BrokenProtocol(Exception):
    """The front end said what it must not say; nothing that it says can be relied on any more."""


class Request(IntEnum):
    """``VHOST_USER_*``: what a front end may ask of this back end."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SET_BACKEND_REQ_FD = 21
    GET_CONFIG = 24
    SET_CONFIG = 25
    RESET_DEVICE = 34


class BackendRequest(IntEnum):
    """``VHOST_USER_BACKEND_*``: what this back end tells of itself."""

    CONFIG_CHANGE_MSG = 2


class Protocol(IntFlag):
    """``VHOST_USER_PROTOCOL_F_*`` that this back end has."""

    MQ = 1 << 0
    REPLY_ACK = 1 << 3
    BACKEND_REQ = 1 << 5
    CONFIG = 1 << 9
    RESET_DEVICE = 1 << 13


PROTOCOL = Protocol.MQ | Protocol.REPLY_ACK | Protocol.BACKEND_REQ | Protocol.CONFIG | Protocol.RESET_DEVICE
"""All of them."""

PROTOCOL_FEATURES = 1 << 30
"""The feature bit that stands for there being protocol features: ``VHOST_USER_F_PROTOCOL_FEATURES``."""
VERSION_1 = 1 << 32
"""``VIRTIO_F_VERSION_1``."""
INDIRECT_DESC = 1 << 28
"""``VIRTIO_F_INDIRECT_DESC``."""


class Header(NamedTuple):
    """The first 12 bytes of a message."""

    request: int
    flags: int
    size: int

    @classmethod
    def unpack(cls, data: bytes) -> "Header":
        """A front end's header. Raises :class:`BrokenProtocol` for one that no request has."""
        header = cls(*HEADER.unpack(data))
        if header.flags & VERSION_MASK != VERSION or header.flags & REPLY:
            raise BrokenProtocol(f"flags {header.flags:#x} are those of no request of version {VERSION}")
        if header.size > MOST_PAYLOAD:
            raise BrokenProtocol(f"a payload of {header.size} bytes, where {MOST_PAYLOAD} is the most")
        return header


class Region(NamedTuple):
    """A run of guest physical memory in a file: bytes; `user` is where the front end has it."""

    guest: int
    size: int
    user: int
    offset: int


def reply(request: int, payload: bytes) -> bytes:
    """The answer to a request."""
    return HEADER.pack(request, VERSION | REPLY, len(payload)) + payload


def notice(request: BackendRequest) -> bytes:
    """A message of the back end without a payload."""
    return HEADER.pack(request, VERSION, 0)


def exactly(layout: Struct, payload: bytes) -> tuple[int, ...]:
    """The words of a payload. Raises :class:`BrokenProtocol` for one of another length."""
    if len(payload) != layout.size:
        raise BrokenProtocol(f"a payload of {len(payload)} bytes, where {layout.size} are wanted")
    return layout.unpack(payload)


def memory_table(payload: bytes) -> list[Region]:
    """The regions of SET_MEM_TABLE. Raises :class:`BrokenProtocol`."""
    if len(payload) < REGIONS.size:
        raise BrokenProtocol("a memory table without its number of regions")
    (count,) = REGIONS.unpack_from(payload)
    if count > MOST_REGIONS or len(payload) != REGIONS.size + count * REGION.size:
        raise BrokenProtocol(f"{len(payload)} bytes are no memory table of {count} regions, of which it has at most 8")
    return [Region(*REGION.unpack_from(payload, REGIONS.size + place * REGION.size)) for place in range(count)]


def config_range(payload: bytes) -> tuple[int, int]:
    """Offset and size of the piece that a configuration message is about. Raises :class:`BrokenProtocol`."""
    if len(payload) < CONFIG.size:
        raise BrokenProtocol("a configuration message without offset and size")
    offset, size, _ = CONFIG.unpack_from(payload)
    if len(payload) != CONFIG.size + size:
        raise BrokenProtocol(f"a configuration message of {len(payload)} bytes about {size}")
    return offset, size
