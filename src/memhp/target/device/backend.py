"""One connection of a front end: its messages, one after another, and what each changes.

Whatever it sends, the connection ends in the worst case, with one line that says why: :meth:`Backend.received` raises
:class:`~memhp.target.device.messages.BrokenProtocol` and the server closes. No more than one message is kept.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import array
import os
import socket
import stat
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from memhp.hw.devices.virtio_mem import VirtioMemDevice
from memhp.hw.devices.virtio_mem_wire import Feature
from memhp.target.device import messages
from memhp.target.device.memory import Memory
from memhp.target.device.messages import BackendRequest, BrokenProtocol, Header, Protocol, Request
from memhp.target.device.queue import Queue

Say = Callable[[str], None]
FD = array.array("i").itemsize
DEVICE_FEATURES = int(Feature.ACPI_PXM | Feature.UNPLUGGED_INACCESSIBLE | Feature.PERSISTENT_SUSPEND)
REFUSED, DONE = 1, 0
"""What NEED_REPLY is answered with."""

Answer = bytes | int | None
"""A payload to reply with; whether a request without one was done, for NEED_REPLY."""


class Backend:
    """A connection on a non-blocking stream socket, which it owns. To be closed."""

    def __init__(
        self, line: socket.socket, device: VirtioMemDevice, say: Say, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.line = line
        self.device = device
        self.say = say
        self.memory = Memory()
        self.queue = Queue(device, self.memory, clock, say)
        self.features: int | None = None
        self.protocol = Protocol(0)
        self._channel: socket.socket | None = None
        self._data = b""
        self._fds: list[int] = []
        line.setblocking(False)
        device.config_changed.append(self._tell_config)

    # The stream ----------------------------------------------------------------------------------------------

    def received(self) -> bool:
        """Take what has come; False when the front end has closed. Raises :class:`BrokenProtocol`."""
        header = Header.unpack(self._data[: messages.HEADER.size]) if len(self._data) >= messages.HEADER.size else None
        wanted = messages.HEADER.size + (header.size if header else 0) - len(self._data)
        if wanted and not self._more(wanted):
            return False
        if len(self._data) < messages.HEADER.size:
            return True
        header = Header.unpack(self._data[: messages.HEADER.size])
        if len(self._data) < messages.HEADER.size + header.size:
            return True
        payload, fds = self._data[messages.HEADER.size :], self._fds
        self._data, self._fds = b"", []
        try:
            self._handle(header, payload, fds)
        finally:
            _close(fds)
        return True

    def _more(self, wanted: int) -> bool:
        """Add to the message that is on its way; False at the end of the stream."""
        room = socket.CMSG_SPACE(messages.MOST_REGIONS * FD)
        try:
            data, ancillary, flags, _ = self.line.recvmsg(wanted, room, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return True
        except OSError as error:
            raise BrokenProtocol(f"the connection broke: {error.strerror}") from None
        for level, kind, part in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._fds += array.array("i", part[: len(part) - len(part) % FD])
        if flags & socket.MSG_CTRUNC or len(self._fds) > messages.MOST_REGIONS:
            raise BrokenProtocol(f"more than {messages.MOST_REGIONS} file descriptors with one message")
        if not data and self._data:
            raise BrokenProtocol(f"the connection ended {wanted} bytes before the end of a message")
        self._data += data
        return bool(data)

    def _send(self, data: bytes) -> None:
        try:
            sent = self.line.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise BrokenProtocol(f"the connection broke: {error.strerror}") from None
        if sent != len(data):
            raise BrokenProtocol("the front end does not read its answers")

    def close(self) -> None:
        """Let go of the connection, the guest's memory and every file descriptor."""
        with suppress(ValueError):
            self.device.config_changed.remove(self._tell_config)
        self.queue.close()
        self.memory.close()
        _close(self._fds)
        self._fds = []
        if self._channel is not None:
            self._channel.close()
        self.line.close()

    # What the device tells -----------------------------------------------------------------------------------

    def _tell_config(self) -> None:
        """The configuration changed: the front end interrupts the driver."""
        if self._channel is None:
            return
        try:
            self._channel.send(messages.notice(BackendRequest.CONFIG_CHANGE_MSG))
        except OSError as error:
            self.say(f"the front end is not told of configuration changes any more: {error.strerror}")
            self._channel.close()
            self._channel = None

    # The messages --------------------------------------------------------------------------------------------

    def _handle(self, header: Header, payload: bytes, fds: list[int]) -> None:
        handler = HANDLERS.get(header.request)
        if handler is None:
            raise BrokenProtocol(f"request {header.request}, which was not agreed on")
        if fds and header.request not in WITH_FDS:
            raise BrokenProtocol(f"file descriptors with {Request(header.request).name}")
        answer = handler(self, payload, fds)
        if isinstance(answer, bytes):
            self._send(messages.reply(header.request, answer))
        elif header.flags & messages.NEED_REPLY and Protocol.REPLY_ACK in self.protocol:
            self._send(messages.reply(header.request, messages.U64.pack(answer or DONE)))

    @property
    def offered(self) -> int:
        """Feature bits of the device and of its queue."""
        mine = messages.VERSION_1 | messages.INDIRECT_DESC | messages.PROTOCOL_FEATURES
        return mine | int(self.device.geometry.features)

    def get_features(self, payload: bytes, _: list[int]) -> Answer:
        """What device and back end can."""
        _empty(payload)
        return messages.U64.pack(self.offered)

    def set_features(self, payload: bytes, _: list[int]) -> Answer:
        """What driver and front end take of it. Without protocol features a ring is enabled from the start."""
        (features,) = messages.exactly(messages.U64, payload)
        if features & ~self.offered:
            raise BrokenProtocol(f"features {features & ~self.offered:#x} were not offered")
        self.features = features
        self.device.negotiate(Feature(features & DEVICE_FEATURES))
        self.queue.ring.indirect = bool(features & messages.INDIRECT_DESC)
        if not features & messages.PROTOCOL_FEATURES:
            self.queue.enabled = True
        return None

    def get_protocol_features(self, payload: bytes, _: list[int]) -> Answer:
        """What this back end has of the protocol."""
        _empty(payload)
        return messages.U64.pack(int(messages.PROTOCOL))

    def set_protocol_features(self, payload: bytes, _: list[int]) -> Answer:
        """What is used of it."""
        (features,) = messages.exactly(messages.U64, payload)
        if features & ~int(messages.PROTOCOL):
            raise BrokenProtocol(f"protocol features {features & ~int(messages.PROTOCOL):#x} were not offered")
        self.protocol = Protocol(features)
        return None

    def get_queue_num(self, payload: bytes, _: list[int]) -> Answer:
        """A virtio-mem device has one queue."""
        _empty(payload)
        return messages.U64.pack(1)

    def owner(self, payload: bytes, _: list[int]) -> Answer:
        """A session begins, or, as old front ends say it, ends: nothing hangs on either."""
        _empty(payload)
        return None

    def reset_device(self, payload: bytes, _: list[int]) -> Answer:
        """The device is reset: its queue stops; what is plugged stays plugged, as the specification wants."""
        _empty(payload)
        self.queue.stop()
        self.queue.enabled = False
        self.device.device_reset()
        self.device.config_changed.append(self._tell_config)
        return None

    def set_mem_table(self, payload: bytes, fds: list[int]) -> Answer:
        """The guest's memory."""
        self.memory.announce(messages.memory_table(payload), fds)
        return None

    def set_vring_num(self, payload: bytes, _: list[int]) -> Answer:
        """How many entries the ring has."""
        self.queue.resize(_state(payload))
        return None

    def set_vring_addr(self, payload: bytes, _: list[int]) -> Answer:
        """Where it is."""
        index, flags, descriptors, used, available, _log = messages.exactly(messages.VRING_ADDR, payload)
        _first(index)
        if flags:
            raise BrokenProtocol(f"a ring with flags {flags:#x}")
        self.queue.place(descriptors, used, available)
        return None

    def set_vring_base(self, payload: bytes, _: list[int]) -> Answer:
        """Which request comes next."""
        base = _state(payload)
        if base >= 1 << 16:
            raise BrokenProtocol(f"a ring that is at {base}")
        self.queue.ring.next_available = base
        return None

    def get_vring_base(self, payload: bytes, _: list[int]) -> Answer:
        """The ring stops, and the front end is told which request comes next."""
        _state(payload)
        return messages.VRING_STATE.pack(0, self.queue.stop())

    def set_vring_enable(self, payload: bytes, _: list[int]) -> Answer:
        """The ring is enabled or disabled."""
        self.queue.enabled = bool(_state(payload))
        self.queue.work()
        return None

    def set_vring_kick(self, payload: bytes, fds: list[int]) -> Answer:
        """Where the driver kicks, from which on the ring is started."""
        fd = _event(payload, fds)
        if fd is None:
            raise BrokenProtocol("a ring without a kick, which is to be polled")
        self.queue.set_event("kick", fd)
        self.queue.work()
        return None

    def set_vring_call(self, payload: bytes, fds: list[int]) -> Answer:
        """Where the driver is told of responses."""
        self.queue.set_event("call", _event(payload, fds))
        return None

    def set_vring_err(self, payload: bytes, fds: list[int]) -> Answer:
        """Where the front end is told of a broken ring."""
        self.queue.set_event("error", _event(payload, fds))
        return None

    def set_backend_req_fd(self, payload: bytes, fds: list[int]) -> Answer:
        """The channel for what the back end tells of itself."""
        _empty(payload)
        if len(fds) != 1 or not stat.S_ISSOCK(os.fstat(fds[0]).st_mode):
            raise BrokenProtocol("a channel that is no socket")
        channel = socket.socket(fileno=fds.pop())
        channel.setblocking(False)
        if self._channel is not None:
            self._channel.close()
        self._channel = channel
        return None

    def get_config(self, payload: bytes, _: list[int]) -> Answer:
        """A piece of configuration space; an answer without a payload says that there is no such piece."""
        offset, size = messages.config_range(payload)
        config = self.device.read_config()
        if offset + size > len(config):
            return b""
        return payload[: messages.CONFIG.size] + config[offset : offset + size]

    def set_config(self, payload: bytes, _: list[int]) -> Answer:
        """No driver may write to the configuration space of a memory device: nothing changes."""
        messages.config_range(payload)
        return REFUSED


HANDLERS: dict[int, Callable[[Backend, bytes, list[int]], Answer]] = {
    Request.GET_FEATURES: Backend.get_features,
    Request.SET_FEATURES: Backend.set_features,
    Request.SET_OWNER: Backend.owner,
    Request.RESET_OWNER: Backend.owner,
    Request.SET_MEM_TABLE: Backend.set_mem_table,
    Request.SET_VRING_NUM: Backend.set_vring_num,
    Request.SET_VRING_ADDR: Backend.set_vring_addr,
    Request.SET_VRING_BASE: Backend.set_vring_base,
    Request.GET_VRING_BASE: Backend.get_vring_base,
    Request.SET_VRING_KICK: Backend.set_vring_kick,
    Request.SET_VRING_CALL: Backend.set_vring_call,
    Request.SET_VRING_ERR: Backend.set_vring_err,
    Request.GET_PROTOCOL_FEATURES: Backend.get_protocol_features,
    Request.SET_PROTOCOL_FEATURES: Backend.set_protocol_features,
    Request.GET_QUEUE_NUM: Backend.get_queue_num,
    Request.SET_VRING_ENABLE: Backend.set_vring_enable,
    Request.SET_BACKEND_REQ_FD: Backend.set_backend_req_fd,
    Request.GET_CONFIG: Backend.get_config,
    Request.SET_CONFIG: Backend.set_config,
    Request.RESET_DEVICE: Backend.reset_device,
}
"""What each request does."""

WITH_FDS = {
    Request.SET_MEM_TABLE,
    Request.SET_VRING_KICK,
    Request.SET_VRING_CALL,
    Request.SET_VRING_ERR,
    Request.SET_BACKEND_REQ_FD,
}
"""Requests with file descriptors beside them."""


def _empty(payload: bytes) -> None:
    if payload:
        raise BrokenProtocol(f"a payload of {len(payload)} bytes, where none is wanted")


def _first(index: int) -> None:
    if index:
        raise BrokenProtocol(f"ring {index}, where there is one")


def _state(payload: bytes) -> int:
    """The number that is said of the one ring."""
    index, number = messages.exactly(messages.VRING_STATE, payload)
    _first(index)
    return number


def _event(payload: bytes, fds: list[int]) -> int | None:
    """The file descriptor that is said of the one ring, taken out of `fds`; None where the message says none."""
    (word,) = messages.exactly(messages.U64, payload)
    _first(word & messages.RING_INDEX)
    if word & ~(messages.RING_INDEX | messages.NO_FD) or len(fds) != (0 if word & messages.NO_FD else 1):
        raise BrokenProtocol(f"{len(fds)} file descriptors with {word:#x}")
    return fds.pop() if fds else None


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
