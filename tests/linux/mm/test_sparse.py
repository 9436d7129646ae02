"""Sections: what boot finds, what hot-add brings, and what is left when it fails half-way."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections import Counter
from errno import EEXIST, ENOMEM
from typing import Any

import pytest

from architectures import DIRECT_MAPPED
from kernels import BOOT_RAM, PLUG_AT, kernel, log, one_by_one, pfns, picture, plug, refused
from memhp.hw.memory import Owner, Use
from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_hotplug_pages import __add_pages, __remove_pages
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.mm.sparse import (
    early_section,
    offline_mem_sections,
    online_mem_sections,
    online_runs,
    pfn_to_online_page,
    pfn_valid,
    sparse_add_section,
    sparse_remove_section,
)
from memhp.linux.mmzone import Section
from memhp.linux.profiles import PROFILES, profile
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet
from memhp.units import GiB, KiB, MiB

CONFIGURATIONS: list[tuple[Arch, str, int]] = [
    *((arch, name, 4 * KiB) for name, each in PROFILES.items() for arch in each.arches),
    ("arm64", "linux-6.12", 16 * KiB),
    ("arm64", "linux-7.2", 64 * KiB),
]


def section_numbers(k: Kernel, start: int, size: int) -> range:
    span = pfns(k, start, size)
    return range(span.start // k.config.pages_per_section, span.end // k.config.pages_per_section)


def memmap_frames(k: Kernel) -> int:
    return k.hw.memory.used(Use.MEMMAP)


def test_a_section_that_boot_memory_only_begins_is_present_valid_and_has_all_its_struct_pages() -> None:
    config = Config(arch="x86_64", profile=profile("linux-6.12"), page_size=4 * KiB, va_bits=48)
    k = start_kernel(MachineSpec("cut", config, (Ram(1 * MiB, 320 * MiB),)))
    assert list(k.mem_section) == [(0, 3, Section(0, online=True, early=True))]
    last_ram, first_hole = pfns(k, 321 * MiB, 0).start - 1, pfns(k, 322 * MiB, 0).start
    assert pfn_valid(k, last_ram) and pfn_to_online_page(k, last_ram)
    assert pfn_valid(k, first_hole) and not pfn_to_online_page(k, first_hole)
    assert not pfn_valid(k, 3 * k.config.pages_per_section)
    assert memmap_frames(k) * 4 * KiB == 3 * 2 * MiB


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_early_sections_are_online_and_hot_added_ones_are_not_until_they_are_onlined(arch: Arch) -> None:
    k = kernel(arch)
    size = 2 * k.config.section_size
    span = plug(k, size)
    sparse_add_section(k, 0, span.start, span.size)
    assert early_section(k, pfns(k, 2 * GiB, 0).start - 1) or arch != "arm64"
    assert not early_section(k, span.start)
    assert pfn_valid(k, span.start) and not pfn_to_online_page(k, span.start)
    online_mem_sections(k, span.start + 512, span.start + k.config.pages_per_section)
    assert list(online_runs(k, *span)) == [Span(span.start, span.start + k.config.pages_per_section)]
    offline_mem_sections(k, span.start, span.end)
    assert not list(online_runs(k, *span))


def without_places(seen: dict[str, Any]) -> dict[str, Any]:
    """A picture that does not say which of the frames taken became tables and which struct pages.

    A run of base pages takes its tables first, where the kernel takes them in turns.
    """
    taken = SpanSet((start, end) for start, end, owner in seen["owners"] if owner.use in (Use.TABLE, Use.MEMMAP))
    uses = Counter[Owner]()
    for start, end, owner in seen["owners"]:
        uses[owner] += end - start
    return {**seen, "owners": uses, "taken": list(taken), "tables": None}


@pytest.mark.parametrize(("arch", "release", "page_size"), CONFIGURATIONS)
def test_a_run_of_sections_leaves_what_the_kernels_loop_leaves_one_by_one(
    arch: Arch, release: str, page_size: int
) -> None:
    pictures: list[dict[str, Any]] = []
    for stepwise in (False, True):
        k = kernel(arch, release, page_size=page_size)
        span = plug(k, 3 * k.config.section_size)
        if stepwise:
            with one_by_one(k):
                __add_pages(k, 0, span.start, span.size)
        else:
            __add_pages(k, 0, span.start, span.size)
        pictures.append(picture(k) if k.config.vmemmap_huge else without_places(picture(k)))
        before_removal = k.hw.ledger.copy()
        __remove_pages(k, span.start, span.size)
        pictures[-1]["flushes"] = sum(k.hw.ledger.since(before_removal).flushes.values())
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    ("arch", "release", "page_size"), [each for each in CONFIGURATIONS if each[0] in DIRECT_MAPPED]
)
def test_adding_and_removing_sections_gives_back_all_struct_pages(arch: Arch, release: str, page_size: int) -> None:
    k = kernel(arch, release, page_size=page_size)
    memmap = memmap_frames(k)
    span = plug(k, 3 * k.config.section_size)
    before = picture(k)
    __add_pages(k, 0, span.start, span.size)
    added = (memmap_frames(k) - memmap) * page_size
    assert added == 3 * k.config.pages_per_section * 64
    __remove_pages(k, span.start, span.size)
    assert memmap_frames(k) == memmap
    assert picture(k)["sections"] == before["sections"]
    assert picture(k)["subsections"] == before["subsections"]


def test_a_section_that_is_there_ends_the_loop_and_those_before_it_stay() -> None:
    k = kernel("riscv64")
    per = k.config.pages_per_section
    span = plug(k, 4 * k.config.section_size)
    sparse_add_section(k, 0, span.start + 2 * per, per)
    error = refused(__add_pages, k, 0, span.start, span.size)
    assert error.errno == EEXIST
    first = span.start // per
    assert list(k.mem_section.runs(first, first + 4)) == [(first, first + 3, Section(0, online=False, early=False))]


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
@pytest.mark.parametrize("left", [0, 1, 200])
def test_without_memory_the_failed_section_is_undone_and_those_before_it_stay(arch: Arch, left: int) -> None:
    """``__add_pages()`` has no way back: what it added before it failed is there to stay."""
    k = kernel(arch)
    per = k.config.pages_per_section
    span = plug(k, 4 * k.config.section_size)
    sparse_add_section(k, 0, span.start, per)
    hog = Owner(Use.KERNEL, "hog")
    while taken := alloc_pages(k, 0, 0, count=1 << 20, owner=hog, where="test"):
        hogged = taken[-1]
    free = Span(hogged.end - 512 - left, hogged.end)
    free_pages(k, [free], "test")
    before = picture(k)
    memmap = memmap_frames(k)
    error = refused(__add_pages, k, 0, span.start + per, 3 * per)
    assert error.errno == ENOMEM
    kept = (memmap_frames(k) - memmap) // 512
    first = span.start // per
    assert [(s, e) for s, e, _ in k.mem_section.runs(first, first + 4)] == [(first, first + 1 + kept)]
    assert k.subsection_map.covered(*span) == (1 + kept) * per
    __remove_pages(k, span.start + per, kept * per)
    after = picture(k)
    assert after["sections"] == before["sections"]
    assert memmap_frames(k) == memmap
    assert log(k, "warn") == ["vmemmap alloc failure: order:9"]


def test_removing_what_is_not_there_is_warned_of_and_changes_nothing() -> None:
    k = kernel("x86_64")
    span = pfns(k, PLUG_AT, k.config.section_size)
    before = picture(k)
    sparse_remove_section(k, span.start, span.size)
    assert picture(k) == before
    assert log(k, "warn") == ["WARNING: at mm/sparse.c:sparse_remove_section"]


# Sub-sections ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arch", "pages"), [("arm64", 16), ("x86_64", 16), ("riscv64", 512)])
def test_sub_sections_share_a_section_which_goes_with_the_last_of_them(arch: Arch, pages: int) -> None:
    """arm64 and x86 map struct pages of less than a section with base pages; riscv takes a PMD leaf all the same."""
    k = kernel(arch)
    sub = k.config.pages_per_subsection
    span = plug(k, 4 * MiB)
    before, memmap = picture(k), memmap_frames(k)
    __add_pages(k, 0, span.start, sub)
    __add_pages(k, 0, span.start + sub, sub)
    assert pfn_valid(k, span.end - 1) and not pfn_valid(k, span.end)
    assert memmap_frames(k) - memmap == pages
    __remove_pages(k, span.start, sub)
    assert not pfn_valid(k, span.start) and pfn_valid(k, span.start + sub)
    __remove_pages(k, span.start + sub, sub)
    assert picture(k)["sections"] == before["sections"]
    assert memmap_frames(k) == memmap


def test_a_sub_section_added_twice_is_there_already() -> None:
    k = kernel("arm64")
    span = plug(k, 2 * MiB)
    __add_pages(k, 0, span.start, span.size)
    assert refused(__add_pages, k, 0, span.start, span.size).errno == EEXIST


def test_less_than_a_sub_section_is_misaligned() -> None:
    k = kernel("x86_64")
    span = plug(k, 1 * MiB)
    error = refused(__add_pages, k, 0, span.start, span.size)
    assert error.name == "EINVAL"
    assert "Misaligned __add_pages start: 0x200000 end: 0x2000ff" in log(k, "warn")


def test_sub_sections_added_to_an_early_section_use_the_struct_pages_that_boot_made() -> None:
    config = Config(arch="x86_64", profile=profile("linux-6.12"), page_size=4 * KiB, va_bits=48)
    k = start_kernel(MachineSpec("cut", config, (Ram(1 * MiB, 320 * MiB),)))
    span = plug(k, 2 * MiB, at=322 * MiB)
    memmap = memmap_frames(k)
    __add_pages(k, 0, span.start, span.size)
    assert memmap_frames(k) == memmap
    assert early_section(k, span.start) and pfn_to_online_page(k, span.start)
    __remove_pages(k, span.start, span.size)
    assert memmap_frames(k) == memmap
    assert early_section(k, span.start) and not pfn_to_online_page(k, span.start)


def test_an_early_section_frees_its_struct_pages_when_the_last_of_its_memory_goes() -> None:
    k = kernel("riscv64")
    per = k.config.pages_per_section
    memmap = memmap_frames(k)
    first = pfns(k, 3 * GiB, 0).start - per
    half = per // 2
    __remove_pages(k, first, half)
    assert memmap_frames(k) == memmap
    __remove_pages(k, first + half, half)
    assert (memmap - memmap_frames(k)) * 4 * KiB == per * 64
    assert not pfn_valid(k, first)


def test_a_sub_section_removed_twice_is_warned_of() -> None:
    k = kernel("riscv64")
    span = plug(k, 4 * MiB)
    __add_pages(k, 0, span.start, span.size)
    sub = k.config.pages_per_subsection
    __remove_pages(k, span.start, sub)
    before = picture(k)
    __remove_pages(k, span.start, sub)
    assert f"section already deactivated ({span.start:#x} + {sub})" in log(k, "warn")
    assert picture(k) == before


# pfn_valid() of old arm64 kernels ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "early", "hot"), [("arm64-hotremove-v7", False, False), ("5.13", False, True), ("5.14", True, True)]
)
def test_whether_a_page_that_memblock_does_not_know_is_valid(release: str, early: bool, hot: bool) -> None:
    """arm64/mm: Fix pfn_valid() for ZONE_DEVICE based memory (5.12); arm64: drop pfn_valid_within() (5.14)."""
    k = kernel("arm64", release)
    span = plug(k, k.config.section_size)
    sparse_add_section(k, 0, span.start, span.size)
    boot = list(k.boot_memory)[-1][1] - 1
    assert pfn_valid(k, boot)
    k.memblock.memblock_remove(boot << k.config.page_shift, k.config.page_size)
    assert (pfn_valid(k, boot), pfn_valid(k, span.start)) == (early, hot)


def test_old_arm64_kernels_hold_a_page_valid_only_while_memblock_knows_it() -> None:
    k = kernel("arm64", "arm64-hotremove-v7")
    span = plug(k, k.config.section_size)
    sparse_add_section(k, 0, span.start, span.size)
    assert not pfn_valid(k, span.start)
    k.memblock.memblock_add_node(PLUG_AT, k.config.section_size, 0)
    assert pfn_valid(k, span.start)


@pytest.mark.parametrize(("release", "online"), [("5.13", False), ("5.14", True)])
def test_what_firmware_keeps_was_not_online_while_arm64_had_a_pfn_valid_of_its_own(release: str, online: bool) -> None:
    """linux-6.12 mm/memory_hotplug.c:pfn_to_online_page under HAVE_ARCH_PFN_VALID: arm64 before 5.14."""
    k = kernel("arm64", release)
    start = BOOT_RAM["arm64"].start + 256 * MiB
    k.memblock.memblock_mark_nomap(start, 2 * MiB)
    inside, behind = (pfn_to_online_page(k, at >> k.config.page_shift) for at in (start, start + 2 * MiB))
    assert (inside, behind) == (online, True)
