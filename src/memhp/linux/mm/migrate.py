"""Moving pages out of memory that is to go offline.

``scan_movable_pages()`` and ``do_migrate_range()`` of mm/memory_hotplug.c, with what of mm/migrate.c and mm/hugetlb.c
they rest on. Movable memory is single pages here; huge pages of hugetlbfs stay whole. PFNs throughout.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Collection
from dataclasses import dataclass, field
from errno import EBUSY, ENOMEM
from itertools import chain, islice
from typing import NamedTuple

from memhp.errors import KernelError
from memhp.hw.memory import Owner, Use
from memhp.linux.drivers.base.node import N_MEMORY
from memhp.linux.lib.ratelimit import RatelimitState, ratelimit
from memhp.linux.mm.balloon import balloon_page_dequeue, balloon_page_enqueue
from memhp.linux.mm.hugetlb import (
    GIGANTIC_USES,
    POOLS,
    alloc_hugetlb_folio_nodemask,
    folio_isolate_hugetlb,
    folio_putback_hugetlb,
    free_huge_folio,
    huge_page_order,
    huge_pages,
    is_migratable,
)
from memhp.linux.mm.memory_hotplug_online import Onlining
from memhp.linux.mm.page_alloc import alloc_pages, free_pages
from memhp.linux.mmzone import PageFlags, ZoneType
from memhp.linux.place import file_of, here, kernel_function, of_file
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "mm/migrate.c"
FIXED = {
    Use.PINNED: ("pinned", "end what does DMA to them (RDMA, io_uring, a passed-through device)"),
    Use.SECRETMEM: ("secret memory, which the kernel does not copy", "end the process that has it (memfd_secret)"),
    Use.GUEST_MEMFD: ("private memory of a VM (guest_memfd)", "shut down that VM, or move it to another host"),
}
"""Uses of pages on an LRU list that do not move (``mm/secretmem.c:secretmem_migrate_folio``, ``mapping_inaccessible()``
in ``mm/migrate.c:move_to_new_folio``): why, and what helps."""

MOVABLE_USES = frozenset({Use.MOVABLE, *FIXED, Use.HUGETLB, Use.GIGANTIC, Use.BALLOON})
"""Uses that ``scan_movable_pages()`` finds: on an LRU list, pinned or not, a huge page in use, or a page whose driver
moves it."""

KEPT = PageFlags.OFFLINE | PageFlags.UNREFERENCED
"""The flags that tell a logically offline page that its driver still holds: the first set, the second not."""

@dataclass
class DoMigrateRange:
    """What ``do_migrate_range()`` keeps from one call to the next."""

    migrate_rs: RatelimitState = field(default_factory=lambda: RatelimitState("migrate_rs"))


class Stuck(NamedTuple):
    """Pages that would not move: errno and why. ``EBUSY`` for an outside reference, ``ENOMEM`` for want of room."""

    span: Span
    owner: Owner
    errno: int


class Migration(NamedTuple):
    """What one round of migration did."""

    moved: int
    """Pages that were moved."""
    stuck: list[Stuck]


@of_file("mm/memory_hotplug.c")
def scan_movable_pages(k: Kernel, start_pfn: int, end_pfn: int) -> int | None:
    """The first page of ``[start_pfn, end_pfn)`` that migration should move, or None when there is none left.

    Raises :class:`KernelError` EBUSY when a logically offline page comes first that its driver still holds.
    """
    kept = _first_kept(k, start_pfn, end_pfn)
    for lo, hi, owner in k.hw.owners.runs(start_pfn, end_pfn if kept is None else kept):
        if owner.use in POOLS:
            page = next((page for page in huge_pages(k, lo, hi, owner.use) if is_migratable(k, page)), None)
            if page is not None:
                return max(lo, page.start)
        elif owner.use in MOVABLE_USES:
            return lo
        if owner.use is Use.OFFLINE:
            raise _kept(k, lo, owner.tag)
    if kept is not None:
        holder = k.hw.owners.get(kept)
        raise _kept(k, kept, holder.tag if holder is not None else "")
    return None


def _first_kept(k: Kernel, start_pfn: int, end_pfn: int) -> int | None:
    """The first page that a driver holds and that does not move; there may be no memory behind it any more."""
    for start, end, flags in k.page_flags.runs(start_pfn, end_pfn):
        if flags & KEPT != PageFlags.OFFLINE:
            continue
        at = start
        for lo, hi, owner in k.hw.owners.runs(start, end):
            if lo > at or owner.use not in MOVABLE_USES:
                return at
            at = hi
        if at < end:
            return at
    return None


def _kept(k: Kernel, pfn: int, tag: str) -> KernelError:
    """A page that a driver holds: the one that it is marked with, or that decides which pages go online."""
    decides = vars(k.statics(Onlining))["online_page_callback"]  # for the advice: the kernel does not look
    keeper = tag or (file_of(decides) if decides is not None else "drivers/virtio/virtio_balloon.c")
    return KernelError(
        EBUSY,
        "unmovable page",
        place=here(),
        advice=f"PFN {pfn:#x} is logically offline and its driver ({keeper}) keeps it: deflate the balloon, "
        "or have the device give back what it unplugged",
    )


@of_file("mm/memory_hotplug.c")
def do_migrate_range(k: Kernel, start_pfn: int, end_pfn: int) -> Migration:
    """Move all movable pages of an isolated range to other nodes, within their own if there is no other.

    Pages that do not move are logged. mm/memory_hotplug.c:do_migrate_range.
    """
    migration = migrate_range(k, start_pfn, end_pfn, leave_node=True)
    _report(k, migration.stuck)
    return migration


@kernel_function(None)
def migrate_range(k: Kernel, start_pfn: int, end_pfn: int, *, leave_node: bool) -> Migration:
    """Move all movable pages of an isolated range elsewhere: `leave_node` bars their own node if there are others.

    Those of `FIXED` stay. Pages of ZONE_MOVABLE may go anywhere, others not into ZONE_MOVABLE, and never into isolated
    pageblocks. mm/migrate.c:alloc_migration_target.
    """
    moved = 0
    stuck: list[Stuck] = []
    for lo, hi, owner in list(k.hw.owners.runs(start_pfn, end_pfn)):
        if owner.use in FIXED:
            stuck.append(Stuck(Span(lo, hi), owner, EBUSY))
        elif owner.use in POOLS:
            for page in huge_pages(k, lo, hi, owner.use):
                moved += _move_huge_page(k, page, owner, stuck, leave_node=leave_node)
        elif owner.use is Use.BALLOON:
            moved += _move_balloon(k, Span(lo, hi), owner, stuck, leave_node=leave_node)
        elif owner.use is Use.MOVABLE:
            for at, count in k.hw.batches(lo, hi):
                done = _move(k, Span(at, at + count), owner, leave_node=leave_node)
                moved += done
                if done < count:
                    stuck.append(Stuck(Span(at + done, at + count), owner, ENOMEM))
    return Migration(moved, stuck)


def _move(k: Kernel, source: Span, owner: Owner, *, leave_node: bool) -> int:
    """Move single pages: how many found a place, the lowest first."""
    to = _allocate(k, source.start, 0, source.size, owner, leave_node=leave_node)
    count = sum(span.size for span in to)
    if count:
        free_pages(k, [Span(source.start, source.start + count)], here())
    return count


def _move_balloon(k: Kernel, source: Span, owner: Owner, stuck: list[Stuck], *, leave_node: bool) -> int:
    """Have a balloon take other pages in place of some: ``virtballoon_migratepage()``. Poisoned ones stay."""
    moved = 0
    for lo, hi, flags in list(k.page_flags.runs(*source)):
        if PageFlags.HWPOISON in flags:
            stuck.append(Stuck(Span(lo, hi), owner, EBUSY))
            continue
        to = _allocate(k, lo, 0, hi - lo, owner, leave_node=leave_node)
        count = sum(span.size for span in to)
        balloon_page_enqueue(k, to)
        if count:
            balloon_page_dequeue(k, [Span(lo, lo + count)])
        if count < hi - lo:
            stuck.append(Stuck(Span(lo + count, hi), owner, ENOMEM))
        moved += count
    return moved


def _target(k: Kernel, pfn: int, *, leave_node: bool) -> tuple[int, ZoneType, Collection[int] | None]:
    """Where a page may go: near which node, up to which zone, and among which nodes: ``alloc_migration_target()``."""
    zone = k.zone_of(pfn)
    assert zone is not None
    highest = ZoneType.MOVABLE if zone.type is ZoneType.MOVABLE else ZoneType.NORMAL
    if not leave_node:
        return zone.nid, highest, None
    k.hw.reads(N_MEMORY)
    return zone.nid, highest, (k.node_states.memory - {zone.nid}) or {zone.nid}


def _allocate(k: Kernel, pfn: int, order: int, count: int, owner: Owner, *, leave_node: bool) -> list[Span]:
    """Blocks to move pages to that are like the one at `pfn`."""
    nid, highest, nodes = _target(k, pfn, leave_node=leave_node)
    where = here()
    return alloc_pages(k, order, nid, count=count, movable=True, owner=owner, where=where, highest=highest, nodes=nodes)


def _move_huge_page(k: Kernel, page: Span, owner: Owner, stuck: list[Stuck], *, leave_node: bool) -> int:
    """Move one huge page: into a free one of the pool, whose place it takes, or, unless gigantic, fresh memory.

    One that is none any more, or that another moves or recovers, is left alone.
    """
    if not folio_isolate_hugetlb(k, page, owner):
        return 0
    nid, highest, nodes = _target(k, page.start, leave_node=leave_node)
    if owner.use not in GIGANTIC_USES:
        highest = ZoneType.MOVABLE
    spare = alloc_hugetlb_folio_nodemask(k, POOLS[owner.use], nid, highest, nodes, owner)
    if spare is not None:
        free_huge_folio(k, page, owner.use, pool=spare.owner)
    elif owner.use not in GIGANTIC_USES and _allocate(
        k, page.start, page.size.bit_length() - 1, 1, owner, leave_node=leave_node
    ):
        free_huge_folio(k, page, owner.use)
    else:
        folio_putback_hugetlb(k, page)
        stuck.append(Stuck(page, owner, ENOMEM))
        return 0
    return page.size


def _report(k: Kernel, stuck: list[Stuck]) -> None:
    """Log the pages that did not move, as many as the rate limit lets through."""
    if not stuck:
        return
    starved = any(each.errno == ENOMEM for each in stuck)
    ret = -ENOMEM if starved else sum(each.span.size for each in stuck)
    folios = [_folios(k, each) for each in stuck]
    limit = k.statics(DoMigrateRange).migrate_rs
    through = ratelimit(k, limit, "do_migrate_range", sum(map(len, folios)))
    for pfn in islice(chain.from_iterable(folios), through):
        k.hw.log(f"migrating pfn {pfn:x} failed ret:{ret}", "warn")
        k.hw.log("page dumped because: migration failure", "warn")


def _folios(k: Kernel, stuck: Stuck) -> range:
    """The first pages of the folios that did not move: a huge page is one."""
    span, use = stuck.span, stuck.owner.use
    return range(span.start, span.end, 1 if huge_page_order(k.config, use) is None else span.size)
