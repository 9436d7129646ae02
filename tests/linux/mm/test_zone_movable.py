"""Where ZONE_MOVABLE begins under ``kernelcore`` and ``movablecore``: as real kernels said when they booted so.

Linux 6.12.117 (Debian, cloud-amd64) on a q35 of QEMU, with so much RAM on each node; its log's lines behind ``Movable
zone start for each node``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.errors import BadInput
from memhp.facts.dmesg import Dmesg, Line
from memhp.linux.init import start_kernel
from memhp.linux.mmzone import ZoneType
from memhp.linux.state import Kernel
from memhp.scenario.machine import machine_spec
from memhp.scenario.schema import Boot, MachineText


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


def test_what_is_no_amount_is_refused() -> None:
    with pytest.raises(BadInput, match="want a size"):
        machine_spec(MachineText(preset="x86-vm", boot=Boot(kernelcore="mirror")))
