"""The page allocator's doors: blocks of pages out of the zones and back, and pages given to it for the first time.

mm/page_alloc.c. Choosing zones and keeping to watermarks is here; what happens inside a zone is in `rmqueue`, the
watermarks are worked out in `watermarks`. There is no reclaim and no compaction: an allocation that would need them
comes back short. Counts are pages, spans are PFNs.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from memhp.errors import KernelBug
from memhp.hw.memory import Owner, Use
from memhp.linux.mm.free_area import free_by_order, largest_free_order, nr_free_pages
from memhp.linux.mm.rmqueue import arrive, free_cma_pages, put_free, put_free_each, rmqueue
from memhp.linux.mm.watermarks import init_per_zone_wmark_min, setup_per_zone_lowmem_reserve, setup_per_zone_wmarks
from memhp.linux.mm.zonelists import (
    build_all_zonelists,
    build_all_zonelists_init,
    check_retry_zonelist,
    first_zones_zonelist,
    zonelist,
    zonelist_iter_begin,
    zones_from,
)
from memhp.linux.mmzone import MigrateType, PageFlags, Zone, ZoneRef, ZoneType
from memhp.linux.place import here, kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet

KERNEL_FILE = "mm/page_alloc.c"
__all__ = [
    "adjust_managed_page_count",
    "alloc_pages",
    "build_all_zonelists",
    "build_all_zonelists_init",
    "free_by_order",
    "free_pages",
    "free_pages_core",
    "free_reserved",
    "init_per_zone_wmark_min",
    "largest_free_order",
    "nr_free_pages",
    "setup_per_zone_lowmem_reserve",
    "setup_per_zone_wmarks",
    "sound_parts",
    "take_each_off_buddy",
    "take_pages_off_buddy",
    "zonelist",
]

FREE = Owner(Use.FREE)


@dataclass
class AllocContext:
    """``struct alloc_context``, and what else an allocation asks for."""

    order: int
    nid: int
    highest: ZoneType
    nodes: Collection[int] | None
    kind: MigrateType
    owner: Owner
    where: str
    preferred: int = 0
    """The entry of the zonelist at which it begins: ``preferred_zoneref``."""


@kernel_function(f"{KERNEL_FILE}:rmqueue_buddy")
def alloc_pages(
    k: Kernel,
    order: int,
    nid: int,
    *,
    count: int = 1,
    movable: bool = False,
    owner: Owner,
    where: str,
    highest: ZoneType | None = None,
    nodes: Collection[int] | None = None,
) -> list[Span]:
    """Up to `count` blocks of 2**order pages, each aligned to its size, near node `nid`, for `owner`.

    They come as spans, neighbours merged, in the order in which they were taken; fewer than `count`, down to none,
    when watermarks or fragmentation allow no more. `movable` allocations (``GFP_HIGHUSER_MOVABLE``) may use
    ZONE_MOVABLE; others (``GFP_KERNEL``) go up to ZONE_NORMAL, from Reclaimable pageblocks if that is their use.
    `highest` bounds the zones otherwise, `nodes` is a nodemask. mm/page_alloc.c:__alloc_pages.
    """
    if order > k.config.max_page_order or count <= 0:
        return []
    if movable:
        kind = MigrateType.MOVABLE
    else:
        kind = MigrateType.RECLAIMABLE if owner.use is Use.RECLAIMABLE else MigrateType.UNMOVABLE
    if highest is None:
        highest = ZoneType.MOVABLE if movable else ZoneType.NORMAL
    ac = AllocContext(order, nid, highest, nodes, kind, owner, where)
    taken: list[Span] = []
    for _, step in k.hw.batches(0, count):
        if k.hw.may_fail(where):
            break
        got = _where_told(k, order, step, owner, where) if k.hw.told else []
        if missing := step - (sum(span.size for span in got) >> order):
            got += _alloc(k, ac, missing)
        if not got:
            break
        for span in got:
            _append(taken, span)
    return taken


def _where_told(k: Kernel, order: int, count: int, owner: Owner, where: str) -> list[Span]:
    """Blocks of which another machine told that its allocator took them, as far as they are free here too."""
    taken: list[Span] = []
    for span in k.hw.told_free(owner.use, order, count):
        if take_pages_off_buddy(k, span, owner, where):
            _append(taken, span)
    return taken


def _alloc(k: Kernel, ac: AllocContext, count: int) -> list[Span]:
    """Take up to `count` blocks: down to the low watermarks, and to the min watermarks if that is not enough.

    ``__alloc_pages()``.
    """
    ac.preferred, zone = first_zones_zonelist(k, ac.nid, ac.highest, ac.nodes)
    taken = get_page_from_freelist(k, ac, count, "low", nofragment=alloc_flags_nofragment(k, zone))
    left = count - (sum(span.size for span in taken) >> ac.order)
    return taken + __alloc_pages_slowpath(k, ac, left) if left else taken


def __alloc_pages_slowpath(k: Kernel, ac: AllocContext, count: int) -> list[Span]:
    """Take up to `count` blocks down to the min watermarks; again, if zonelists were built anew meanwhile."""
    taken: list[Span] = []
    while True:
        sequence = zonelist_iter_begin(k)
        ac.preferred = first_zones_zonelist(k, ac.nid, ac.highest, ac.nodes).at
        taken += get_page_from_freelist(k, ac, count - (sum(span.size for span in taken) >> ac.order), "min")
        if sum(span.size for span in taken) >> ac.order == count or not check_retry_zonelist(k, sequence):
            return taken


def get_page_from_freelist(
    k: Kernel, ac: AllocContext, count: int, mark: Literal["low", "min"], *, nofragment: bool = False
) -> list[Span]:
    """Take up to `count` blocks from zone after zone, from the preferred one on, and keep to a watermark.

    `nofragment`: zones of its node are gone through first for pageblocks of the right type (``ALLOC_NOFRAGMENT``).
    """
    taken: list[Span] = []
    left = count
    for whole in (True, False) if nofragment else (False,):
        local = None
        for zone in zones_from(k, ac.preferred, ac.highest, ac.nodes):
            local = zone.nid if local is None else local
            if whole and zone.nid != local:
                break
            k.reads_zones([zone], "_watermark", "lowmem_reserve")
            kept = zone.watermark_low if mark == "low" else zone.watermark_min
            kept += zone.lowmem_reserve.get(ac.highest, 0)
            enough = zone_watermark_fast if ac.kind is MigrateType.MOVABLE else zone_watermark_beside_cma
            allowed = enough(zone, kept, ac.order, left)
            if not allowed:
                continue
            for span in _rmqueue_buddy(k, ac, zone, allowed, nofragment=whole):
                left -= span.size >> ac.order
                _append(taken, span)
            if not left:
                return taken
    return taken


@kernel_function(f"{KERNEL_FILE}:rmqueue_buddy")
def _rmqueue_buddy(k: Kernel, ac: AllocContext, zone: Zone, count: int, *, nofragment: bool) -> list[Span]:
    """Take up to `count` blocks from a zone."""
    with k.hw.locked(zone.lock):
        got = rmqueue(k, zone, ac.order, count, ac.kind, nofragment=nofragment)
        if len(got) > 1 and ac.owner.use is not Use.TABLE and _ascend(got):
            k.hw.claim_each(got, ac.owner, ac.where)
        else:
            for span in got:
                k.hw.claim(span, ac.owner, ac.where)
    return got


def zone_watermark_fast(zone: Zone, kept: int, order: int, count: int) -> int:
    """How many of `count` blocks of an order a zone can give and keep `kept` pages, as far as a look without its lock
    tells: ``zone_watermark_fast()``, for many at a time.
    """
    return zone.free.spare(kept, order, count)


@kernel_function(f"{KERNEL_FILE}:__zone_watermark_unusable_free")
def zone_watermark_beside_cma(zone: Zone, kept: int, order: int, count: int) -> int:
    """As :func:`zone_watermark_fast` for who may have no page of CMA: how many of those are free is read afterwards."""
    if not zone.cma_pages:
        return zone_watermark_fast(zone, kept, order, count)
    free = nr_free_pages(zone)
    return min(count, max(0, free - free_cma_pages(zone) - kept) >> order)


def alloc_flags_nofragment(k: Kernel, preferred: ZoneRef | None) -> bool:
    """Whether going down to ZONE_DMA32 comes before mixing types in ZONE_NORMAL."""
    if preferred is None or preferred.type is not ZoneType.NORMAL:
        return False
    below = k.nodes[preferred.nid].zones.get(ZoneType.DMA32)
    return below is not None and (k.node_states.nr_online_nodes == 1 or below.populated)


def _append(spans: list[Span], span: Span) -> None:
    """Add a span to a list, as part of the last one if it goes on from there."""
    if spans and spans[-1].end == span.start:
        spans[-1] = Span(spans[-1].start, span.end)
    else:
        spans.append(span)


@kernel_function(f"{KERNEL_FILE}:take_page_off_buddy")
def take_pages_off_buddy(k: Kernel, span: Span, owner: Owner, where: str, *, isolated: bool = False) -> bool:
    """Take exactly these pages for `owner` if all of them are free and none is isolated: whether they were.

    `isolated`: that does not matter, as long as either all are or none is. mm/page_alloc.c:take_page_off_buddy, for a
    run of pages.
    """
    parts = list(_by_zone(k, span))
    with ExitStack() as held:
        for lock in dict.fromkeys(zone.lock for zone, _ in parts):
            held.enter_context(k.hw.locked(lock))
        aside = isolated and all(zone.isolated_free.covers(*part) for zone, part in parts)
        if not aside and not all(zone.free.covers(*part) for zone, part in parts):
            return False
        for zone, part in parts:
            (zone.isolated_free if aside else zone.free).remove(*part)
            k.hw.claim(part, owner, where)
    return True


@kernel_function(f"{KERNEL_FILE}:take_page_off_buddy")
def take_each_off_buddy(k: Kernel, zone: Zone, spans: Sequence[Span], owner: Owner, where: str) -> None:
    """As :func:`take_pages_off_buddy` for many runs of free pages of one zone, which ascend."""
    for first, count in k.hw.batches(0, len(spans)):
        with k.hw.locked(zone.lock):
            zone.free.remove_each(spans[first : first + count])
            k.hw.claim_each(spans[first : first + count], owner, where)


@kernel_function(f"{KERNEL_FILE}:free_one_page")
def free_pages(k: Kernel, spans: Iterable[Span], where: str) -> None:
    """Give pages back to the buddy of their zones; in isolated pageblocks they stay aside: ``__free_pages()``.

    Poisoned ones stay out of use: ``free_pages_prepare()``.
    """
    for zone, parts in _together(k, sound_parts(k, spans, where)):
        with k.hw.locked(zone.lock):
            k.hw.release_each(parts, FREE, where)
            put_free_each(zone, parts)


@kernel_function(None)
def sound_parts(k: Kernel, spans: Iterable[Span], where: str) -> Iterator[tuple[Zone, Span]]:
    """Pages that are freed, by zone; poisoned ones are put aside on the way."""
    for span in spans:
        for zone, part in _by_zone(k, span):
            bad = [(lo, hi) for lo, hi, flags in k.page_flags.runs(*part) if PageFlags.HWPOISON in flags]
            for lo, hi in bad:
                k.hw.retag(Span(lo, hi), Owner(Use.HWPOISON), where)
            for sound in SpanSet(bad).gaps(*part) if bad else (part,):
                yield zone, sound


def _together(k: Kernel, parts: Iterator[tuple[Zone, Span]]) -> Iterator[tuple[Zone, list[Span]]]:
    """Neighbours of one zone in one list where they ascend and nobody watches, else each by itself."""
    zone: Zone | None = None
    spans: list[Span] = []
    for its, part in parts:
        if zone is not None and (its is not zone or part.start < spans[-1].end or k.hw.is_watched):
            yield zone, spans
            spans = []
        zone = its
        spans.append(part)
    if zone is not None:
        yield zone, spans


def _ascend(spans: Sequence[Span]) -> bool:
    """Whether spans lie one behind the other."""
    return all(left.end <= right.start for left, right in pairwise(spans))


@kernel_function(f"{KERNEL_FILE}:free_one_page")
def free_reserved(k: Kernel, spans: Iterable[Span], where: str) -> None:
    """Give boot memory that was reserved to the buddy, as managed pages: ``free_reserved_page()``."""
    for span in spans:
        k.page_flags.clear_flags(*span, PageFlags.RESERVED)
        free_pages(k, [span], where)
        for _, part in _by_zone(k, span):
            adjust_managed_page_count(k, part.start, part.size)


@kernel_function(f"{KERNEL_FILE}:__free_pages_core")
def free_pages_core(k: Kernel, start_pfn: int, nr_pages: int, where: str) -> None:
    """Give pages to the buddy for the first time, as managed pages: ``__free_pages_core()``.

    Of memory that comes online (frames of `Use.DEVICE`) and of what memblock has left at the end of boot (`Use.BOOT`).
    Raises :class:`KernelBug` for pages that have a user or no struct page.
    """
    span = Span(start_pfn, start_pfn + nr_pages)
    for start, end, owner in k.hw.owners.runs(*span):
        if owner.use is Use.HWPOISON:  # kernels have forgotten the mark by then, with all else in the struct page
            raise KernelBug(f"PFN {start:#x}-{end:#x} was poisoned, and is given to the buddy", place=where)
        if owner.use not in (Use.DEVICE, Use.BOOT):
            raise KernelBug(f"BUG: Bad page state: PFN {start:#x}-{end:#x} is {owner}", place=where)
    k.page_flags.clear_flags(*span, PageFlags.RESERVED | PageFlags.OFFLINE)
    for zone, part in _by_zone(k, span):
        adjust_managed_page_count(k, part.start, part.size)
        with k.hw.locked(zone.lock):
            k.hw.retag(part, FREE, where)
            arrive(zone, part, k.config.max_page_order)
            put_free(zone, part)


def adjust_managed_page_count(k: Kernel, pfn: int, count: int) -> None:
    """Change by `count` how many pages the zone of `pfn` manages: mm/page_alloc.c."""
    zone = k.zone_of(pfn)
    if zone is None:
        raise KernelBug(f"PFN {pfn:#x} has no struct page", place=here())
    k.hw.atomic(zone.field("managed_pages"))
    zone.managed += count
    if k.config.profile.lowmem_reserve == "with-managed-pages" and k.slab_is_available:
        setup_per_zone_lowmem_reserve(k)


def _by_zone(k: Kernel, span: Span) -> Iterator[tuple[Zone, Span]]:
    """A span cut where its pages belong to different zones. Raises :class:`KernelBug` where there is no struct page."""
    covered = 0
    for start, end, (nid, kind) in k.page_zone.runs(*span):
        covered += end - start
        yield k.nodes[nid].zones[kind], Span(start, end)
    if covered != span.size:
        raise KernelBug(f"PFN {span.start:#x}-{span.end:#x} is not all struct pages", place="mm/page_alloc.c")
