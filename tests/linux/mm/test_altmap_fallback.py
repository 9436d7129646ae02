"""What keeps a device's struct pages when its altmap cannot supply them: policies of architectures, and drafts."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from errno import ENOMEM
from typing import Any

import pytest

from architectures import DIRECT_MAPPED
from kernels import PLUG_AT, kernel, log, plug, refused
from memhp.check import check_all
from memhp.hw.memory import Use
from memhp.linux.choices import Arch
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType
from memhp.linux.mm.memremap import memremap_pages, memunmap_pages
from memhp.linux.state import Kernel
from memhp.scenario.choices import with_choices
from memhp.spans import Span
from memhp.units import GiB, KiB

LARGE = [16 * KiB, 64 * KiB]


def machine(arch: Arch, page_size: int = 4 * KiB, **choices: Any) -> Kernel:
    k = kernel(arch, page_size=page_size)
    k.config = replace(k.config, profile=with_choices(k.config.profile, arch, choices, where="test"))
    return k


def device(k: Kernel, free: int, *, end_pfn: int | None = None) -> tuple[DevPagemap, VmemAltmap]:
    """1 GiB whose altmap has `free` pages."""
    frames = plug(k, 1 * GiB)
    altmap = VmemAltmap(frames.start, frames.end - 1 if end_pfn is None else end_pfn, free)
    return DevPagemap(MemoryType.GENERIC, (Span(PLUG_AT, PLUG_AT + GiB),), altmap), altmap


def stored(k: Kernel) -> tuple[int, int]:
    """Pages of struct pages on the device and in RAM."""
    frames = Span(PLUG_AT // k.config.page_size, (PLUG_AT + GiB) // k.config.page_size)
    there = k.hw.memory.used(Use.MEMMAP, *frames)
    return there, k.hw.memory.used(Use.MEMMAP) - there


def needed(k: Kernel) -> int:
    return (GiB // k.config.page_size) * k.config.struct_page_size // k.config.page_size


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_without_a_fallback_an_altmap_that_is_used_up_fails_the_add(arch: Arch) -> None:
    """__add_pages() leaves the sections before the one that failed, and with them the pages that they were given."""
    k = machine(arch)
    before = stored(k)
    pgmap, altmap = device(k, needed(k) - 1)
    assert refused(memremap_pages, k, pgmap, 0).errno == ENOMEM
    assert altmap.alloc == 7 * 512
    assert stored(k) == (7 * 512, before[1])
    assert "failed to free all reserved pages" in log(k, "warn")


@pytest.mark.parametrize("page_size", LARGE)
def test_base_pages_come_from_the_altmap_to_the_page(page_size: int) -> None:
    k = machine("arm64", page_size)
    before = stored(k)
    pgmap, altmap = device(k, needed(k))
    memremap_pages(k, pgmap, 0)
    assert (altmap.alloc, altmap.align) == (needed(k), 0)
    assert stored(k) == (needed(k), before[1])
    assert check_all(k) == []
    memunmap_pages(k, pgmap)
    assert (altmap.alloc, stored(k), check_all(k)) == (0, before, [])


@pytest.mark.parametrize(("arch", "page_size"), [("x86_64", 4 * KiB), *(("arm64", size) for size in LARGE)])
def test_powerpcs_policy_takes_the_rest_from_ram_and_gives_each_its_own_back(arch: Arch, page_size: int) -> None:
    k = machine(arch, page_size, altmap_fallback="ram")
    before = stored(k)
    pgmap, altmap = device(k, needed(k) // 2)
    memremap_pages(k, pgmap, 0)
    assert altmap.alloc == needed(k) // 2
    assert stored(k) == (needed(k) // 2, before[1] + needed(k) - needed(k) // 2)
    assert "altmap block allocation failed, falling back to system memory" in log(k)
    assert check_all(k) == []
    memunmap_pages(k, pgmap)
    assert (altmap.alloc, stored(k), check_all(k)) == (0, before, [])


@pytest.mark.parametrize(("arch", "page_size"), [("x86_64", 4 * KiB), ("arm64", 16 * KiB)])
def test_powerpcs_policy_never_describes_pages_beyond_the_altmaps_range(arch: Arch, page_size: int) -> None:
    k = machine(arch, page_size, altmap_fallback="ram")
    before = stored(k)
    half = (PLUG_AT + GiB // 2) // page_size
    pgmap, altmap = device(k, needed(k), end_pfn=half - 1)
    memremap_pages(k, pgmap, 0)
    assert stored(k) == (needed(k) // 2, before[1] + needed(k) // 2)
    assert altmap.alloc == needed(k) // 2
    assert not any("altmap block allocation failed" in line for line in log(k))
    memunmap_pages(k, pgmap)
    assert (altmap.alloc, stored(k)) == (0, before)


@pytest.mark.parametrize(("arch", "page_size"), [("x86_64", 4 * KiB), *(("arm64", size) for size in LARGE)])
def test_the_drafted_helper_charges_the_altmap_and_takes_ram_which_is_lost(arch: Arch, page_size: int) -> None:
    k = machine(arch, page_size, altmap_fallback="draft-helper")
    before = stored(k)
    pgmap, altmap = device(k, needed(k))
    memremap_pages(k, pgmap, 0)
    assert altmap.alloc == needed(k)
    assert stored(k) == (0, before[1] + needed(k))
    memunmap_pages(k, pgmap)
    assert altmap.alloc == 0
    assert stored(k)[1] == before[1] + needed(k)
    assert {breach.law for breach in check_all(k)} == {"memmap-storage"}


@pytest.mark.parametrize("page_size", LARGE)
def test_the_drafted_consolidation_sets_one_base_page_a_section_and_overdraws_the_altmap(page_size: int) -> None:
    k = machine("arm64", page_size, vmemmap_populate="draft-consolidated")
    before = stored(k)
    sections = GiB // k.config.section_size
    pgmap, altmap = device(k, needed(k))
    memremap_pages(k, pgmap, 0)
    assert (altmap.alloc, stored(k)) == (0, (0, before[1] + sections))
    assert "vmemmap" in {breach.law for breach in check_all(k)}
    memunmap_pages(k, pgmap)
    assert altmap.alloc == -sections
    assert "failed to free all reserved pages" in log(k, "warn")
