"""What a virtio memory device must do to memory, and what features allow: the specification's device sections."""
# SPDX-License-Identifier: GPL-2.0-or-later

from hypothesis import given
from hypothesis import strategies as st

from memhp.hw.devices.backing import MachineBacking
from memhp.hw.devices.virtio_mem import Geometry, VirtioMemDevice
from memhp.hw.devices.virtio_mem_wire import Feature
from memhp.hw.machine import Machine
from memhp.hw.memory import Owner, Use
from memhp.hw.tlb import Table
from memhp.linux.arch.riscv.format import SV39
from memhp.spans import Span
from memory_device import ADDR, BLOCK, BLOCKS, EXTENT, Op, Told, operations


class Watched:
    """Memory behind the blocks that notes what comes and goes, in blocks."""

    def __init__(self) -> None:
        self.there = [False] * BLOCKS
        self.touched: list[tuple[str, int, int]] = []

    def _note(self, what: str, span: Span) -> None:
        first, end = (span.start - ADDR) // BLOCK, (span.end - ADDR) // BLOCK
        self.touched.append((what, first, end))
        assert self.there[first:end] == [what == "unplug"] * (end - first)
        self.there[first:end] = [what == "plug"] * (end - first)

    def plug(self, span: Span) -> None:
        """Memory comes."""
        self._note("plug", span)

    def unplug(self, span: Span) -> None:
        """Memory goes."""
        self._note("unplug", span)

    def access(self, name: str, *, changes: bool) -> None:
        """Nobody else is there."""


def watched(history: list[Op], features: Feature = Feature.NONE) -> tuple[Told, Watched]:
    """A device with a history and what it did to its memory."""
    told, memory = Told(), Watched()
    told.device.backing = memory
    told.device.geometry = Geometry(
        ADDR, BLOCKS * BLOCK, BLOCK, node_id=3, features=features, usable_extent=EXTENT * BLOCK
    )
    for op in history:
        told.do(op)
    return told, memory


@given(operations)
def test_memory_is_there_for_plugged_blocks_and_for_no_others(history: list[Op]) -> None:
    told, memory = watched(history)
    assert memory.there == told.blocks


@given(operations, operations)
def test_memory_of_plugged_blocks_is_not_touched_unless_they_are_unplugged(history: list[Op], more: list[Op]) -> None:
    told, memory = watched(history)
    for op in more:
        before, seen = list(told.blocks), len(memory.touched)
        told.do(op)
        touched = {i for what, first, end in memory.touched[seen:] for i in range(first, end)}
        assert touched == {i for i in range(BLOCKS) if before[i] != told.blocks[i]}


@given(operations)
def test_a_device_reset_touches_no_memory(history: list[Op]) -> None:
    told, memory = watched(history)
    seen = len(memory.touched)
    told.device.device_reset()
    assert len(memory.touched) == seen


@given(operations)
def test_with_persistent_suspend_neither_sleep_nor_waking_up_touches_memory(history: list[Op]) -> None:
    told, memory = watched(history, Feature.PERSISTENT_SUSPEND)
    config, seen = told.device.config, len(memory.touched)
    told.device.device_reset()
    told.device.system_reset(resume=True)
    assert (told.device.config, len(memory.touched)) == (config, seen)


def test_plugged_memory_reads_and_writes_as_boot_memory_does() -> None:
    machine = Machine(SV39)
    machine.plug(Span(0x1000, 0x1200), Owner(Use.FREE))
    device = VirtioMemDevice(Geometry(ADDR, BLOCK, BLOCK), MachineBacking(machine, "vm0"))
    device.resize(BLOCK)
    device.handle(bytes(8) + ADDR.to_bytes(8, "little") + b"\x01" + bytes(7))
    seen = []
    for frame in (0x1000, ADDR >> 12):
        machine.claim(Span(frame, frame + 1), Owner(Use.TABLE), "test")
        table = Table(frame, 0, 0, "init_mm")
        machine.store(table, 7, 0x1234_5000)
        seen.append([machine.load(table, index) for index in (0, 7)])
    assert seen[0] == seen[1] == [0, 0x1234_5000]
    assert machine.violations == []


@given(operations, st.booleans(), st.booleans(), st.integers(0, BLOCKS - 1), st.integers(1, 4))
def test_unplugged_memory_of_the_usable_region_can_be_read_unless_it_was_agreed_that_it_is_not(
    history: list[Op], offered: bool, taken: bool, at: int, count: int
) -> None:
    feature = Feature.UNPLUGGED_INACCESSIBLE
    told, _ = watched(history, feature if offered else Feature.NONE)
    agreed = told.device.negotiate(feature if taken else Feature.NONE)
    assert (feature in agreed) == (offered and taken)
    count = min(count, BLOCKS - at)
    usable = told.field("usable_region_size") // BLOCK
    wanted = all(told.blocks[at : at + count]) or (at + count <= usable and not agreed)
    assert told.device.readable(Span(ADDR + at * BLOCK, ADDR + (at + count) * BLOCK)) == wanted


@given(st.integers(0, 7), st.integers(0, 7))
def test_no_feature_holds_that_one_side_does_not_have(offered: int, supported: int) -> None:
    device = VirtioMemDevice(Geometry(ADDR, BLOCK, BLOCK, features=Feature(offered)))
    assert device.negotiate(Feature(supported)) == device.negotiated == Feature(offered & supported)
    device.device_reset()
    assert device.negotiated == Feature.NONE
