"""Presets of one architecture have one kernel, so that comparing them changes one thing."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.arch.registry import ARCHES, port
from memhp.scenario.platforms import PLATFORMS
from memhp.scenario.presets import PRESETS
from memhp.units import GiB


def test_presets_of_one_architecture_have_one_kernel() -> None:
    for arch in {preset.arch for preset in PRESETS.values()}:
        assert len({preset.profile for preset in PRESETS.values() if preset.arch == arch}) == 1


def test_where_ram_begins_on_the_usual_board_is_said_once() -> None:
    """hw/i386/pc_piix.c, hw/arm/virt.c, hw/riscv/virt.c, hw/loongarch/virt.c: 0, 1 GiB, 2 GiB, 0."""
    usual = {arch: board for (arch, _), board in PLATFORMS.items() if board.usual}
    assert {arch: board.ranges(GiB)[0][0] for arch, board in usual.items()} == {
        "x86_64": 0,
        "arm64": 1 * GiB,
        "riscv64": 2 * GiB,
        "loongarch64": 0,
    }
    assert {arch: port(arch).ram_start for arch in ARCHES} == {
        arch: board.ranges(0)[0][0] for arch, board in usual.items()
    }
