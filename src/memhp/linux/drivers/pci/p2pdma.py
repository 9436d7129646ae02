"""A PCI device's BAR gets struct pages, so that other devices can read and write it: ``drivers/pci/p2pdma.c``.

The BAR's pages lie in a pool. The kernel takes runs of them for its own queues; user space, by mapping the device's
``p2pmem/allocate``, takes pages that have counts of their own, and may hand these to other devices as it would hand
RAM. Whatever is taken holds a reference on the mapping, and ``memunmap_pages()`` waits for each. PFNs throughout.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass, field
from errno import EFAULT, EINVAL, ENODEV, ENOMEM

from memhp.errors import KernelBug, KernelError
from memhp.hw.lifetime import SlabObject, kfree, use_object
from memhp.hw.shared import marked
from memhp.linux.fs.kernfs.dir import KernfsNode, KernfsNodes, kernfs_drain
from memhp.linux.kernel.rcu import rcu_read_lock, synchronize_rcu
from memhp.linux.lib.percpu_refcount import (
    PercpuRef,
    percpu_ref_get_many,
    percpu_ref_put_many,
    percpu_ref_tryget_live_rcu,
)
from memhp.linux.mm.dev_pagemap import PAGE_REFCOUNT, DevPagemap, DevPagemapOps, MemoryType, page_pgmap
from memhp.linux.mm.memremap import (
    devm_memremap_pages_release,
    free_zone_device_folio,
    memremap_pages,
    memunmap_pages,
)
from memhp.linux.place import here, kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet

KERNEL_FILE = "drivers/pci/p2pdma.c"
GEN_POOL = "gen_pool"
"""The bitmap of a pool, which is changed without a lock (lib/genalloc.c)."""
DESTROY = "lib/genalloc.c:gen_pool_destroy"
POINTER = "pci_dev.p2pdma"
"""The field by which those who look for the pool and who takes it away meet."""
PTE = "pte of a BAR"
"""The entries by which processes map pages of a BAR."""


@dataclass(eq=False)
class P2pPagemap(DevPagemap):
    """``struct pci_p2pdma_pagemap``: what struct pages of a BAR point to."""

    p2pdma: "P2pdma" = field(init=False, repr=False)
    """What the device offers, of which the mapping is part."""


@dataclass(eq=False)
class P2pdma:
    """``struct pci_p2pdma`` and the mapping of the one BAR that a device here offers."""

    pgmap: P2pPagemap
    ref: PercpuRef
    """The mapping's count of references, which the pool hands out with pages."""
    pool: SpanSet = field(default_factory=SpanSet, metadata=marked(GEN_POOL))
    """Pages that nobody has taken: a pool of ``lib/genalloc.c``."""
    references: dict[int, int] = field(default_factory=dict, metadata=marked(PAGE_REFCOUNT))
    """Page that user space has taken → its count: one for being mapped, one for each transfer that holds it."""
    mapped: set[int] = field(default_factory=set, metadata=marked(PTE))
    """Pages that user space maps."""
    gen_pool: SlabObject = field(default_factory=lambda: SlabObject(GEN_POOL), repr=False)
    """The pool's own memory."""


@dataclass
class PciDevices:
    """What PCI devices offer, by device."""

    p2pdma: dict[str, P2pdma] = field(default_factory=dict, metadata=marked(POINTER))
    """``pci_dev->p2pdma``, found under RCU."""


def pci_p2pdma_add_resource(k: Kernel, pdev: str, bar: Span, size: int = 0, offset: int = 0) -> P2pdma:
    """Give `size` bytes of a BAR (physical bytes) from `offset` on struct pages and a pool; 0 for all there is.

    Raises EINVAL for what is not in the BAR, and what :func:`memremap_pages` raises: a BAR is not made to fit, so that
    one which is smaller than a sub-section, or not aligned to it, is refused there.
    """
    size = size or bar.size - offset
    if offset >= bar.size or size <= 0 or size + offset > bar.size:
        text = f"{size:#x} bytes at {offset:#x} of a BAR of {bar.size:#x}"
        raise KernelError(EINVAL, text, place=here(), advice="offer a part of the BAR")
    start = bar.start + offset
    pgmap = P2pPagemap(MemoryType.PCI_P2PDMA, (Span(start, start + size),), ops=DevPagemapOps(page_free=p2pdma_free))
    memremap_pages(k, pgmap)
    assert pgmap.ref is not None
    pages = SpanSet([(start >> k.config.page_shift, (start + size) >> k.config.page_shift)])
    added = pgmap.p2pdma = P2pdma(pgmap, pgmap.ref, pages)
    k.statics(KernfsNodes).allocate[pdev] = KernfsNode(f"{pdev}/p2pmem/allocate")
    k.hw.writes(POINTER)
    k.statics(PciDevices).p2pdma[pdev] = added
    return added


# Taking and giving back --------------------------------------------------------------------------------------


def pci_alloc_p2pmem(k: Kernel, pdev: str, nr: int) -> Span | None:
    """The kernel takes `nr` pages in one run for itself; None when there are none, or the device is going."""
    with rcu_read_lock(k.hw):
        k.hw.reads(POINTER)
        p2pdma = k.statics(PciDevices).p2pdma.get(pdev)
        try:
            return None if p2pdma is None else _take(k, p2pdma, nr)
        except KernelError:
            return None


def pci_free_p2pmem(k: Kernel, pdev: str, pages: Span) -> None:
    """The kernel gives back what :func:`pci_alloc_p2pmem` gave it."""
    _give_back(k, k.statics(PciDevices).p2pdma[pdev], pages)


def _take(k: Kernel, p2pdma: P2pdma, nr: int) -> Span:
    """``gen_pool_alloc_owner()``, then a reference on the mapping; what was taken goes back when that is refused.

    Raises ENOMEM when the pool has no such run, ENODEV when the mapping is going.
    """
    use_object(k.hw, p2pdma.gen_pool, here(), change=True)
    run = next((run for run in p2pdma.pool if run.size >= nr), None)
    if run is None:
        raise KernelError(ENOMEM, f"no run of {nr} pages left in the BAR", place=here())
    taken = Span(run.start, run.start + nr)
    p2pdma.pool.remove(*taken)
    if percpu_ref_tryget_live_rcu(k.hw, p2pdma.ref):
        return taken
    use_object(k.hw, p2pdma.gen_pool, here(), change=True)
    p2pdma.pool.add(*taken)
    raise KernelError(ENODEV, "the device's mapping is going", place=here())


def _give_back(k: Kernel, p2pdma: P2pdma, pages: Span) -> None:
    """``gen_pool_free_owner()``, then the reference goes."""
    use_object(k.hw, p2pdma.gen_pool, here(), change=True)
    p2pdma.pool.add(*pages)
    percpu_ref_put_many(k.hw, p2pdma.ref, 1)


# Pages of user space -----------------------------------------------------------------------------------------


def p2pmem_alloc_mmap(k: Kernel, pdev: str, nr: int = 1) -> Span:
    """User space takes `nr` pages by mapping them, each with a count and a reference on the mapping (6.2).

    Raises ENODEV where the device offers no memory or is going, ENOMEM when the pool is empty.
    """
    with rcu_read_lock(k.hw):
        k.hw.reads(POINTER)
        p2pdma = k.statics(PciDevices).p2pdma.get(pdev)
        if p2pdma is None:
            raise KernelError(ENODEV, f"{pdev} offers no peer-to-peer memory (any more)", place=here())
        taken = _take(k, p2pdma, nr)
    for pfn in range(*taken):
        k.hw.atomic(PAGE_REFCOUNT)
        p2pdma.references[pfn] = 1
        k.hw.atomic(PTE)
        p2pdma.mapped.add(pfn)
        percpu_ref_get_many(k.hw, p2pdma.ref, 1)
    percpu_ref_put_many(k.hw, p2pdma.ref, 1)
    return taken


def _of_page(k: Kernel, pfn: int) -> P2pdma:
    """What a page's mapping is part of, whether the device offers it still: ``to_p2p_pgmap()``."""
    pgmap = page_pgmap(k, pfn)
    assert isinstance(pgmap, P2pPagemap)
    return pgmap.p2pdma


@kernel_function("mm/gup.c:gup_fast_pte_range")
def pin_user_page(k: Kernel, pfn: int) -> None:
    """Another device is to read or write a page that user space maps (``FOLL_PCI_P2PDMA``). Raises EFAULT.

    No lock is held: a page with no references gets none, and the entry is looked at again once there is one.
    """
    p2pdma = _of_page(k, pfn)
    if pfn in p2pdma.mapped:
        k.hw.atomic(PAGE_REFCOUNT)
        if p2pdma.references.get(pfn):
            p2pdma.references[pfn] += 1
            k.hw.reads(PTE)
            if pfn in p2pdma.mapped:
                return
            put_page(k, pfn)
    raise KernelError(EFAULT, f"PFN {pfn:#x} is not mapped (any more)", place=here())


@kernel_function("mm/swap.c:__folio_put")
def put_page(k: Kernel, pfn: int) -> None:
    """A reference to a page of user space goes: the last one gives it back to the pool."""
    p2pdma = _of_page(k, pfn)
    k.hw.atomic(PAGE_REFCOUNT)
    p2pdma.references[pfn] -= 1
    if not p2pdma.references[pfn]:
        free_zone_device_folio(k, p2pdma.pgmap, pfn)


@kernel_function(f"{KERNEL_FILE}:p2pdma_folio_free")
def p2pdma_free(k: Kernel, pfn: int) -> None:
    """Nobody has a page any more: back to the pool, and its reference on the mapping goes (6.12: ``page_free``)."""
    p2pdma = _of_page(k, pfn)
    k.hw.atomic(PAGE_REFCOUNT)
    del p2pdma.references[pfn]
    _give_back(k, p2pdma, Span(pfn, pfn + 1))


# The driver goes ---------------------------------------------------------------------------------------------


def pci_p2pdma_unmap_mappings(k: Kernel, pdev: str) -> None:
    """Take the file away that user space maps pages by, and with it every mapping of one.

    ``sysfs_remove_file_from_group()`` waits for whoever is in the file's operation: fs/kernfs/dir.c:kernfs_drain.
    """
    p2pdma = k.statics(PciDevices).p2pdma[pdev]
    kernfs_drain(k.hw, k.statics(KernfsNodes).allocate[pdev])
    for pfn in sorted(p2pdma.mapped):
        k.hw.atomic(PTE)
        p2pdma.mapped.discard(pfn)
        put_page(k, pfn)


def pci_p2pdma_release(k: Kernel, pdev: str) -> None:
    """No pool any more, once nobody can be at it who found it before."""
    p2pdma = _unpublished(k, pdev)
    synchronize_rcu(k.hw)
    gen_pool_destroy(k, p2pdma)


@kernel_function(DESTROY)
def gen_pool_destroy(k: Kernel, p2pdma: P2pdma) -> None:
    """Free a pool. KernelBug: not all of its pages are in it."""
    k.hw.reads(GEN_POOL)
    out = sum(one.size for one in p2pdma.pgmap.ranges) // k.config.page_size - p2pdma.pool.size
    if out:
        raise KernelBug(f"BUG_ON: a pool is destroyed, and {out} pages are out of it", place=DESTROY)
    kfree(k.hw, p2pdma.gen_pool, DESTROY)


def _unpublished(k: Kernel, pdev: str) -> P2pdma:
    """The structure that ``pdev->p2pdma`` led to until now."""
    k.hw.writes(POINTER)
    return k.statics(PciDevices).p2pdma.pop(pdev)


@kernel_function("drivers/base/devres.c:devres_release_all")
def devres_release_all(k: Kernel, pdev: str) -> None:
    """The driver is unbound: what it set up is undone, the last first.

    The structure with the mapping was allocated after the pool, and goes before it: ``Profile.p2pdma_pgmap_freed``.
    """
    pgmap = k.statics(PciDevices).p2pdma[pdev].pgmap
    pci_p2pdma_unmap_mappings(k, pdev)
    if k.config.profile.p2pdma_pgmap_freed == "before-pool":
        devm_memremap_pages_release(k, pgmap)
        pci_p2pdma_release(k, pdev)
    else:
        memunmap_pages(k, pgmap)
        pci_p2pdma_release(k, pdev)
        kfree(k.hw, pgmap.slab, f"{KERNEL_FILE}:pci_p2pdma_release")
