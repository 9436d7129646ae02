"""Where a real machine's struct pages and page tables lie, told to the model before it does the same step."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.conform.lockstep import Lockstep
from memhp.conform.told_places import Places, added, own_root, places, tell_places
from memhp.hw.format import U64
from memhp.hw.memory import Use
from memhp.linux.mm.users import Kind, spans_of
from memhp.linux.port import Root
from memhp.scenario.machine import machine_spec
from memhp.scenario.schema import Allocate, MachineText, Offline, Plug
from memhp.spans import Span
from memhp.target.model.target import ModelTarget

PLUG = Plug(size="512M")
PMD_ORDER = 9
PRESETS = ("x86-vm", "riscv-vm", "arm64-vm")


def booted(preset: str) -> ModelTarget:
    return ModelTarget.booted(machine_spec(MachineText(preset=preset)))


class Memory:
    """The memory of a machine that is a model too."""

    def __init__(self, target: ModelTarget) -> None:
        self.k = target.session.k

    def tables(self, pfns: U64) -> U64:
        return self.k.hw.memory.tables(pfns)

    def root(self) -> Root:
        return own_root(self.k)


def of(target: ModelTarget) -> Places:
    """Where a machine has the struct pages and tables of what was plugged."""
    k = target.session.k
    return places(k, k.hw.memory, own_root(k), list(added(target, target.facts(), ())))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_model_takes_the_pages_that_the_kernel_took(preset: str) -> None:
    real, mine, alone = booted(preset), booted(preset), booted(preset)
    assert real.carry_out(Allocate(size="48M", kind="kernel", tag="a task of long ago")).result == "ok"
    assert real.carry_out(PLUG).result == alone.carry_out(PLUG).result == "ok"
    assert of(real) != of(alone), "the model's own choice is another"
    tell_places(mine, Memory(real), real.facts(), [PLUG])
    assert mine.carry_out(PLUG).result == "ok"
    assert of(mine) == of(real)
    assert len(of(mine)[Use.MEMMAP, PMD_ORDER]) == 4, "8 MiB of struct pages in leaves of 2 MiB"


def test_what_the_model_has_in_use_it_takes_from_elsewhere() -> None:
    real, mine = booted("x86-vm"), booted("x86-vm")
    assert real.carry_out(PLUG).result == "ok"
    assert mine.carry_out(Allocate(size="48M", kind="kernel", tag="a task")).result == "ok"
    tell_places(mine, Memory(real), real.facts(), [PLUG])
    assert mine.carry_out(PLUG).result == "ok"
    where, elsewhere = (set(of(each)[Use.MEMMAP, PMD_ORDER]) for each in (real, mine))
    assert len(where) == len(elsewhere) == 4
    assert where.isdisjoint(elsewhere)


class InSight(ModelTarget):
    """A machine whose memory can be read."""

    def memory(self) -> Memory:
        return Memory(self)


def test_in_lock_step_struct_pages_lie_where_the_real_machine_has_them() -> None:
    real = InSight.booted(machine_spec(MachineText(preset="x86-vm")))
    both = Lockstep(real)
    real.carry_out(Allocate(size="16M", kind="kernel", tag="a task that nobody knows of"))
    both.carry_out(PLUG)
    assert of(both.model)[Use.MEMMAP, PMD_ORDER] == of(real)[Use.MEMMAP, PMD_ORDER]
    assert both.model.session.k.hw.told == {}, "the next step has its own"
    assert [each for each in both.found.details if each.verdict == "differing"] == []


@pytest.mark.parametrize("kind", ["movable", "hugetlb", "hugetlb-free"])
def test_a_page_that_the_kernel_shows_in_use_stays_though_the_model_had_one_there_that_moves(kind: Kind) -> None:
    mine = booted("x86-vm")
    assert mine.carry_out(Plug(size="512M", online="kernel")).result == "ok"
    start = mine.session.plugged[-1].start
    block = start // mine.session.k.memory_block_size
    assert mine.carry_out(Allocate(size="4M", kind=kind, at=start, tag="tasks")).result == "ok"
    shown = (start >> 12) + 600
    mine.tell_in_use(shown)
    assert mine.session.k.hw.memory.use_of(shown) is Use.KERNEL
    assert sum(span.size for span in spans_of(mine.session.k, "tasks")) == 4 << 20 >> 12
    assert mine.carry_out(Offline(blocks=[block])).result == "EBUSY"
    mine.tell_free(shown)
    assert mine.carry_out(Offline(blocks=[block])).result == "ok"


def test_where_room_is_made_nothing_moves_in_from_the_next_place() -> None:
    mine = booted("x86-vm")
    assert mine.carry_out(Allocate(size="64M", kind="movable", tag="tasks")).result == "ok"
    k = mine.session.k
    first = spans_of(k, "tasks")[0].start
    places = [Span(first + at, first + at + 512) for at in (0, 4096, 512)]
    assert all(k.hw.memory.used(Use.MOVABLE, *place) == 512 for place in places)
    mine.make_room(places)
    assert [k.hw.memory.used(Use.FREE, *place) for place in places] == [512] * 3
    assert sum(span.size for span in spans_of(k, "tasks")) == 64 << 20 >> 12
