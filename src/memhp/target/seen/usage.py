"""Memory that a real machine had in use, put into the model: as much of each zone and kind, and where it lies if told.

Where nothing tells the places, each zone is filled from its lowest free page on, so that use gathers in as few memory
blocks as can be; of a machine that was looked at in part, first where nobody looked. What the model itself allocated
since boot for hot-added memory, struct pages and page tables, counts as the kernel's; huge pages take whole ones.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from typing import NamedTuple

from memhp.facts.kpageflags import Kind as PageKind
from memhp.facts.kpageflags import PageRun
from memhp.facts.observed import Facts
from memhp.facts.usage import ZoneUse, usage
from memhp.hw.memory import Owner, Use
from memhp.linux.mm.free_area import nr_free_pages
from memhp.linux.mm.hugetlb import HUGE_USES, add_huge_pages, huge_page_order
from memhp.linux.mm.oom_kill import OomKill
from memhp.linux.mm.page_alloc import take_pages_off_buddy
from memhp.linux.mmzone import Zone, ZoneType
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet
from memhp.units import align_down, align_up

PLACE = "mm/page_alloc.c:__alloc_pages"

USES: dict[str, tuple[Use, str]] = {
    "kernel": (Use.KERNEL, "the kernel"),
    "reclaimable": (Use.RECLAIMABLE, "reclaimable slab"),
    "hugetlb": (Use.HUGETLB, "huge pages"),
    "hugetlb_free": (Use.HUGETLB_FREE, "free huge pages"),
    "movable": (Use.MOVABLE, "processes and page cache"),
}
"""What stands for each kind of :class:`ZoneUse`: its use and tag."""

SHOWN_AS: dict[PageKind, tuple[str, ...]] = {
    "kernel": ("kernel", "reclaimable"),
    "slab": ("reclaimable", "kernel"),
    "table": ("kernel",),
    "movable": ("movable",),
    "huge": ("hugetlb", "hugetlb_free"),
}
"""The kinds of use that a page can be of which kpageflags shows as one of its own kinds."""


class Placed(NamedTuple):
    """What was put into the model."""

    zones: tuple[ZoneUse, ...]
    seen: frozenset[int]
    """The memory blocks that the machine told the use of."""
    online: frozenset[int]
    """Those that were online."""
    unmatched: int
    """Pages that the model has free less than the machine, which could not be made free: the model's boot took them."""


def place(k: Kernel, facts: Facts) -> Placed:
    """Use as much memory of each zone as the machine had in use, beyond what the model uses itself.

    Struct pages of hot-added memory may have come from other zones than in the model, which adds it all at once: what a
    zone has in use too much for that, others get less.
    """
    uses = usage(facts)
    pages = k.pages_per_block
    seen = SpanSet(Span(run.block * pages, (run.block + 1) * pages) for run in facts.pages)
    k.statics(OomKill).spared = frozenset(tag for _, tag in USES.values())
    excess: dict[tuple[int, str], int] = {}
    for use in uses:
        zone = _zone(k, use)
        if zone is not None:
            excess[use.node, use.zone] = nr_free_pages(zone) - use.free
    short = sum(-pages for pages in excess.values() if pages < 0)
    for use in uses:
        zone, more = _zone(k, use), excess.get((use.node, use.zone), 0)
        if zone is None or more <= 0:
            continue
        elsewhere = min(short, more, use.kernel)
        short -= elsewhere
        budget = _budget(facts, use, more - elsewhere)
        for run in facts.pages:
            if run.span.overlaps(Span(zone.start_pfn, zone.end_pfn)):
                _by_run(k, zone, run, budget)
        for kind in USES:
            _lowest(k, zone, kind, budget, seen)
    online = frozenset(block.index for block in facts.memory.blocks if block.state == "online")
    return Placed(uses, frozenset(run.block for run in facts.pages), online, short)


def _zone(k: Kernel, use: ZoneUse) -> Zone | None:
    return k.nodes[use.node].zones.get(_type(use.zone)) if use.node in k.nodes else None


def _type(name: str) -> ZoneType:
    return next(kind for kind in ZoneType if kind.title == name)


def _budget(facts: Facts, use: ZoneUse, excess: int) -> dict[str, int]:
    """Pages of each kind to use: as counted, the kernel's less what the model allocated itself."""
    budget: dict[str, int] = {}
    left = max(excess, 0)
    for kind in ("hugetlb", "hugetlb_free", "movable", "reclaimable"):
        budget[kind] = min(getattr(use, kind), left)
        left -= budget[kind]
    moves = use.zone == "Movable" or not (facts.pages or _has_unmovable(facts, use))
    budget["kernel"] = 0 if moves else left
    budget["movable"] += left if moves else 0
    return budget


def _has_unmovable(facts: Facts, use: ZoneUse) -> bool:
    """Whether a zone has pageblocks for allocations that do not move; so it is taken where nothing tells."""
    for node in facts.pagetypeinfo:
        for blocks in node.blocks if node.node == use.node else ():
            if blocks.zone == use.zone:
                named = dict(zip(node.migratetypes, blocks.count, strict=False))
                return bool(named.get("Unmovable", 0) + named.get("Reclaimable", 0))
    return True


def _by_run(k: Kernel, zone: Zone, run: PageRun, budget: dict[str, int]) -> None:
    """Use as many pages between those of a run, as far as the budget goes and the model has them free."""
    count = run.pages
    for kind in SHOWN_AS.get(run.kind, ()):
        count -= _take(k, zone, kind, run.span, min(count, budget[kind]), budget)


def _lowest(k: Kernel, zone: Zone, kind: str, budget: dict[str, int], seen: SpanSet) -> None:
    """Use what is left of a kind's budget, from the lowest free page of the zone on, first outside what was seen."""
    whole = Span(zone.start_pfn, zone.end_pfn)
    for part in (*seen.gaps(*whole), whole):
        _take(k, zone, kind, part, budget[kind], budget)


def _take(k: Kernel, zone: Zone, kind: str, within: Span, count: int, budget: dict[str, int]) -> int:
    """Use up to `count` free pages of a range: how many."""
    use, tag = USES[kind]
    unit = 1 << (huge_page_order(k.config, use) or 0)
    wanted = count // unit * unit
    taken = 0
    for span in list(_free(zone, within, unit)) if wanted else ():
        part = Span(span.start, span.start + min(span.size, wanted - taken))
        if take_pages_off_buddy(k, part, Owner(use, tag), PLACE):
            if use in HUGE_USES:
                add_huge_pages(k, [part], Owner(use, tag))
            taken += part.size
        if taken >= wanted:
            break
    budget[kind] -= taken
    return taken


def _free(zone: Zone, within: Span, unit: int) -> Iterator[Span]:
    """The free pages of a range in whole, aligned units."""
    for span in zone.free.runs(*within):
        start, end = align_up(span.start, unit), align_down(span.end, unit)
        if start < end:
            yield Span(start, end)
