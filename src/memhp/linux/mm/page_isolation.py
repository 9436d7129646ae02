"""Pageblocks taken out of use before their memory goes offline: mm/page_isolation.c. PFNs throughout.

Free pages of an isolated pageblock are out of the allocator's reach, and pages that are freed there stay aside.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EBUSY
from typing import NamedTuple

from memhp.errors import KernelBug, KernelError
from memhp.hw.memory import Owner, Use
from memhp.linux.mm.rmqueue import put_free, set_pageblock_migratetype
from memhp.linux.mmzone import MigrateType, PageFlags, Zone, ZoneType
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import align_down, align_up

KERNEL_FILE = "mm/page_isolation.c"


class Obstacle(NamedTuple):
    """Why pages do not make way, and what can be done about it."""

    why: str
    advice: str


ELSEWHERE = "take another block; memory onlined as movable stays clear of such pages"

UNMOVABLE_USES = {
    Use.BOOT: Obstacle("memory reserved at boot", f"it is the kernel's for good: {ELSEWHERE}"),
    Use.TABLE: Obstacle("a page table", f"end the process whose it is, or {ELSEWHERE}"),
    Use.MEMMAP: Obstacle("struct pages", f"take the memory away that they describe first, or {ELSEWHERE}"),
    Use.KERNEL: Obstacle("unmovable kernel memory", f"end what uses it (a driver, open files, a VM), or {ELSEWHERE}"),
    Use.SLAB: Obstacle(
        "a slab of several pages", f"end what uses it; that it is poisoned, if it is, makes no difference: {ELSEWHERE}"
    ),
    Use.RECLAIMABLE: Obstacle(
        "reclaimable kernel memory, which offlining does not shrink",
        f"echo 2 > /proc/sys/vm/drop_caches and try again, or {ELSEWHERE}",
    ),
}
"""Uses of pages that no migration moves, in words. Compound ones that are on no LRU list are in the way even when they
are poisoned, as that is looked at first; what is poisoned of the others has another use here."""

RESERVED = Obstacle("memory reserved at boot, or a hole", f"it is the kernel's for good: {ELSEWHERE}")
CMA = Obstacle("a pageblock of the contiguous memory allocator", "boot with a smaller cma=, or take another block")
KEPT_BY_DRIVER = Obstacle("a page that its driver keeps offline", "deflate the balloon")
POISONED = Obstacle("a page that memory errors took", "take another block")

KEPT_USES = {Use.OFFLINE: KEPT_BY_DRIVER, Use.BALLOON_FIXED: KEPT_BY_DRIVER, Use.HWPOISON: POISONED}
"""Uses that stand in the way of allocating a range, but are no reason not to try to take it offline."""


class Unmovable(NamedTuple):
    """A page that cannot be moved out of the way: its PFN, and what it is used for."""

    pfn: int
    obstacle: Obstacle

    @property
    def why(self) -> str:
        """What it is used for."""
        return self.obstacle.why


def has_unmovable_pages(k: Kernel, start_pfn: int, end_pfn: int, *, offline: bool = True) -> Unmovable | None:
    """The first page of ``[start_pfn, end_pfn)``, in one zone, that rules out offlining; None if all may go.

    ZONE_MOVABLE holds no such pages but reserved ones. With `offline`, pages in logically offline memory count as
    movable, since their driver may still let go of them, and poisoned ones, whoever uses them; without, the range is to
    be allocated, and they do not. mm/page_isolation.c:has_unmovable_pages.
    """
    zone = _zone(k, start_pfn)
    found = [Unmovable(lo, RESERVED) for lo, _, flags in k.page_flags.runs(start_pfn, end_pfn) if _is_reserved(flags)]
    if zone.type is not ZoneType.MOVABLE:
        obstacles = UNMOVABLE_USES if offline else {**UNMOVABLE_USES, **KEPT_USES}
        found.extend(
            Unmovable(lo, obstacles[owner.use])
            for lo, _, owner in k.hw.owners.runs(start_pfn, end_pfn)
            if owner.use in obstacles
        )
    if offline and k.config.profile.poisoned_offline == "unless-held":
        found.extend(
            Unmovable(lo, POISONED)
            for lo, _, owner in k.hw.owners.runs(start_pfn, end_pfn)
            if _is_held_poison(owner)
        )
    if zone.cma_pages:
        found.extend(
            Unmovable(lo, CMA) for lo, _, kind in zone.migratetypes.runs(start_pfn, end_pfn) if kind is MigrateType.CMA
        )
    return min(found, default=None)


def start_isolate_page_range(k: Kernel, start_pfn: int, end_pfn: int, *, offline: bool = True) -> None:
    """Isolate the pageblocks of a range: first the first, then the last, then those between; in turn before 5.19.

    Each is looked at whole, the first and the last as well where the range begins or ends within
    (``isolate_single_pageblock()``).

    `offline` says what for (``MEMORY_OFFLINE``, ``PB_ISOLATE_MODE_MEM_OFFLINE``); the page that rules it out is logged.

    Raises :class:`KernelError` EBUSY, with nothing isolated, when a pageblock is isolated already, holds an unmovable
    page or lies in the zone only in part.
    """
    size = k.config.pageblock_nr_pages
    first, last = align_down(start_pfn, size), align_up(end_pfn, size) - size
    own_types = k.config.profile.isolate_ends == "own-type"
    parts = [(first, first + size), (max(last, first + size), last + size), (first + size, last)]
    if k.config.profile.isolate_ends == "in-turn":
        parts = [(first, last + size)]
    done: list[Span] = []
    try:
        for lo, hi in parts:
            for block, count in k.hw.batches(lo // size, hi // size):
                end = own_types and block * size in (first, last)
                _isolate(k, Span(block * size, (block + count) * size), done, offline=offline, own_type=end)
    except KernelError:
        for blocks in done:
            undo_isolate_page_range(k, *blocks)
        raise


def _isolate(k: Kernel, blocks: Span, done: list[Span], *, offline: bool, own_type: bool) -> None:
    """``set_migratetype_isolate()`` for a run of pageblocks, up to the first that cannot be; `done` gets what was.

    `own_type`: for the migrate type that the one pageblock has, so that one of CMA is as if CMA asked for it.
    """
    zone = _zone(k, blocks.start)
    size = k.config.pageblock_nr_pages
    with k.hw.locked(zone.lock):
        taken = next(zone.isolated.runs(*blocks), None)
        before = Span(blocks.start, taken.start if taken is not None else blocks.end)
        for_cma = own_type and zone.migratetypes.get(blocks.start) is MigrateType.CMA
        unmovable = None if for_cma else has_unmovable_pages(k, *before, offline=offline)
        good = Span(blocks.start, align_down(unmovable.pfn, size) if unmovable is not None else before.end)
        crosses = good and (good.start < zone.start_pfn or good.end > zone.end_pfn)
        if good and not crosses:
            zone.isolated.set_bits(*good)
            for part in list(zone.free.runs(*good)):
                zone.free.remove(*part)
                zone.isolated_free.add(*part)
            zone.nr_isolate_pageblock += good.size // size
            done.append(good)
    if crosses:
        raise _busy(good.start, f"a pageblock lies in zone {zone.name} only in part")
    if unmovable is not None:
        if offline:
            k.hw.log(f"page: refcount:1 mapcount:0 mapping:{0:016x} index:0x0 pfn:{unmovable.pfn:#x}", "warn")
            k.hw.log("page dumped because: unmovable page", "warn")
        raise _busy(unmovable.pfn, f"unmovable page: {unmovable.why}", unmovable.obstacle.advice)
    if taken is not None:
        raise _busy(taken.start, "a pageblock is isolated already")


def undo_isolate_page_range(k: Kernel, start_pfn: int, end_pfn: int) -> None:
    """Put isolated pageblocks of a range back into use.

    Where isolation takes the place of the migrate type, they are Movable from then on, whatever they were.
    """
    size = k.config.pageblock_nr_pages
    for start, end, (nid, kind) in list(k.page_zone.runs(align_down(start_pfn, size), align_up(end_pfn, size))):
        zone = k.nodes[nid].zones[kind]
        with k.hw.locked(zone.lock):
            for blocks in list(zone.isolated.runs(start, end)):
                zone.isolated.clear_bits(*blocks)
                zone.nr_isolate_pageblock -= blocks.size >> k.config.pageblock_order
                if k.config.profile.isolate_mark == "migratetype":
                    set_pageblock_migratetype(zone, blocks.start, blocks.end, MigrateType.MOVABLE)
                for part in list(zone.isolated_free.runs(*blocks)):
                    zone.isolated_free.remove(*part)
                    put_free(zone, part)


def test_pages_isolated(k: Kernel, start_pfn: int, end_pfn: int, *, offline: bool = True) -> int | None:
    """The first page of an isolated range that is still in use, or in a pageblock not isolated; None if all is free.

    Where memory goes `offline`, poisoned pages count as free, whoever holds them, and logically offline ones that their
    driver let go of (`PageFlags.UNREFERENCED`); where it is to be allocated, no page does that is not the buddy's.
    mm/page_isolation.c:test_pages_isolated.
    """
    zone = _zone(k, start_pfn)
    outside = next(zone.isolated.gaps(start_pfn, end_pfn), None)
    if outside is not None:
        return outside.start
    with k.hw.locked(zone.lock):
        for gap in zone.isolated_free.gaps(start_pfn, end_pfn):
            if not offline:
                return gap.start
            for lo, hi, owner in k.hw.owners.runs(*gap):
                held = _first_held(k, Span(lo, hi), owner)
                if held is not None:
                    return held
    return None


def _first_held(k: Kernel, span: Span, owner: Owner) -> int | None:
    """The first page of a run of one owner that somebody holds on to, or that is neither the buddy's nor marked."""
    passed_over = PageFlags.UNREFERENCED | PageFlags.HWPOISON
    if owner.use is Use.HWPOISON:
        if _is_held_poison(owner) and k.config.profile.poisoned_offline == "unless-held":
            return span.start
        passed_over = PageFlags.HWPOISON
    at = span.start
    for lo, hi, flags in k.page_flags.runs(*span):
        if lo > at or not flags & passed_over:
            return at
        at = hi
    return None if at == span.end else at


def _is_held_poison(owner: Owner) -> bool:
    """Whether somebody goes on using pages that memory errors took."""
    return owner.use is Use.HWPOISON and bool(owner.tag)


def _is_reserved(flags: PageFlags) -> bool:
    return PageFlags.RESERVED in flags


def _zone(k: Kernel, pfn: int) -> Zone:
    zone = k.zone_of(pfn)
    if zone is None:
        raise KernelBug(f"PFN {pfn:#x} has no struct page", place="mm/page_isolation.c")
    return zone


def _busy(pfn: int, reason: str, advice: str = "") -> KernelError:
    return KernelError(
        EBUSY, f"{reason} (PFN {pfn:#x})", place=f"{KERNEL_FILE}:set_migratetype_isolate", advice=advice
    )
