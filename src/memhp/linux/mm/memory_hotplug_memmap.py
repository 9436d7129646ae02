"""Struct pages kept in the memory that they describe: when that is possible, and the pages that hold them.

mm/memory_hotplug.c: ``mhp_supports_memmap_on_memory()``, ``mhp_init_memmap_on_memory()`` and its counterpart.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.config import Config
from memhp.linux.mm.memory_hotplug_zone import move_pfn_range_to_zone, remove_pfn_range_from_zone
from memhp.linux.mm.sparse import offline_mem_sections, online_mem_sections
from memhp.linux.mmzone import MigrateType, PageFlags, Zone
from memhp.linux.state import Kernel
from memhp.units import align_down, align_up, div_round_up, format_size, is_aligned


def memory_block_memmap_size(config: Config, block_size: int) -> int:
    """Bytes of struct pages for a memory block of `block_size` bytes."""
    return (block_size >> config.page_shift) * config.struct_page_size


def memory_block_memmap_on_memory_pages(config: Config, block_size: int) -> int:
    """Pages that a memory block sets aside for its struct pages; under ``force`` whole pageblocks."""
    nr_pages = div_round_up(memory_block_memmap_size(config, block_size), config.page_size)
    if config.memmap_on_memory == "force":
        return align_up(nr_pages, config.pageblock_nr_pages)
    return nr_pages


def set_memmap_mode(k: Kernel) -> None:
    """Say what ``memory_hotplug.memmap_on_memory=force`` costs: printed when the parameter is read at boot."""
    if k.config.memmap_on_memory == "force":
        size = memory_block_memmap_size(k.config, k.memory_block_size)
        pages = memory_block_memmap_on_memory_pages(k.config, k.memory_block_size)
        waste = pages - div_round_up(size, k.config.page_size)
        k.hw.log(f"Memory hotplug will waste {waste} pages in each memory block")


def memmap_on_memory_obstacle(config: Config, block_size: int, size: int | None = None) -> str:
    """Why ``mhp_supports_memmap_on_memory()`` says no; "" when it says yes.

    `block_size` is the size of a memory block, `size` that of the range to be added, both in bytes; only 5.13 asks for
    the latter, which must be one block there.
    """
    rules = config.profile.memmap_on_memory
    if rules == "none":
        return f"{config.profile.name} on {config.arch} cannot do it"
    if config.memmap_on_memory == "N":
        return "memory_hotplug.memmap_on_memory is N"
    vmemmap_size = memory_block_memmap_size(config, block_size)
    whole_pmds = (
        ""
        if is_aligned(vmemmap_size, config.pmd_size)
        else (
            f"struct pages of {format_size(block_size)} take {format_size(vmemmap_size)}, "
            f"which is not a multiple of the PMD size, {format_size(config.pmd_size)}"
        )
    )
    if rules == "one-block":
        if size is not None and size != block_size:
            return f"{format_size(size)} is not one memory block of {format_size(block_size)}"
        return whole_pmds or _not_whole_pageblocks(config, (block_size - vmemmap_size) >> config.page_shift, "the rest")
    if not is_aligned(vmemmap_size, config.page_size):
        return f"struct pages of {format_size(block_size)} take {vmemmap_size} bytes, which is not whole pages"
    pages = memory_block_memmap_on_memory_pages(config, block_size)
    if obstacle := _not_whole_pageblocks(config, pages, "struct pages"):
        return obstacle
    if pages == block_size >> config.page_shift:
        return "no page of a block would be left for use"
    return whole_pmds


def _not_whole_pageblocks(config: Config, pages: int, what: str) -> str:
    if is_aligned(pages, config.pageblock_nr_pages):
        return ""
    return f"{what}: {pages} pages, which is not a multiple of a pageblock, {config.pageblock_nr_pages} pages"


def mhp_supports_memmap_on_memory(k: Kernel, size: int | None = None) -> bool:
    """Whether memory added with ``MHP_MEMMAP_ON_MEMORY`` keeps its own struct pages; `size` in bytes counts in 5.13."""
    return not memmap_on_memory_obstacle(k.config, k.memory_block_size, size)


def mhp_init_memmap_on_memory(k: Kernel, pfn: int, nr_pages: int, zone: Zone) -> None:
    """Initialise the pages that hold a block's struct pages, as the block goes online."""
    move_pfn_range_to_zone(k, zone, pfn, nr_pages, MigrateType.UNMOVABLE)
    k.page_flags.set(pfn, pfn + nr_pages, PageFlags.VMEMMAP_SELF_HOSTED)
    if nr_pages >= k.config.pages_per_section:
        online_mem_sections(k, pfn, align_down(pfn + nr_pages, k.config.pages_per_section))


def mhp_deinit_memmap_on_memory(k: Kernel, pfn: int, nr_pages: int) -> None:
    """Take the pages that hold a block's struct pages out of their zone again."""
    if nr_pages >= k.config.pages_per_section:
        offline_mem_sections(k, pfn, align_down(pfn + nr_pages, k.config.pages_per_section))
    zone = k.zone_of(pfn)
    assert zone is not None
    remove_pfn_range_from_zone(k, zone, pfn, nr_pages)
