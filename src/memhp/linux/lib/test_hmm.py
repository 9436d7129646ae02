"""A device with memory of its own that the CPU cannot reach, as the kernel tests it: ``lib/test_hmm.c``.

Its memory comes in chunks, which take addresses that nothing else has; it has no bytes here, as those of the kernel's
device have none: they are struct pages for what lies elsewhere.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from dataclasses import dataclass, field

from memhp.linux.kernel.resource import release_region, request_free_mem_region
from memhp.linux.mm.dev_pagemap import DevPagemap, DevPagemapOps, MemoryType
from memhp.linux.mm.memremap import devm_memremap_pages_release, memremap_pages, zone_device_page_init
from memhp.linux.mm.migrate_device import (
    Mm,
    alloc_movable,
    migrate_device_range,
    migrate_vma_finalize,
    migrate_vma_pages,
    migrate_vma_setup,
    rmap_walk,
)
from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet
from memhp.units import MiB

KERNEL_FILE = "lib/test_hmm.c"
DEVMEM_CHUNK_SIZE = 256 * MiB


@dataclass(eq=False)
class DmirrorDevice:
    """``struct dmirror_device``."""

    name: str
    chunks: list[DevPagemap] = field(default_factory=list)
    free: SpanSet = field(default_factory=SpanSet)
    """Pages of its memory that nobody has."""


@dataclass
class DmirrorDevices:
    """``dmirror_devices``."""

    by_name: dict[str, DmirrorDevice] = field(default_factory=dict)


def dmirror_allocate_chunk(k: Kernel, name: str) -> DevPagemap:
    """Give a device 256 MiB of private memory (more), as its driver does when it is loaded.

    Raises ERANGE when no addresses are free, and what :func:`memremap_pages` raises.
    """
    mdevice = k.statics(DmirrorDevices).by_name.setdefault(name, DmirrorDevice(name))
    res = request_free_mem_region(
        k.iomem_resource, k.iomem_resource, DEVMEM_CHUNK_SIZE, "hmm_dmirror",
        align=k.config.section_size, physmem_end=k.layout.physmem_end,
    )  # fmt: skip
    ops = DevPagemapOps(page_free=dmirror_devmem_free, migrate_to_ram=dmirror_devmem_fault)
    span = Span(res.start, res.start + DEVMEM_CHUNK_SIZE)
    pgmap = DevPagemap(MemoryType.PRIVATE, (span,), ops=ops, owner=name)
    memremap_pages(k, pgmap, 0)
    mdevice.chunks.append(pgmap)
    mdevice.free.add(*_pages(k, pgmap))
    return pgmap


def _pages(k: Kernel, pgmap: DevPagemap) -> Span:
    (span,) = pgmap.ranges
    return Span(span.start >> k.config.page_shift, span.end >> k.config.page_shift)


def dmirror_migrate_to_device(k: Kernel, name: str, mm: Mm, addresses: Iterable[int]) -> int:
    """Move pages of a process to a device, those that may be: how many."""
    mdevice = k.statics(DmirrorDevices).by_name[name]
    moves = []
    for mapped in migrate_vma_setup(k, mm, addresses, name, from_device=False):
        to = next(iter(mdevice.free)).start
        mdevice.free.remove(to, to + 1)
        zone_device_page_init(k, next(pgmap for pgmap in mdevice.chunks if to in _pages(k, pgmap)))
        moves.append((mapped, to))
    migrate_vma_pages(moves)
    migrate_vma_finalize(k, [mapped for mapped, _ in moves])
    return len(moves)


def dmirror_devmem_fault(k: Kernel, pfn: int) -> None:
    """``migrate_to_ram``: the CPU touches a page that is away, which comes back if nobody else holds it."""
    (mapped,) = [each for each in rmap_walk(k) if each.pfn == pfn]
    mdevice = _owner(k, pfn)
    found = migrate_vma_setup(k, mapped.mm, [mapped.address], mdevice.name, from_device=True)
    migrate_vma_pages((each, alloc_movable(k)) for each in found)
    migrate_vma_finalize(k, found)


def dmirror_devmem_free(k: Kernel, pfn: int) -> None:
    """``page_free``: a page of the device's memory is nobody's any more."""
    _owner(k, pfn).free.add(pfn, pfn + 1)


def _owner(k: Kernel, pfn: int) -> DmirrorDevice:
    devices = k.statics(DmirrorDevices).by_name.values()
    return next(each for each in devices if any(pfn in _pages(k, pgmap) for pgmap in each.chunks))


def dmirror_device_evict_chunk(k: Kernel, pgmap: DevPagemap) -> None:
    """Everything that processes have in a chunk comes back to RAM; what somebody else holds stays."""
    found = migrate_device_range(k, _pages(k, pgmap))
    migrate_vma_pages((each, alloc_movable(k)) for each in found)
    migrate_vma_finalize(k, found)


@kernel_function(f"{KERNEL_FILE}:dmirror_device_remove_chunks")
def dmirror_device_remove_chunks(k: Kernel, name: str, *, evict: bool = True) -> None:
    """The driver goes: chunks are emptied, then unmapped. KernelBug: a page is left, whose reference never goes.

    Without `evict` it forgets the first, as a driver might.
    """
    for pgmap in k.statics(DmirrorDevices).by_name[name].chunks:
        if evict:
            dmirror_device_evict_chunk(k, pgmap)
        devm_memremap_pages_release(k, pgmap)
        release_region(k.iomem_resource, pgmap.ranges[0].start, pgmap.ranges[0].size)
    del k.statics(DmirrorDevices).by_name[name]
