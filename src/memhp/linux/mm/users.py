"""Those who use memory: what a scenario has the kernel and its processes allocate, free, pin and fragment.

Every allocation has a tag by which it is found again. Counts are pages, spans PFNs, sizes bytes.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from dataclasses import dataclass
from errno import ENOMEM
from itertools import groupby
from operator import itemgetter
from typing import Literal

from memhp.errors import BadInput, KernelError
from memhp.hw.memory import Owner, Use
from memhp.linux.mm.alloc_contig import alloc_contig_pages
from memhp.linux.mm.balloon import BALLOON_USES, balloon_page_dequeue, balloon_page_enqueue
from memhp.linux.mm.hugetlb import (
    FROZEN,
    GIGANTIC_USES,
    HUGE_USES,
    add_huge_pages,
    end_promise,
    give_huge_pages_back,
    huge_page_order,
    promise_huge_pages,
)
from memhp.linux.mm.page_alloc import (
    adjust_managed_page_count,
    alloc_pages,
    free_pages,
    free_reserved,
    take_each_off_buddy,
    take_pages_off_buddy,
)
from memhp.linux.mm.rmqueue import set_pageblock_migratetype
from memhp.linux.mmzone import MigrateType, PageFlags, Zone, ZoneType
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_down, align_up, format_count, format_size

Kind = Literal[
    "kernel",
    "slab",
    "reclaimable",
    "movable",
    "pinned",
    "secretmem",
    "guest-memfd",
    "hugetlb",
    "hugetlb-free",
    "hugetlb-reserved",
    "gigantic",
    "gigantic-free",
    "balloon",
    "balloon-fixed",
    "boot",
]


PAGE_ALLOC_COSTLY_ORDER = 3
"""``include/linux/mmzone.h``; SLUB's caches have slabs of no higher order (``slub_max_order``)."""


@dataclass(frozen=True)
class Demand:
    """How memory of one kind is asked for."""

    use: Use
    movable: bool = False
    order: int = 0
    """Of its pages, where they are not huge."""


DEMANDS: dict[Kind, Demand] = {
    "kernel": Demand(Use.KERNEL),
    "slab": Demand(Use.SLAB, order=PAGE_ALLOC_COSTLY_ORDER),
    "reclaimable": Demand(Use.RECLAIMABLE),
    "movable": Demand(Use.MOVABLE, movable=True),
    "pinned": Demand(Use.MOVABLE, movable=True),
    "secretmem": Demand(Use.SECRETMEM),
    "guest-memfd": Demand(Use.GUEST_MEMFD),
    "hugetlb": Demand(Use.HUGETLB, movable=True),
    "hugetlb-free": Demand(Use.HUGETLB_FREE, movable=True),
    "hugetlb-reserved": Demand(Use.HUGETLB_FREE, movable=True),
    "gigantic": Demand(Use.GIGANTIC),
    "gigantic-free": Demand(Use.GIGANTIC_FREE),
    "balloon": Demand(Use.BALLOON, movable=True),
    "balloon-fixed": Demand(Use.BALLOON_FIXED),
    "boot": Demand(Use.BOOT),
}
"""Unmovable kernel memory, in single pages and in slabs of the order that most caches of large objects have;
reclaimable slabs; anonymous memory, and what of it a device's DMA holds; memory that only its process or its VM may see
(``GFP_HIGHUSER``); huge pages of a pool, in use, free, or free and promised to a mapping; gigantic ones; pages in a
balloon, of which virtio's can be moved; memory that boot kept for itself, which is reserved and not managed."""

USER_USES = frozenset({Use.PINNED, *(demand.use for demand in DEMANDS.values())})

NEVER_MOVABLE = frozenset(
    {Use.KERNEL, Use.SLAB, Use.RECLAIMABLE, Use.SECRETMEM, Use.GUEST_MEMFD, Use.BALLOON_FIXED, *GIGANTIC_USES}
)
"""Uses that ZONE_MOVABLE is closed to."""

ALLOCATE = "mm/page_alloc.c:__alloc_pages_slowpath"
FREE = "mm/page_alloc.c:__free_pages"
PIN = "mm/gup.c:migrate_longterm_unpinnable_folios"


def allocate(
    k: Kernel,
    nbytes: int,
    kind: Kind,
    tag: str,
    *,
    nid: int = 0,
    at: int | None = None,
    highest: ZoneType | None = None,
) -> list[Span]:
    """Use `nbytes` bytes of memory near node `nid` under a tag: the pages it got, as spans.

    `at` takes exactly the range from that physical address on, pinned in place if pinned; `highest` is the highest
    zone allowed. Raises :class:`KernelError` ENOMEM, with nothing taken, when there is not enough, and
    :class:`BadInput` for a size that is not made of whole pages, a tag that is in use, or a range that is not free.
    """
    demand = DEMANDS[kind]
    order = _order(k, kind, demand.use)
    unit = k.config.page_size << order
    if nbytes <= 0 or nbytes % unit:
        raise BadInput(f"{nbytes:#x} bytes of {kind} memory", where="size", fix=f"a multiple of {format_size(unit)}")
    _check_node(k, nid)
    if spans_of(k, tag):
        raise BadInput(f"something is allocated as {tag!r} already", where="tag", fix="free it first")
    whose = Owner(demand.use, tag)
    owner = FROZEN if demand.use in HUGE_USES else whose
    count = nbytes // unit
    if at is not None:
        spans = [_take_exactly(k, at, nbytes, unit, owner)]
    elif demand.use in GIGANTIC_USES:
        spans = list(_gigantic(k, order, count, nid, owner))
    else:
        spans = alloc_pages(
            k, order, nid, count=count, movable=demand.movable, owner=owner, where=ALLOCATE, highest=highest
        )
    got = sum(span.size for span in spans) << k.config.page_shift
    if got < nbytes:
        free_pages(k, spans, FREE)
        raise KernelError(
            ENOMEM,
            f"page allocation failure: order:{order}, {format_size(got)} of {format_size(nbytes)} found",
            place=ALLOCATE,
            advice="free memory, or online more of it in a zone that such an allocation may use",
        )
    if kind == "boot":
        _reserve(k, spans)
    elif demand.use in BALLOON_USES:
        balloon_page_enqueue(k, spans)
    elif demand.use in HUGE_USES:
        add_huge_pages(k, spans, whose)
        if kind == "hugetlb-reserved":
            promise_huge_pages(k, tag, demand.use, count)
    elif kind == "pinned":
        try:
            pin(k, tag, in_place=at is not None)
        except KernelError:
            free(k, tag)
            raise
    return spans_of(k, tag)


def _order(k: Kernel, kind: Kind, use: Use) -> int:
    """The order of the pages of a kind. Raises :class:`BadInput` for gigantic pages where there are none."""
    order = huge_page_order(k.config, use)
    if order is None and use in GIGANTIC_USES:
        raise BadInput(f"this machine has no pages for {kind} memory", where="kind", fix="a CPU that maps them")
    return order or DEMANDS[kind].order


def _gigantic(k: Kernel, order: int, count: int, nid: int, owner: Owner) -> Iterator[Span]:
    """Gigantic pages, made one after the other as long as there is a place: ``alloc_gigantic_folio()``."""
    for _ in range(count):
        page = alloc_contig_pages(k, order, nid, owner)
        if page is None:
            return
        yield page


def _check_node(k: Kernel, nid: int) -> None:
    if nid not in k.nodes:
        raise BadInput(f"there is no node {nid}", where="node", fix=f"one of {sorted(k.nodes)}")


def _take_exactly(k: Kernel, at: int, nbytes: int, unit: int, owner: Owner) -> Span:
    span = Span(at >> k.config.page_shift, (at + nbytes) >> k.config.page_shift)
    if at % unit:
        raise BadInput(f"{at:#x} is not aligned", where="at", fix=f"a multiple of {format_size(unit)}")
    zones = {ref.type for _, _, ref in k.page_zone.runs(*span)}
    if ZoneType.MOVABLE in zones and owner.use in NEVER_MOVABLE:
        text = f"{at:#x} lies in zone Movable, where no {owner.use} memory goes"
        raise BadInput(text, where="at", fix="another range")
    if not k.page_zone.covers(*span) or not take_pages_off_buddy(k, span, owner, ALLOCATE):
        raise BadInput(f"[{at:#x}-{at + nbytes:#x}) is not all free", where="at", fix="leave `at` out")
    return span


def _reserve(k: Kernel, spans: list[Span]) -> None:
    """Make pages as memblock would have left them had it kept them: reserved, and no zone's to manage."""
    for span in spans:
        k.page_flags.set_flags(*span, PageFlags.RESERVED)
        for start, end, _ in list(k.page_zone.runs(*span)):
            adjust_managed_page_count(k, start, start - end)


def spans_of(k: Kernel, tag: str) -> list[Span]:
    """The pages that are allocated under a tag, ascending; none when it is not in use."""
    spans: list[Span] = []
    for start, end, owner in k.hw.owners:
        if owner.tag == tag and owner.use in USER_USES:
            if spans and spans[-1].end == start:
                spans[-1] = Span(spans[-1].start, end)
            else:
                spans.append(Span(start, end))
    return spans


def known_spans(k: Kernel, tag: str) -> list[Span]:
    """The pages under a tag, ascending. Raises :class:`BadInput` for a tag that is not in use."""
    spans = spans_of(k, tag)
    if not spans:
        tags = sorted({owner.tag for _, _, owner in k.hw.owners if owner.tag and owner.use in USER_USES})
        raise BadInput(f"nothing is allocated as {tag!r}", where="tag", fix=f"in use: {', '.join(tags) or 'no tag'}")
    return spans


def free(k: Kernel, tag: str) -> None:
    """Free all that is allocated under a tag, and what is promised.

    Boot memory becomes managed, and what comes out of a balloon. Raises :class:`BadInput` for nothing.
    """
    promised = end_promise(k, tag)
    poisoned = [Span(start, end) for start, end, owner in k.hw.owners if owner == Owner(Use.HWPOISON, tag)]
    for span in poisoned if tag else ():
        k.hw.retag(span, Owner(Use.HWPOISON), FREE)
    owners = k.hw.owners
    parts = [
        (owner.use, Span(start, end))
        for span in (spans_of(k, tag) if promised or poisoned else known_spans(k, tag))
        for start, end, owner in owners.runs(*span)
    ]
    for use, alike in groupby(parts, key=itemgetter(0)):
        spans = [span for _, span in alike]
        if use in BALLOON_USES:
            balloon_page_dequeue(k, spans)
        elif use is Use.BOOT:
            free_reserved(k, spans, FREE)
        elif use in HUGE_USES:
            give_huge_pages_back(k, spans, use)
        else:
            free_pages(k, spans, FREE)


def pin(k: Kernel, tag: str, *, in_place: bool = False) -> None:
    """Take long-term references to movable memory: DMA, ``FOLL_LONGTERM``.

    Pages in ZONE_MOVABLE or CMA pageblocks move out first, to where pinning them does no harm; `in_place` leaves them,
    as a short-term reference would. Raises :class:`KernelError` ENOMEM, with the pages not moved yet pinned, when
    there is no room for that, and :class:`BadInput` when there is nothing movable under the tag.
    """
    runs = [
        Span(start, end)
        for span in known_spans(k, tag)
        for start, end, owner in k.hw.owners.runs(*span)
        if owner.use is Use.MOVABLE
    ]
    if not runs:
        raise BadInput(f"nothing movable is allocated as {tag!r}", where="tag", fix="only movable memory is pinned")
    for run in runs:
        for span, must_move in _pin_places(k, run):
            if must_move and not in_place:
                _move_out(k, span, Owner(Use.PINNED, tag))
            else:
                k.hw.retag(span, Owner(Use.PINNED, tag), PIN)


def _pin_places(k: Kernel, run: Span) -> list[tuple[Span, bool]]:
    """A run of pages cut by whether a long-term pin must move them out first: ``folio_is_longterm_pinnable()``."""
    places: list[tuple[Span, bool]] = []
    for start, end, ref in k.page_zone.runs(*run):
        zone = k.nodes[ref.nid].zones[ref.type]
        for lo, hi, kind in zone.migratetypes.runs(start, end):
            places.append((Span(lo, hi), ref.type is ZoneType.MOVABLE or kind is MigrateType.CMA))
    return places


def _move_out(k: Kernel, span: Span, owner: Owner) -> None:
    zone = k.zone_of(span.start)
    assert zone is not None
    to = alloc_pages(k, 0, zone.nid, count=span.size, owner=owner, where=PIN)
    moved = sum(part.size for part in to)
    free_pages(k, [Span(span.start, span.start + moved)], PIN)
    if moved < span.size:
        raise KernelError(
            ENOMEM,
            f"{format_count(span.size - moved, 'page')} cannot move out of {zone.name} to be pinned",
            place=PIN,
            advice="long-term pins need room in a kernel zone: online memory there",
        )


def fragment(k: Kernel, size: int, *, nid: int = 0, tag: str) -> int:
    """Use single pages of a node so that no free chunk of `size` bytes or more is left on it: how many.

    One page of every aligned chunk that is free: kernel memory, whose pageblocks become Unmovable, and in ZONE_MOVABLE
    movable memory. Costs a run for each chunk. Raises :class:`BadInput` for a size that is no power of two pages.
    """
    pages = size >> k.config.page_shift
    if size != pages << k.config.page_shift or pages < 2 or pages & (pages - 1):
        raise BadInput(
            f"{size:#x} bytes are no block of the buddy", where="size", fix="a power of two, 2 pages or more"
        )
    if nid not in k.nodes:
        raise BadInput(f"there is no node {nid}", where="node", fix=f"one of {sorted(k.nodes)}")
    return sum(_fragment_zone(k, zone, pages, tag) for _, zone in sorted(k.nodes[nid].zones.items()))


def _fragment_zone(k: Kernel, zone: Zone, pages: int, tag: str) -> int:
    movable = zone.type is ZoneType.MOVABLE
    owner = Owner(Use.MOVABLE if movable else Use.KERNEL, tag)
    block = k.config.pageblock_nr_pages
    taken: list[Span] = []
    for free in list(zone.free):
        chunks = Span(align_up(free.start, pages), align_down(free.end, pages))
        if not chunks:
            continue
        if not movable:
            lo, hi = align_down(chunks.start, block), align_up(chunks.end, block)
            for start, end, kind in list(zone.migratetypes.runs(lo, hi)):
                if kind is not MigrateType.CMA:
                    set_pageblock_migratetype(zone, start, end, MigrateType.UNMOVABLE)
        taken += [Span(pfn, pfn + 1) for pfn in range(chunks.start, chunks.end, pages)]
    take_each_off_buddy(k, zone, taken, owner, ALLOCATE)
    return len(taken)
