"""Bounce buffers for devices that do not reach all memory: kernel/dma/swiotlb.c.

Most architectures take them once all that matters for hotplug has its place; here they are part of what boot reserves.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.mm.memblock import NUMA_NO_NODE
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, KiB, MiB

KERNEL_FILE = "kernel/dma/swiotlb.c"
IO_TLB_DEFAULT_SIZE = 64 * MiB
IO_TLB_SEGMENT = 256 * KiB
"""``IO_TLB_SEGSIZE`` slots, the least that a CPU has to itself."""
IO_TLB_MIN = 1 * MiB
ARCH_LOW_ADDRESS_LIMIT = 4 * GiB


def swiotlb_init(k: Kernel) -> Span | None:
    """Take 64 MiB below 4 GiB, more with over 256 CPUs, half of it again and again where so much is not free."""
    segments = 1 << (k.config.nr_cpus - 1).bit_length()
    size = max(IO_TLB_DEFAULT_SIZE, segments * IO_TLB_SEGMENT)
    while True:
        at = k.memblock.memblock_alloc_range_nid(size, k.config.page_size, 0, ARCH_LOW_ADDRESS_LIMIT, NUMA_NO_NODE)
        if at is not None:
            k.hw.log(f"software IO TLB: mapped [mem {at:#018x}-{at + size:#018x}] ({size >> 20}MB)")
            return Span(at, at + size)
        if size <= IO_TLB_MIN:
            return None
        size //= 2
