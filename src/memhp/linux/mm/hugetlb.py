"""Huge pages of hugetlbfs: the pools of free ones, taking out of them and giving back to them: ``mm/hugetlb.c``.

There are two pools: of pages of a PMD, and of gigantic ones, which the buddy has no block for. PFNs throughout.
What pools have changes under ``hugetlb_lock``, and so does whether a page is one of hugetlbfs.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from errno import EBUSY
from typing import NamedTuple

from memhp.errors import KernelError
from memhp.hw.memory import Owner, Use
from memhp.hw.shared import marked
from memhp.linux.config import Config
from memhp.linux.mm.page_alloc import free_pages
from memhp.linux.mm.zonelists import zonelist
from memhp.linux.mmzone import PageFlags, ZoneType
from memhp.linux.place import here, kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_down

KERNEL_FILE = "mm/hugetlb.c"
HUGETLB_LOCK = "hugetlb_lock"
POOLS = {Use.HUGETLB: Use.HUGETLB_FREE, Use.GIGANTIC: Use.GIGANTIC_FREE}
"""Huge pages in use, and what they are while free in their pool."""

HUGE_USES = frozenset({*POOLS, *POOLS.values()})

GIGANTIC_USES = frozenset({Use.GIGANTIC, Use.GIGANTIC_FREE})
FROZEN = Owner(Use.FROZEN)
NOT_MIGRATABLE = "hugetlb_migratable"


@dataclass
class Hugetlb:
    """What the records of the pools have (``struct hstate``), and flags of huge pages."""

    promised: dict[str, tuple[Use, int]] = field(default_factory=dict)
    """``resv_huge_pages``: whose → free huge pages that are promised to mappings: the use of such a free page, and how
    many."""
    free_huge_pages: dict[Use, int] = field(default_factory=dict)
    """Free pages of a pool, promised or not."""
    not_migratable: set[int] = field(default_factory=set, metadata=marked(NOT_MIGRATABLE))
    """The first frames of huge pages in use without the flag ``HPageMigratable``: somebody moves or recovers them."""


class HugePage(NamedTuple):
    """A huge page, and whose it is."""

    page: Span
    owner: Owner


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


@kernel_function(None)
def hugetlb_folio(k: Kernel, pfn: int) -> HugePage | None:
    """The huge page that a page is part of, in use or free; None for any other: ``folio_test_hugetlb()``.

    Nobody changes that while the caller holds ``hugetlb_lock``.
    """
    owner = k.hw.owners.get(pfn)
    if owner is None or owner.use not in HUGE_USES:
        return None
    return HugePage(next(huge_pages(k, pfn, pfn + 1, owner.use)), owner)


def available_huge_pages(k: Kernel, pool: Use) -> int:
    """Free huge pages of a pool that are not promised to a mapping."""
    record = k.statics(Hugetlb)
    promised = sum(count for use, count in record.promised.values() if use is pool)
    return record.free_huge_pages.get(pool, 0) - promised


def _count_free(k: Kernel, use: Use, more: int) -> None:
    """Huge pages of so many pages more, or fewer, are of this use: what is free the pools count."""
    if use in POOLS.values():
        order = huge_page_order(k.config, use)
        assert order is not None
        free = k.statics(Hugetlb).free_huge_pages
        free[use] = free.get(use, 0) + (more >> order)


def enqueue_hugetlb_folio(k: Kernel, page: Span, pool: Owner) -> None:
    """Put a huge page into its pool, under ``hugetlb_lock``."""
    k.hw.retag(page, pool, here())
    _count_free(k, pool.use, page.size)


@kernel_function(f"{KERNEL_FILE}:prep_and_add_allocated_folios")
def add_huge_pages(k: Kernel, pages: Iterable[Span], owner: Owner) -> None:
    """Have fresh memory be huge pages, which `owner` uses or a pool has: ``nr_hugepages`` is raised."""
    with k.hw.locked(HUGETLB_LOCK):
        for page in pages:
            k.hw.retag(page, owner, here())
            _count_free(k, owner.use, page.size)


@kernel_function(f"{KERNEL_FILE}:remove_pool_hugetlb_folio")
def give_huge_pages_back(k: Kernel, pages: Collection[Span], use: Use) -> None:
    """Have huge pages of a use be the buddy's, those in use once they are free: ``nr_hugepages`` is lowered."""
    with k.hw.locked(HUGETLB_LOCK):
        for page in pages:
            remove_hugetlb_folio(k, page, use)
    free_pages(k, pages, here())


def promise_huge_pages(k: Kernel, whose: str, pool: Use, count: int) -> None:
    """Promise free huge pages of a pool to a mapping: ``hugetlb_acct_memory()``."""
    with k.hw.locked(HUGETLB_LOCK):
        k.statics(Hugetlb).promised[whose] = (pool, count)


def end_promise(k: Kernel, whose: str) -> bool:
    """A mapping ends, with what was promised to it, if anything was: whether it was."""
    with k.hw.locked(HUGETLB_LOCK):
        return k.statics(Hugetlb).promised.pop(whose, None) is not None


def remove_hugetlb_folio(k: Kernel, page: Span, use: Use) -> None:
    """Have a huge page be none any more, under ``hugetlb_lock``: neither a pool nor anybody else has it.

    The caller is to free it.
    """
    k.hw.retag(page, FROZEN, here())
    _count_free(k, use, -page.size)


def dequeue_hugetlb_folio_nodemask(
    k: Kernel, pool: Use, nid: int, highest: ZoneType, nodes: Collection[int] | None, owner: Owner
) -> HugePage | None:
    """Have `owner` use a free huge page near node `nid`, in a zone up to `highest` of one of `nodes`, outside isolated
    pageblocks and not poisoned, under ``hugetlb_lock``: the page, as it was in the pool.
    """
    for zone in zonelist(k, nid, highest, nodes):
        for lo, hi, its in k.hw.owners.runs(zone.start_pfn, zone.end_pfn):
            if its.use is not pool:
                continue
            for page in huge_pages(k, lo, hi, pool):
                if not zone.isolated.test(*page) and not _has_hwpoison(k, page):
                    k.hw.retag(page, owner, here())
                    _count_free(k, pool, -page.size)
                    return HugePage(page, its)
    return None


def _has_hwpoison(k: Kernel, page: Span) -> bool:
    return any(PageFlags.HWPOISON in flags for _, _, flags in k.page_flags.runs(*page))


def alloc_hugetlb_folio_nodemask(
    k: Kernel, pool: Use, nid: int, highest: ZoneType, nodes: Collection[int] | None, owner: Owner
) -> HugePage | None:
    """Have `owner` use a free huge page of the pool, if one is not promised, as
    :func:`dequeue_hugetlb_folio_nodemask`. Making a fresh one is for the caller.
    """
    with k.hw.locked(HUGETLB_LOCK):
        if available_huge_pages(k, pool) <= 0:
            return None
        return dequeue_hugetlb_folio_nodemask(k, pool, nid, highest, nodes, owner)


def folio_isolate_hugetlb(k: Kernel, page: Span, owner: Owner) -> bool:
    """Have the caller alone move a huge page in use; False for one that is none, or that another moves or recovers."""
    with k.hw.locked(HUGETLB_LOCK):
        if hugetlb_folio(k, page.start) != (page, owner) or not is_migratable(k, page):
            return False
        clear_migratable(k, page)
    return True


def folio_putback_hugetlb(k: Kernel, page: Span) -> None:
    """A huge page has not been moved: others may try."""
    with k.hw.locked(HUGETLB_LOCK):
        _set_migratable(k, page)


def is_migratable(k: Kernel, page: Span) -> bool:
    """Whether a huge page in use may move, as who holds no lock sees it too: ``folio_test_hugetlb_migratable()``."""
    return page.start not in k.statics(Hugetlb).not_migratable


def clear_migratable(k: Kernel, page: Span) -> None:
    """Nobody else moves a huge page from now on; under ``hugetlb_lock``: ``folio_clear_hugetlb_migratable()``."""
    k.hw.writes(NOT_MIGRATABLE)
    k.statics(Hugetlb).not_migratable.add(page.start)


def _set_migratable(k: Kernel, page: Span) -> None:
    k.hw.writes(NOT_MIGRATABLE)
    k.statics(Hugetlb).not_migratable.discard(page.start)


def free_huge_folio(k: Kernel, page: Span, use: Use, pool: Owner | None = None) -> None:
    """The last user of a huge page lets go of it: it goes into its pool, as `pool` says; None: back to the buddy, as
    another page has taken its place.
    """
    with k.hw.locked(HUGETLB_LOCK):
        _set_migratable(k, page)
        if pool is not None:
            enqueue_hugetlb_folio(k, page, pool)
        else:
            remove_hugetlb_folio(k, page, use)
    if pool is None:
        free_pages(k, [page], here())


def dissolve_free_hugetlb_folio(k: Kernel, pfn: int) -> None:
    """Give a free huge page back to the buddy, whole; nothing is done about pages that are not huge, or no longer.

    Raises EBUSY for a huge page in use, and when every free one is promised to some mapping.
    """
    if hugetlb_folio(k, pfn) is None:
        return
    with k.hw.locked(HUGETLB_LOCK):
        found = hugetlb_folio(k, pfn)
        if found is None:
            return
        page, owner = found
        if owner.use in POOLS:
            raise KernelError(EBUSY, f"the huge page at PFN {page.start:#x} is in use", place=here())
        if available_huge_pages(k, owner.use) <= 0:
            raise KernelError(
                EBUSY,
                f"the free huge page at PFN {page.start:#x} is promised to a mapping, as all free ones are",
                place=here(),
                advice="raise nr_hugepages, or end the mapping that reserves them",
            )
        remove_hugetlb_folio(k, page, owner.use)
    free_pages(k, [page], here())


def dissolve_free_hugetlb_folios(k: Kernel, start_pfn: int, end_pfn: int) -> None:
    """Give free huge pages of a range back to the buddy, whole, even where they stick out of it.

    Those before one that cannot go are lost to the pool. Raises EBUSY as :func:`dissolve_free_hugetlb_folio`.
    """
    at = start_pfn
    while at < end_pfn:
        found = next(
            ((max(lo, at), owner.use) for lo, _, owner in k.hw.owners.runs(at, end_pfn) if owner.use in HUGE_USES), None
        )
        if found is None:
            return
        pfn, use = found
        dissolve_free_hugetlb_folio(k, pfn)
        at = next(huge_pages(k, pfn, pfn + 1, use)).end
