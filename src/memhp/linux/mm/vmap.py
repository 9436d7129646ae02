"""Mapping and unmapping of kernel addresses page by page or in huge leaves: the page-table half of ``mm/vmalloc.c``.

Only the making of a table is locked (:mod:`memhp.linux.mm.memory`). Tables that are there are found, and leaves written
and cleared, without a lock: each caller owns the addresses that it works on. Emptied tables stay, but for those that a
huge leaf takes the place of.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from errno import EBUSY

import numpy as np

from memhp.errors import KernelBug, KernelError
from memhp.hw.tlb import Table
from memhp.linux.kernel.panic import warn
from memhp.linux.mm import pgd
from memhp.linux.mm.memory import root_locked, table_alloc
from memhp.linux.place import LEVELS, by_height, each_level
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "mm/vmalloc.c"
MMAP_LOCK = "init_mm.mmap_lock"

SMALL_VMAP = by_height(
    KERNEL_FILE, *(f"vmap_pages_{level}_range" for level in LEVELS[:4]), "vmap_small_pages_range_noflush"
)
VMAP = by_height(KERNEL_FILE, *(f"vmap_{level}_range" for level in LEVELS[:4]), "vmap_range_noflush")
TRY_HUGE = by_height(KERNEL_FILE, "vmap_pte_range", *(f"vmap_try_huge_{level}" for level in LEVELS[1:4]))
VUNMAP = by_height(KERNEL_FILE, *(f"vunmap_{level}_range" for level in LEVELS[:4]), "vunmap_range_noflush")
SMALL, RANGE, UNMAP = SMALL_VMAP[0], VMAP[0], VUNMAP[-1]


def vmap_pages_range_noflush(k: Kernel, area: Span, pages: list[Span], prot: int, page_shift: int) -> None:
    """Map pages (PFNs, in order) at the addresses of `area`, in leaves of at most ``1 << page_shift`` bytes.

    ``mm/vmalloc.c:__vmap_pages_range_noflush``: for more than base pages, one `page_shift` piece after the other, each
    of them contiguous. Raises ENOMEM; what was mapped by then stays. Raises EBUSY where a page is mapped already.
    """
    va = area.start
    synced = False
    for run in pages:
        end = va + (run.size << k.config.page_shift)
        if page_shift == k.config.page_shift:
            synced |= _vmap_small(k, k.init_mm, Span(va, end), run.start, prot)
        else:
            for piece in range(va, end, 1 << page_shift):
                pfn = run.start + ((piece - va) >> k.config.page_shift)
                synced |= vmap_range_noflush(k, Span(piece, piece + (1 << page_shift)), pfn, prot, page_shift)
        va = end
    if synced:
        _sync(k, area)


def vmap_range_noflush(k: Kernel, area: Span, pfn: int, prot: int, max_page_shift: int) -> bool:
    """Map contiguous frames from `pfn` on at the addresses of `area`: in the largest leaves up to `max_page_shift`.

    Whether a root entry was filled. Raises ENOMEM; KernelBug where a page is mapped already.
    """
    return _vmap_range(k, k.init_mm, area, pfn, prot, max_page_shift)


def vunmap_range_noflush(k: Kernel, area: Span) -> None:
    """Clear the leaves of the addresses in `area`: ``ptep_get_and_clear()``, ``pmd_clear_huge()``."""
    _vunmap(k, k.init_mm, area)


def _sync(k: Kernel, area: Span) -> None:
    """``arch_sync_kernel_mappings()``: root entries were filled."""
    if k.config.choices.syncs_root_entries:
        pgd.sync_root_entries(k, area, SMALL)


def _entries(k: Kernel, table: Table, area: Span) -> Iterator[tuple[int, Span]]:
    """Entries of a table that translate `area`, each with its part of it: ``pmd_addr_end()``."""
    size = k.hw.fmt.levels[table.height].size
    for at, n in k.hw.batches((area.start - table.va) // size, -(-(area.end - table.va) // size)):
        for index in range(at, at + n):
            start = table.va + index * size
            yield index, Span(max(area.start, start), min(area.end, start + size))


@each_level(SMALL_VMAP)
def _vmap_small(k: Kernel, table: Table, area: Span, pfn: int, prot: int) -> bool:
    """``vmap_pages_pud_range()`` and below: base pages. Whether an entry of `table` was filled."""
    if table.height == 0:
        _ptes(k, table, area, pfn, prot, SMALL)
        return False
    filled = False
    for index, part in _entries(k, table, area):
        child, linked = table_alloc(k, table, index)
        filled |= linked
        _vmap_small(k, child, part, pfn + ((part.start - area.start) >> k.config.page_shift), prot)
    return filled


@each_level(VMAP)
def _vmap_range(k: Kernel, table: Table, area: Span, pfn: int, prot: int, max_page_shift: int) -> bool:
    """``vmap_pud_range()`` and below: a huge leaf where one fits, and a table where none does."""
    if table.height == 0:
        _ptes(k, table, area, pfn, prot, RANGE)
        return False
    filled = False
    for index, part in _entries(k, table, area):
        first = pfn + ((part.start - area.start) >> k.config.page_shift)
        if not _try_huge(k, table, index, part, first, prot, max_page_shift):
            child, linked = table_alloc(k, table, index)
            filled |= linked
            _vmap_range(k, child, part, first, prot, max_page_shift)
    return filled


def _ptes(k: Kernel, table: Table, area: Span, pfn: int, prot: int, where: str) -> None:
    """``set_pte_at()`` for every page, each after a look whether the entry is empty."""
    shift = k.config.page_shift
    first = (area.start - table.va) >> shift
    for at, n in k.hw.batches(first, first + (area.size >> shift), table):
        if not np.all(k.hw.fmt.is_none(k.hw.load_run(table, at, n), table.height)):
            text = f"a page is mapped at {table.va + (at << shift):#x} already"
            if where == RANGE:
                raise KernelBug(text, place=where)
            warn(k, where)
            raise KernelError(EBUSY, text, place=where)
        k.hw.store_leaves(table, at, n, pfn + at - first, prot, where)


@each_level(TRY_HUGE)
def _try_huge(k: Kernel, table: Table, index: int, part: Span, pfn: int, prot: int, max_page_shift: int) -> bool:
    """``vmap_try_huge_pmd()``, ``vmap_try_huge_pud()``: a leaf in this entry, over an empty table if there is one.

    The table is unlinked and freed before the leaf is there. Whoever walks kernel page tables without owning what they
    map has to be kept out of that: since 7.2 and 6.12.105 it holds off ptdump, or does without a huge
    leaf while ptdump walks.
    """
    hw, level = k.hw, k.hw.fmt.levels[table.height]
    fits = level.leaf and max_page_shift >= level.shift and k.port.arch_vmap_supported(k, table.height)
    if not fits or part.size != level.size or part.start % level.size or pfn % hw.fmt.pages_at(table.height):
        return False
    if not hw.fmt.is_valid(hw.load(table, index), table.height):
        _set_huge(k, table, index, pfn, prot)
        return True
    locked = k.config.profile.vmap_huge_lock == "init_mm.mmap_lock"
    if locked and not hw.trylock(MMAP_LOCK, write=False):
        return False
    if table.height == 1:
        k.port.pmd_free_pte_page(k, table, index)
        freed = True
    else:
        freed = k.port.pud_free_pmd_page(k, table, index)
    if freed:
        _set_huge(k, table, index, pfn, prot)
    if locked:
        hw.unlock(MMAP_LOCK, write=False)
    return freed


def _set_huge(k: Kernel, table: Table, index: int, pfn: int, prot: int) -> None:
    """``pmd_set_huge()``, ``pud_set_huge()``."""
    with root_locked(k, table):
        k.hw.store_leaves(table, index, 1, pfn, prot, TRY_HUGE[table.height])


@each_level(VUNMAP)
def _vunmap(k: Kernel, table: Table, area: Span) -> None:
    """``vunmap_pud_range()`` and below."""
    hw = k.hw
    if table.height == 0:
        shift = k.config.page_shift
        hw.clear_run(table, (area.start - table.va) >> shift, area.size >> shift, UNMAP)
        return
    for index, part in _entries(k, table, area):
        entry = hw.load(table, index)
        if hw.fmt.is_leaf(entry, table.height):
            with root_locked(k, table):
                hw.clear_run(table, index, 1, UNMAP)
        elif not hw.fmt.is_none(entry, table.height):
            _vunmap(k, hw.child(table, index, hw.fmt.table_pfn(hw.load(table, index))), part)
