"""What goes wrong with devices' memory on kernels that lack a fix: as in :mod:`memhp.claims.fix_witnesses`."""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import suppress

from memhp.claims.fix_witnesses import AT, bug_of, laws, small_machine
from memhp.errors import KernelBug, KernelError
from memhp.explore.cases.actors import pfns
from memhp.hw.memory import Owner, Use
from memhp.linux.config import Config
from memhp.linux.drivers.dax.bus import DevDax
from memhp.linux.drivers.dax.kmem import dev_dax_kmem_probe
from memhp.linux.kernel.resource import IORESOURCE_BUSY, iter_resources, request_region
from memhp.linux.mm.altmap import VmemAltmap
from memhp.linux.mm.dev_pagemap import DevPagemap, MemoryType
from memhp.linux.mm.memory_failure import memory_failure
from memhp.linux.mm.memremap import memremap_pages, memunmap_pages
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB, MiB

RESERVED = 512
"""Pages that a device keeps for itself, before those that hold its struct pages."""


def _device_with_metadata(k: Kernel) -> DevPagemap:
    """A device of 1 GiB that holds its own struct pages, behind what it keeps for itself."""
    pages = pfns(k, Span(AT, AT + GiB))
    k.hw.plug(pages, Owner(Use.DEVICE, "pmem"))
    memmap = -(-pages.size * k.config.struct_page_size // k.config.page_size)
    altmap = VmemAltmap(pages.start, pages.end - 1, memmap, reserve=RESERVED)
    pgmap = DevPagemap(MemoryType.GENERIC, (Span(AT, AT + GiB),), altmap)
    memremap_pages(k, pgmap, 0)
    return pgmap


def device_with_metadata_goes(config: Config) -> str:
    """A device is unbound whose first pages have no struct pages that anybody initialised."""
    k = small_machine(config)
    pgmap = _device_with_metadata(k)
    try:
        memunmap_pages(k, pgmap)
    except KernelBug as bug:
        return bug.reason
    return ""


def metadata_goes_bad(config: Config) -> str:
    """A memory error hits the first page of such a device."""
    k = small_machine(config)
    _device_with_metadata(k)
    return bug_of(lambda: memory_failure(k, AT >> config.page_shift))


def kmem_memory_is_refused(config: Config) -> str:
    """Kmem is bound to a device that lies where no memory can be added: who has its range then?"""
    k = small_machine(config)
    at = k.layout.pluggable_range().end
    with suppress(KernelError):
        dev_dax_kmem_probe(k, DevDax("dax0.0", (Span(at, at + GiB),), 2 * MiB))
    left = [res.name for _, res in iter_resources(k.iomem_resource) if res.start == at]
    return f"{' and '.join(left)} keeps the range, of which no memory was added" if left else ""


def device_over_memory_in_a_window(config: Config) -> str:
    """Kmem has added a device's memory within a CXL window; another driver maps the same range."""
    k = small_machine(config)
    window = request_region(k.iomem_resource, AT, GiB, "CXL Window 0")
    window.flags &= ~IORESOURCE_BUSY
    k.hw.plug(pfns(k, Span(AT, AT + GiB)), Owner(Use.DEVICE, "dax"))
    dev_dax_kmem_probe(k, DevDax("dax0.0", (Span(AT, AT + GiB),), 2 * MiB))
    with suppress(KernelError):
        memremap_pages(k, DevPagemap(MemoryType.GENERIC, (Span(AT, AT + GiB),)), 0)
    return laws(k)
