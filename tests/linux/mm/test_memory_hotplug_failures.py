"""Adding memory while allocations fail, one after the other: what is taken back, and what stays."""
# SPDX-License-Identifier: GPL-2.0-or-later

from itertools import groupby
from typing import Any

import pytest

from kernels import PLUG_AT, blocks, kernel, one_by_one, picture, plug, refused, settled
from memhp.errors import KernelBug, KernelError
from memhp.hw.memory import Use
from memhp.linux.choices import Arch
from memhp.linux.mm.memory_hotplug_add import MHP_MEMMAP_ON_MEMORY, MHP_NONE, add_memory
from memhp.linux.mm.sparse import sparse_add_section
from memhp.linux.state import Kernel
from memhp.units import KiB


def small(arch: Arch, release: str, memmap: bool) -> tuple[Kernel, int]:
    """A machine with two memory blocks plugged, and their size; on arm64, of 16K pages, one."""
    page_size = 16 * KiB if arch == "arm64" else 4 * KiB
    k = kernel(arch, release, page_size=page_size, memmap_on_memory="Y" if memmap else "N")
    size = k.memory_block_size * (1 if arch == "arm64" else 2)
    plug(k, size)
    return k, size


def ending(k: Kernel, nid: int, size: int, memmap: bool) -> str:
    """How adding the blocks ends."""
    try:
        add_memory(k, nid, PLUG_AT, size, MHP_MEMMAP_ON_MEMORY if memmap else MHP_NONE)
    except KernelError as error:
        return error.name
    except KernelBug:
        return "BUG"
    return "added"


def turns(asked: list[str]) -> list[int]:
    """Which allocations to make fail: of those made at one place in a row the first, one in the middle, the last."""
    chosen: set[int] = set()
    at = 0
    for _, row in groupby(asked):
        count = len(list(row))
        chosen |= {at, at + count // 2, at + count - 1}
        at += count
    return sorted(chosen)


FAILING: list[tuple[Arch, str, bool, int]] = [
    ("riscv64", "linux-6.12", False, 0),
    ("riscv64", "linux-6.12", True, 1),
    ("riscv64", "riscv-hotplug-v1", False, 0),
    ("arm64", "linux-7.2", False, 1),
    ("x86_64", "linux-5.13", False, 0),
    ("x86_64", "linux-5.13", False, 1),
    ("x86_64", "linux-7.2", True, 1),
]


@pytest.mark.parametrize(("arch", "release", "memmap", "nid"), FAILING)
def test_whichever_allocation_fails_add_memory_takes_back_all_but_whole_sections(
    arch: Arch, release: str, memmap: bool, nid: int
) -> None:
    """Where it ends in an error, blocks, resource, memblock and node are as before. Sections that
    ``__add_pages()`` finished before the one that failed stay, with their struct pages: it has no way back.
    """
    k, size = small(arch, release, memmap)
    with one_by_one(k) as stepper:
        assert ending(k, nid, size, memmap) == "added"
    endings = set()
    for failing in turns(stepper.asked):
        k, size = small(arch, release, memmap)
        before = settled(picture(k))
        with one_by_one(k, failing):
            ended = ending(k, nid, size, memmap)
        endings.add(ended)
        after = settled(picture(k))
        if ended == "added":
            assert len(blocks(k, size)) == size // k.memory_block_size
        elif ended == "ENOMEM":
            names = set(after) - {"owners", "tables", "zones", "sections", "subsections"}
            assert {name: after[name] for name in names} == {name: before[name] for name in names}
            if after["sections"] == before["sections"]:
                assert after["subsections"] == before["subsections"]
                assert uses(after) == uses(before)
            else:
                assert not memmap and failing > 0
    assert "ENOMEM" in endings


def uses(seen: dict[str, Any]) -> dict[Use, int]:
    """Frames by use; tables count as what they were taken from, for some stay for later."""
    found: dict[Use, int] = {}
    for start, end, owner in seen["owners"]:
        use = Use.FREE if owner.use is Use.TABLE else owner.use
        found[use] = found.get(use, 0) + end - start
    return found


def test_a_section_that_is_there_without_a_block_makes_the_whole_add_fail() -> None:
    k = kernel("arm64")
    one = k.memory_block_size
    span = plug(k, 2 * one)
    sparse_add_section(k, 0, span.start + k.pages_per_block, k.pages_per_block)
    before = picture(k)
    error = refused(add_memory, k, 0, PLUG_AT, 2 * one)
    assert error.name == "EEXIST"
    after = picture(k)
    assert (after["blocks"], after["iomem"], after["memblock"]) == (
        before["blocks"],
        before["iomem"],
        before["memblock"],
    )


def test_a_block_device_that_is_there_already_undoes_the_add() -> None:
    k = kernel("riscv64")
    one = k.memory_block_size
    plug(k, 2 * one)
    second = PLUG_AT // one + 1
    k.memory_blocks.set(second, second + 1, next(iter(k.memory_blocks))[2])
    before = settled(picture(k))
    error = refused(add_memory, k, 0, PLUG_AT, 2 * one)
    assert (error.name, error.place) == ("EEXIST", "drivers/base/memory.c:add_memory_block")
    assert settled(picture(k)) == before
