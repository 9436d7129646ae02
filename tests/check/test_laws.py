"""Every law holds on a sound machine, and each is broken by defects that break no other."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from dataclasses import replace
from pathlib import Path

import pytest

import memhp
from architectures import DIRECT_MAPPED
from check import defects
from check.machines import RAM_START, booted, config, frames, grown, online, plug, unplug, with_process, without_choice
from memhp import check
from memhp.check import LAWS, Breach, check_all, notes_of, snapshot
from memhp.hw.memory import Owner, Use
from memhp.hw.tlb import Flush
from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType
from memhp.linux.mm.kasan.init import (
    kasan_add_zero_shadow,
    kasan_mem_to_shadow,
    kasan_memory_per_shadow_page,
    kasan_remove_zero_shadow,
)
from memhp.linux.mm.memremap import memremap_pages, memunmap_pages
from memhp.linux.mm.vmalloc import pcpu_create_chunk
from memhp.linux.profiles import profile
from memhp.spans import Span
from memhp.units import GiB, KiB


def broken(found: list[Breach]) -> dict[str, list[str]]:
    """Breaches by law, as text: what a failing test shows."""
    by_law: dict[str, list[str]] = {}
    for breach in found:
        by_law.setdefault(breach.law, []).append(breach.text)
    return by_law


def test_laws_have_names_and_sentences_of_their_own() -> None:
    assert len({law.name for law in LAWS}) == len({law.sentence for law in LAWS}) == len(LAWS)


def test_every_law_that_there_is_a_module_of_is_listed() -> None:
    folder = Path(check.__file__).parent
    modules = [path.stem for path in folder.glob("*.py") if "\nLAW = " in path.read_text(encoding="utf-8")]
    assert len(modules) == len(LAWS)


def test_every_law_has_a_defect_that_breaks_it_alone() -> None:
    """In `defects.DEFECTS`, or on a machine that has what the law is about, in a test of its own here."""
    own = {
        name
        for file in Path(__file__).parent.glob("test_*.py")
        for name in re.findall(r'== {"([a-z-]+)"}', file.read_text())
    }
    assert {law.name for law in LAWS} - defects.DEFECTS.keys() - own == set()


def test_what_doors_record_belongs_to_a_law() -> None:
    source = Path(memhp.__file__).parent
    recorded = {
        name for file in source.rglob("*.py") for name in re.findall(r'Violation\(\s*"([a-z-]+)"', file.read_text())
    }
    assert recorded
    assert recorded == {name for law in LAWS for name in law.doors}


@pytest.mark.parametrize("page_size", [4 * KiB, 16 * KiB, 64 * KiB])
def test_every_law_holds_with_vmalloc_memory_where_a_smaller_cpu_has_no_use_for_the_vmemmap(
    page_size: int,
) -> None:
    k = booted(Config("arm64", profile("linux-6.12"), page_size=page_size, va_bits=52, lva=False).validate(), 2 * GiB)
    chunk = pcpu_create_chunk(k, 64 * KiB, "percpu")
    assert chunk.start >= k.layout.vmemmap.start
    assert broken(check_all(k)) == {}


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_every_law_holds_through_a_life_cycle(arch: Arch) -> None:
    k = with_process(booted(config(arch)))
    start = snapshot(k)
    assert broken(check_all(k, start)) == {}
    span = plug(k, 2)
    assert broken(check_all(k, start)) == {}
    for block in range(k.block_id(span.start), k.block_id(span.end)):
        online(k, block)
        assert broken(check_all(k, start)) == {}
    unplug(k, span)
    assert broken(check_all(k, start)) == {}


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
@pytest.mark.parametrize("how", ["online_kernel", "online_movable"])
def test_every_law_holds_with_self_hosted_struct_pages(arch: Arch, how: str) -> None:
    k = booted(config(arch, memmap_on_memory="Y"))
    start = snapshot(k)
    span = plug(k, 2)
    assert k.altmaps
    assert broken(check_all(k, start)) == {}
    for block in range(k.block_id(span.start), k.block_id(span.end)):
        online(k, block, how)
        assert broken(check_all(k, start)) == {}
        online(k, block, "offline")
        assert broken(check_all(k, start)) == {}
    unplug(k, span)
    assert not k.altmaps
    assert broken(check_all(k, start)) == {}


@pytest.mark.parametrize("arch", ["arm64", "riscv64"])
def test_the_shadow_of_struct_pages_in_a_block_is_there_while_it_is_online_and_only_then(arch: Arch) -> None:
    k = grown(replace(config(arch), kasan=True, memmap_on_memory="Y"))
    assert broken(check_all(k)) == {}
    block = next(iter(k.altmaps))
    first = block * k.pages_per_block << k.config.page_shift
    shadow = kasan_mem_to_shadow(k, k.layout.phys_to_virt(first))
    assert shadow in k.layout.kasan.span if k.layout.kasan else False
    kasan_remove_zero_shadow(k, k.layout.phys_to_virt(first), kasan_memory_per_shadow_page(k.config))
    assert set(broken(check_all(k))) == {"kasan-shadow"}
    kasan_add_zero_shadow(k, k.layout.phys_to_virt(first), kasan_memory_per_shadow_page(k.config))
    assert broken(check_all(k)) == {}
    kasan_add_zero_shadow(k, k.layout.phys_to_virt(k.port.ram_start), kasan_memory_per_shadow_page(k.config))
    assert set(broken(check_all(k))) == {"kasan-shadow"}


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
@pytest.mark.parametrize(
    ("law", "defect"),
    [
        pytest.param(law, defect, id=f"{law}-{defect.__name__}")
        for law, those in defects.DEFECTS.items()
        for defect in those
    ],
)
def test_a_defect_breaks_its_law_and_no_other(arch: Arch, law: str, defect: defects.Defect) -> None:
    k = grown(config(arch))
    assert broken(check_all(k)) == {}
    defect(k)
    assert set(broken(check_all(k))) == {law}


@pytest.mark.parametrize("arch", ["riscv64", "x86_64"])
@pytest.mark.parametrize("defect", [defects.process_has_a_stale_entry, defects.process_lacks_an_entry])
def test_processes_must_agree_with_the_kernel(arch: Arch, defect: defects.Defect) -> None:
    k = with_process(grown(config(arch)))
    assert broken(check_all(k)) == {}
    defect(k)
    assert set(broken(check_all(k))) == {"processes"}


def test_a_process_of_arm64_has_the_kernels_own_table() -> None:
    k = with_process(grown(config("arm64")))
    k.pgd["init"] = k.pgd["init"]._replace(frame=k.init_mm.frame)
    assert broken(check_all(k)) == {}


@pytest.mark.parametrize("arch", ["riscv64", "arm64"])
def test_memblock_must_know_the_memory_where_it_is_kept(arch: Arch) -> None:
    k = grown(config(arch))
    defects.memblock_forgot(k)
    assert set(broken(check_all(k))) == {"memblock"}


def test_memblock_of_x86_ends_with_boot() -> None:
    k = grown(config("x86_64"))
    defects.memblock_forgot(k)
    assert broken(check_all(k)) == {}


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
@pytest.mark.parametrize("defect", [defects.altmap_lost_count, defects.altmap_is_gone])
def test_accounts_of_an_altmap_must_agree_with_the_vmemmap(arch: Arch, defect: defects.Defect) -> None:
    k = grown(config(arch, memmap_on_memory="Y"))
    assert broken(check_all(k)) == {}
    defect(k)
    assert set(broken(check_all(k))) == {"altmaps"}


def test_an_altmap_must_not_outlive_its_block() -> None:
    k = booted(config("x86_64", memmap_on_memory="Y"))
    span = plug(k, 1)
    altmaps = dict(k.altmaps)
    unplug(k, span)
    k.altmaps.update(altmaps)
    assert set(broken(check_all(k))) == {"altmaps"}


def test_a_law_tells_of_the_first_places_and_counts_the_rest() -> None:
    k = grown(config("x86_64"))
    for number in range(20):
        k.hw.lock(f"lock {number}")
    texts = broken(check_all(k))["locks"]
    assert len(texts) == 9
    assert texts[-1] == "and in 12 more places"


def test_frames_freed_before_their_flush_but_flushed_in_time_are_a_note() -> None:
    k = grown(config("x86_64"))
    start = snapshot(k)
    defects.page_is_freed_before_the_flush(k)
    k.hw.flush(Flush("flush_tlb_all", "test"))
    assert broken(check_all(k, start)) == {}
    assert [(note.law, note.count) for note in notes_of(k, start)] == [("flush-before-free", 1)]


def test_a_process_may_lack_what_its_kernel_never_promised() -> None:
    k = with_process(grown(without_choice(config("riscv64"), pgd_policy="none", pgd_preallocated=())))
    defects.process_lacks_an_entry(k)
    assert broken(check_all(k)) == {}
    assert [note.count for note in notes_of(k) if note.law == "processes"] == [1]


@pytest.mark.parametrize("name", ["riscv64", "arm64"])
def test_device_memory_in_the_last_section_of_boot_memory_is_none_of_memblocks(name: Arch) -> None:
    """memremap_pages() does not tell memblock; sub-sections are there so that the two may share a section."""
    kernel = config(name)
    k = booted(kernel, kernel.section_size * 8 + kernel.section_size // 2)
    end = RAM_START[name] + kernel.section_size * 8 + kernel.section_size // 2
    half = Span(end, end + kernel.section_size // 2)
    k.hw.plug(frames(k, half.start, half.size), Owner(Use.DEVICE, "pmem"))
    mapping = DevPagemap(MemoryType.GENERIC, (half,))
    memremap_pages(k, mapping, 0)
    assert broken(check_all(k)) == {}
    k.memblock.memory.set(*half, next(iter(k.memblock.memory))[2])
    assert list(broken(check_all(k))) == ["memblock"]
    k.memblock.memory.clear(*half)
    memunmap_pages(k, mapping)
    assert broken(check_all(k)) == {}
