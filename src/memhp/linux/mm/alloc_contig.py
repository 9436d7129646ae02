"""Taking exactly these pages, whatever stands in them: ``alloc_contig_range()`` of mm/page_alloc.c.

Pageblocks are isolated, movable pages migrate away, and what is free then is the caller's. PFNs throughout.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from errno import EBUSY, ENOMEM

from memhp.errors import KernelBug, KernelError
from memhp.hw.memory import Owner, Use
from memhp.linux.mm.hugetlb import (
    FROZEN,
    HUGE_USES,
    HUGETLB_LOCK,
    POOLS,
    enqueue_hugetlb_folio,
    huge_page_order,
    huge_pages,
    hugetlb_folio,
    remove_hugetlb_folio,
)
from memhp.linux.mm.migrate import migrate_range
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.mm.page_isolation import start_isolate_page_range, test_pages_isolated, undo_isolate_page_range
from memhp.linux.mm.zonelists import zonelist
from memhp.linux.mmzone import Zone, ZoneType
from memhp.linux.place import here, kernel_function, of_file
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_down, align_up

KERNEL_FILE = "mm/page_alloc.c"
ALLOC = f"{KERNEL_FILE}:alloc_contig_range"


@kernel_function(f"{KERNEL_FILE}:alloc_contig_range_noprof")
def alloc_contig_range(k: Kernel, start_pfn: int, end_pfn: int, owner: Owner) -> None:
    """Take the pages of a range, in one zone and made of whole pageblocks, for `owner`.

    Raises EBUSY when a page cannot be moved, ENOMEM when there is no room to move one to; the pageblocks are in use
    again then, except that some pages may have moved. A page that is on no LRU list, as on its way to one,
    counts as unmovable outside ZONE_MOVABLE (``page_is_unmovable()``): no model foretells it, so that it is told.
    """
    if Span(start_pfn, end_pfn) in k.hw.told_busy:
        raise KernelError(EBUSY, f"a page of PFN {start_pfn:#x}-{end_pfn:#x} is on no LRU list", place=ALLOC)
    start_isolate_page_range(k, start_pfn, end_pfn, offline=False)
    try:
        _empty(k, start_pfn, end_pfn)
        zone = k.zone_of(start_pfn)
        if zone is None:
            raise KernelBug(f"PFN {start_pfn:#x} has no struct page", place=ALLOC)
        with k.hw.locked(zone.lock):
            taken = next(zone.isolated_free.gaps(start_pfn, end_pfn), None)
            if taken is not None:
                raise _in_use(k, taken.start)
            zone.isolated_free.remove(start_pfn, end_pfn)
            k.hw.claim(Span(start_pfn, end_pfn), owner, ALLOC)
    finally:
        undo_isolate_page_range(k, start_pfn, end_pfn)


def _empty(k: Kernel, start_pfn: int, end_pfn: int) -> None:
    """Have all pages of an isolated range free."""
    migration = migrate_range(k, start_pfn, end_pfn, leave_node=False)
    starved = next((each for each in migration.stuck if each.errno == ENOMEM), None)
    if starved is not None:
        text = f"PFN {starved.span.start:#x} ({starved.owner}) does not move: there is no free memory to move it to"
        raise KernelError(ENOMEM, text, place=ALLOC, advice="free memory elsewhere")
    replace_free_hugepage_folios(k, start_pfn, end_pfn)
    busy = test_pages_isolated(k, start_pfn, end_pfn, offline=False)
    if busy is not None:
        raise _in_use(k, busy)


def _in_use(k: Kernel, pfn: int) -> KernelError:
    return KernelError(EBUSY, f"PFN {pfn:#x} ({k.hw.owners.get(pfn)}) is in use", place=ALLOC)


@of_file("mm/hugetlb.c")
def replace_free_hugepage_folios(k: Kernel, start_pfn: int, end_pfn: int) -> None:
    """Have the pools keep other huge pages in place of their free ones in a range. Raises ENOMEM for want of them."""
    for lo, hi, owner in list(k.hw.owners.runs(start_pfn, end_pfn)):
        if owner.use not in POOLS.values():
            continue
        zone, order = k.zone_of(lo), huge_page_order(k.config, owner.use)
        assert zone is not None and order is not None
        for page in huge_pages(k, lo, hi, owner.use):
            alloc_and_dissolve_hugetlb_folio(k, page, zone.nid, order)


@of_file("mm/hugetlb.c")
def alloc_and_dissolve_hugetlb_folio(k: Kernel, page: Span, nid: int, order: int) -> None:
    """Have the pool keep a fresh huge page in place of a free one, unless that is none any more. Raises ENOMEM."""
    if hugetlb_folio(k, page.start) is None:
        return
    fresh = alloc_pages(k, order, nid, movable=True, owner=FROZEN, where=here())
    if not fresh:
        raise KernelError(ENOMEM, f"no huge page in place of the one at PFN {page.start:#x}", place=here())
    with k.hw.locked(HUGETLB_LOCK):
        found = hugetlb_folio(k, page.start)
        replaced = found is not None and found.owner.use in POOLS.values()
        if found is not None and replaced:
            remove_hugetlb_folio(k, page, found.owner.use)
            enqueue_hugetlb_folio(k, fresh[0], found.owner)
    free_pages(k, [page] if replaced else fresh, here())


def alloc_contig_pages(k: Kernel, order: int, nid: int, owner: Owner) -> Span | None:
    """A block of an order that the buddy has none of, near node `nid`, emptied of what can move; None if there is none.

    In zones for the kernel's memory only, as gigantic pages are not to hold up ZONE_MOVABLE. Kernels that look twice
    take ranges with smaller huge pages, which have to move, when there is no other. mm/page_alloc.c.
    """
    passes = {"first-pass": (order,), "never": (0,), "second-pass": (0, order)}[k.config.profile.contig_hugetlb]
    for huge_below in passes:
        for page in _candidates(k, order, nid, huge_below):
            try:
                alloc_contig_range(k, *page, owner)
            except KernelError:
                continue
            return page
    return None


def _candidates(k: Kernel, order: int, nid: int, huge_below: int) -> Iterator[Span]:
    """Aligned ranges near node `nid`, in one kernel zone each, whose pages are all online and not reserved.

    Huge pages may be in them if their order is below `huge_below`.
    """
    size = 1 << order
    for zone in zonelist(k, nid, ZoneType.NORMAL):
        for start in range(align_up(zone.start_pfn, size), align_down(zone.end_pfn, size), size):
            page = Span(start, start + size)
            if _range_valid_contig(k, zone, page, huge_below):
                yield page


def _range_valid_contig(k: Kernel, zone: Zone, page: Span, huge_below: int) -> bool:
    """``pfn_range_valid_contig()``: of another zone, as where nodes lie across each other, there is none."""
    if list(k.page_zone.runs(*page)) != [(*page, (zone.nid, zone.type))]:
        return False
    uses = {owner.use for _, _, owner in k.hw.owners.runs(*page)}
    return (
        k.hw.owners.covers(*page)
        and not uses & {Use.DEVICE, Use.BOOT}
        and all((huge_page_order(k.config, use) or 0) < huge_below for use in uses & HUGE_USES)
    )


def free_contig_range(k: Kernel, start_pfn: int, nr_pages: int) -> None:
    """Give pages of such a range back to the buddy."""
    free_pages(k, [Span(start_pfn, start_pfn + nr_pages)], here())
