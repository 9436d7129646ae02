"""Struct pages of a device's large pages, most of which share storage: ``vmemmap_populate_compound_pages()``.

All tail pages of a compound page look the same, so after the page of vmemmap that holds the head, and a first one that
holds nothing but tails, every further one maps that same page of tails. mm/sparse-vmemmap.c;
Documentation/mm/vmemmap_dedup.rst.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import numpy as np

from memhp.hw.format import U64
from memhp.hw.walker import Bools
from memhp.linux.config import Config
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.dev_pagemap import DevPagemap, pgmap_vmemmap_nr
from memhp.linux.mm.pgalloc import PageRefs
from memhp.linux.mm.sparse_vmemmap import VmemmapBuilder, VmemmapPopulateError, vmemmap_tables
from memhp.linux.mm.vmemmap_alloc import vmemmap_alloc_block_buf
from memhp.linux.place import here, of_file
from memhp.linux.state import Kernel

KERNEL_FILE = "mm/sparse-vmemmap.c"
VMEMMAP_RESERVE_NR = 2
"""Pages of vmemmap that a compound page keeps for itself: the one with its head, and the one of tails."""


@of_file("include/linux/mm.h")
def vmemmap_can_optimize(config: Config, altmap: VmemAltmap | None, vmemmap_shift: int) -> bool:
    """Whether struct pages of pages of this order are shared: by the kernel's build, never with an altmap."""
    if not config.choices.optimize_dax_vmemmap or altmap is not None:
        return False
    size = config.struct_page_size
    if size & (size - 1):
        return False
    return (size << vmemmap_shift) >> config.page_shift > VMEMMAP_RESERVE_NR


def vmemmap_storage_pages(config: Config, nr_pages: int, vmemmap_shift: int) -> int:
    """Pages that hold the struct pages of `nr_pages` pages, whole compound pages, when they share."""
    if not vmemmap_can_optimize(config, None, vmemmap_shift):
        return -(-nr_pages * config.struct_page_size // config.page_size)
    return VMEMMAP_RESERVE_NR * (nr_pages >> vmemmap_shift)


def vmemmap_populate_compound_pages(
    k: Kernel, start_pfn: int, nr_pages: int, nid: int, pgmap: DevPagemap, how: VmemmapBuilder
) -> None:
    """Map the struct pages of a range, section by section. Raises :class:`VmemmapPopulateError`."""
    per = k.config.pages_per_section
    at, end = start_pfn, start_pfn + nr_pages
    while at < end:
        stop = min(end, (at // per + 1) * per)
        _populate_section(k, at, stop, nid, pgmap, how)
        at = stop


def reuse_compound_section(k: Kernel, start_pfn: int, pgmap: DevPagemap) -> bool:
    """Whether a section, or part of one, begins within a compound page that began before it."""
    nr_pages = pgmap_vmemmap_nr(pgmap)
    offset = start_pfn - (pgmap.ranges[pgmap.nr_range].start >> k.config.page_shift)
    return bool(offset % nr_pages) and nr_pages > k.config.pages_per_subsection


def _populate_section(k: Kernel, pfn: int, end_pfn: int, nid: int, pgmap: DevPagemap, how: VmemmapBuilder) -> None:
    fmt = k.hw.fmt
    page = fmt.page_size
    span = k.layout.memmap(pfn, end_pfn)
    tail = _tail_page_before(k, span.start, nid, how) if reuse_compound_section(k, pfn, pgmap) else None
    unit = min(span.size, pgmap_vmemmap_nr(pgmap) * k.config.struct_page_size) // page
    last = tail
    for table, va, stop in vmemmap_tables(k, span.start, span.end, 0, nid, how):
        first = fmt.index(va, 0)
        place = np.arange((va - span.start) // page, (stop - span.start) // page)
        own = np.zeros(len(place), dtype=bool) if tail is not None else place % unit < VMEMMAP_RESERVE_NR
        frames, short = _storage(k, own, last, nid, va)
        k.hw.store_run(table, first, fmt.leaf_entry(frames, 0, how.page_prot), here())
        last = int(frames[-1]) if len(frames) else last
        if short:
            raise VmemmapPopulateError(va + len(frames) * page, "a page of struct pages", here())


def _storage(k: Kernel, own: Bools, tail: int | None, nid: int, va: int) -> tuple[U64, bool]:
    """Frames behind a run of vmemmap pages: new ones where `own`, else that of the page before; whether some lack."""
    wanted = int(np.count_nonzero(own))
    new = vmemmap_alloc_block_buf(k, 0, nid, None, wanted, va) if wanted else np.empty(0, np.uint64)
    short = len(new) < wanted
    if short:
        own = own[: int(np.flatnonzero(own)[len(new)])]
    known = np.concatenate([np.array([0 if tail is None else tail], dtype=np.uint64), new])
    frames: U64 = known[np.cumsum(own)]
    again, times = np.unique(frames[~own], return_counts=True)
    refs = k.statics(PageRefs).more
    for frame, count in zip(again.tolist(), times.tolist(), strict=True):
        refs[frame] = refs.get(frame, 0) + count
    return frames, short


def _tail_page_before(k: Kernel, address: int, nid: int, how: VmemmapBuilder) -> int:
    """The frame behind the page of vmemmap before an address, which the section before populated with tails."""
    fmt = k.hw.fmt
    table, va, _ = next(vmemmap_tables(k, address - fmt.page_size, address, 0, nid, how))
    return int(fmt.leaf_pfn(k.hw.load(table, fmt.index(va, 0)), 0))
