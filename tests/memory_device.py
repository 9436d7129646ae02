"""A virtio memory device beside a naive account of its blocks, for tests of what the specification says."""
# SPDX-License-Identifier: GPL-2.0-or-later

import struct

from hypothesis import strategies as st

from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.units import MiB

PLUG, UNPLUG, UNPLUG_ALL, STATE = range(4)
ACK, NACK, BUSY, ERROR = range(4)
ADDR = 0x1_0000_0000
BLOCK = 2 * MiB
BLOCKS = 24
EXTENT = 4

Op = tuple[str, int, int]
"""What happens to a device: a request by name with place and number of blocks, or a new requested size in blocks."""

operations = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["plug", "unplug", "state"]), st.integers(-2, BLOCKS + 2), st.integers(0, 9)),
        st.tuples(st.just("resize"), st.integers(0, BLOCKS), st.just(0)),
        st.sampled_from([("unplug all", 0, 0), ("reset", 0, 0), ("device reset", 0, 0)]),
    ),
    max_size=30,
)
WORDS = {"plug": PLUG, "unplug": UNPLUG, "state": STATE, "unplug all": UNPLUG_ALL}


class Told:
    """A memory of blocks, kept naively, and the device under test, told the same."""

    def __init__(self) -> None:
        self.device = VirtioMemDevice(Geometry(ADDR, BLOCKS * BLOCK, BLOCK, node_id=3, usable_extent=EXTENT * BLOCK))
        self.blocks = [False] * BLOCKS
        self.notified = 0
        self.device.config_changed.append(self._interrupt)

    def _interrupt(self) -> None:
        self.notified += 1

    def field(self, name: str) -> int:
        """A field of configuration space, at the offset that the specification gives it."""
        at, form = FIELDS[name]
        value: int = struct.unpack_from(form, self.device.read_config(), at)[0]
        return value

    def send(self, kind: int, addr: int = 0, nb_blocks: int = 0, padding: bytes = bytes(6)) -> tuple[int, int]:
        """A request, byte by byte: type and state of the response."""
        data = kind.to_bytes(2, "little") + padding + addr.to_bytes(8, "little") + nb_blocks.to_bytes(2, "little")
        answer, _ = self.device.handle(data + padding)
        assert len(answer) == 10
        assert answer[2:8] == bytes(6)
        return int.from_bytes(answer[:2], "little"), int.from_bytes(answer[8:], "little")

    def do(self, op: Op) -> int | None:
        """Carry out an operation, and keep the naive memory by what the device acknowledged."""
        word, at, count = op
        if word == "resize":
            self.device.resize(at * BLOCK)
            return None
        if word == "reset":
            self.device.system_reset()
            self.blocks = [False] * BLOCKS
            return None
        if word == "device reset":
            self.device.device_reset()
            return None
        answer, _ = self.send(WORDS[word], ADDR + at * BLOCK, count)
        if answer == ACK and word in ("plug", "unplug"):
            self.blocks[at : at + count] = [word == "plug"] * count
        elif answer == ACK and word == "unplug all":
            self.blocks = [False] * BLOCKS
        return answer


FIELDS = {
    "block_size": (0, "<Q"),
    "node_id": (8, "<H"),
    "addr": (16, "<Q"),
    "region_size": (24, "<Q"),
    "usable_region_size": (32, "<Q"),
    "plugged_size": (40, "<Q"),
    "requested_size": (48, "<Q"),
}


def after(history: list[Op]) -> Told:
    """A device with a history."""
    told = Told()
    for op in history:
        told.do(op)
    return told
