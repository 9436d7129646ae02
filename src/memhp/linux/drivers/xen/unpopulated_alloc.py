"""Pages without memory behind them, for drivers that map another domain's there: drivers/xen/unpopulated-alloc.c.

Addresses that no resource has get struct pages in ZONE_DEVICE, whole sections of them, and are kept for good. Of
kernels with ``CONFIG_XEN_UNPOPULATED_ALLOC``, as Debian builds them wherever they have ZONE_DEVICE; others take such
pages from the balloon. PFNs and pages.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field

from memhp.errors import KernelError
from memhp.linux.drivers.xen.balloon import take_pages, xen_alloc_ballooned_pages
from memhp.linux.kernel.resource import IORESOURCE_BUSY, IORESOURCE_MEM, Resource, release_resource
from memhp.linux.kernel.resource_allocate import allocate_resource
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType
from memhp.linux.mm.memory_hotplug_pages import mhp_get_pluggable_range
from memhp.linux.mm.memremap import memremap_pages
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_up

KERNEL_FILE = "drivers/xen/unpopulated-alloc.c"
XEN_SCRATCH = "Xen scratch"


@dataclass
class Unpopulated:
    """The driver's variables."""

    page_list: list[Span] = field(default_factory=list)
    """Pages that nobody has; the last run is taken first, from its end."""


def fill_list(k: Kernel, nr_pages: int) -> None:
    """Claim the lowest room for whole sections of so many pages, and give them struct pages.

    The caller holds ``list_lock``. Raises EBUSY where there is no room, and what ``memremap_pages()`` raises; nothing
    is claimed then.
    """
    alloc_pages, shift = align_up(nr_pages, k.config.pages_per_section), k.config.page_shift
    root = k.port.arch_xen_unpopulated_init(k)
    assert root is not None
    res = Resource(0, 0, XEN_SCRATCH, IORESOURCE_MEM | IORESOURCE_BUSY)
    within = mhp_get_pluggable_range(k, need_mapping=True)
    try:
        with k.hw.locked("resource_lock"):
            allocate_resource(root, res, alloc_pages << shift, k.config.section_size, within)
    except KernelError:
        k.hw.log("xen:unpopulated: Cannot allocate new IOMEM resource", "err")
        raise
    span = Span(res.start, res.end + 1)
    try:
        memremap_pages(k, DevPagemap(MemoryType.GENERIC, (span,), owner=XEN_SCRATCH))
    except KernelError:
        k.hw.log("xen:unpopulated: Cannot remap memory range", "err")
        with k.hw.locked("resource_lock"):
            release_resource(res)
        raise
    k.statics(Unpopulated).page_list.append(Span(span.start >> shift, span.end >> shift))


def xen_alloc_unpopulated_pages(k: Kernel, nr_pages: int) -> list[Span]:
    """So many pages, from the balloon where there is no room of their own. Raises what either is refused with."""
    if not k.config.zone_device or k.port.arch_xen_unpopulated_init(k) is None:
        return xen_alloc_ballooned_pages(k, nr_pages)
    with k.hw.locked("list_lock"):
        pages = k.statics(Unpopulated).page_list
        missing = nr_pages - sum(span.size for span in pages)
        if missing > 0:
            fill_list(k, missing)
        return list(take_pages(pages, nr_pages))
