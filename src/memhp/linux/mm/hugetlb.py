"""Huge pages of hugetlbfs: the pools of free ones, and giving those back: ``mm/hugetlb.c``.

There are two pools: of pages of a PMD, and of gigantic ones, which the buddy has no block for. PFNs throughout.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from errno import EBUSY

from memhp.errors import KernelError
from memhp.hw.memory import Use
from memhp.linux.config import Config
from memhp.linux.mm.page_alloc import free_pages
from memhp.linux.mm.zonelists import zonelist
from memhp.linux.mmzone import ZoneType
from memhp.linux.place import here
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_down

KERNEL_FILE = "mm/hugetlb.c"
POOLS = {Use.HUGETLB: Use.HUGETLB_FREE, Use.GIGANTIC: Use.GIGANTIC_FREE}
"""Huge pages in use, and what they are while free in their pool."""

HUGE_USES = frozenset({*POOLS, *POOLS.values()})

GIGANTIC_USES = frozenset({Use.GIGANTIC, Use.GIGANTIC_FREE})


@dataclass
class Hugetlb:
    """``resv_huge_pages`` of the pools."""

    promised: dict[str, tuple[Use, int]] = field(default_factory=dict)
    """Whose → free huge pages that are promised to mappings: the use of such a free page, and how many."""


def huge_page_order(config: Config, use: Use) -> int | None:
    """The order of huge pages of a use; None where the machine has no such pages, or pages of the use are not huge."""
    if use not in HUGE_USES:
        return None
    size = config.port.gigantic_page_size(config) if use in GIGANTIC_USES else config.pmd_size
    return None if size is None else (size >> config.page_shift).bit_length() - 1


def huge_pages(k: Kernel, lo: int, hi: int, use: Use) -> Iterator[Span]:
    """The huge pages that a run of pages belongs to, whole, even where they stick out of it."""
    order = huge_page_order(k.config, use)
    assert order is not None
    for start in range(align_down(lo, 1 << order), hi, 1 << order):
        yield Span(start, start + (1 << order))


def available_huge_pages(k: Kernel, pool: Use) -> int:
    """Free huge pages of a pool that are not promised to a mapping."""
    order = huge_page_order(k.config, pool)
    assert order is not None
    promised = sum(count for use, count in k.statics(Hugetlb).promised.values() if use is pool)
    return (k.hw.memory.used(pool) >> order) - promised


def dequeue_hugetlb_folio_nodemask(
    k: Kernel, pool: Use, nid: int, highest: ZoneType, nodes: Collection[int] | None
) -> Span | None:
    """A free huge page near node `nid`, in a zone up to `highest` of one of `nodes`, outside isolated pageblocks."""
    if available_huge_pages(k, pool) <= 0:
        return None
    for zone in zonelist(k, nid, highest, nodes):
        for lo, hi, owner in k.hw.owners.runs(zone.start_pfn, zone.end_pfn):
            if owner.use is not pool:
                continue
            for page in huge_pages(k, lo, hi, pool):
                if not zone.isolated.covered(*page):
                    return page
    return None


def dissolve_free_hugetlb_folio(k: Kernel, page: Span) -> None:
    """Give a free huge page back to the buddy. Raises EBUSY when every free one is promised to some mapping."""
    pool = k.hw.owners.get(page.start)
    assert pool is not None
    if available_huge_pages(k, pool.use) <= 0:
        raise KernelError(
            EBUSY,
            f"the free huge page at PFN {page.start:#x} is promised to a mapping, as all free ones are",
            place=here(),
            advice="raise nr_hugepages, or end the mapping that reserves them",
        )
    free_pages(k, [page], here())


def dissolve_free_hugetlb_folios(k: Kernel, start_pfn: int, end_pfn: int) -> None:
    """Give free huge pages of a range back to the buddy, whole, even where they stick out of it.

    Those before one that cannot go are lost to the pool.
    """
    while True:
        free = (
            page
            for lo, hi, owner in k.hw.owners.runs(start_pfn, end_pfn)
            if owner.use in POOLS.values()
            for page in huge_pages(k, lo, hi, owner.use)
        )
        page = next(free, None)
        if page is None:
            return
        dissolve_free_hugetlb_folio(k, page)
