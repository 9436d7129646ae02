"""Where boot reserves memory for the contiguous memory allocator: kernel/dma/contiguous.c and mm/cma.c.

The area becomes pageblocks of type CMA (:func:`memhp.linux.mm.mm_init.init_cma_reserved_pageblock`), which movable
memory may use meanwhile, and whose memory blocks do not go offline. Of kernels with ``CONFIG_DMA_CMA``. Bytes.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.config import Cma
from memhp.linux.mm.memblock import NUMA_NO_NODE
from memhp.linux.mm.mm_init import init_cma_reserved_pageblock
from memhp.linux.mm.page_alloc import free_reserved
from memhp.linux.place import of_file
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, align_down, align_up

KERNEL_FILE = "kernel/dma/contiguous.c"
SZ_4G = 4 * GiB


def dma_contiguous_reserve(k: Kernel, cma: Cma) -> Span | None:
    """Reserve what the command line or the build asks for, below what the architecture's devices reach; None where it
    cannot be, or nothing is asked for. As memblock is set, that is from above or from below.
    """
    if not cma.size:
        return None
    limit = k.port.dma_contiguous_limit(k)
    selected = min(cma.limit, limit) if cma.limit else limit
    area = cma_declare_contiguous_nid(k, cma.base, cma.size, selected, fixed=cma.limit == cma.base + cma.size)
    if area is None:
        k.hw.log(f"cma: Failed to reserve {cma.size >> 20} MiB", "err")
    else:
        k.hw.log(f"cma: Reserved {area.size >> 20} MiB at {area.start:#018x}")
    return area


@of_file("mm/cma.c")
def cma_declare_contiguous_nid(k: Kernel, base: int, size: int, limit: int, *, fixed: bool) -> Span | None:
    """Reserve an area of pageblocks: at `base` exactly, or from there to `limit`; above 4 GiB first, from below."""
    block, memblock = k.config.pageblock_nr_pages * k.config.page_size, k.memblock
    end = memblock.memblock_end_of_DRAM()
    if fixed and base % block:
        return None
    base, size, limit = align_up(base, block), align_up(size, block), align_down(limit, block)
    limit = min(limit, end) if limit else end
    if not size or base + size > limit:
        return None
    if fixed and base:
        if memblock.memblock_is_region_reserved(base, size):
            return None
        memblock.memblock_reserve(base, size)
        return Span(base, base + size)
    at = None
    if not memblock.bottom_up and end >= SZ_4G + size:
        memblock.bottom_up = True
        at = memblock.memblock_alloc_range_nid(size, block, SZ_4G, limit, NUMA_NO_NODE, exact_nid=True)
        memblock.bottom_up = False
    if at is None:
        at = memblock.memblock_alloc_range_nid(size, block, base, limit, NUMA_NO_NODE, exact_nid=True)
    return None if at is None else Span(at, at + size)


@of_file("mm/cma.c")
def cma_activate_area(k: Kernel, area: Span) -> None:
    """Make pageblocks of CMA of an area that lies in one zone; of any other the pages are the buddy's, for all."""
    pfns = Span(area.start >> k.config.page_shift, area.end >> k.config.page_shift)
    if len({zone for _, _, zone in k.page_zone.runs(*pfns)}) == 1:
        init_cma_reserved_pageblock(k, pfns.start, pfns.size)
        return
    free_reserved(k, [pfns], "mm/page_alloc.c:free_reserved_page")
    k.hw.log("cma: CMA area reserved could not be activated", "err")
