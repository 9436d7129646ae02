"""Where struct pages and the tables that map them are taken from: the buddy, memblock, boot's buffer or an altmap.

mm/sparse-vmemmap.c:vmemmap_alloc_block and its kin, and the ``sparse_buffer_*`` functions of mm/sparse.c. Each
function stands for a loop of the kernel's calls: it takes up to `count` blocks and gives their first PFNs in the order
in which the kernel would get them; fewer, when the next call would fail.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field

import numpy as np

from memhp.hw.format import U64
from memhp.hw.memory import Owner, Use
from memhp.hw.runs import frame_spans
from memhp.linux.mm.altmap import VmemAltmap, vmem_altmap_next_pfn, vmem_altmap_nr_free
from memhp.linux.mm.page_alloc import alloc_pages, zone_watermark_beside_cma
from memhp.linux.mmzone import ZoneType
from memhp.linux.place import here, of_file
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_up

KERNEL_FILE = "mm/sparse-vmemmap.c"
MEMMAP = Owner(Use.MEMMAP)
SELF_HOSTED = Owner(Use.MEMMAP, "altmap")
"""Struct pages that lie in the memory that an altmap sets aside."""


def vmemmap_alloc_block(k: Kernel, order: int, nid: int, count: int, owner: Owner) -> U64:
    """First PFNs of up to `count` blocks of ``2**order`` pages, from the buddy or, before it exists, from memblock."""
    if not k.slab_is_available:
        return _earlyonly_bootmem_alloc(k, order, nid, count, owner)
    spans = alloc_pages(k, order, nid, count=count, owner=owner, where=here())
    step = 1 << order
    pieces = [np.arange(span.start, span.end, step, dtype=np.uint64) for span in spans]
    blocks = np.concatenate(pieces) if pieces else np.empty(0, np.uint64)
    if len(blocks) < count and k.warn_once(here()):
        k.hw.log(f"vmemmap alloc failure: order:{order}", "warn")
    return blocks


def plenty(k: Kernel, nid: int, pages: int) -> bool:
    """Whether the node's buddy has so many pages that taking them meets neither watermarks nor fallbacks."""
    if not k.slab_is_available:
        return False
    zones = k.nodes[nid].zones.values() if nid in k.nodes else ()
    zone = max(
        (zone for zone in zones if zone.type <= ZoneType.NORMAL and zone.present),
        key=lambda zone: zone.type,
        default=None,
    )
    return zone is not None and zone_watermark_beside_cma(zone, pages + zone.watermark_high, 0, 1) > 0


def _earlyonly_bootmem_alloc(k: Kernel, order: int, nid: int, count: int, owner: Owner) -> U64:
    """From memblock, above ``MAX_DMA_ADDRESS`` if it can be."""
    size = k.config.page_size << order
    goal = k.port.max_dma_address(k.layout)
    addresses = k.memblock.memblock_phys_alloc_many(size, count, align=size, start=goal, nid=nid)
    if len(addresses) < count:
        rest = k.memblock.memblock_phys_alloc_many(size, count - len(addresses), align=size, nid=nid)
        addresses = np.concatenate([addresses, rest])
    blocks: U64 = addresses >> np.uint64(k.config.page_shift)
    for run in frame_spans(np.sort(blocks >> np.uint64(order))):
        k.hw.claim(Span(run.start << order, run.end << order), owner, here())
    return blocks


def vmemmap_alloc_block_buf(k: Kernel, order: int, nid: int, altmap: VmemAltmap | None, count: int, va: int) -> U64:
    """First PFNs of up to `count` blocks for the struct pages at address `va`: from the altmap if any, else from RAM.

    What an altmap that is used up means is ``ArchProfile.altmap_fallback``.
    """
    if altmap is None:
        return _ram_block_bufs(k, order, nid, count)
    fallback = k.config.choices.altmap_fallback
    if fallback == "draft-helper":
        charged = altmap_charge(k, order, altmap, count)
        return _ram_block_bufs(k, order, nid, len(charged))
    if fallback == "fail":
        return altmap_alloc_block_bufs(k, order, altmap, count)
    below, inside = _within_altmap(k, order, altmap, count, va)
    first = _ram_block_bufs(k, order, nid, below)
    if len(first) < below:
        return first
    own = altmap_alloc_block_bufs(k, order, altmap, inside)
    if len(own) < inside:
        k.hw.log("altmap block allocation failed, falling back to system memory", "debug")
    return np.concatenate([first, own, _ram_block_bufs(k, order, nid, count - below - len(own))])


def _ram_block_bufs(k: Kernel, order: int, nid: int, count: int) -> U64:
    blocks = sparse_buffer_alloc(k, order, count)
    if len(blocks) < count:
        blocks = np.concatenate([blocks, vmemmap_alloc_block(k, order, nid, count - len(blocks), MEMMAP)])
    return blocks


def _within_altmap(k: Kernel, order: int, altmap: VmemAltmap, count: int, va: int) -> tuple[int, int]:
    """Of `count` blocks for the addresses from `va` on: how many start below the altmap, and how many lie in its range.

    arch/powerpc/mm/init_64.c:altmap_cross_boundary; the others reach beyond its end.
    """
    size = k.config.page_size << order
    first = k.layout.page_to_pfn(va - va % size) + np.arange(count) * (size // k.config.struct_page_size)
    below = int((first < altmap.base_pfn).sum())
    crossing = first + size // k.config.struct_page_size - 1 > altmap.end_pfn
    return below, max(0, count - below - int(crossing.sum()))


def altmap_alloc_block_bufs(k: Kernel, order: int, altmap: VmemAltmap, count: int) -> U64:
    """First PFNs of up to `count` blocks of an altmap. Only the first can lose pages to alignment."""
    blocks = altmap_charge(k, order, altmap, count)
    if len(blocks):
        frames = Span(int(blocks[0]), int(blocks[-1]) + (1 << order))
        k.hw.claim(frames, SELF_HOSTED, f"{KERNEL_FILE}:altmap_alloc_block_buf")
    return blocks


def altmap_charge(k: Kernel, order: int, altmap: VmemAltmap, count: int) -> U64:
    """Put up to `count` blocks on an altmap's account: their first PFNs."""
    pages = 1 << order
    first = vmem_altmap_next_pfn(altmap)
    lost = -first & (pages - 1)
    first += lost
    taken = min(count, max(0, vmem_altmap_nr_free(altmap) - lost) // pages)
    if taken == 0:
        return np.empty(0, np.uint64)
    altmap.align += lost
    for pfn in range(first, first + taken * pages, pages):
        altmap.alloc += pages
        k.hw.log(
            f"altmap_alloc_block_buf: pfn: {pfn:#x} alloc: {altmap.alloc} align: {altmap.align} nr: {pages:#x}", "debug"
        )
    return np.arange(first, first + taken * pages, pages, dtype=np.uint64)


@dataclass
class SparseBuffer:
    """``sparsemap_buf`` of mm/sparse.c."""

    left: Span = field(default=Span(0, 0))
    """PFNs left in the buffer that boot takes a node's struct pages from."""


@of_file("mm/sparse.c")
def section_map_size(k: Kernel) -> int:
    """Bytes of vmemmap that boot sets aside for a section: whole PMDs (mm/sparse.c:section_map_size)."""
    return align_up(k.config.memmap_bytes_per_section, k.config.pmd_size)


@of_file("mm/sparse.c")
def sparse_buffer_init(k: Kernel, nr_sections: int, nid: int) -> None:
    """Take one buffer for the struct pages of all of a node's sections; none, if memblock has no such range."""
    size = nr_sections * section_map_size(k)
    goal = k.port.max_dma_address(k.layout)
    for start in (goal, 0):
        base = k.memblock.memblock_alloc_range_nid(size, section_map_size(k), start, 0, nid, exact_nid=True)
        if base is not None:
            k.statics(SparseBuffer).left = Span(base >> k.config.page_shift, (base + size) >> k.config.page_shift)
            return


@of_file("mm/sparse.c")
def sparse_buffer_alloc(k: Kernel, order: int, count: int) -> U64:
    """First PFNs of up to `count` blocks of the buffer, each aligned to its size; what that skips is given back."""
    own = k.statics(SparseBuffer)
    buffer = own.left
    pages = 1 << order
    first = align_up(buffer.start, pages)
    taken = min(count, max(0, buffer.end - first) // pages)
    if taken == 0:
        return np.empty(0, np.uint64)
    _sparse_buffer_free(k, Span(buffer.start, first))
    end = first + taken * pages
    own.left = Span(end, buffer.end)
    k.hw.claim(Span(first, end), MEMMAP, here())
    return np.arange(first, end, pages, dtype=np.uint64)


@of_file("mm/sparse.c")
def sparse_buffer_fini(k: Kernel) -> None:
    """Give back what is left of the buffer."""
    own = k.statics(SparseBuffer)
    _sparse_buffer_free(k, own.left)
    own.left = Span(0, 0)


def _sparse_buffer_free(k: Kernel, frames: Span) -> None:
    if frames:
        k.memblock.memblock_phys_free(frames.start << k.config.page_shift, frames.size << k.config.page_shift)
