"""Sections in and out: ``__add_pages()``, ``__remove_pages()`` and the physical range that may be plugged.

mm/memory_hotplug.c, the parts that the architectures call.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from errno import EINVAL
from typing import TYPE_CHECKING

from memhp.errors import KernelError
from memhp.linux.kernel.panic import warn
from memhp.linux.mm.altmap import VmemAltmap, vmem_altmap_offset
from memhp.linux.mm.memory_hotplug_zone import read_struct_pages, shrink_zone_span, update_pgdat_span
from memhp.linux.mm.mm_init import page_init_poison
from memhp.linux.mm.sparse import sparse_add_section, sparse_remove_section
from memhp.linux.mm.zone_span import zone_span_writelock
from memhp.linux.place import here
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_down, align_up, is_aligned

if TYPE_CHECKING:
    from memhp.linux.mm.dev_pagemap import DevPagemap

KERNEL_FILE = "mm/memory_hotplug.c"
INVALID_ALTMAP = "memory add fail, invalid altmap"


def mhp_get_pluggable_range(k: Kernel, need_mapping: bool) -> Span:
    """Physical bytes that may be hot-added: within the direct map, if `need_mapping`."""
    return k.layout.pluggable_range(need_mapping=need_mapping)


def mhp_range_allowed(k: Kernel, start: int, size: int, need_mapping: bool) -> bool:
    """Whether ``[start, start + size)`` (bytes) may be hot-added; says so if not."""
    allowed = mhp_get_pluggable_range(k, need_mapping)
    end = start + size
    if start < end and allowed.start <= start and end <= allowed.end:
        return True
    k.hw.log(
        f"Hotplug memory [{start:#x}-{end:#x}] exceeds maximum addressable range "
        f"[{allowed.start:#x}-{max(allowed.end - 1, 0):#x}]",
        "warn",
    )
    return False


def __add_pages(
    k: Kernel,
    nid: int,
    pfn: int,
    nr_pages: int,
    altmap: VmemAltmap | None = None,
    pgmap: "DevPagemap | None" = None,
) -> None:
    """Add the sections, or parts of sections, of a range. Those added before one that fails stay, in every kernel.

    Raises EINVAL for a range not made of sub-sections or an altmap that does not fit, else what
    :func:`~memhp.linux.mm.sparse.sparse_add_section` raises.
    """
    if altmap is not None:
        if altmap.base_pfn != pfn or vmem_altmap_offset(altmap) > nr_pages:
            if k.warn_once(INVALID_ALTMAP):
                k.hw.log(INVALID_ALTMAP, "warn")
            raise KernelError(EINVAL, INVALID_ALTMAP, place=here())
        altmap.alloc = 0
    if not check_pfn_span(k, pfn, nr_pages):
        text = f"Misaligned __add_pages start: {pfn:#x} end: {pfn + nr_pages - 1:#x}"
        warn(k, here(), text)
        advice = f"align start and size to {k.config.pages_per_subsection * k.config.page_size:#x}"
        raise KernelError(EINVAL, text, place=here(), advice=advice)
    there = next(k.subsection_map.runs(pfn, pfn + nr_pages), None)
    try:
        for start, count in _pieces(k, pfn, nr_pages):
            sparse_add_section(k, nid, start, count, altmap, pgmap)
    except KernelError:
        if k.config.profile.failed_add == "taken-back":
            gaps = k.subsection_map.gaps(pfn, pfn + nr_pages)
            added = min([*(gap.start for gap in gaps), *((there.start,) if there is not None else ())]) - pfn
            if added:
                __remove_pages(k, pfn, added, altmap)
        raise


def __remove_pages(k: Kernel, pfn: int, nr_pages: int, altmap: VmemAltmap | None = None) -> None:
    """Remove the sections, or parts of sections, of a range. Kernels before 5.5 shrink the zones here."""
    if not check_pfn_span(k, pfn, nr_pages):
        warn(k, here(), f"Misaligned __remove_pages start: {pfn:#x} end: {pfn + nr_pages - 1:#x}")
        return
    for start, count in _pieces(k, pfn, nr_pages):
        if k.config.profile.zone_shrink == "on-remove":
            __remove_zone(k, start, count)
        sparse_remove_section(k, start, count, altmap)


def __remove_zone(k: Kernel, pfn: int, nr_pages: int) -> None:
    """Take sections out of the zones that their struct pages name, one after the other: before 5.5.

    Of memory that never was online these say nothing, for which kernels took it that read them nevertheless.
    """
    if k.config.profile.shrink_reads == "valid":
        read_struct_pages(k, pfn, pfn + 1)
    for start, end, ref in list(k.page_zone.runs(pfn, pfn + nr_pages)):
        zone = k.nodes[ref.nid].zones[ref.type]
        page_init_poison(k, start, end - start, zone)
        with zone_span_writelock(k, zone):
            shrink_zone_span(k, zone, start, end)
        update_pgdat_span(k, k.nodes[ref.nid])


def check_pfn_span(k: Kernel, pfn: int, nr_pages: int) -> bool:
    """Whether a range is made of whole sub-sections."""
    return is_aligned(pfn | nr_pages, k.config.pages_per_subsection)


def _pieces(k: Kernel, pfn: int, nr_pages: int) -> Iterator[tuple[int, int]]:
    """A range cut for the loop over sections: its partial sections, and the whole ones between in batches."""
    per = k.config.pages_per_section
    end = pfn + nr_pages
    head, tail = min(end, align_up(pfn, per)), max(pfn, align_down(end, per))
    if head > pfn:
        yield pfn, head - pfn
    for at, count in k.hw.batches(head // per, tail // per):
        yield at * per, count * per
    if tail >= head and end > tail:
        yield tail, end - tail
