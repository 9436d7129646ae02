"""riscv and x86 with the choices that flush before they free: the order of accesses on removal of struct pages."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Any

import pytest

from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.units import GiB
from steppers import Recorder

FIRST: dict[Arch, int] = {"riscv64": 2 * GiB, "x86_64": GiB}
HOT = 128 * GiB


def removal_of_struct_pages(name: Arch, **choices: Any) -> list[str]:
    """What ``vmemmap_free()`` of a section does to frames and translations, in order."""
    kernel = profile("linux-6.12")
    config = Config(arch=name, profile=kernel.choosing(name, choices), page_size=4096, va_bits=48).validate()
    k: Kernel = start_kernel(MachineSpec("flush-first", config, (Ram(FIRST[name], GiB),)))
    first = HOT >> config.page_shift
    memmap = k.layout.memmap(first, first + config.pages_per_section)
    k.port.vmemmap_populate(k, memmap.start, memmap.end, 0, None)
    k.hw.stepper = seen = Recorder()
    k.port.vmemmap_free(k, memmap.start, memmap.end, None)
    k.hw.stepper = None
    assert k.hw.tlb.exposed_frames == 0
    return [access.kind for access in seen.accesses if access.kind in ("store", "flush", "release")]


@pytest.mark.parametrize("name", ["riscv64", "x86_64"])
def test_gathered_frames_go_behind_one_flush(name: Arch) -> None:
    order = removal_of_struct_pages(name, storage_freed="after-flush", table_freed="after-flush")
    assert order == ["store", "store", "flush", "release", "release"]


@pytest.mark.parametrize("name", ["riscv64", "x86_64"])
def test_each_frame_goes_behind_a_flush_of_its_own(name: Arch) -> None:
    choices = {"storage_freed": "after-flush", "table_freed": "after-flush", "leaf_flush": "each-range"}
    order = removal_of_struct_pages(name, **choices)
    assert order == ["store", "flush", "release", "store", "flush", "release", "flush"]
