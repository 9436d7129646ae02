"""Struct pages kept in the memory that they describe: when that is possible, and the pages that hold them.

mm/memory_hotplug.c: ``mhp_supports_memmap_on_memory()``, ``mhp_init_memmap_on_memory()`` and its counterpart.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from typing import NamedTuple

from memhp.linux.choices import MemmapOnMemory
from memhp.linux.config import Config
from memhp.linux.mm.kasan.init import kasan_add_zero_shadow, kasan_remove_zero_shadow
from memhp.linux.mm.memory_hotplug_zone import move_pfn_range_to_zone, remove_pfn_range_from_zone
from memhp.linux.mm.sparse import offline_mem_sections, online_mem_sections
from memhp.linux.mmzone import MigrateType, PageFlags, Zone
from memhp.linux.state import Kernel
from memhp.units import align_down, align_up, div_round_up, exact_size, is_aligned

KERNEL_FILE = "mm/memory_hotplug.c"


def memory_block_memmap_size(config: Config, block_size: int) -> int:
    """Bytes of struct pages for a memory block of `block_size` bytes."""
    return memmap_geometry(config, block_size).vmemmap_size


def memory_block_memmap_on_memory_pages(config: Config, block_size: int) -> int:
    """Pages that a memory block sets aside for its struct pages; under ``force`` whole pageblocks."""
    return memmap_geometry(config, block_size).memmap_pages


def set_memmap_mode(k: Kernel) -> None:
    """Say what ``memory_hotplug.memmap_on_memory=force`` costs: printed when the parameter is read at boot."""
    if k.config.memmap_on_memory == "force":
        size = memory_block_memmap_size(k.config, k.memory_block_size)
        pages = memory_block_memmap_on_memory_pages(k.config, k.memory_block_size)
        waste = pages - div_round_up(size, k.config.page_size)
        k.hw.log(f"Memory hotplug will waste {waste} pages in each memory block")


class Condition(NamedTuple):
    """One condition of ``mhp_supports_memmap_on_memory()``."""

    name: str
    unmet: str
    """Why it does not hold; empty if it does."""


class MemmapGeometry(NamedTuple):
    """The numbers that the conditions are about. Sizes are bytes."""

    page_size: int
    pmd_size: int
    pageblock_nr_pages: int
    block_size: int
    """Of a memory block."""
    struct_page_size: int
    force: bool = False

    @property
    def block_pages(self) -> int:
        """Pages of a memory block."""
        return self.block_size // self.page_size

    @property
    def vmemmap_size(self) -> int:
        """``memory_block_memmap_size()``."""
        return self.block_pages * self.struct_page_size

    @property
    def memmap_pages(self) -> int:
        """``memory_block_memmap_on_memory_pages()``: under ``force`` whole pageblocks."""
        nr_pages = div_round_up(self.vmemmap_size, self.page_size)
        return align_up(nr_pages, self.pageblock_nr_pages) if self.force else nr_pages

    @property
    def remaining_size(self) -> int:
        """Bytes of a memory block that its struct pages leave, before any rounding."""
        return self.block_size - self.vmemmap_size

    def whole_pages(self) -> Condition:
        """Struct pages end with a page."""
        text = f"struct pages of {exact_size(self.block_size)} take {self.vmemmap_size} bytes, which is not whole pages"
        return Condition("whole pages", "" if is_aligned(self.vmemmap_size, self.page_size) else text)

    def whole_pmds(self) -> Condition:
        """``arch_supports_memmap_on_memory()``: struct pages fill PMDs, so that one leaf serves one block only."""
        text = (
            f"struct pages of {exact_size(self.block_size)} take {exact_size(self.vmemmap_size)}, "
            f"which is not a multiple of the PMD size, {exact_size(self.pmd_size)}"
        )
        return Condition("whole PMDs", "" if is_aligned(self.vmemmap_size, self.pmd_size) else text)

    def whole_pageblocks(self, pages: int, what: str) -> Condition:
        """So many pages, which `what` is made of, are whole pageblocks: migrate types are per pageblock."""
        block = self.pageblock_nr_pages
        text = f"{what}: {pages} pages, which is not a multiple of a pageblock, {block} pages"
        return Condition("whole pageblocks", "" if is_aligned(pages, block) else text)

    def memory_left(self) -> Condition:
        """Not all of a block is set aside."""
        text = "no page of a block would be left for use"
        return Condition("memory left", text if self.memmap_pages == self.block_pages else "")

    def one_block(self, size: int | None) -> Condition:
        """Before 6.8: the range that is added is one memory block."""
        text = "" if size is None else f"{exact_size(size)} is not one memory block of {exact_size(self.block_size)}"
        return Condition("one block", "" if size in (None, self.block_size) else text)

    def conditions(self, rules: MemmapOnMemory, size: int | None = None) -> tuple[Condition, ...]:
        """What a kernel that has it checks of the numbers, in the kernel's order."""
        if rules == "one-block":
            rest = self.remaining_size // self.page_size
            return self.one_block(size), self.whole_pmds(), self.whole_pageblocks(rest, "the rest")
        pageblocks = self.whole_pageblocks(self.memmap_pages, "struct pages")
        one = (self.one_block(size),) if rules == "one-block-or-force" else ()
        return *one, self.whole_pages(), pageblocks, self.memory_left(), self.whole_pmds()


def memmap_geometry(config: Config, block_size: int) -> MemmapGeometry:
    """The numbers of a configuration with memory blocks of `block_size` bytes."""
    return MemmapGeometry(
        page_size=config.page_size,
        pmd_size=config.pmd_size,
        pageblock_nr_pages=config.pageblock_nr_pages,
        block_size=block_size,
        struct_page_size=config.struct_page_size,
        force=config.memmap_on_memory == "force",
    )


def memmap_on_memory_verdict(config: Config, block_size: int, size: int | None = None) -> tuple[Condition, ...]:
    """Every condition of ``mhp_supports_memmap_on_memory()`` in the kernel's order, those after an unmet one too.

    It says yes if none is unmet. `block_size` is the size of a memory block, `size` that of the range to be added, both
    in bytes; only 5.13 asks for the latter, which must be one block there.
    """
    rules = config.memmap_on_memory_rules
    if rules == "none":
        return (Condition("kernel", f"{config.profile.name} on {config.arch} cannot do it"),)
    off = "memory_hotplug.memmap_on_memory is N" if config.memmap_on_memory == "N" else ""
    numbers = memmap_geometry(config, block_size).conditions(rules, size)
    return Condition("kernel", ""), Condition("parameter", off), *numbers


def memmap_on_memory_obstacle(config: Config, block_size: int, size: int | None = None) -> str:
    """Why ``mhp_supports_memmap_on_memory()`` says no: the first unmet condition of :func:`memmap_on_memory_verdict`.

    "" when it says yes.
    """
    return next((each.unmet for each in memmap_on_memory_verdict(config, block_size, size) if each.unmet), "")


def mhp_supports_memmap_on_memory(k: Kernel, size: int | None = None) -> bool:
    """Whether memory added with ``MHP_MEMMAP_ON_MEMORY`` keeps its own struct pages; `size` in bytes counts in 5.13."""
    return not memmap_on_memory_obstacle(k.config, k.memory_block_size, size)


def mhp_init_memmap_on_memory(k: Kernel, pfn: int, nr_pages: int, zone: Zone) -> None:
    """Initialise the pages that hold a block's struct pages, as the block goes online. Raises ENOMEM with KASAN."""
    kasan_add_zero_shadow(k, *_direct_map(k, pfn, nr_pages))
    move_pfn_range_to_zone(k, zone, pfn, nr_pages, MigrateType.UNMOVABLE)
    k.page_flags.clear_flags(pfn, pfn + nr_pages, PageFlags.OFFLINE)
    k.page_flags.set_flags(pfn, pfn + nr_pages, PageFlags.VMEMMAP_SELF_HOSTED)
    if nr_pages >= k.config.pages_per_section:
        online_mem_sections(k, pfn, align_down(pfn + nr_pages, k.config.pages_per_section))


def mhp_deinit_memmap_on_memory(k: Kernel, pfn: int, nr_pages: int) -> None:
    """Take the pages that hold a block's struct pages out of their zone again."""
    if nr_pages >= k.config.pages_per_section:
        offline_mem_sections(k, pfn, align_down(pfn + nr_pages, k.config.pages_per_section))
    zone = k.zone_of(pfn)
    assert zone is not None
    remove_pfn_range_from_zone(k, zone, pfn, nr_pages)
    kasan_remove_zero_shadow(k, *_direct_map(k, pfn, nr_pages))


def _direct_map(k: Kernel, pfn: int, nr_pages: int) -> tuple[int, int]:
    """Address and size of pages in the direct map."""
    shift = k.config.page_shift
    return k.layout.phys_to_virt(pfn << shift), nr_pages << shift
