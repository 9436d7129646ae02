"""A device with memory of its own that the CPU cannot reach, as the kernel tests it: ``lib/test_hmm.c``.

Its memory comes in chunks, which take addresses that nothing else has; it has no bytes here, as those of the kernel's
device have none: they are struct pages for what lies elsewhere.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable
from dataclasses import dataclass, field

from memhp.errors import KernelError
from memhp.linux.kernel.resource import release_region, request_free_mem_region
from memhp.linux.mm.dev_pagemap import DevPagemap, DevPagemapOps, MemoryType, page_pgmap
from memhp.linux.mm.memremap import devm_memremap_pages_release, memremap_pages, zone_device_page_init
from memhp.linux.mm.migrate_device import (
    Move,
    alloc_movable,
    migrate_device_range,
    migrate_vma_finalize,
    migrate_vma_pages,
    migrate_vma_setup,
)
from memhp.linux.mm.mm_types import Mapped, Mm, get_page, lock_page
from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet
from memhp.units import MiB

KERNEL_FILE = "lib/test_hmm.c"
DEVMEM_CHUNK_SIZE = 256 * MiB


@dataclass(eq=False)
class DmirrorChunk(DevPagemap):
    """``struct dmirror_chunk``: a mapping, and whose it is."""

    mdevice: "DmirrorDevice" = field(init=False, repr=False)
    remove: bool = False
    """Its pages are not handed out any more."""


@dataclass(eq=False)
class DmirrorDevice:
    """``struct dmirror_device``."""

    name: str
    chunks: list[DmirrorChunk] = field(default_factory=list)
    free: SpanSet = field(default_factory=SpanSet)
    """Pages of its memory that nobody has (``free_pages``)."""

    @property
    def devmem_lock(self) -> str:
        """Keeps the list of chunks."""
        return f"{self.name}.devmem_lock"

    @property
    def lock(self) -> str:
        """Keeps the free pages."""
        return f"{self.name}.lock"


@dataclass
class DmirrorDevices:
    """``dmirror_devices``."""

    by_name: dict[str, DmirrorDevice] = field(default_factory=dict)


def dmirror_allocate_chunk(k: Kernel, name: str) -> DevPagemap:
    """Give a device 256 MiB of private memory (more), as its driver does when it is loaded.

    Raises ERANGE when no addresses are free, and what :func:`memremap_pages` raises.
    """
    chunk, _ = _allocate_chunk(k, k.statics(DmirrorDevices).by_name.setdefault(name, DmirrorDevice(name)), page=False)
    return chunk


@kernel_function(f"{KERNEL_FILE}:dmirror_allocate_chunk")
def _allocate_chunk(k: Kernel, mdevice: DmirrorDevice, *, page: bool) -> tuple[DmirrorChunk, int | None]:
    """The chunk, and a page of it if one is asked for."""
    with k.hw.locked("resource_lock"):
        res = request_free_mem_region(
            k.iomem_resource, k.iomem_resource, DEVMEM_CHUNK_SIZE, "hmm_dmirror",
            align=k.config.section_size, physmem_end=k.layout.physmem_end,
        )  # fmt: skip
    ops = DevPagemapOps(page_free=dmirror_devmem_free, migrate_to_ram=dmirror_devmem_fault)
    span = Span(res.start, res.start + DEVMEM_CHUNK_SIZE)
    chunk = DmirrorChunk(MemoryType.PRIVATE, (span,), ops=ops, owner=mdevice.name)
    chunk.mdevice = mdevice
    try:
        with k.hw.locked(mdevice.devmem_lock):
            memremap_pages(k, chunk, 0)
            mdevice.chunks.append(chunk)
    except KernelError:
        _release_mem_region(k, chunk)
        raise
    with k.hw.locked(mdevice.lock):
        mdevice.free.add(*_pages(k, chunk))
        return chunk, _taken(mdevice) if page else None


def _release_mem_region(k: Kernel, pgmap: DevPagemap) -> None:
    with k.hw.locked("resource_lock"):
        release_region(k.iomem_resource, pgmap.ranges[0].start, pgmap.ranges[0].size)


def _pages(k: Kernel, pgmap: DevPagemap) -> Span:
    (span,) = pgmap.ranges
    return Span(span.start >> k.config.page_shift, span.end >> k.config.page_shift)


def _taken(mdevice: DmirrorDevice) -> int | None:
    """A free page, which is not free any more; None when there is none. The caller holds the device's lock."""
    first = next(iter(mdevice.free), None)
    if first is None:
        return None
    mdevice.free.remove(first.start, first.start + 1)
    return first.start


def dmirror_migrate_to_device(k: Kernel, name: str, mm: Mm, addresses: Iterable[int]) -> int:
    """Move pages of a process to a device, those that may be: how many."""
    mdevice = k.statics(DmirrorDevices).by_name[name]
    with k.hw.locked(mm.mmap_lock, write=False):
        found = migrate_vma_setup(k, mm, addresses, name, from_device=False)
        moves = migrate_vma_pages(k, [Move(each, dmirror_devmem_alloc_page(k, mdevice)) for each in found])
        migrate_vma_finalize(k, moves)
    return sum(move.moved for move in moves)


def dmirror_devmem_alloc_page(k: Kernel, mdevice: DmirrorDevice) -> int:
    """A page of the device's memory, of a new chunk when all are taken; it is locked, and has one reference."""
    with k.hw.locked(mdevice.lock):
        pfn = _taken(mdevice)
    if pfn is None:
        _, pfn = _allocate_chunk(k, mdevice, page=True)
    assert pfn is not None
    zone_device_page_init(k, page_pgmap(k, pfn))
    get_page(k, pfn)
    lock_page(k, pfn)
    return pfn


def dmirror_devmem_fault(k: Kernel, fault: Mapped) -> None:
    """``migrate_to_ram``: the CPU touches a page that is away, which comes back if nobody else holds it."""
    owner = page_pgmap(k, fault.pfn).owner
    found = migrate_vma_setup(k, fault.mm, [fault.address], owner, from_device=True, fault_page=fault.pfn)
    moves = migrate_vma_pages(k, [Move(each, _locked_page(k)) for each in found], fault.pfn)
    migrate_vma_finalize(k, moves, fault.pfn)


def _locked_page(k: Kernel) -> int:
    """A page of RAM to copy one to."""
    page = alloc_movable(k)
    lock_page(k, page)
    return page


def dmirror_devmem_free(k: Kernel, pfn: int) -> None:
    """``page_free``: a page of the device's memory is nobody's any more."""
    chunk = page_pgmap(k, pfn)
    assert isinstance(chunk, DmirrorChunk)
    with k.hw.locked(chunk.mdevice.lock):
        if not chunk.remove:
            chunk.mdevice.free.add(pfn, pfn + 1)


def dmirror_device_evict_chunk(k: Kernel, pgmap: DevPagemap) -> None:
    """Everything that processes have in a chunk comes back to RAM; what somebody else holds stays."""
    found = migrate_device_range(k, _pages(k, pgmap))
    moves = migrate_vma_pages(k, [Move(each, _locked_page(k)) for each in found])
    migrate_vma_finalize(k, moves)


@kernel_function(f"{KERNEL_FILE}:dmirror_device_remove_chunks")
def dmirror_device_remove_chunks(k: Kernel, name: str, *, evict: bool = True) -> None:
    """The device's memory goes: no page is handed out any more, chunks are emptied, then unmapped.

    Without `evict` the driver forgets the second, as one might. KernelBug: a page is left, whose reference never goes.
    """
    mdevice = k.statics(DmirrorDevices).by_name[name]
    with k.hw.locked(mdevice.devmem_lock):
        for chunk in mdevice.chunks:
            with k.hw.locked(mdevice.lock):
                chunk.remove = True
                mdevice.free.remove(*_pages(k, chunk))
            if evict:
                dmirror_device_evict_chunk(k, chunk)
            devm_memremap_pages_release(k, chunk)
            _release_mem_region(k, chunk)
        mdevice.chunks.clear()
