"""What a virtio memory device and its driver say to each other, byte for byte.

Virtio specification, section Memory Device: "Device configuration layout" and "Device Operation"; the names are those
of ``include/uapi/linux/virtio_mem.h``. Everything is little-endian.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from enum import IntEnum, IntFlag
from struct import Struct
from typing import NamedTuple

from memhp.spans import Span

VIRTIO_ID_MEM = 24
"""Device ID."""

CONFIG = Struct("<QH6xQQQQQ")
"""``struct virtio_mem_config``: 56 bytes."""
REQUEST = Struct("<H6xQH6x")
"""``struct virtio_mem_req``: 24 bytes; the three kinds of data that it may carry have the same layout."""
RESPONSE = Struct("<H6xH")
"""``struct virtio_mem_resp``: 10 bytes."""

MAX_BLOCKS = (1 << 16) - 1
"""Blocks that one request can name."""


class Feature(IntFlag):
    """Feature bits, as masks."""

    NONE = 0
    ACPI_PXM = 1 << 0
    """``node_id`` is valid: an ACPI proximity domain."""
    UNPLUGGED_INACCESSIBLE = 1 << 1
    """The driver must not touch unplugged memory, not even to read it."""
    PERSISTENT_SUSPEND = 1 << 2
    """Plugged memory stays plugged over suspend and resume."""


class RequestType(IntEnum):
    """``VIRTIO_MEM_REQ_*``."""

    PLUG = 0
    UNPLUG = 1
    UNPLUG_ALL = 2
    STATE = 3


class ResponseType(IntEnum):
    """``VIRTIO_MEM_RESP_*``."""

    ACK = 0
    NACK = 1
    """Denied: more than requested."""
    BUSY = 2
    """Not now, try again."""
    ERROR = 3
    """A request that cannot be meant: address, alignment, state of the blocks."""


class BlockState(IntEnum):
    """``VIRTIO_MEM_STATE_*``: of a run of blocks."""

    PLUGGED = 0
    UNPLUGGED = 1
    MIXED = 2


class Config(NamedTuple):
    """``struct virtio_mem_config``, sizes and addresses in bytes."""

    block_size: int
    node_id: int
    addr: int
    region_size: int
    usable_region_size: int
    plugged_size: int
    requested_size: int

    def pack(self) -> bytes:
        """The configuration space as the driver reads it; padding is zero."""
        return CONFIG.pack(*self)

    @classmethod
    def unpack(cls, data: bytes) -> "Config":
        """What a driver understands of the configuration space; it ignores padding."""
        return cls(*CONFIG.unpack(data))


class Request(NamedTuple):
    """``struct virtio_mem_req``: `type` is kept as it came, known or not; `addr` in bytes."""

    type: int
    addr: int = 0
    nb_blocks: int = 0

    def pack(self) -> bytes:
        """The request as the driver puts it into the queue. Raises struct.error for what does not fit."""
        return REQUEST.pack(*self)

    @classmethod
    def unpack(cls, data: bytes) -> "Request":
        """What a device understands of a request; it ignores padding. Raises struct.error for other lengths."""
        return cls(*REQUEST.unpack(data))

    def span(self, block_size: int) -> Span:
        """The bytes of guest physical address space that the request names."""
        return Span(self.addr, self.addr + self.nb_blocks * block_size)

    def __str__(self) -> str:
        name = RequestType(self.type).name if self.type in set(RequestType) else f"type {self.type}"
        return name if self.type == RequestType.UNPLUG_ALL else f"{name} {self.addr:#x} {self.nb_blocks}"


class Response(NamedTuple):
    """``struct virtio_mem_resp``: `state` has a meaning when a STATE request is acknowledged, else it is zero."""

    type: ResponseType
    state: int = 0

    def pack(self) -> bytes:
        """The response as the device writes it."""
        return RESPONSE.pack(*self)

    @classmethod
    def unpack(cls, data: bytes) -> "Response":
        """What a driver understands of a response. Raises ValueError for an unknown type."""
        kind, state = RESPONSE.unpack(data)
        return cls(ResponseType(kind), state)
