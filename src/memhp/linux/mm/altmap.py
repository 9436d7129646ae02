"""``struct vmem_altmap``: struct pages kept at the start of the memory that they describe.

include/linux/memremap.h, and the functions of mm/sparse-vmemmap.c and mm/memremap.c that work on it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass

from memhp.linux.place import of_file

KERNEL_FILE = "include/linux/memremap.h"




@dataclass
class VmemAltmap:
    """``struct vmem_altmap``; PFNs and counts of pages."""

    base_pfn: int
    end_pfn: int
    """The last PFN of the range, inclusive, as in the kernel."""
    free: int
    """Pages set aside for the memmap."""
    reserve: int = 0
    """Pages at the start that the driver keeps for itself."""
    align: int = 0
    """Pages lost to alignment."""
    alloc: int = 0
    """Pages handed out."""


@of_file("mm/sparse-vmemmap.c")
def vmem_altmap_nr_free(altmap: VmemAltmap) -> int:
    """Pages left: ``mm/sparse-vmemmap.c:vmem_altmap_nr_free``."""
    taken = altmap.alloc + altmap.align
    return altmap.free - taken if altmap.free > taken else 0


@of_file("mm/sparse-vmemmap.c")
def vmem_altmap_next_pfn(altmap: VmemAltmap) -> int:
    """The first PFN not handed out yet: ``mm/sparse-vmemmap.c:vmem_altmap_next_pfn``."""
    return altmap.base_pfn + altmap.reserve + altmap.alloc + altmap.align


@of_file("mm/sparse-vmemmap.c")
def altmap_alloc_block_buf(altmap: VmemAltmap, nr_pfns: int) -> int | None:
    """Take `nr_pfns` pages (a power of two), aligned to their size: the first PFN, or None when they do not fit.

    ``mm/sparse-vmemmap.c:altmap_alloc_block_buf``; the sizes there are bytes.
    """
    pfn = vmem_altmap_next_pfn(altmap)
    lost = -pfn & (nr_pfns - 1)
    if nr_pfns + lost > vmem_altmap_nr_free(altmap):
        return None
    altmap.alloc += nr_pfns
    altmap.align += lost
    return pfn + lost


@of_file("include/linux/mm.h")
def vmem_altmap_free(altmap: VmemAltmap, nr_pfns: int) -> None:
    """Give pages back: ``mm/memremap.c:vmem_altmap_free``. Only the count goes down; nothing is reused."""
    altmap.alloc -= nr_pfns


@of_file("include/linux/mm.h")
def vmem_altmap_offset(altmap: VmemAltmap | None) -> int:
    """Pages from the start of the range to the first usable one: ``mm/memremap.c:vmem_altmap_offset``."""
    return altmap.reserve + altmap.free if altmap is not None else 0
