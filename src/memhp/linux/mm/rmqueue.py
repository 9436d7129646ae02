"""Taking blocks off a zone's free lists and putting pages back: the inside of the buddy allocator.

``__rmqueue()`` of mm/page_alloc.c, with the migrate types of pageblocks: a list of the wanted type first
(``__rmqueue_smallest()``), then claiming whole pageblocks of another type, then stealing single blocks
(``__rmqueue_steal()``). Where the kernel takes whatever heads a list, this takes the lowest address of what came online
first, so that a run is the same every time: what is freed meanwhile, which the kernel may put before it, is not told
apart. And it takes many blocks at once, one arithmetic step for each free span. The caller holds ``zone->lock``.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence

from memhp.hw.memory import Use
from memhp.linux.mmzone import NOWHERE, Arrival, MigrateType, Zone
from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanMap, SpanSet
from memhp.units import align_down, align_up, div_round_up

KERNEL_FILE = "mm/page_alloc.c"
FALLBACKS = {
    MigrateType.UNMOVABLE: (MigrateType.RECLAIMABLE, MigrateType.MOVABLE),
    MigrateType.MOVABLE: (MigrateType.RECLAIMABLE, MigrateType.UNMOVABLE),
    MigrateType.RECLAIMABLE: (MigrateType.UNMOVABLE, MigrateType.MOVABLE),
}
"""``fallbacks[]``: where an allocation of a type turns when pageblocks of that type have nothing free."""

LRU_USES = frozenset({Use.MOVABLE, Use.PINNED, Use.SECRETMEM, Use.GUEST_MEMFD})
"""Uses whose pages are on an LRU list, whether they move or not: what the kernel takes for movable (``PageLRU``)."""


@kernel_function(f"{KERNEL_FILE}:rmqueue_buddy")
def rmqueue(k: Kernel, zone: Zone, order: int, count: int, kind: MigrateType, *, nofragment: bool) -> list[Span]:
    """Take up to `count` blocks of an order for an allocation of a migrate type: spans (PFNs), in the order taken.

    `nofragment` is ``ALLOC_NOFRAGMENT``: claim whole pageblocks only, and steal nothing.
    """
    taken: list[Span] = []
    borrows = kind is MigrateType.MOVABLE and zone.cma_pages > 0
    left = count
    if borrows:
        for source, share in _cma_shares(zone, order, count):
            left -= _take(zone, source, order, share, taken)
    left -= _take(zone, kind, order, left, taken)
    if borrows:
        left -= _take(zone, MigrateType.CMA, order, left, taken)
    while left and _claim(k, zone, order, left, kind, nofragment=nofragment):
        left -= _take(zone, kind, order, left, taken)
    if left and not nofragment:
        for other in (*FALLBACKS[kind], None):
            left -= _take(zone, other, order, left, taken)
    return taken


@kernel_function(None)
def put_free(zone: Zone, span: Span) -> None:
    """Put pages (PFNs) on the free lists of their pageblocks: ``__free_one_page()``."""
    isolated = list(zone.isolated.runs(*span))
    for part in isolated:
        zone.isolated_free.add(*part)
    for part in SpanSet(isolated).gaps(*span) if isolated else (span,):
        zone.free.add(*part)
        _may_be_found(zone, part)


@kernel_function(None)
def put_free_each(zone: Zone, spans: Sequence[Span]) -> None:
    """As :func:`put_free` for many runs of pages, which ascend."""
    if len(spans) == 1 or zone.isolated.covered(spans[0].start, spans[-1].end):
        for span in spans:
            put_free(zone, span)
        return
    zone.free.add_each(spans)
    for span in spans:
        _may_be_found(zone, span)


def arrive(zone: Zone, span: Span, max_page_order: int) -> None:
    """Pages (PFNs) are about to be freed for the first time: they and what they merge with go to the lists' tails."""
    last = zone.arrivals[-1]
    if last.start <= span.start >= last.top and span.end <= last.end:
        last.top = span.end
        return
    size = 1 << max_page_order
    start, end = align_down(span.start, size), align_up(span.end, size)
    kept = [part for each in zone.arrivals for part in _without(each, start, end)]
    if kept and kept[-1].end == start and kept[-1].top == kept[-1].end:
        kept[-1] = Arrival(kept[-1].start, end, end)
    else:
        kept.append(Arrival(start, end, end))
    zone.arrivals = kept


def _without(arrival: Arrival, start: int, end: int) -> list[Arrival]:
    """What is left of an arrival where some of its page frames come anew."""
    if arrival.end <= start or end <= arrival.start:
        return [arrival]
    parts = (arrival.start, min(arrival.end, start)), (max(arrival.start, end), arrival.end)
    return [Arrival(lo, hi, min(max(arrival.top, lo), hi)) for lo, hi in parts if lo < hi]


def set_pageblock_migratetype(zone: Zone, start_pfn: int, end_pfn: int, kind: MigrateType) -> None:
    """Give the pageblocks of a range (PFNs) a migrate type; what is free in them changes lists with them."""
    zone.migratetypes.set(start_pfn, end_pfn, kind)
    for arrival in zone.arrivals:
        if arrival.start < end_pfn and start_pfn < arrival.end:
            for (other, order), at in arrival.search_from.items():
                if other is kind:
                    arrival.search_from[other, order] = min(at, align_down(start_pfn, 1 << order))


def free_cma_pages(zone: Zone) -> int:
    """Free pages in CMA pageblocks: ``NR_FREE_CMA_PAGES``."""
    return zone.free.inside(zone.migratetypes, MigrateType.CMA) if zone.cma_pages else 0


def _may_be_found(zone: Zone, freed: Span) -> None:
    """Lower the marks where searches start, for the blocks that freed pages make whole."""
    run = zone.free.run_at(freed.start)
    marked = [each for each in zone.arrivals if each.search_from and each.start < freed.end and freed.start < each.end]
    if run is None or not marked:
        return
    own = next(zone.migratetypes.runs(*freed), None)
    only = own[2] if own is not None and own[:2] == freed else None
    for arrival in marked:
        for (kind, order), at in arrival.search_from.items():
            if run.start < at and (only is None or kind is None or kind is only):
                size = 1 << order
                found = max(align_up(max(run.start, arrival.start), size), align_down(freed.start, size))
                if found < at and found + size <= run.end:
                    arrival.search_from[kind, order] = found


def _take(zone: Zone, kind: MigrateType | None, order: int, count: int, taken: list[Span]) -> int:
    """Take up to `count` blocks from pageblocks of a type (None: of any but CMA), the first first: how many it was."""
    done = 0
    for arrival in zone.arrivals:
        while done < count and (fit := _first_of(zone, arrival, kind, order)) is not None:
            blocks = min(fit.size >> order, count - done)
            spans = [Span(fit.start, fit.start + (blocks << order))]
            done += blocks
            if done < count:
                stretch = _next_stretch(zone, kind, fit.start)
                end = min(stretch.end, arrival.end) if stretch is not None else fit.end
                more = zone.free.fits(1 << order, fit.end, end, count - done) if fit.end < end else []
                done += sum(span.size for span in more) >> order
                spans += more
            zone.free.remove_each(spans)
            arrival.search_from[kind, order] = spans[-1].end
            taken += spans
    return done


def _first_free(zone: Zone, kind: MigrateType | None, order: int) -> Span | None:
    """The first run of whole free blocks of an order in pageblocks of a type."""
    fits = (_first_of(zone, arrival, kind, order) for arrival in zone.arrivals)
    return next((fit for fit in fits if fit is not None), None)


def _first_of(zone: Zone, arrival: Arrival, kind: MigrateType | None, order: int) -> Span | None:
    """The lowest such run among page frames that came together."""
    at = max(arrival.search_from.get((kind, order), 0), arrival.start)
    while at < arrival.end and (stretch := _next_stretch(zone, kind, at)) is not None:
        fit = zone.free.first_fit(1 << order, max(at, stretch.start), min(stretch.end, arrival.end))
        if fit is not None:
            arrival.search_from[kind, order] = fit.start
            return fit
        at = stretch.end
    arrival.search_from[kind, order] = NOWHERE
    return None


def _next_stretch(zone: Zone, kind: MigrateType | None, at: int) -> Span | None:
    """The next pageblocks of a type that end behind a PFN.

    Types are looked at unannounced: a kernel has lists of free pages by type, and does not read here what any pageblock
    is, least of all one that has no free page.
    """
    types: SpanMap[MigrateType] = zone.migratetypes
    while (run := SpanMap.next_run(types, at)) is not None:
        start, end, found = run
        if found is kind:
            return Span(start, end)
        if kind is None and found is not MigrateType.CMA:
            while (more := SpanMap.run_at(types, end)) is not None and more[2] is not MigrateType.CMA:
                end = more[1]
            return Span(start, end)
        at = end
    return None


def _cma_shares(zone: Zone, order: int, count: int) -> list[tuple[MigrateType, int]]:
    """How many of `count` movable blocks come from CMA and how many not, in turn.

    CMA lends while it holds more than half of what is free. So either side evens out first, then they take turns.
    """
    size = 1 << order
    surplus = 2 * free_cma_pages(zone) - zone.free.size
    lent = min(div_round_up(max(0, surplus), size), count)
    own = min(max(0, lent * size - surplus) // size + 1, count - lent)
    rest = count - lent - own
    return [
        (MigrateType.CMA, lent),
        (MigrateType.MOVABLE, own),
        (MigrateType.CMA, rest - rest // 2),
        (MigrateType.MOVABLE, rest // 2),
    ]


def _claim(k: Kernel, zone: Zone, order: int, count: int, kind: MigrateType, *, nofragment: bool) -> bool:
    """Turn pageblocks of another type into pageblocks of this one, the largest free blocks first: whether any were.

    ``__rmqueue_claim()`` (part of ``__rmqueue_fallback()`` before 6.15). Only as many as `count` blocks need.
    """
    pageblock_order = k.config.pageblock_order
    lowest = max(order, pageblock_order) if nofragment else order
    for block_order in range(k.config.max_page_order, lowest - 1, -1):
        if block_order < pageblock_order // 2 and kind is MigrateType.MOVABLE:
            return False
        found = _first_of_others(zone, kind, block_order)
        if found is None:
            continue
        fit, other = found
        if block_order >= pageblock_order:
            blocks = min(fit.size >> block_order, div_round_up(count << order, 1 << block_order))
            set_pageblock_migratetype(zone, fit.start, fit.start + (blocks << block_order), kind)
            return True
        if _claim_pageblock(k, zone, fit.start, other, kind):
            return True
    return False


def _first_of_others(zone: Zone, kind: MigrateType, order: int) -> tuple[Span, MigrateType] | None:
    for other in FALLBACKS[kind]:
        fit = _first_free(zone, other, order)
        if fit is not None:
            return fit, other
    return None


def _claim_pageblock(k: Kernel, zone: Zone, pfn: int, old: MigrateType, new: MigrateType) -> bool:
    """Claim one pageblock that is not wholly free, if half of it is free or in like use: ``try_to_claim_block()``."""
    size = k.config.pageblock_nr_pages
    start = align_down(pfn, size)
    end = start + size
    if start < zone.start_pfn or end > zone.end_pfn:
        return False
    free = zone.free.covered(start, end)
    movable = sum(hi - lo for lo, hi, owner in k.hw.owners.runs(start, end) if owner.use in LRU_USES)
    if new is MigrateType.MOVABLE:
        alike = movable
    elif old is MigrateType.MOVABLE:
        alike = size - free - movable
    else:
        alike = 0
    if free + alike < size // 2:
        return False
    set_pageblock_migratetype(zone, start, end, new)
    return True
