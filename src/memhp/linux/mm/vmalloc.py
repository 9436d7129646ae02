"""Virtually contiguous kernel memory: ``mm/vmalloc.c``, the neighbour of hotplug in the kernel's page tables.

An area takes the lowest addresses with room for it and a guard page behind; per-CPU memory takes the highest. How they
are mapped is in :mod:`memhp.linux.mm.vmap`.

One thing differs: the kernel frees the pages of an area when it is unmapped, but puts off the flush, and keeps the
addresses, until enough areas have come together (``lazy_max_pages()``). Here each area is purged at once, before its
pages are freed, as ``vm_unmap_aliases()`` would. What is left out is that CPUs may go on reaching the pages of an area
that nobody may use any more. For page tables it makes no difference: laziness keeps none of them, and who takes one
away flushes for it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field
from errno import ENOMEM

from memhp.errors import BadInput, KernelError
from memhp.hw.memory import Owner, Use
from memhp.hw.shared import SharedDict
from memhp.linux.kernel.panic import warn
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.mm.vmap import vmap_pages_range_noflush, vunmap_range_noflush
from memhp.linux.place import here, kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_down, align_up

KERNEL_FILE = "mm/vmalloc.c"
ALLOC = f"{KERNEL_FILE}:__vmalloc_node_range"
FREE_VMAP_AREA_LOCK = "free_vmap_area_lock"


@dataclass
class Vmalloc:
    """The areas that are in use."""

    vmap_areas: SharedDict[str, tuple[Span, list[Span]]] = field(default_factory=SharedDict)
    """By tag: their addresses (bytes), and the pages (PFNs) behind them in order."""
    unlinked: set[str] = field(default_factory=set)
    """Those of them that somebody takes down, and nobody else finds any more."""


@kernel_function(f"{KERNEL_FILE}:alloc_vmap_area")
def vmalloc(k: Kernel, nbytes: int, tag: str, nid: int = 0) -> Span:
    """Map newly allocated pages at addresses of their own: the area, guard page left out (bytes).

    Its root entries reach other processes as the architecture's ``pgd_policy`` has it. Raises :class:`KernelError`
    ENOMEM without addresses, pages or tables for it; then nothing stays but tables.
    """
    size = align_up(nbytes, k.config.page_size)
    area = _alloc_vmap_area(k, tag, size, k.config.page_size)
    return _map_new_pages(k, tag, area, k.config.page_shift, nid)


@kernel_function(f"{KERNEL_FILE}:alloc_vmap_area")
def vmalloc_huge(k: Kernel, nbytes: int, tag: str, nid: int = 0) -> Span:
    """The same in PMD leaves where the kernel has huge vmap and `nbytes` fill one: ``VM_ALLOW_HUGE_VMAP``.

    Without chunks of that size for all of it, base pages do.
    """
    config = k.config
    huge = config.choices.huge_vmalloc and k.port.arch_vmap_supported(k, 1)
    if not huge or nbytes < config.pmd_size:
        return vmalloc(k, nbytes, tag, nid)
    area = _alloc_vmap_area(k, tag, align_up(nbytes, config.pmd_size), config.pmd_size)
    return _map_new_pages(k, tag, area, config.shift(1), nid)


@kernel_function(f"{KERNEL_FILE}:pcpu_get_vm_areas")
def pcpu_create_chunk(k: Kernel, nbytes: int, tag: str, nid: int = 0) -> Span:
    """A chunk of per-CPU memory, all of it populated: ``mm/percpu-vm.c:pcpu_create_chunk``, ``pcpu_populate_chunk``.

    Its addresses are the highest there are (``pcpu_get_vm_areas()``), next to what lies behind the vmalloc area. The
    units of all CPUs lie one after the other. Raises as :func:`vmalloc` does.
    """
    size = align_up(nbytes, k.config.page_size)
    area = _alloc_vmap_area(k, tag, size, k.config.page_size, top=True)
    return _map_new_pages(k, tag, area, k.config.page_shift, nid)


def vfree(k: Kernel, tag: str) -> None:
    """Unmap an area, flush its addresses, and free its pages; the tables stay. A warning where there is none."""
    with k.hw.locked(FREE_VMAP_AREA_LOCK):
        found = _find_unlink_vmap_area(k, tag)
    if found is None:
        warn(k, here(), f"Trying to vfree() nonexistent vm area ({tag})")
        return
    area, pages = found
    vunmap_range_noflush(k, area)
    k.port.flush_tlb_kernel_range(k, area)
    free_pages(k, pages, here())
    with k.hw.locked(FREE_VMAP_AREA_LOCK):
        del k.statics(Vmalloc).vmap_areas[tag]
        k.statics(Vmalloc).unlinked.discard(tag)


@kernel_function(None)
def _find_unlink_vmap_area(k: Kernel, tag: str) -> tuple[Span, list[Span]] | None:
    """``find_unlink_vmap_area()``: down a tree that whoever enters or takes out an area turns round on its way. Nobody
    finds the area after that; its addresses stay taken until it is flushed.
    """
    own = k.statics(Vmalloc)
    for name, found in list(own.vmap_areas.items()):
        if name == tag and name not in own.unlinked:
            own.unlinked.add(name)
            return found
    return None


@kernel_function(f"{KERNEL_FILE}:__vmalloc_area_node")
def _map_new_pages(k: Kernel, tag: str, area: Span, page_shift: int, nid: int) -> Span:
    """Pages for an area, mapped: ``__vmalloc_area_node()``."""
    pages = _alloc_pages(k, tag, area.size, page_shift, nid)
    if not pages and page_shift > k.config.page_shift:
        page_shift = k.config.page_shift
        pages = _alloc_pages(k, tag, area.size, page_shift, nid)
    if not pages:
        with k.hw.locked(FREE_VMAP_AREA_LOCK):
            del k.statics(Vmalloc).vmap_areas[tag]
        raise KernelError(ENOMEM, f"vmalloc: no pages for {area.size} bytes", place=ALLOC, advice="free memory")
    k.statics(Vmalloc).vmap_areas[tag][1].extend(pages)
    try:
        vmap_pages_range_noflush(k, area, pages, k.port.page_kernel(k), page_shift)
    except KernelError:
        vfree(k, tag)
        raise
    return area


def _alloc_pages(k: Kernel, tag: str, size: int, page_shift: int, nid: int) -> list[Span]:
    """All the pages in chunks of ``1 << page_shift`` bytes, or none: ``vm_area_alloc_pages()``."""
    order = page_shift - k.config.page_shift
    pages = alloc_pages(k, order, nid, count=size >> page_shift, owner=Owner(Use.KERNEL, tag), where=ALLOC)
    if sum(span.size for span in pages) << k.config.page_shift < size:
        free_pages(k, pages, ALLOC)
        return []
    return pages


def _alloc_vmap_area(k: Kernel, tag: str, size: int, align: int, *, top: bool = False) -> Span:
    """Addresses with room for `size` bytes and a guard page, the lowest or the highest, and `tag` for their name."""
    areas = k.statics(Vmalloc).vmap_areas
    with k.hw.locked(FREE_VMAP_AREA_LOCK):
        if tag in areas:
            raise BadInput(f"there is a vmalloc area {tag!r} already", where="tag")
        holes = list(_holes(k))
        for hole in reversed(holes) if top else holes:
            start = align_down(hole.end - size, align) if top else align_up(hole.start, align)
            area = Span(start, start + size)
            if hole.start <= area.start and area.end + k.config.page_size * (not top) <= hole.end:
                areas[tag] = (area, [])
                return area
    place = f"{KERNEL_FILE}:pcpu_get_vm_areas" if top else f"{KERNEL_FILE}:alloc_vmap_area"
    raise KernelError(ENOMEM, f"vmap allocation for size {size} failed", place=place)


def _holes(k: Kernel) -> list[Span]:
    """Addresses of the vmalloc area that no area and no guard page behind one takes, from the lowest on."""
    room = k.layout.vmalloc
    starts = [room.start]
    ends = []
    for area, _ in sorted(k.statics(Vmalloc).vmap_areas.values()):
        ends.append(area.start)
        starts.append(min(area.end + k.config.page_size, room.end))
    return [Span(start, end) for start, end in zip(starts, [*ends, room.end], strict=True) if end > start]
