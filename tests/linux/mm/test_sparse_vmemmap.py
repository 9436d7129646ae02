"""Struct pages: which leaves map them, where they are kept, and what happens when a huge chunk is not to be had."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from errno import ENOMEM

import pytest

from architectures import DIRECT_MAPPED
from captures import captures, open_capture
from kernels import PLUG_AT, kernel, log, plug, refused
from memhp.hw.memory import Owner, Use
from memhp.hw.walker import walk
from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.memory_hotplug_add import MHP_MEMMAP_ON_MEMORY, add_memory, add_memory_driver_managed
from memhp.linux.mm.memory_hotplug_pages import __add_pages, __remove_pages
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.mm.sparse_vmemmap import vmemmap_populate_basepages
from memhp.linux.mm.users import fragment
from memhp.linux.mm.vmemmap_alloc import SparseBuffer
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB, div_round_up

ALTMAP_LINE = re.compile(r"altmap_alloc_block_buf: pfn: 0x[0-9a-f]+ alloc: \d+ align: \d+ nr: 0x[0-9a-f]+")


def leaf_heights(k: Kernel, start_pfn: int, nr_pages: int) -> dict[int, int]:
    """How many leaves of each height map the struct pages of a range."""
    span = k.layout.memmap(start_pfn, start_pfn + nr_pages)
    found: dict[int, int] = {}
    at = span.start
    while at < span.end:
        step = walk(k.hw.memory, k.hw.fmt, k.init_mm.frame, at).leaf
        found[step.height] = found.get(step.height, 0) + 1
        at += k.hw.fmt.levels[step.height].size
    return found


def use_up(k: Kernel, leave: int, order: int = 0) -> None:
    """Leave `leave` free blocks of an order, with no neighbour free."""
    hog = Owner(Use.KERNEL, "hog")
    taken: list[Span] = []
    while more := alloc_pages(k, 0, 0, count=1 << 20, owner=hog, where="test"):
        taken.extend(more)
    size = 1 << order
    whole = max(taken, key=lambda span: span.size)
    first = -(-whole.start // (2 * size)) * 2 * size
    free_pages(k, [Span(first + 2 * i * size, first + 2 * i * size + size) for i in range(leave)], "test")


def logged_altmaps(name: str) -> list[str]:
    """The altmap lines of a real kernel's log, without their time."""
    last = list(open_capture(name).values())[-1]
    return ALTMAP_LINE.findall(last.boot_log() or "")


def starts_with_a_section(line: str) -> bool:
    """Whether an altmap's first chunk lies at the start of 128 MiB, or soon after."""
    return int(line.split()[2], 16) & 0x7FFF < 0x400


ALTMAP_CAPTURES = [name for name in captures() if (lines := logged_altmaps(name)) and starts_with_a_section(lines[0])]
"""Machines whose device begins with a section; the others are played whole in tests/replay."""


def config_of(name: str) -> Config:
    arch: Arch = next(arch for arch in DIRECT_MAPPED if name.startswith(arch))
    release = "linux-7.2" if "-7.2" in name else "linux-6.12"
    pages = 16 * KiB if "16k" in name else 4 * KiB
    width = {"riscv64": 57, "x86_64": 48, "arm64": 47 if "16k" in name else 48}[arch]
    return Config(arch=arch, profile=profile(release), page_size=pages, va_bits=width, memmap_on_memory="Y")


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_a_section_of_4k_pages_takes_one_pmd_leaf_of_struct_pages(arch: Arch) -> None:
    k = kernel(arch)
    span = plug(k, k.config.section_size)
    __add_pages(k, 0, span.start, span.size)
    assert leaf_heights(k, *(span.start, span.size)) == {1: 1}


@pytest.mark.parametrize(("page_size", "pages"), [(16 * KiB, 32), (64 * KiB, 8)])
def test_larger_pages_on_arm64_map_struct_pages_with_base_pages(page_size: int, pages: int) -> None:
    k = kernel("arm64", page_size=page_size)
    span = plug(k, k.config.section_size)
    __add_pages(k, 0, span.start, span.size)
    assert leaf_heights(k, span.start, span.size) == {0: pages}


def test_the_first_riscv_posting_maps_struct_pages_with_base_pages_only() -> None:
    k = kernel("riscv64", "riscv-hotplug-v1")
    span = plug(k, 2 * k.config.section_size)
    __add_pages(k, 0, span.start, span.size)
    assert leaf_heights(k, span.start, span.size) == {0: 1024}


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_without_a_free_huge_chunk_base_pages_take_its_place(arch: Arch) -> None:
    k = kernel(arch)
    span = plug(k, k.config.section_size)
    fragment(k, 2 * MiB, tag="fragments")
    __add_pages(k, 0, span.start, span.size)
    assert leaf_heights(k, span.start, span.size) == {0: 512}
    assert log(k, "warn") == ["vmemmap alloc failure: order:9"]


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_the_only_free_huge_chunk_is_taken(arch: Arch) -> None:
    k = kernel(arch)
    span = plug(k, k.config.section_size)
    use_up(k, 1, order=9)
    __add_pages(k, 0, span.start, k.config.pages_per_section)
    assert leaf_heights(k, span.start, k.config.pages_per_section) == {1: 1}


def test_before_5_11_arm64_had_no_fallback() -> None:
    k = kernel("arm64", "arm64-hotremove-v7")
    span = plug(k, k.config.section_size)
    fragment(k, 2 * MiB, tag="fragments")
    error = refused(__add_pages, k, 0, span.start, span.size)
    assert (error.errno, error.place) == (ENOMEM, "mm/sparse-vmemmap.c:vmemmap_populate_hugepages")


def test_struct_pages_on_another_node_are_warned_of_once() -> None:
    config = Config(arch="riscv64", profile=profile("riscv-hotplug-v1"), page_size=4 * KiB, va_bits=57)
    k = start_kernel(MachineSpec("numa", config, (Ram(2 * GiB, 1 * GiB),), nodes=(0, 1)))
    span = plug(k, 2 * k.config.section_size)
    __add_pages(k, 1, span.start, span.size)
    address = k.layout.pfn_to_page(span.start)
    assert log(k, "warn") == [f"[{address:x}-{address + 4095:x}] potential offnode page_structs"]


@pytest.mark.parametrize("arch", ["x86_64", "arm64", "riscv64", "loongarch64"])
def test_a_huge_leaf_is_asked_for_its_node_when_more_of_it_comes_into_use(arch: Arch) -> None:
    """vmemmap_check_pmd() calls vmemmap_verify() with what is wanted of the leaf; vmemmap_set_pmd() does not."""
    k = kernel(arch)
    leaf = k.hw.fmt.levels[1].size
    start = k.layout.pfn_to_page(PLUG_AT >> k.config.page_shift)
    k.port.vmemmap_populate(k, start, start + leaf, 1, None)
    assert log(k, "warn") == []
    k.port.vmemmap_populate(k, start, start + leaf, 1, None)
    assert log(k, "warn") == [f"[{start:x}-{start + leaf - 1:x}] potential offnode page_structs"]


@pytest.mark.parametrize(("arch", "warns"), [("x86_64", True), ("arm64", False)])
def test_memblock_says_on_which_node_struct_pages_lie_and_x86s_knows_none_that_was_plugged(
    arch: Arch, warns: bool
) -> None:
    """early_pfn_to_nid(): what memblock does not know is the first node's; add_memory_resource() tells it on arm64."""
    k = kernel(arch)
    plug(k, 2 * k.memory_block_size)
    add_memory(k, 1, PLUG_AT, k.memory_block_size)
    state_store(k, PLUG_AT // k.memory_block_size, "online_kernel")
    start = k.layout.pfn_to_page((PLUG_AT + k.memory_block_size) >> k.config.page_shift)
    vmemmap_populate_basepages(k, start, start + MiB, 1, None, k.port.vmemmap_builder(k))
    pa = walk(k.hw.memory, k.hw.fmt, k.init_mm.frame, start).pa
    zone = None if pa is None else k.zone_of(pa >> k.config.page_shift)
    assert zone is not None and zone.nid == 1
    assert log(k, "warn") == ([f"[{start:x}-{start + 4095:x}] potential offnode page_structs"] if warns else [])


# Altmaps -----------------------------------------------------------------------------------------------------


def test_real_kernels_with_altmaps_are_among_the_captures() -> None:
    assert {name.split("-")[0] for name in ALTMAP_CAPTURES} == set(DIRECT_MAPPED)


@pytest.mark.parametrize("name", ALTMAP_CAPTURES)
def test_an_altmap_is_used_up_as_a_real_kernels_log_says(name: str) -> None:
    """devdax keeps 8 KiB for itself and maps its struct pages from what follows; kmem blocks have an altmap each."""
    config = config_of(name)
    ram = Span(1 * MiB, 1 * GiB) if config.arch == "x86_64" else Span(1 * GiB, 2 * GiB)
    k = start_kernel(MachineSpec("real", config, (Ram(ram.start, ram.size),)))
    span = plug(k, 1 * GiB, at=3 * GiB if config.page_size == 16 * KiB else 4 * GiB)
    lines = logged_altmaps(name)
    memmap = config.memmap_bytes_per_section // config.page_size
    kmem = [line for line in lines if f" alloc: {memmap} align: 0 nr: {memmap:#x}" in line]
    if kmem != lines:
        reserve = div_round_up(8 * KiB, config.page_size)
        altmap = VmemAltmap(span.start, span.end - 1, free=span.size * 64 // config.page_size + 512, reserve=reserve)
        __add_pages(k, 0, span.start, span.size, altmap)
        __remove_pages(k, span.start, span.size, altmap)
        assert altmap.alloc == 0
    for line in kmem:
        start = int(line.split()[2], 16) << config.page_shift
        add_memory_driver_managed(k, 0, start, k.memory_block_size, "System RAM (kmem)", MHP_MEMMAP_ON_MEMORY)
    assert [line for line in log(k, "debug") if ALTMAP_LINE.fullmatch(line)] == lines


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_an_altmap_that_holds_one_huge_chunk_serves_one_section_and_fails_at_the_next(arch: Arch) -> None:
    k = kernel(arch)
    span = plug(k, 2 * k.config.section_size)
    altmap = VmemAltmap(span.start, span.end - 1, free=512 + 511)
    error = refused(__add_pages, k, 0, span.start, span.size, altmap)
    assert (error.errno, error.place) == (ENOMEM, "mm/sparse-vmemmap.c:vmemmap_populate_hugepages")
    assert (altmap.alloc, altmap.align) == (512, 0)
    assert k.hw.memory.owners.get(span.start) == Owner(Use.MEMMAP, "altmap")
    assert k.hw.memory.used(Use.MEMMAP, *span) == 512


def test_arm64_of_5_13_takes_base_pages_from_an_altmap_that_has_no_huge_chunk_left() -> None:
    k = kernel("arm64", "linux-5.13")
    span = plug(k, k.config.section_size)
    altmap = VmemAltmap(span.start, span.end - 1, free=520, reserve=3)
    __add_pages(k, 0, span.start, span.size, altmap)
    assert leaf_heights(k, span.start, span.size) == {0: 512}
    assert (altmap.alloc, altmap.align) == (512, 0)
    assert k.hw.memory.owners.get(span.start + 3) == Owner(Use.MEMMAP, "altmap")


@pytest.mark.parametrize(("base", "free"), [(1, 512), (0, 1 << 20)])
def test_an_altmap_that_does_not_fit_the_range_is_refused(base: int, free: int) -> None:
    k = kernel("x86_64")
    span = plug(k, k.config.section_size)
    for _ in range(2):
        altmap = VmemAltmap(span.start + base, span.end - 1, free=free)
        assert refused(__add_pages, k, 0, span.start, span.size, altmap).name == "EINVAL"
    assert log(k, "warn") == ["memory add fail, invalid altmap"], "pr_warn_once()"


# Boot --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
@pytest.mark.parametrize("release", ["linux-6.12", "linux-7.2"])
def test_boot_maps_all_struct_pages_and_gives_back_what_its_buffer_has_left(arch: Arch, release: str) -> None:
    k = kernel(arch, release)
    sections = sum(end - start for start, end, _ in k.mem_section)
    assert k.hw.memory.used(Use.MEMMAP) * 4 * KiB == sections * 2 * MiB
    for first, last, _ in k.mem_section:
        per = k.config.pages_per_section
        assert leaf_heights(k, first * per, (last - first) * per) == {1: last - first}
    assert not k.statics(SparseBuffer).left


def test_boot_on_arm64_with_16k_pages_takes_32_mib_a_section_from_memblock_and_keeps_512_kib() -> None:
    k = kernel("arm64", page_size=16 * KiB)
    assert k.hw.memory.used(Use.MEMMAP) * 16 * KiB == 8 * 512 * KiB
    assert sum(zone.managed for zone in k.zones()) * 16 * KiB > 900 * MiB


def test_struct_pages_of_boot_are_one_range_from_the_buffer_and_go_downwards_leaf_by_leaf_without_it() -> None:
    starts: dict[str, list[int]] = {}
    for release in ("linux-6.12", "linux-7.2"):
        k = kernel("riscv64", release)
        per = k.config.pages_per_section
        first = pages_of(k)
        starts[release] = [
            walk(k.hw.memory, k.hw.fmt, k.init_mm.frame, k.layout.pfn_to_page(first + i * per)).pa or 0
            for i in range(8)
        ]
    assert starts["linux-6.12"] == [starts["linux-6.12"][0] + i * 2 * MiB for i in range(8)]
    assert starts["linux-7.2"] == [starts["linux-7.2"][0] - i * 2 * MiB for i in range(8)]


def pages_of(k: Kernel) -> int:
    """The first PFN of boot memory."""
    return next(iter(k.boot_memory)).start
