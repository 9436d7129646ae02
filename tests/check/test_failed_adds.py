"""What an add that fails half-way leaves behind, as the laws see it: mostly nothing, and twice what it must not."""
# SPDX-License-Identifier: GPL-2.0-or-later

import fnmatch
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace

import pytest

from architectures import DIRECT_MAPPED
from check.leftovers import DEADLY, LEFTOVERS, Deadly, Leftover
from check.machines import HOTPLUG_AT, booted, config
from memhp.check import check_all, snapshot
from memhp.errors import KernelBug, KernelError
from memhp.hw.memory import Owner, Use
from memhp.hw.stepper import Access, EachAlone
from memhp.linux.choices import Arch
from memhp.linux.config import Config, configs
from memhp.linux.init import start_kernel
from memhp.linux.mm.memory_hotplug_add import add_memory
from memhp.linux.profiles import profile
from memhp.linux.state import Kernel
from memhp.scenario.schema import Dax, Plug
from memhp.spans import Span
from memhp.target.model.session import Session
from memhp.target.model.steps import RUNNERS
from memhp.units import GiB, KiB, align_up
from scenario.life import possible, small_machine
from steppers import Asked, Failing

SECTION = "mm/sparse.c:section_activate"
STRUCT_PAGES = "mm/sparse-vmemmap.c:vmemmap_alloc_block"
BLOCK = "drivers/base/memory.c:add_memory_block"


class FailsOnce(EachAlone):
    """A stepper under which the allocation at one site fails, the first or a later time."""

    listens = True

    def __init__(self, site: str, time: int) -> None:
        self.site = site
        self.left = time

    def step(self, access: Access) -> None:
        pass

    def data(self, name: str, start: int, end: int, *, write: bool) -> None:
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


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
@pytest.mark.parametrize("time", [1, 2])
def test_nothing_is_left_when_a_block_device_cannot_be_made(arch: Arch, time: int) -> None:
    assert laws_after_failed_add(arch, BLOCK, time) == set()


@pytest.mark.parametrize("arch", ["riscv64", "arm64"])
def test_nothing_is_left_when_the_first_section_cannot_be_added(arch: Arch) -> None:
    assert laws_after_failed_add(arch, SECTION, 1) == set()


@pytest.mark.parametrize("arch", DIRECT_MAPPED)
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


# The rows of what is known ------------------------------------------------------------------------------------


KINDS = {("riscv64", 39), ("riscv64", 48), ("arm64", 48), ("arm64", 47), ("x86_64", 48)}
"""Of each architecture a kernel that maps struct pages with large leaves and, of arm64, one that does not (16K pages);
one whose root table leads to tables made at boot and, of riscv, one in which others are still to be made (Sv48)."""


def machines(arch: Arch, release: str) -> Iterator[Config]:
    for each in configs(profile(release)):
        if each.arch == arch and (arch, each.va_bits) in KINDS and each.page_size <= 16 * KiB:
            yield possible(each, {"memmap_on_memory": "Y"})


def all_ends(arch: Arch, release: str, sites: str) -> list[tuple[str, set[str]]]:
    """How everything ends on every kind of machine."""
    return [end for each in machines(arch, release) for end in ends(each, sites)]


def ends(config: Config, sites: str) -> Iterator[tuple[str, set[str]]]:
    """How adds end, and a device's mapping, when an allocation at one of these sites fails: the words and the laws."""
    booted = Session(start_kernel(small_machine(config)))
    before, block = snapshot(booted.k), booted.k.memory_block_size
    at = align_up(8 * GiB, config.pgdir_size) if config.arch == "x86_64" else 16 * GiB
    for step in (
        Plug(at=at, size=2 * block, memmap_on_memory=False),
        Plug(at=at, size=block, node=2),
        Dax(at=at, size=4 * block, mode="devdax"),
    ):
        asked = Asked()
        session = deepcopy(booted)
        session.k.hw.faults = asked
        RUNNERS[type(step)](session, step)
        for site in sorted(fnmatch.filter(asked.times, sites)):
            for time in range(1, asked.times[site] + 1):
                session = deepcopy(booted)
                session.k.hw.faults = Failing(site, time)
                try:
                    RUNNERS[type(step)](session, step)
                except KernelError as error:
                    yield error.name, {breach.law for breach in check_all(session.k, before)}
                except KernelBug as error:
                    yield error.reason, set()


@pytest.mark.parametrize(("row", "arch"), [(row, arch) for row in LEFTOVERS for arch in row.arches])
@pytest.mark.parametrize("release", ["linux-6.12", "linux-7.2"])
def test_each_leftover_that_is_known_is_left(row: Leftover, arch: Arch, release: str) -> None:
    assert set().union(*(laws for _, laws in all_ends(arch, release, row.site))) == row.laws


@pytest.mark.parametrize(
    ("row", "arch", "release"), [(row, arch, name) for row in DEADLY for arch in row.arches for name in row.kernels]
)
def test_each_kernel_that_is_known_to_die_does(row: Deadly, arch: Arch, release: str) -> None:
    assert any(row.words in words for words, _ in all_ends(arch, release, row.site))


@pytest.mark.parametrize("site", ["arch/arm64/mm/mmu.c:__pgd_pgtable_alloc", "drivers/base/node.c:register_node"])
def test_arm64_of_7_2_survives_what_earlier_ones_do_not(site: str) -> None:
    outcomes = all_ends("arm64", "linux-7.2", site)
    assert outcomes and {words for words, _ in outcomes} == {"ENOMEM"}
