"""Which nodes boot links memory blocks with: drivers/base/node.c. Expected: sysfs of riscv64 guests of QEMU, or source.

The guests had a device tree whose memory nodes lay as RAM does here; all their memory blocks are of 128 MiB.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.linux.config import Config
from memhp.linux.drivers.base.memory import valid_zones
from memhp.linux.drivers.base.node_init import register_memory_blocks_under_nodes
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.units import GiB, KiB, MiB

AT = 2 * GiB
TWO = ((0, 512, 0), (512, 448, 1), (1024, 1024, 0))
"""MiB from 2 GiB on, MiB, node: the last block of node 1 ends in a hole, with node 0 on both sides of it."""
THREE = ((0, 256, 0), (256, 256, 2), (512, 448, 1), (1024, 256, 2), (1280, 768, 0))
SHARED = 23
"""The block that the hole is in."""


def booted(release: str, layout: tuple[tuple[int, int, int], ...], *, deferred: bool = True) -> Kernel:
    config = Config("riscv64", profile(release), 4 * KiB, 57, deferred_struct_page_init=deferred)
    ram = tuple(Ram(AT + start * MiB, size * MiB, nid=nid) for start, size, nid in layout)
    return start_kernel(MachineSpec("numa", config, ram, nodes=tuple(sorted({nid for *_, nid in layout}))))


def links(k: Kernel) -> dict[int, list[int]]:
    return {nid: [block for span in below for block in range(*span)] for nid, below in k.node_states.devices.items()}


def seen(k: Kernel, block: int) -> tuple[list[int], str]:
    """The nodes that a block is linked with, and what is in its file `valid_zones`."""
    return [nid for nid, below in links(k).items() if block in below], valid_zones(k, block)


@pytest.mark.parametrize(
    ("layout", "release", "expected"),
    [
        (TWO, "linux-6.12", {0: [16, 17, 18, 19, *range(23, 32)], 1: [20, 21, 22, 23]}),
        (THREE, "linux-6.12", {0: [16, 17, 23, *range(26, 32)], 1: [20, 21, 22, 23], 2: [18, 19, 24, 25]}),
        (THREE, "linux-7.2", {0: [16, 17, *range(26, 32)], 1: [20, 21, 22, 23], 2: [18, 19, 24, 25]}),
    ],
)
def test_boot_blocks_stand_below_the_nodes_that_guests_have_them_below(
    layout: tuple[tuple[int, int, int], ...], release: str, expected: dict[int, list[int]]
) -> None:
    k = booted(release, layout)
    assert links(k) == expected
    assert valid_zones(k, SHARED) == ("none" if release == "linux-6.12" else "DMA32")
    assert {valid_zones(k, block) for block in range(16, 32) if block != SHARED} == {"DMA32"}


@pytest.mark.parametrize(
    ("deferred", "nodes"),
    [(True, [0, 1]), (False, [1, 2])],
)
def test_a_hole_is_the_first_nodes_in_memblock_and_the_next_nodes_in_struct_pages(
    deferred: bool, nodes: list[int]
) -> None:
    """6.12: early_pfn_to_nid() falls back on first_online_node, init_unavailable_range() on the node above a hole."""
    k = booted("linux-6.12", THREE, deferred=deferred)
    assert seen(k, SHARED) == (nodes, "none")


def test_a_hole_above_all_that_the_first_node_has_links_it_with_no_other() -> None:
    """walk_memory_blocks() goes no further than the pages that a node spans."""
    assert seen(booted("linux-6.12", ((0, 512, 0), (512, 448, 1), (1024, 256, 1))), SHARED) == ([1], "DMA32")


def test_memory_of_a_node_that_is_not_online_links_nothing() -> None:
    """7.2: register_memory_blocks_under_nodes() asks node_online() of each region."""
    k = booted("linux-7.2", THREE)
    k.node_states.online.discard(2)
    for below in k.node_states.devices.values():
        below.remove(0, 1 << 32)
    register_memory_blocks_under_nodes(k)
    assert links(k) == {0: [16, 17, *range(26, 32)], 1: [20, 21, 22, 23], 2: []}
