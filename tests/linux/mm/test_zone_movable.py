"""Where ZONE_MOVABLE begins under ``kernelcore`` and ``movablecore``: as real kernels said when they booted so.

Linux 6.12.117 (Debian, cloud-amd64) on a q35 of QEMU, with so much RAM on each node; its log's lines behind ``Movable
zone start for each node``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from typing import Any

import pytest

from memhp.check import check_all
from memhp.errors import BadInput
from memhp.facts.dmesg import Dmesg, Line
from memhp.linux.config import Core
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.init import start_kernel
from memhp.linux.mm.mm_init import free_area_init
from memhp.linux.mmzone import ZoneType
from memhp.linux.state import Kernel
from memhp.scenario.machine import machine_spec
from memhp.scenario.schema import Boot, MachineText, Memory
from memhp.units import GiB, KiB, MiB
from zoned import RISCV, unzoned


def booted(nodes: tuple[int, ...], options: str) -> Kernel:
    """A kernel with these options, on nodes of so many MiB."""
    numa = " ".join(f"-numa node,mem={size}" for size in nodes)
    return start_kernel(machine_spec(MachineText(qemu=f"-M q35 -m {sum(nodes)} {numa} -append '{options}'")))


def said(k: Kernel) -> Dmesg:
    return Dmesg(tuple(Line(None, line.text) for line in k.hw.log_lines))


MEASURED = [
    ((1024,), "kernelcore=300M", {0: 0x13000000}),
    ((1024,), "movablecore=30%", {0: 0x2CC00000}),
    ((700, 500), "kernelcore=40%", {0: 0xF400000, 1: 0x3AC00000}),
    ((512, 1100), "movablecore=500M", {1: 0x45800000}),
    ((300, 1100, 200), "kernelcore=900M", {1: 0x2C000000}),
    ((3072, 500), "kernelcore=1G movablecore=700M", {0: 0x119C00000, 1: 0x159C00000}),
]


@pytest.mark.parametrize(("nodes", "options", "starts"), MEASURED)
def test_zone_movable_begins_where_the_kernel_said(
    nodes: tuple[int, ...], options: str, starts: dict[int, int]
) -> None:
    k = booted(nodes, options)
    assert dict(said(k).movable_start) == starts
    begin = {nid: node.zones[ZoneType.MOVABLE].start_pfn << k.config.page_shift for nid, node in k.nodes.items()}
    assert {nid: start for nid, start in begin.items() if start} == starts


def test_so_much_that_nothing_is_left_or_nothing_at_all_makes_no_zone_movable() -> None:
    for options in ("kernelcore=4G", "kernelcore=100%", "quiet"):
        assert not booted((1024,), options).nodes[0].zones[ZoneType.MOVABLE].spanned


def test_movable_node_ignores_both() -> None:
    k = booted((1024,), "movable_node kernelcore=300M")
    assert not k.nodes[0].zones[ZoneType.MOVABLE].spanned


def with_srat(*flags: bool, movable_node: bool = True, **machine: Any) -> Kernel:
    """A machine of nodes with 1 GiB each, some of which firmware says may go."""
    memory = [Memory(size="1G", start=(4 + nid) << 30, node=nid, hotpluggable=may) for nid, may in enumerate(flags)]
    boot = Boot(movable_node=movable_node, **machine)
    return start_kernel(machine_spec(MachineText(preset="x86-vm", nodes=len(flags), memory=memory, boot=boot)))


def test_under_movable_node_memory_that_may_go_is_zone_movables_but_on_the_kernels_own_node() -> None:
    """``find_zone_movable_pfns_for_nodes()`` and ``numa_clear_kernel_node_hotplug()``."""
    k = with_srat(True, False, True)
    assert dict(said(k).movable_start) == {2: 6 << 30}
    movable = k.nodes[2].zones[ZoneType.MOVABLE]
    assert movable.present == movable.spanned == 1 << 30 >> k.config.page_shift
    assert not any(k.nodes[nid].zones[ZoneType.MOVABLE].spanned for nid in (0, 1))


def test_boot_keeps_nothing_in_memory_that_may_go() -> None:
    """``should_skip_region()``: also the struct pages of node 1 lie elsewhere, and every block of it can go."""
    k = with_srat(False, True)
    movable = k.nodes[1].zones[ZoneType.MOVABLE]
    assert movable.managed == movable.present
    first = movable.start_pfn // k.pages_per_block
    for block in range(first, first + 8):
        state_store(k, block, "offline")
    assert not movable.present and check_all(k) == []


def test_without_movable_node_it_is_like_any_other_memory() -> None:
    k = with_srat(False, True, movable_node=False)
    assert not k.nodes[1].zones[ZoneType.MOVABLE].spanned


def test_what_is_no_amount_is_refused() -> None:
    with pytest.raises(BadInput, match="want a size"):
        machine_spec(MachineText(preset="x86-vm", boot=Boot(kernelcore="mirrors")))


@pytest.mark.parametrize(("lacking", "more"), [(2, 0), (3, 4 * MiB)])
def test_what_a_small_node_lacks_is_spread_over_the_others_while_it_is_more_than_a_page_each(
    lacking: int, more: int
) -> None:
    """find_zone_movable_pfns_for_nodes(): ``if (usable_nodes && required_kernelcore > usable_nodes) goto restart``.

    Of 3 GiB each of three nodes gives 1 GiB, the first some pages less; starts are multiples of the largest order.
    """
    config = replace(RISCV, kernelcore=Core(size=3 * GiB))
    small = (8 * GiB, 9 * GiB - lacking * 4 * KiB, 0)
    k = unzoned(config, [small, (16 * GiB, 20 * GiB, 1), (32 * GiB, 36 * GiB, 2)])
    free_area_init(k)
    starts = [node.zones[ZoneType.MOVABLE].start_pfn << config.page_shift for node in k.nodes.values()]
    assert starts == [0, 17 * GiB + more, 33 * GiB + more]
