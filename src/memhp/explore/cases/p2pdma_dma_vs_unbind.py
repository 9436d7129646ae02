"""A device reads a page of another device's BAR, or the kernel takes one, while the driver of the BAR is unbound."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Hashable

from memhp.explore.case import Case, Configuration, Variant, configurations
from memhp.explore.cases.actors import laws_hold
from memhp.explore.cases.near_dimm import boot_near, near_dimm
from memhp.explore.doors.run import Actor, KernelProgram
from memhp.linux.drivers.pci.p2pdma import (
    devres_release_all,
    p2pmem_alloc_mmap,
    pci_alloc_p2pmem,
    pci_free_p2pmem,
    pci_p2pdma_add_resource,
    pin_user_page,
    put_page,
)
from memhp.linux.lib.percpu_refcount import percpu_ref_put_many
from memhp.linux.mm.dev_pagemap import DevPagemapOps
from memhp.linux.mm.util import snapshot_page
from memhp.linux.profiles import MAINLINE
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import KiB

DEVICE = "BAR"
UNCOUNTED = "uncounted"
TAKEN = "taken"
"""How variants begin in which the kernel takes a page."""
BLOCKS = {"rodata_full": False}
"""Leaves larger than pages on arm64, so that executions are short."""


def unbind(k: Kernel) -> None:
    """The driver of the BAR is unbound."""
    devres_release_all(k, DEVICE)


def end_dma(pfn: int) -> Actor:
    """The transfer ends: the page's mapping is read from its struct page, then the page is let go."""

    def actor(k: Kernel) -> None:
        snapshot_page(k, pfn, "mm/gup.c:unpin_user_page")
        put_page(k, pfn)

    return actor


def take(k: Kernel) -> Hashable:
    """Another driver takes a page out of the pool, as nvmet does for a request, and gives it back."""
    pages = pci_alloc_p2pmem(k, DEVICE, 1)
    if pages is None:
        return "none"
    pci_free_p2pmem(k, DEVICE, pages)
    return "taken"


def build(variant: Variant, configuration: Configuration) -> KernelProgram:
    """User space maps a page of the BAR and has another device read it, or another driver takes one; the driver of the
    BAR is unbound before that has ended.
    """
    k = boot_near(variant.config(configuration), tag=DEVICE)
    start = near_dimm(k).start
    pgmap = pci_p2pdma_add_resource(k, DEVICE, Span(start, start + k.config.section_size)).pgmap
    if variant.name.startswith(TAKEN):
        return KernelProgram(k, (unbind, take), ("unbind", "other driver"), check=laws_hold)
    (pfn,) = range(*p2pmem_alloc_mmap(k, DEVICE))
    pin_user_page(k, pfn)
    if variant.name == UNCOUNTED:
        assert pgmap.ref is not None
        percpu_ref_put_many(k.hw, pgmap.ref, 1)
        pgmap.ops = DevPagemapOps(page_free=lambda _k, _pfn: None)
    return KernelProgram(k, (unbind, end_dma(pfn)), ("unbind", "DMA"), check=laws_hold)


NOW = tuple(one for release in MAINLINE for one in configurations(release, page_size=4 * KiB) if one.va_bits == 48)

CASE = Case(
    name="p2pdma-dma-vs-unbind",
    actors="a PCI device reads a page of another one's BAR, or the kernel takes one; the driver of the BAR is unbound",
    build=build,
    geometry="a BAR of one section, of which user space maps one page, or another driver takes one",
    variants=(
        Variant(
            UNCOUNTED,
            "as FS_DAX and GENERIC memory of today: a page in use holds no reference on the mapping",
            "broken",
            NOW,
            options=BLOCKS,
            of_kernel=False,
        ),
        Variant("counted", "each page that user space takes holds one", "repaired", NOW, options=BLOCKS),
        Variant(
            TAKEN,
            "the structure with the mapping goes while its pages are in the pool: kernels of today",
            "broken",
            NOW,
            options=BLOCKS,
            finding="A BAR's mapping is freed while the pool hands out its pages",
        ),
        Variant(
            f"{TAKEN}-pool-first",
            "the structure goes when the pool is away, and a grace period has passed",
            "repaired",
            NOW,
            generic={"p2pdma_pgmap_freed": "after-pool"},
            options=BLOCKS,
        ),
    ),
)
