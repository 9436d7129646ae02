"""Page tables of added memory, held against each other entry by entry; and where a guest's memory is found."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.conform.tables import Compared, compare_tables
from memhp.hw.format import U64
from memhp.hw.reader import MissingTables, TableReader
from memhp.hw.walker import tables
from memhp.linux.port import Root
from memhp.scenario.machine import machine_spec
from memhp.scenario.schema import MachineText, Offline, Plug, Remove
from memhp.spans import Span
from memhp.target.guest.memory import Piece, pieces
from memhp.target.model.target import ModelTarget

ADDED = {"x86-vm": 256, "riscv-vm": 256, "arm64-vm": 131072}
"""Leaves of the direct map that 512 MiB add, as page tables of real guests show."""


def booted(preset: str, *, plugged: bool) -> tuple[ModelTarget, Span]:
    """A machine, with 512 MiB plugged or not, and where they are or would be."""
    target = ModelTarget.booted(machine_spec(MachineText(preset=preset)))
    if plugged:
        assert target.carry_out(Plug(size="512M")).result == "ok"
        return target, target.session.plugged[-1]
    return target, Span(0, 0)


def against(mine: ModelTarget, real: ModelTarget, span: Span) -> list[Compared]:
    k = real.session.k
    return list(compare_tables(mine.session.k, k.hw.memory, Root(k.hw.fmt, k.init_mm.frame, 0), [span]))


def gone(mine: ModelTarget, real: ModelTarget, span: Span) -> list[Compared]:
    k = real.session.k
    root = Root(k.hw.fmt, k.init_mm.frame, 0)
    return list(compare_tables(mine.session.k, k.hw.memory, root, [span], gone=True))


@pytest.mark.parametrize("preset", ADDED)
def test_all_entries_of_added_memory_are_compared(preset: str) -> None:
    mine, span = booted(preset, plugged=True)
    real, _ = booted(preset, plugged=True)
    direct, memmap = against(mine, real, span)
    leaves = ADDED[preset]
    assert direct.facts == direct.equal > leaves
    assert memmap.facts == memmap.equal >= 4


@pytest.mark.parametrize("preset", ADDED)
def test_a_kernel_that_lacks_the_entries_differs_in_every_leaf(preset: str) -> None:
    mine, span = booted(preset, plugged=True)
    real, _ = booted(preset, plugged=False)
    direct, _ = against(mine, real, span)
    leaves = ADDED[preset]
    assert direct.facts - direct.equal >= leaves
    assert direct.got.startswith(f"{leaves} leaves, first at {mine.session.k.layout.phys_to_virt(span.start):#x}")
    assert direct.expected == "nothing more"


@pytest.mark.parametrize("preset", ADDED)
def test_where_memory_went_again_nothing_may_be_left(preset: str) -> None:
    """The model gives the DIMM up; a machine that has it still has all of its leaves left."""
    (mine, span), (other, _), (real, _) = (booted(preset, plugged=True) for _ in range(3))
    for each in (mine, other):
        assert each.carry_out(Offline()).result == "ok"
        assert each.carry_out(Remove()).result == "ok"
    direct, memmap = gone(mine, real, span)
    leaves = ADDED[preset]
    assert direct.name.startswith("direct map that was of ")
    assert direct.facts - direct.equal >= leaves
    assert direct.expected.startswith(f"{leaves} leaves, first at ")
    assert memmap.equal < memmap.facts
    direct, memmap = gone(mine, other, span)
    assert direct.facts == direct.equal >= 1 <= memmap.facts == memmap.equal


class Lacking:
    """A machine's tables but for those in some frames."""

    def __init__(self, memory: TableReader, frames: set[int]) -> None:
        self.memory, self.frames = memory, frames

    def tables(self, pfns: U64) -> U64:
        if lacking := self.frames & set(pfns.tolist()):
            raise MissingTables(sorted(lacking))
        return self.memory.tables(pfns)


@pytest.mark.parametrize("preset", ADDED)
def test_a_table_that_cannot_be_read_is_not_taken_for_one_that_is_not_there(preset: str) -> None:
    mine, span = booted(preset, plugged=True)
    k = booted(preset, plugged=True)[0].session.k
    start = k.layout.phys_to_virt(span.start)
    found = tables(k.hw.memory, k.hw.fmt, k.init_mm.frame, va_start=start, va_end=start + span.size)
    lowest = {int(frame) for frame, height in zip(found.frame, found.height, strict=True) if height == 1}
    assert lowest or preset == "arm64-vm"
    lacking = Lacking(k.hw.memory, lowest or {int(found.frame[-1])})
    with pytest.raises(MissingTables):
        list(compare_tables(mine.session.k, lacking, Root(k.hw.fmt, k.init_mm.frame, 0), [span]))


MTREE = """\
FlatView #3
 Root memory region: dimm0-ram
  0000000000000000-000000001fffffff (prio 0, ram): dimm0-ram

FlatView #6
 Root memory region: system
  0000000000000000-00000000000c2fff (prio 0, ram): ram0
  00000000000c3000-00000000000e7fff (prio 0, rom): ram0 @00000000000c3000
  0000000000100000-000000003fffffff (prio 0, ram): ram0 @0000000000100000
  00000000b0000000-00000000bfffffff (prio 0, i/o): pcie-mmcfg-mmio
  0000000100000000-000000011fffffff (prio 0, ram): dimm0-ram KVM
  0000000120000000-000000013fffffff (prio 0, ram): somebody-elses
"""


def test_physical_memory_is_found_in_the_view_of_the_whole_system_only() -> None:
    assert pieces(MTREE, {"ram0": 4, "dimm0-ram": 9}) == (
        Piece(0, 0xC3000, 4, 0),
        Piece(0x100000, 0x40000000, 4, 0x100000),
        Piece(0x100000000, 0x120000000, 9, 0),
    )
