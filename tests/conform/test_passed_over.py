"""Where virtio-mem's driver passed over a sub-block in use, kpageflags shows the page and the model is told of it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import numpy as np
import pytest

from memhp.conform.lockstep import Lockstep
from memhp.conform.passed_over import in_the_way, passed_over
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
