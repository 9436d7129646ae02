"""``max_pfn``, behind which ``/proc/kpagecount`` shows nothing, as memory comes: architectures differ."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from kernels import PLUG_AT, VA_BITS, kernel, plug
from memhp.claims.fix_witnesses_memory import lower_memory_comes_last
from memhp.linux.arch.registry import Arch
from memhp.linux.config import Config
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType
from memhp.linux.mm.memory_hotplug_add import add_memory
from memhp.linux.mm.memremap import memremap_pages, memunmap_pages
from memhp.linux.profiles import profile
from memhp.spans import Span
from memhp.units import GiB


@pytest.mark.parametrize(
    ("arch", "release", "ends_early"),
    [
        # arch/x86/mm/init_64.c:update_end_of_memory_vars() only raises it.
        ("x86_64", "6.1", False),
        ("x86_64", "7.2", False),
        # arch/arm64/mm/mmu.c:arch_add_memory() lowered it until 6.12.24, 6.1.135.
        ("arm64", "6.12.23", True),
        ("arm64", "6.12.24", False),
        ("arm64", "6.1.134", True),
        ("arm64", "7.2", False),
        # arch/riscv/mm/init.c:arch_add_memory() sets it to the end of what it adds, in 7.2.13 as in 6.12.117.
        ("riscv64", "6.12", True),
        ("riscv64", "7.2", True),
    ],
)
def test_who_lowers_it_when_memory_comes_below_the_highest(arch: Arch, release: str, ends_early: bool) -> None:
    config = Config(arch, profile(release), 4096, VA_BITS[arch, 4])
    assert bool(lower_memory_comes_last(config)) is ends_early


@pytest.mark.parametrize("release", ["linux-6.1", "linux-6.12", "linux-7.2"])
def test_x86_raises_it_for_memory_and_not_for_a_device(release: str) -> None:
    """arch/x86/mm/init_64.c:add_pages: ``if (!params->pgmap)``."""
    k = kernel("x86_64", release)
    before = k.max_pfn
    span = plug(k, GiB)
    pgmap = DevPagemap(MemoryType.GENERIC, (Span(PLUG_AT, PLUG_AT + GiB),))
    memremap_pages(k, pgmap, 0)
    assert k.max_pfn == before
    memunmap_pages(k, pgmap)
    add_memory(k, 0, PLUG_AT, GiB)
    assert k.max_pfn == span.end


@pytest.mark.parametrize(
    ("release", "raised"),
    [("5.13", True), ("6.1.140", True), ("6.1.141", False), ("6.12.30", True), ("6.12.31", False), ("6.15", False)],
)
def test_x86_raised_it_for_a_device_too(release: str, raised: bool) -> None:
    """By the changelogs of 6.1.141 and 6.12.31, which brought that condition."""
    k = kernel("x86_64", release)
    span = plug(k, GiB)
    memremap_pages(k, DevPagemap(MemoryType.GENERIC, (Span(PLUG_AT, PLUG_AT + GiB),)), 0)
    assert (k.max_pfn == span.end) is raised
