"""What an add that fails half-way leaves behind, as the laws see it: mostly nothing, and twice what it must not."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import replace

import pytest

from check.machines import HOTPLUG_AT, booted, config
from memhp.check import check_all, snapshot
from memhp.errors import KernelError
from memhp.hw.memory import Owner, Use
from memhp.hw.stepper import Access
from memhp.linux.choices import ARCHES, Arch
from memhp.linux.mm.memory_hotplug import add_memory
from memhp.linux.state import Kernel
from memhp.spans import Span

SECTION = "mm/sparse.c:section_activate"
STRUCT_PAGES = "mm/sparse-vmemmap.c:vmemmap_alloc_block"
BLOCK = "drivers/base/memory.c:add_memory_block"


class FailsOnce:
    """A stepper under which the allocation at one site fails, the first or a later time."""

    def __init__(self, site: str, time: int) -> None:
        self.site = site
        self.left = time

    def step(self, access: Access) -> None:
        pass

    def fails(self, site: str) -> bool:
        self.left -= site == self.site
        return site == self.site and self.left == 0

    def wait(self, ready: Callable[[], bool], why: str, on: str) -> None:
        raise AssertionError(f"nobody else is there to end {why} on {on}")


def laws_after_failed_add(arch: Arch, site: str, time: int) -> set[str]:
    """The laws that are broken when the add of two memory blocks, a section each, ran out of memory at a site."""
    k: Kernel = booted(replace(config(arch), rodata_full=False))
    before = snapshot(k)
    size = 2 * k.memory_block_size
    shift = k.config.page_shift
    k.hw.plug(Span(HOTPLUG_AT >> shift, HOTPLUG_AT + size >> shift), Owner(Use.DEVICE, "dimm"))
    k.hw.stepper = FailsOnce(site, time)
    with pytest.raises(KernelError) as failure:
        add_memory(k, 0, HOTPLUG_AT, size)
    assert failure.value.name == "ENOMEM"
    k.hw.stepper = None
    return {breach.law for breach in check_all(k, before)}


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("time", [1, 2])
def test_nothing_is_left_when_a_block_device_cannot_be_made(arch: Arch, time: int) -> None:
    assert laws_after_failed_add(arch, BLOCK, time) == set()


@pytest.mark.parametrize("arch", ["riscv64", "arm64"])
def test_nothing_is_left_when_the_first_section_cannot_be_added(arch: Arch) -> None:
    assert laws_after_failed_add(arch, SECTION, 1) == set()


@pytest.mark.parametrize("arch", ARCHES)
def test_base_pages_serve_when_a_huge_chunk_of_struct_pages_cannot_be_had(arch: Arch) -> None:
    k = booted(replace(config(arch), rodata_full=False))
    shift = k.config.page_shift
    size = k.memory_block_size
    k.hw.plug(Span(HOTPLUG_AT >> shift, HOTPLUG_AT + size >> shift), Owner(Use.DEVICE, "dimm"))
    k.hw.stepper = FailsOnce(STRUCT_PAGES, 1)
    add_memory(k, 0, HOTPLUG_AT, size)
    k.hw.stepper = None
    assert check_all(k) == []


def test_x86_leaves_memory_in_the_direct_map_whose_sections_could_not_be_added() -> None:
    """``arch/x86/mm/init_64.c:arch_add_memory`` maps first and does not undo it when ``add_pages()`` fails."""
    assert laws_after_failed_add("x86_64", SECTION, 1) == {"direct-map", "round-trip"}


@pytest.mark.parametrize("arch", ["riscv64", "arm64"])
def test_sections_stay_that_were_added_before_one_that_failed_but_lose_their_direct_map(arch: Arch) -> None:
    """``mm/memory_hotplug.c:__add_pages`` stops without going back; its callers unmap the whole range."""
    assert laws_after_failed_add(arch, SECTION, 2) == {"direct-map"}
