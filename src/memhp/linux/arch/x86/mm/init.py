"""x86-64: which leaves a range of the direct map gets, and the direct map at boot: ``arch/x86/mm/init.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, MiB, align_down, align_up

KERNEL_FILE = "arch/x86/mm/init.c"
ISA_END_ADDRESS = MiB
PMD_SIZE = 2 * MiB
PUD_SIZE = GiB
STEP_GROWTH = 8
"""``get_new_step_size()``: one bit less than a level."""

PAGE_NAMES = ("4k", "2M", "1G")


class MapRange(NamedTuple):
    """``struct map_range``: physical bytes, and the heights of large leaves that may map them (``page_size_mask``)."""

    start: int
    end: int
    large: frozenset[int] = frozenset()


MapPiece = Callable[[MapRange], None]


def page_size_mask(k: Kernel) -> frozenset[int]:
    """Heights of large leaves that CPU and command line allow: ``probe_page_size_mask()``."""
    if k.config.direct_map_base_pages:
        return frozenset()
    return frozenset((1, 2)) if k.config.gbpages else frozenset((1,))


def split_mem_range(k: Kernel, start: int, end: int) -> list[MapRange]:
    """A range (physical bytes) cut so that each piece can have leaves as large as its alignment allows."""
    mask = page_size_mask(k)
    cuts = [start, min(align_up(start, PMD_SIZE), end)]
    cuts.append(max(cuts[1], min(align_up(cuts[1], PUD_SIZE), align_down(end, PMD_SIZE))))
    cuts.append(max(cuts[2], align_down(end, PUD_SIZE)))
    cuts.append(max(cuts[3], align_down(end, PMD_SIZE)))
    cuts.append(end)
    none, pmds = frozenset[int](), mask & {1}
    heights = (none, pmds, mask, pmds, none)
    pieces = [MapRange(a, b, large) for (a, b), large in zip(pairwise(cuts), heights, strict=True) if a < b]
    if not k.slab_is_available:
        pieces = [_adjusted(k, piece, mask) for piece in pieces]
    merged: list[MapRange] = []
    for piece in pieces:
        joins = merged and merged[-1].large == piece.large
        merged.append(piece._replace(start=merged.pop().start) if joins else piece)
    for piece in merged:
        name = PAGE_NAMES[max(piece.large, default=0)]
        k.hw.log(f" [mem {piece.start:#010x}-{piece.end - 1:#010x}] page {name}", "debug")
    return merged


def _adjusted(k: Kernel, piece: MapRange, mask: frozenset[int]) -> MapRange:
    """A small piece may have a large leaf that would map nothing but RAM: ``adjust_range_page_size_mask()``."""
    large = set(piece.large)
    for height, size in ((1, PMD_SIZE), (2, PUD_SIZE)):
        start, end = align_down(piece.start, size), align_up(piece.end, size)
        if height in mask and k.memblock.memblock_is_region_memory(start, end - start):
            large.add(height)
    return piece._replace(large=frozenset(large))


def init_memory_mapping(k: Kernel, start: int, end: int, map_range: MapPiece) -> None:
    """Map ``[start, end)`` (physical bytes) piece by piece."""
    k.hw.log(f"init_memory_mapping: [mem {start:#010x}-{end - 1:#010x}]", "debug")
    for piece in split_mem_range(k, start, end):
        map_range(piece)


def init_mem_mapping(k: Kernel, map_range: MapPiece) -> None:
    """Boot: the first megabyte whatever is there, then RAM from the top down in steps that grow."""
    init_memory_mapping(k, 0, ISA_END_ADDRESS, map_range)
    _memory_map_top_down(k, ISA_END_ADDRESS, k.max_pfn << k.config.page_shift, map_range)


def _memory_map_top_down(k: Kernel, map_start: int, map_end: int, map_range: MapPiece) -> None:
    """Each step maps enough to take the tables of the next one from."""
    addr = k.memblock.memblock_phys_alloc_range(PMD_SIZE, PMD_SIZE, map_start, map_end)
    if addr is None:
        k.hw.log("Failed to release memory for alloc_low_pages()", "warn")
        real_end = max(map_start, align_down(map_end, PMD_SIZE))
    else:
        k.memblock.memblock_phys_free(addr, PMD_SIZE)
        real_end = addr + PMD_SIZE
    step, mapped, last = PMD_SIZE, 0, real_end
    while last > map_start:
        start = max(map_start, align_down(last - 1, step)) if last > step else map_start
        mapped += _init_range_memory_mapping(k, Span(start, last), map_range)
        last = start
        if mapped >= step:
            step <<= STEP_GROWTH
    if real_end < map_end:
        _init_range_memory_mapping(k, Span(real_end, map_end), map_range)


def _init_range_memory_mapping(k: Kernel, within: Span, map_range: MapPiece) -> int:
    """Map the RAM in a range (physical bytes): how much there was."""
    mapped = 0
    shift = k.config.page_shift
    for start_pfn, end_pfn, _ in k.memblock.for_each_mem_pfn_range():
        part = Span(start_pfn << shift, end_pfn << shift).clip(within)
        if part:
            init_memory_mapping(k, part.start, part.end, map_range)
            mapped += part.size
    return mapped
