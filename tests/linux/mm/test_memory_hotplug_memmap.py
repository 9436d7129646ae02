"""Struct pages in the memory that they describe: when that is possible, and what it looks like."""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import Literal

import pytest

from architectures import DIRECT_MAPPED
from captures import captures, open_capture
from kernels import PLUG_AT, blocks, kernel, log, plug, refused
from memhp.facts.describe import describe
from memhp.facts.observed import observe
from memhp.hw.memory import Owner, Use
from memhp.linux.choices import Arch
from memhp.linux.config import Config
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.drivers.firmware.memmap import firmware_map
from memhp.linux.init import MachineSpec, Ram, start_kernel
from memhp.linux.mm.memory_hotplug_add import MHP_MEMMAP_ON_MEMORY, add_memory
from memhp.linux.mm.memory_hotplug_memmap import memmap_on_memory_obstacle, mhp_supports_memmap_on_memory
from memhp.linux.mm.memory_hotplug_remove import remove_memory
from memhp.linux.mm.sparse import pfn_to_online_page
from memhp.linux.mmzone import PageFlags
from memhp.linux.profiles import profile
from memhp.units import GiB, KiB, MiB

Mode = Literal["N", "Y", "force"]


def config(arch: Arch, release: str, page_size: int, mode: Mode, va_bits: int = 48, size: int = 64) -> Config:
    return Config(
        arch=arch,
        profile=profile(release),
        page_size=page_size,
        va_bits=va_bits,
        memmap_on_memory=mode,
        struct_page_size=size,
    )


@pytest.mark.parametrize(
    ("arch", "release", "page_size", "mode", "block", "obstacle"),
    [
        ("x86_64", "linux-6.12", 4 * KiB, "N", 128 * MiB, "memory_hotplug.memmap_on_memory is N"),
        ("x86_64", "linux-6.12", 4 * KiB, "Y", 128 * MiB, ""),
        ("x86_64", "linux-6.12", 4 * KiB, "Y", 2 * GiB, ""),
        ("riscv64", "linux-6.12", 4 * KiB, "Y", 128 * MiB, ""),
        ("arm64", "linux-6.12", 4 * KiB, "Y", 128 * MiB, ""),
        ("arm64", "linux-6.12", 16 * KiB, "Y", 128 * MiB, "struct pages: 32 pages, which is not a multiple"),
        ("arm64", "linux-6.12", 16 * KiB, "force", 128 * MiB, "take 512 KiB, which is not a multiple of the PMD size"),
        ("arm64", "linux-6.12", 64 * KiB, "Y", 512 * MiB, "struct pages: 8 pages, which is not a multiple"),
        ("arm64", "linux-6.12", 64 * KiB, "force", 512 * MiB, "no page of a block would be left"),
        ("arm64", "linux-5.13", 4 * KiB, "Y", 128 * MiB, ""),
        ("x86_64", "linux-5.13", 4 * KiB, "Y", 128 * MiB, ""),
    ],
)
def test_which_kernels_can_keep_struct_pages_in_the_memory(
    arch: Arch, release: str, page_size: int, mode: Mode, block: int, obstacle: str
) -> None:
    width = {16 * KiB: 47}.get(page_size, 48)
    text = memmap_on_memory_obstacle(config(arch, release, page_size, mode, width), block)
    assert obstacle in text
    assert bool(text) == bool(obstacle)


def test_before_6_8_the_memory_must_be_one_block() -> None:
    old = config("x86_64", "linux-5.13", 4 * KiB, "Y")
    new = config("x86_64", "linux-6.12", 4 * KiB, "Y")
    assert "256 MiB is not one memory block" in memmap_on_memory_obstacle(old, 128 * MiB, 256 * MiB)
    assert not memmap_on_memory_obstacle(old, 128 * MiB, 128 * MiB)
    assert not memmap_on_memory_obstacle(new, 128 * MiB, 256 * MiB)


@pytest.mark.parametrize("release", ["linux-5.13", "linux-6.12"])
def test_struct_pages_of_80_bytes_do_not_fill_whole_pmds(release: str) -> None:
    obstacle = memmap_on_memory_obstacle(config("x86_64", release, 4 * KiB, "Y", size=80), 128 * MiB)
    assert "not a multiple of" in obstacle


def forced_captures() -> list[str]:
    """Captures of kernels that were told to force it, and say what that costs."""
    return [
        name for name in captures() if any("will waste" in (s.boot_log() or "") for s in open_capture(name).values())
    ]


@pytest.mark.parametrize("name", forced_captures())
def test_a_forced_kernel_says_how_many_pages_it_wastes(name: str) -> None:
    last = list(open_capture(name).values())[-1]
    said = [line.split("] ", 1)[1] for line in (last.boot_log() or "").splitlines() if "will waste" in line]
    machine = describe(observe(last), name=name)
    arch: Arch = machine.arch
    k = kernel(arch, "linux-7.2", page_size=machine.page_size, memmap_on_memory="force")
    assert [line for line in log(k) if "will waste" in line] == said


def test_some_captured_kernel_was_forced() -> None:
    assert len(forced_captures()) >= 2


# What it looks like ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
def test_a_block_that_hosts_its_struct_pages_gives_the_rest_to_the_buddy(arch: Arch) -> None:
    """512 pages at the start of each block are set aside; online they are in the block's zone, but not managed."""
    k = kernel(arch, memmap_on_memory="Y")
    size = 3 * k.memory_block_size
    span = plug(k, size)
    memmap = k.hw.memory.used(Use.MEMMAP)
    add_memory(k, 0, PLUG_AT, size, MHP_MEMMAP_ON_MEMORY)
    assert k.hw.memory.used(Use.MEMMAP) - memmap == k.hw.memory.used(Use.MEMMAP, *span) == 3 * 512
    assert {owner for *_, owner in k.hw.memory.owners.runs(span.start, span.start + 512)} == {
        Owner(Use.MEMMAP, "altmap")
    }
    for block in blocks(k, size):
        state_store(k, block, "online_movable")
    zone = k.zone_of(span.start)
    assert zone is not None and zone.name == "Movable"
    assert (zone.spanned, zone.present) == (span.size, span.size)
    assert zone.managed == span.size - 3 * 512
    assert k.page_flags.get(span.start) == PageFlags.VMEMMAP_SELF_HOSTED
    assert k.page_flags.get(span.start + 512) is None
    assert pfn_to_online_page(k, span.start)
    for block in blocks(k, size):
        state_store(k, block, "offline")
    assert "Offlined Pages 32256" in log(k, "debug")
    assert (zone.spanned, zone.present, zone.managed) == (0, 0, 0)
    remove_memory(k, PLUG_AT, size)
    assert k.hw.memory.used(Use.MEMMAP) == memmap
    assert not k.altmaps


def test_virtio_mem_never_asks_for_it_and_kernels_without_it_take_ram() -> None:
    k = kernel("arm64", page_size=16 * KiB, memmap_on_memory="Y")
    assert not mhp_supports_memmap_on_memory(k)
    span = plug(k, k.memory_block_size)
    add_memory(k, 0, PLUG_AT, k.memory_block_size, MHP_MEMMAP_ON_MEMORY)
    assert k.hw.memory.used(Use.MEMMAP, *span) == 0


def test_5_13_refuses_the_flag_for_more_than_a_block() -> None:
    k = kernel("x86_64", "linux-5.13", memmap_on_memory="Y")
    size = 2 * k.memory_block_size
    plug(k, size)
    error = refused(add_memory, k, 0, PLUG_AT, size, MHP_MEMMAP_ON_MEMORY)
    assert (error.name, error.place) == ("EINVAL", "mm/memory_hotplug.c:add_memory_resource")
    assert not k.memory_blocks.get(PLUG_AT // k.memory_block_size)


def test_5_13_refuses_to_remove_such_blocks_in_another_granularity_and_nothing_changes() -> None:
    k = kernel("x86_64", "linux-5.13", memmap_on_memory="Y")
    size = k.memory_block_size
    for start in (PLUG_AT, PLUG_AT + size):
        plug(k, size, at=start)
        add_memory(k, 0, start, size, MHP_MEMMAP_ON_MEMORY)
    error = refused(remove_memory, k, PLUG_AT, 2 * size)
    assert error.reason == f"Refuse to remove {PLUG_AT:#x} - {PLUG_AT + 2 * size:#x},wrong granularity"
    assert (error.name, len(firmware_map(k))) == ("EINVAL", 2)
    for start in (PLUG_AT, PLUG_AT + size):
        remove_memory(k, start, size)
    assert not k.altmaps and not firmware_map(k)


def test_6_12_removes_many_such_blocks_at_once_but_not_together_with_others() -> None:
    """By then the entry in firmware's memory map has gone, as in the kernel."""
    k = kernel("x86_64", memmap_on_memory="Y")
    size = k.memory_block_size
    plug(k, 3 * size)
    add_memory(k, 0, PLUG_AT, 2 * size, MHP_MEMMAP_ON_MEMORY)
    add_memory(k, 0, PLUG_AT + 2 * size, size)
    error = refused(remove_memory, k, PLUG_AT, 3 * size)
    assert (error.name, error.place) == ("EINVAL", "mm/memory_hotplug.c:memory_blocks_have_altmaps")
    assert len(blocks(k, 3 * size)) == 3
    remove_memory(k, PLUG_AT, 2 * size)
    remove_memory(k, PLUG_AT + 2 * size, size)
    assert not blocks(k, 3 * size)


def test_a_block_of_2_gib_hosts_the_struct_pages_of_16_sections_in_a_quarter_of_its_first() -> None:
    config = Config(
        arch="x86_64",
        profile=profile("linux-6.12"),
        page_size=4 * KiB,
        va_bits=48,
        memmap_on_memory="Y",
        hypervisor=False,
    )
    k = start_kernel(MachineSpec("host", config, (Ram(1 * MiB, 64 * GiB - 1 * MiB),)))
    assert k.memory_block_size == 2 * GiB
    span = plug(k, 2 * GiB, at=128 * GiB)
    add_memory(k, 0, 128 * GiB, 2 * GiB, MHP_MEMMAP_ON_MEMORY)
    assert k.altmaps[64].alloc == 16 * 512
    state_store(k, 64, "online")
    first = span.start // k.config.pages_per_section
    assert [(start, end) for start, end, section in k.mem_section.runs(first, first + 16) if section.online] == [
        (first, first + 16)
    ]
    assert k.hw.memory.used(Use.FREE, *span) == span.size - 16 * 512
