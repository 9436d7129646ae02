"""Virtually contiguous kernel memory: ``mm/vmalloc.c``, the neighbour of hotplug in the kernel's page tables.

An area takes the lowest addresses with room for it and a guard page behind; its pages are mapped by base-page leaves,
and the tables made for them stay when it goes. The kernel puts off the flush of freed areas until enough of them have
come together; here each is purged at once, before its pages are freed (``purge_vmap_area_lazy()`` right away).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import ENOMEM
from functools import partial

from memhp.errors import BadInput, KernelError
from memhp.hw.memory import Owner, Use
from memhp.linux import arch
from memhp.linux.mm import pgd
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.mm.pgalloc import alloc_tables
from memhp.linux.mm.pgtable_populate import Builder, populate
from memhp.linux.mm.pgtable_remove import Remover, unmap
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_up

ALLOC = "mm/vmalloc.c:__vmalloc_node_range"
MAP = "mm/vmalloc.c:vmap_pages_pte_range"
UNMAP = "mm/vmalloc.c:vunmap_pte_range"


def vmalloc(k: Kernel, nbytes: int, tag: str, nid: int = 0) -> Span:
    """Map newly allocated pages at addresses of their own: the area, guard page left out (bytes).

    Its root entries reach other processes as the architecture's ``pgd_policy`` has it. Raises :class:`KernelError`
    ENOMEM without addresses, pages or tables for it; then nothing stays but tables.
    """
    if tag in k.vmap_areas:
        raise BadInput(f"there is a vmalloc area {tag!r} already", where="tag")
    size = align_up(nbytes, k.config.page_size)
    area = _alloc_vmap_area(k, size)
    pages = alloc_pages(k, 0, nid, count=size >> k.config.page_shift, owner=Owner(Use.KERNEL, tag), where=ALLOC)
    if sum(span.size for span in pages) << k.config.page_shift < size:
        free_pages(k, pages, ALLOC)
        raise KernelError(ENOMEM, f"vmalloc: no pages for {size} bytes", place=ALLOC, advice="free memory")
    k.vmap_areas[tag] = (area, pages)
    how = _builder(k)
    va = area.start
    try:
        for span in pages:
            end = va + (span.size << k.config.page_shift)
            populate(k.hw, k.init_mm, va, end, span.start, arch.ops(k).page_kernel(k), how)
            va = end
    except KernelError:
        vfree(k, tag)
        raise
    if k.config.choices.pgd_policy == "sync":
        pgd.sync_root_entries(k, area, MAP)
    return area


def vfree(k: Kernel, tag: str) -> None:
    """Unmap an area, flush its addresses, and free its pages; the tables stay."""
    if tag not in k.vmap_areas:
        raise BadInput(
            f"there is no vmalloc area {tag!r}", where="tag", fix=f"one of {', '.join(k.vmap_areas) or 'none'}"
        )
    area, pages = k.vmap_areas.pop(tag)
    unmap(k.hw, k.init_mm, area.start, area.end, Remover(free_table=_keep, table="kept", where=UNMAP))
    arch.ops(k).flush_tlb_kernel_range(k, area)
    free_pages(k, pages, "mm/vmalloc.c:vfree")


def _alloc_vmap_area(k: Kernel, size: int) -> Span:
    """The lowest addresses with room for `size` bytes and a guard page: ``alloc_vmap_area()``."""
    room = k.layout.vmalloc
    at = room.start
    for area, _ in sorted(k.vmap_areas.values()):
        if area.start - at >= size + k.config.page_size:
            break
        at = area.end + k.config.page_size
    if at + size + k.config.page_size > room.end:
        raise KernelError(ENOMEM, f"vmap allocation for size {size} failed", place="mm/vmalloc.c:alloc_vmap_area")
    return Span(at, at + size)


def _builder(k: Kernel) -> Builder:
    """Base-page leaves, under tables that are linked before they are filled: ``pte_alloc_kernel_track()``."""
    return Builder(
        leaves=frozenset((0,)),
        new_table=partial(_new_table, k),
        link="before-fill",
        occupied="keep",
        table_bits=arch.ops(k).vmemmap_builder(k).table_bits,
        where=MAP,
    )


def _new_table(k: Kernel, _height: int, count: int) -> list[Span]:
    frames = alloc_tables(k, count, "mm/vmalloc.c:vmap_pages_range_noflush")
    if not frames:
        raise KernelError(ENOMEM, "no memory for a page table of the vmalloc area", place=MAP)
    return frames


def _keep(spans: list[Span]) -> None:
    """No emptied table is handed here: the descent keeps them."""
    raise AssertionError(spans)
