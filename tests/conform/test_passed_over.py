"""Where virtio-mem's driver passed over a sub-block in use, kpageflags shows the page and the model is told of it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import numpy as np
import pytest

from memhp.conform.lockstep import Lockstep
from memhp.conform.passed_over import in_the_way, passed_over, refused
from memhp.facts.kpageflags import KEPT, Flags
from memhp.linux.drivers.virtio.virtio_mem_state import StateTable, SubBlockMode
from memhp.linux.mm import users
from memhp.scenario import schema
from memhp.scenario.machine import machine_spec
from memhp.scenario.schema import Boot, MachineText
from memhp.spans import Span, SpanSet
from memhp.target.model.target import ModelTarget
from memhp.twin.files.proc import flags
from memhp.units import GiB, MiB

AT = 4 * GiB + 512 * MiB + 44 * MiB
"""The last 2 MiB that a device at 4 GiB plugs for 558 MiB."""


class Mute(ModelTarget):
    """A machine on which the kernel takes a page that nobody is told of."""

    def take_page(self) -> None:
        users.allocate(self.session.k, 4096, "kernel", "a stack", at=AT)


class Telling(Mute):
    """The same with ``/proc/kpageflags``."""

    def page_flags(self, pages: Span) -> Flags:
        return flags(self.session.k, pages)


def differing(kind: type[Mute]) -> list[str]:
    text = MachineText(preset="x86-vm", memory="1G", boot=Boot(memhp_default_state="online"))
    real = kind(ModelTarget.booted(machine_spec(text)).session)
    both = Lockstep(real)
    both.carry_out(schema.VirtioMem(size="2G", at="4G"))
    both.carry_out(schema.Resize(to="558M"))
    real.take_page()
    for size in ("552M", "52M"):
        both.carry_out(schema.Resize(to=size))
    assert real.session.devices["vm0"].device.plugged_size == 52 * MiB
    return [each.fact for each in both.found.details if each.verdict == "differing"]


def test_a_page_of_the_kernel_keeps_its_sub_block_and_block_and_kpageflags_tells_the_model_so() -> None:
    assert differing(Telling) == []


def test_a_machine_without_kpageflags_differs_by_the_block_that_stayed() -> None:
    assert "/sys/devices/system/memory/memory36/state" in differing(Mute)


def test_a_block_that_could_not_go_in_one_piece_is_told_by_the_requests_for_its_parts() -> None:
    """As where a page of it is in a CPU's batch on its way to an LRU list (``mm/page_isolation.c``)."""
    text = MachineText(preset="x86-vm", memory="1G", boot=Boot(memhp_default_state="online"))
    real = Telling(ModelTarget.booted(machine_spec(text)).session)
    both = Lockstep(real)
    both.carry_out(schema.VirtioMem(size="2G", at="4G"))
    both.carry_out(schema.Resize(to="512M"))
    size, last = real.session.k.pages_per_block, (4 * GiB + 384 * MiB) >> 12
    real.session.k.hw.told_busy.add(Span(last, last + size))
    both.carry_out(schema.Resize(to="256M"))
    parts = [each for each in real.requests() if each.endswith(" 1 ACK 0")]
    assert len(parts) == 64
    assert [each.fact for each in both.found.details if each.verdict == "differing"] == []
    assert both.model.session.k.hw.told_busy == set()


@pytest.mark.parametrize(
    ("requests", "at"),
    [
        (["UNPLUG 0x108000000 64 ACK 0", "UNPLUG 0x100e00000 1 BUSY 0"], Span(0x100E00000, 0x101000000)),
        (["UNPLUG 0x108000000 64 ERROR 0"], Span(0x108000000, 0x110000000)),
        (["UNPLUG 0x108000000 64 BUSY 0", "UNPLUG 0x108000000 64 ACK 0"], None),
        (["PLUG 0x108000000 64 BUSY 0"], None),
        ([], None),
    ],
)
def test_where_the_driver_left_it_is_what_the_device_refused_last(requests: list[str], at: Span | None) -> None:
    assert refused(requests, 2 * MiB) == at


@pytest.mark.parametrize(
    ("after", "place", "tried"),
    [("#### ###.", 5, ".... ..#."), ("#### ##..", 5, ".... ...."), ("##.# ....", 1, "...# ....")],
)
def test_a_driver_that_was_refused_had_tried_what_lies_above(after: str, place: int, tried: str) -> None:
    """The sub-block at that place was refused; the higher block is taken first, each from its top."""
    unit = 2 * MiB
    sbm = SubBlockMode(StateTable(0), unit, 4, plugged=SpanSet([(0, 8)]))
    gone = {index: np.array([each == "." for each in text]) for index, text in enumerate(after.split())}
    found = passed_over(gone, sbm, unit, [1, 0], Span(place * unit, (place + 1) * unit))
    lines = ["".join("#" if each else "." for each in found.get(index, [False] * 4)) for index in gone]
    assert " ".join(lines) == tried


@pytest.mark.parametrize(
    ("order", "before", "after", "to", "tried"),
    [
        ([0], "####", "##..", 2, "...."),
        ([0], "####", "#.#.", 2, "..#."),
        ([1, 0], "#### ####", "##.. #...", 3, ".... #..."),
        ([0, 1], "##.. ####", "#... ##..", 3, "#... ...."),
        ([1, 0], "#### ####", "##..", 2, "...."),
        ([1, 0], "#..# ##.#", "#..# #..#", 4, ".... ...#"),
        ([1, 0], "#### ####", "#.#. ####", 6, "..#. ####"),
        ([1, 0], "#### ####", "##.. ####", 5, "##.. ####"),
        ([1, 0], "#### ####", "#### ####", 8, ".... ...."),
    ],
    ids=[
        "stopped there", "a hole", "highest first", "lowest first", "removed", "not come to", "none went", "stuck",
        "nothing was wanted",
    ],
)  # fmt: skip
def test_the_driver_leaves_a_block_only_when_it_has_tried_all_of_it(
    order: list[int], before: str, after: str, to: int, tried: str
) -> None:
    """``#`` is plugged, ``.`` is not; of what was tried in vain, ``#``. Sizes are sub-blocks."""
    size = len("####")
    plugged = SpanSet()
    for number, each in enumerate(before.replace(" ", "")):
        if each == "#":
            plugged.add(number, number + 1)
    sbm = SubBlockMode(StateTable(0), 2 * MiB, size, plugged=plugged)
    gone = {index: np.array([each == "." for each in text]) for index, text in enumerate(after.split())}
    found = passed_over(gone, sbm, to * 2 * MiB, order)
    lines = ["".join("#" if each else "." for each in found.get(index, [False] * size)) for index in gone]
    assert " ".join(lines) == tried


@pytest.mark.parametrize(
    ("pages", "at"),
    [
        (["BUDDY", "OFFLINE", "BUDDY"], None),
        (["BUDDY", "LRU", "SLAB"], 2),
        (["OFFLINE", "LRU", "ANON"], 1),
        (["BUDDY", "PGTABLE", "SLAB"], 1),
    ],
)
def test_what_cannot_be_moved_stands_in_the_way_before_what_can(pages: list[str], at: int | None) -> None:
    assert in_the_way(np.array([1 << KEPT[name] for name in pages], dtype=np.uint64)) == at
