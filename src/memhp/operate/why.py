"""Why memory blocks will not go offline: the checks of ``offline_pages()`` in their order, held against what is seen.

What the kernel asks of pages is read from ``/proc/kpageflags``; what it asks of architectures and drivers is asked of
the model, where the machine is one that is modelled. What neither shows is said to be open, never guessed.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from memhp.errors import BadInput, KernelBug, KernelError
from memhp.facts import iomem, memory_blocks, page_owner
from memhp.facts.dmesg import Dmesg
from memhp.facts.kpageflags import PageRun
from memhp.facts.memory_blocks import MemoryBlock
from memhp.facts.observed import Facts
from memhp.facts.page_owner import Holder
from memhp.facts.page_users import PageUser
from memhp.facts.source import Source
from memhp.facts.table_source import TableSource
from memhp.facts.usage import free_pages, usage
from memhp.operate.block_selection import blocks_about
from memhp.operate.kernel_memory import KernelMemory, pins_unseen, use_of
from memhp.operate.rehearsal import session_of
from memhp.operate.remedies import NEED, remedies
from memhp.scenario import schema
from memhp.spans import Span, SpanSet
from memhp.target.model.run import outcome_of
from memhp.target.model.session import Session
from memhp.target.seen.inferred import read_facts
from memhp.units import div_round_up, format_count, format_size

Verdict = Literal["goes", "refused", "unclear", "offline"]
HOLES = "memory holes"
SEVERAL_ZONES = "several zones"
ISOLATION = "failure to isolate range"
HUGE = "failure to dissolve huge pages"
BACKOFF = "signal backoff"
ORDER = (SEVERAL_ZONES, HOLES, "multizone range", ISOLATION, "node notifier failure", "notifier failure",
         BACKOFF, "unmovable page", HUGE)  # fmt: skip
"""The checks in the order of ``memory_block_offline()`` and ``offline_pages()``."""
OFFLINE_PAGES = "mm/memory_hotplug.c:offline_pages"
VIRTIO_MEM = "System RAM (virtio_mem)"
DUMPED = "page dumped because: "
"""How ``mm/debug.c:dump_page`` says why."""

UNMOVABLE = {"kernel": "kernel memory", "slab": "slab", "table": "page tables", "reserved": "reserved pages"}
"""Kinds of pages that stand in the way of isolation outside ZONE_MOVABLE (``has_unmovable_pages()``)."""
OF_PAGES = frozenset({ISOLATION, HUGE, "unmovable page", BACKOFF})
"""Reasons that are about pages: the model knows them no better than the machine shows them."""


class Obstacle(msgspec.Struct, frozen=True, kw_only=True):
    """A check that fails: the kernel's words for it, its errno, and what is seen that makes it fail."""

    reason: str
    errno: str
    place: str
    detail: str
    certain: bool
    """Whether what is seen decides it; else it may be so."""


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal as the kernel logged it. `start` and `size` are bytes, `seconds` since boot."""

    seconds: float | None
    start: int
    size: int
    reason: str
    page: str
    """Why it dumped a page, where it did."""


class BlockWhy(msgspec.Struct, frozen=True, kw_only=True):
    """One block: what would come of taking it offline now. `start` and `size` are bytes."""

    block: int
    start: int
    size: int
    state: str
    zones: list[str] | None
    verdict: Verdict
    obstacles: list[Obstacle]
    use: dict[str, int]
    """Bytes of pages of each kind; empty where nothing shows them."""
    held_by: list[Holder] = []
    """Who allocated pages that do not move, where they stand in the way and the kernel keeps records of owners."""
    users: list[PageUser] = []
    """Whose pages are that do not move or that DMA holds, where drgn can look into the kernel's memory."""
    struct_pages_of: list[int] = []
    """The other blocks whose struct pages lie in this one, where the kernel's memory shows that."""


class WhyDocument(msgspec.Struct, frozen=True, kw_only=True):
    """``memhp why --json``."""

    schema: Literal[1] = 1
    verdict: Verdict
    """That of the whole: ``refused`` if any block is, else ``unclear`` if any is."""
    source: str
    about: str
    blocks: list[BlockWhy]
    logged: list[Logged]
    remedies: list[str]
    """What to do, the cheapest first."""
    unseen: list[str]
    """What could not be seen, and what would show it."""


class Seen(NamedTuple):
    """A machine with what was worked out of it once."""

    facts: Facts
    ram: SpanSet
    virtio_mem: SpanSet
    """What drivers of virtio-mem devices added: they let go of pages of theirs when a block is to go offline."""
    pages: dict[int, list[PageRun]]
    page_size: int


def why(source: Source, about: str, memory: TableSource | None = None, debug_info: Path | None = None) -> WhyDocument:
    """What would come of taking the blocks of `about` (a block, a range or a device) offline.

    `memory` is a dump of the machine, or its RAM; `debug_info` its kernel's vmlinux, where drgn does not find it by
    itself. Raises :class:`BadInput` for what names no memory of this machine, and for a `memory` without struct pages.
    """
    wanted = blocks_about(source, memory_blocks.read(source), about)
    facts = read_facts(source, only={block.index for block in wanted})
    wanted = [facts.memory.by_index[block.index] for block in wanted if block.index in facts.memory.by_index]
    seen = seen_of(facts)
    model, kernel = _Rehearsed(facts), KernelMemory(source, memory, debug_info)
    blocks = [_with_holders(source, seen, _block(source, seen, block, model, kernel), kernel) for block in wanted]
    verdicts = {each.verdict for each in blocks}
    order: tuple[Verdict, ...] = ("refused", "unclear", "goes", "offline")
    span = Span(facts.memory.span(wanted[0]).start, facts.memory.span(wanted[-1]).end)
    refusals = logged(facts.log, span)
    reasons = list(
        dict.fromkeys([*(each.reason for each in refusals), *(o.reason for b in blocks for o in b.obstacles)])
    )
    others = [block.index for block in facts.memory.blocks if block.zone == "Movable" and block not in wanted]
    return WhyDocument(
        verdict=next(each for each in order if each in verdicts),
        source=source.name,
        about=about,
        blocks=blocks,
        logged=refusals,
        remedies=remedies(
            reasons,
            others,
            struct_pages=any(each.struct_pages_of and each.verdict in ("refused", "unclear") for each in blocks),
        ),
        unseen=list(_unseen(seen, model, refusals, blocks, kernel)),
    )


def in_order(obstacles: list[Obstacle]) -> list[Obstacle]:
    """Obstacles in the order of the kernel's checks, up to the first that is certain: it gets no further than that."""
    found = sorted(obstacles, key=lambda each: ORDER.index(each.reason) if each.reason in ORDER else len(ORDER))
    end = next((at for at, each in enumerate(found) if each.certain), len(found))
    return found[: end + 1]


def seen_of(facts: Facts) -> Seen:
    """What the checks of one block after the other ask for."""
    pages: dict[int, list[PageRun]] = {}
    for run in facts.pages:
        pages.setdefault(run.block, []).append(run)
    ram = list(iomem.system_ram(facts.iomem))
    of_virtio_mem = SpanSet(res.span for res in ram if res.name == VIRTIO_MEM)
    return Seen(facts, SpanSet(res.span for res in ram), of_virtio_mem, pages, facts.page_size or 4096)


def told(seen: Seen, block: MemoryBlock) -> list[Obstacle]:
    """The checks that fail as far as files show it, in the kernel's order."""
    return list(_obstacles(seen, block, seen.facts.memory.span(block), seen.pages.get(block.index, [])))


def _block(source: Source, seen: Seen, block: MemoryBlock, model: "_Rehearsed", kernel: KernelMemory) -> BlockWhy:
    span = seen.facts.memory.span(block)
    pfns = Span(span.start // seen.page_size, span.end // seen.page_size)
    runs = seen.pages.get(block.index, [])
    obstacles: list[Obstacle] = []
    verdict: Verdict = "offline"
    if block.state != "offline":
        obstacles = list(_obstacles(seen, block, span, runs))
        if not any(each.certain for each in obstacles):
            more = [*obstacles, *model.obstacles(block, pages=not runs), *_held(kernel.held(pfns))]
            if not runs and block.zone != "Movable" and not any(each.certain for each in more):
                more += by_counters(seen, block)
            obstacles = in_order(more)
        certain = any(each.certain for each in obstacles)
        verdict = "refused" if certain else "unclear" if obstacles else "goes"
    return BlockWhy(
        block=block.index, start=span.start, size=span.size, state=block.state,
        zones=None if block.valid_zones is None else list(block.valid_zones), verdict=verdict, obstacles=obstacles,
        use=use_of(source, kernel, runs, pfns, seen.page_size),
        struct_pages_of=list(_described(seen, kernel, pfns)),
    )  # fmt: skip


def _described(seen: Seen, kernel: KernelMemory, pfns: Span) -> Iterator[int]:
    """The other blocks whose struct pages lie in a block."""
    per = seen.facts.memory.block_size // seen.page_size
    found = SpanSet()
    for storage in kernel.storage(pfns):
        found.add(storage.pages.start // per, -(-storage.pages.end // per))
    for span in found:
        yield from (block for block in range(*span) if block != pfns.start // per)


def _with_holders(source: Source, seen: Seen, why: BlockWhy, kernel: KernelMemory) -> BlockWhy:
    """The same with who holds pages, if they may be why."""
    if not any(each.reason in (ISOLATION, BACKOFF) for each in why.obstacles):
        return why
    pfns = Span(why.start // seen.page_size, (why.start + why.size) // seen.page_size)
    held_by = page_owner.unmovable(source, pfns) or []
    return msgspec.structs.replace(why, held_by=held_by, users=kernel.users(pfns))


def _obstacles(seen: Seen, block: MemoryBlock, span: Span, runs: list[PageRun]) -> Iterator[Obstacle]:
    """The checks in the kernel's order, as far as files decide them; the first certain one is what it would say."""
    if block.valid_zones == ("none",):
        yield Obstacle(
            reason=SEVERAL_ZONES, errno="EINVAL", place="drivers/base/memory.c:memory_block_offline",
            detail="the block spans several zones, and belongs to none", certain=True,
        )  # fmt: skip
        return
    missing = span.size - seen.ram.covered(*span)
    if missing and seen.ram:
        yield Obstacle(
            reason=HOLES, errno="EINVAL", place=OFFLINE_PAGES, certain=not seen.facts.hidden,
            detail=f"{format_size(missing)} of the block are no System RAM",
        )  # fmt: skip
        return
    yield from _isolation(seen, block, runs)
    kept = sum(run.pages for run in runs if run.kind == "offline")
    if kept and not seen.virtio_mem.covers(*span):
        yield Obstacle(
            reason="unmovable page", errno="EBUSY", place=OFFLINE_PAGES, certain=False,
            detail=f"{format_size(kept * seen.page_size)} belong to a balloon, which alone can let them go",
        )  # fmt: skip
    yield from _huge(seen, runs)


def _isolation(seen: Seen, block: MemoryBlock, runs: list[PageRun]) -> Iterator[Obstacle]:
    """Pages that ``has_unmovable_pages()`` stops at: in ZONE_MOVABLE only reserved ones."""
    kinds = UNMOVABLE if block.zone != "Movable" else {"reserved": UNMOVABLE["reserved"]}
    found = [run for run in runs if run.kind in kinds]
    if not found:
        return
    plain = sum(run.pages for run in found if not run.flags)
    marked = sum(run.pages for run in found if run.flags)
    lists = sum(free_pages(zone) - zone.free for zone in seen.facts.zones if zone.name == block.zone)
    sizes: dict[str, int] = {}
    for run in found:
        sizes[kinds[run.kind]] = sizes.get(kinds[run.kind], 0) + run.pages * seen.page_size
    lowest = min(run.span.start for run in found)
    told = ", ".join(
        f"{format_size(size)} of {name}" for name, size in sorted(sizes.items(), key=lambda each: -each[1])
    )
    certain = bool(marked) or plain > lists
    caveat = "" if certain else "; or they are free, in lists of CPUs, which the kernel empties first"
    yield Obstacle(
        reason=ISOLATION, errno="EBUSY", place="mm/page_isolation.c:set_migratetype_isolate", certain=certain,
        detail=f"{told}, from PFN {lowest:#x} on{caveat}",
    )  # fmt: skip


def by_counters(seen: Seen, block: MemoryBlock) -> Iterator[Obstacle]:
    """What counters of a zone tell of one of its blocks, where nothing shows pages: how many that may not move are in
    some block of the zone.
    """

    def here(node: int, name: str) -> bool:
        return name == block.zone and (not block.nodes or node in block.nodes)

    zones = [zone for zone in seen.facts.zones if here(zone.node, zone.name)]
    kernel = sum(use.kernel + use.reclaimable for use in usage(seen.facts) if here(use.node, use.zone))
    reserved = sum(zone.present - zone.managed for zone in zones)
    if zones and not kernel and not reserved:
        return
    size, page = seen.facts.memory.block_size, seen.page_size
    alike = sum(each.zone == block.zone and each.nodes == block.nodes for each in seen.facts.memory.blocks)
    least = format_count(max(1, min(div_round_up(kernel * page, size), alike)), "block")
    told = (
        f"zone {block.zone} has {format_size(kernel * page)} of kernel memory and {format_size(reserved * page)} that "
        f"were reserved at boot or a balloon took, in {least} of its {alike} at least"
        if zones
        else "a kernel zone may hold pages that do not move"
    )
    yield Obstacle(
        reason=ISOLATION, errno="EBUSY", place="mm/page_isolation.c:set_migratetype_isolate", certain=False,
        detail=f"{told}; whether in this one root sees in /proc/kpageflags",
    )  # fmt: skip


def _held(pages: list[Span]) -> Iterator[Obstacle]:
    """Pages that DMA holds are found movable and do not move: the kernel tries again until it is interrupted."""
    count = sum(span.size for span in pages)
    if count:
        yield Obstacle(
            reason=BACKOFF, errno="EINTR", place=OFFLINE_PAGES, certain=False,
            detail=f"{format_count(count, 'page')} held by DMA, from PFN {pages[0].start:#x} on: writing the state "
            "does not end while they are",
        )  # fmt: skip


def _huge(seen: Seen, runs: list[PageRun]) -> Iterator[Obstacle]:
    """Huge pages go to free ones elsewhere, or are dissolved if none of those that are free is promised."""
    pages = sum(run.pages for run in runs if run.kind == "huge")
    counts = seen.facts.meminfo
    if not pages:
        return
    spare = counts.get("HugePages_Free", 0) - counts.get("HugePages_Rsvd", 0)
    needed = pages * seen.page_size // max(counts.get("Hugepagesize", 2048) << 10, 1)
    if needed > spare:
        yield Obstacle(
            reason=HUGE, errno="EBUSY", place=OFFLINE_PAGES, certain=False,
            detail=f"{format_count(needed, 'huge page')} in the block, {spare} of the pool free and not promised",
        )  # fmt: skip


class _Rehearsed:
    """The same machine in the model, booted when first asked; `missing` says why there is none."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._session: Session | None = None
        self.missing = ""

    def _online(self, block: MemoryBlock) -> bool:
        """Whether the model has the block online, as the machine has."""
        found = None if self._session is None else self._session.k.memory_blocks.get(block.index)
        return found is not None and found.state == "online"

    def obstacles(self, block: MemoryBlock, *, pages: bool) -> Iterator[Obstacle]:
        """What the model's kernel refuses the block for; reasons about pages only if `pages`, as a possibility.

        That some do not move counters tell better (:func:`by_counters`): the model has the lowest in use.
        """
        if self._session is None and not self.missing:
            try:
                self._session = session_of(self._facts, where=self._facts.source)
            except (BadInput, KernelError, KernelBug) as error:
                self.missing = str(error)
        if self._session is None or not self._online(block):
            return
        outcome = outcome_of(self._session, schema.Offline(blocks=[block.index]), "why")
        reason = outcome.reason
        if outcome.result == "ok":
            zone: schema.Zone = "movable" if block.zone == "Movable" else "kernel"
            if outcome_of(self._session, schema.Online(zone=zone, blocks=[block.index]), "why").result != "ok":
                self._session = None
        certain = reason not in OF_PAGES
        if outcome.result == "ok" or not (certain or (pages and reason != ISOLATION)):
            return
        supposed = "rehearsed on a model of this machine"
        detail = supposed if certain else f"{supposed}, with the lowest pages of each zone in use"
        yield Obstacle(reason=reason, errno=outcome.result, place=outcome.place, detail=detail, certain=certain)


def logged(log: Dmesg | None, span: Span) -> list[Logged]:
    """The refusals of ranges that overlap `span`, the last first, with why a page was dumped just before each."""
    found: list[Logged] = []
    failures = iter(log.offline_failures if log is not None else ())
    page = ""
    for line in log.lines if log is not None else ():
        if line.text.startswith(DUMPED):
            page = line.text.removeprefix(DUMPED)
        elif line.text.startswith("memory offlining [mem ") and (failure := next(failures, None)) is not None:
            if failure.span.overlaps(span):
                start, size = failure.span.start, failure.span.size
                found.append(Logged(seconds=failure.time, start=start, size=size, reason=failure.reason, page=page))
            page = ""
    return found[::-1]


def _unseen(
    seen: Seen, model: _Rehearsed, refusals: list[Logged], blocks: list[BlockWhy], kernel: KernelMemory
) -> Iterator[str]:
    if not seen.pages:
        yield NEED["pages"]
    held = any(o.reason == ISOLATION for each in blocks for o in each.obstacles)
    if held and not kernel.asked and not any(b.held_by for b in blocks):
        yield NEED["owners"] + (f": {kernel.users_missing}" if kernel.users_missing else "")
    elif kernel.users_missing:
        yield f"who holds more: {kernel.users_missing}"
    if seen.facts.hidden:
        yield NEED["iomem"]
    if missing := pins_unseen(kernel, seen.facts.vmstat):
        yield missing
    if not refusals:
        yield NEED["log" if seen.facts.log is None else "debug"]
    if model.missing:
        yield f"what the architecture and drivers say: {model.missing}"
