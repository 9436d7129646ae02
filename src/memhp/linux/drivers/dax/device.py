"""Device-dax: a device's memory as a character device with struct pages: ``drivers/dax/device.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import KernelError
from memhp.linux.drivers.dax.bus import DevDax
from memhp.linux.drivers.nvdimm.pmem import release_mem_region, request_mem_region
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType
from memhp.linux.mm.memremap import memremap_pages, memunmap_pages
from memhp.linux.place import here
from memhp.linux.state import Kernel

KERNEL_FILE = "drivers/dax/device.c"


def dev_dax_probe(k: Kernel, dev: DevDax) -> None:
    """Claim the ranges and map them with large pages of the alignment. Raises EBUSY, and what mapping raises."""
    pgmap = dev.static_pgmap or DevPagemap(MemoryType.GENERIC, dev.ranges, owner=dev.name)
    claimed = []
    try:
        for span in dev.ranges:
            request_mem_region(k, span, dev.name, here())
            claimed.append(span)
        pgmap.vmemmap_shift = (
            max(0, (dev.align - 1).bit_length() - k.config.page_shift) if k.config.profile.dax_compound_pages else 0
        )
        memremap_pages(k, pgmap, dev.target_node)
    except KernelError:
        for span in reversed(claimed):
            release_mem_region(k, span)
        raise
    dev.pgmap = pgmap


def dev_dax_remove(k: Kernel, dev: DevDax) -> None:
    """The driver is unbound: its managed resources go, the last one first."""
    assert dev.pgmap is not None
    memunmap_pages(k, dev.pgmap)
    # A range may have come since the driver was bound (``mapping_store()``).
    claimed = dev.ranges if dev.static_pgmap else dev.pgmap.ranges
    dev.pgmap = None
    for span in reversed(claimed):
        release_mem_region(k, span)
