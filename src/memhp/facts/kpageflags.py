"""``/proc/kpageflags`` summarised: for each memory block, how many pages carry which flags, and between which PFNs.

The kernel gives 8 bytes a page (``fs/proc/page.c``, Documentation/admin-guide/mm/pagemap.rst). Flags that change from
one moment to the next and do not decide what can be moved are left out, so that a block takes a few lines. Captures
hold these lines as ``kpageflags.tsv``; docs/captures.md tells their form.

Of a page that is not online 6.12 says NOPAGE, 7.2 nothing, as of a page of the kernel's own (``kpage_read``): so NOPAGE
is set here by what memory blocks and ``/proc/iomem`` tell. Within System RAM of online blocks every page has a
struct page, and outside of it one that is there is reserved (``mm/mm_init.c:init_unavailable_range``).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from memhp.facts import iomem
from memhp.facts.hidden_addresses import hides_addresses
from memhp.facts.lines import bad_line, lines
from memhp.facts.memory_blocks import MemoryBlock, MemoryBlocks
from memhp.facts.source import Source
from memhp.limits import PAGES_LOOKED_AT
from memhp.spans import Span, SpanSet
from memhp.units import div_round_up

KEPT = {
    "LRU": 5,
    "SLAB": 7,
    "BUDDY": 10,
    "MMAP": 11,
    "ANON": 12,
    "SWAPBACKED": 14,
    "COMPOUND_HEAD": 15,
    "COMPOUND_TAIL": 16,
    "HUGE": 17,
    "UNEVICTABLE": 18,
    "HWPOISON": 19,
    "NOPAGE": 20,
    "KSM": 21,
    "THP": 22,
    "OFFLINE": 23,
    "ZERO_PAGE": 24,
    "PGTABLE": 26,
    "RESERVED": 32,
    "MLOCKED": 33,
    "OWNER_PRIVATE": 37,
}
"""The flags that are kept, by name, with their bit (``include/linux/kernel-page-flags.h`` and its uapi part).

OWNER_PRIVATE marks, of pages at the start of a block that nobody else has, those that hold the block's own struct pages
(``PG_vmemmap_self_hosted``); elsewhere it is a file system's, changes all the time, and is left out.
"""

MASK = np.uint64(sum(1 << bit for bit in KEPT.values()))
ENTRY = 8
"""Bytes that the kernel gives for a page."""

Flags = npt.NDArray[np.uint64]

KPAGEFLAGS = "/proc/kpageflags"
SUMMARY = "/kpageflags.tsv"
"""Where the summary stands in a tree: at the top, as it is not Linux's."""

Kind = Literal[
    "hole", "poisoned", "free", "offline", "huge", "memmap", "reserved", "slab", "table", "movable", "kernel"
]
"""What a page is: without a struct page; poisoned; in the buddy; ``PageOffline`` (virtio-mem, balloons); of a pool of
huge pages; struct pages of the block that it is in; reserved at boot; slab; a page table; on LRU lists or mapped to
processes; the kernel's in another way."""

DECIDES: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    ("hole", ("NOPAGE",)),
    ("poisoned", ("HWPOISON",)),
    ("free", ("BUDDY",)),
    ("offline", ("OFFLINE",)),
    ("huge", ("HUGE",)),
    ("memmap", ("OWNER_PRIVATE",)),
    ("reserved", ("RESERVED",)),
    ("slab", ("SLAB",)),
    ("table", ("PGTABLE",)),
    ("movable", ("LRU", "MMAP", "ANON", "UNEVICTABLE", "THP")),
)
"""The kinds by the flags that decide them, the first that a page has any flag of."""


_HOSTED = np.uint64(1 << KEPT["OWNER_PRIVATE"])
_OTHERS = MASK & ~_HOSTED & ~np.uint64(1 << KEPT["RESERVED"])
"""What a page of self-hosted struct pages never has; up to 6.10 it is reserved."""


def _kept(flags: Flags) -> Flags:
    """The flags that are kept of some pages."""
    kept = flags & MASK
    return np.where(kept & _OTHERS, kept & ~_HOSTED, kept)


def of_kinds(flags: Flags, kinds: Collection[Kind]) -> npt.NDArray[np.bool_]:
    """Which pages are of one of some kinds."""
    flags = _kept(flags)
    deciding = [flags & np.uint64(sum(1 << KEPT[name] for name in names)) != 0 for _, names in DECIDES]
    return np.select(deciding, [kind in kinds for kind, _ in DECIDES], "kernel" in kinds).astype(np.bool_)


class PageRun(NamedTuple):
    """Pages of one memory block that carry the same flags: how many, and the PFNs that they lie between."""

    block: int
    flags: int
    pages: int
    span: Span

    @property
    def kind(self) -> Kind:
        """What they are."""
        for kind, names in DECIDES:
            if any(self.flags >> KEPT[name] & 1 for name in names):
                return kind
        return "kernel"


def by_kind(runs: Iterable[PageRun], page_size: int) -> dict[str, int]:
    """Bytes of each kind in runs of pages."""
    found = dict[str, int]()
    for run in runs:
        found[run.kind] = found.get(run.kind, 0) + run.pages * page_size
    return found


def counts_of(source: Source, pfns: Iterable[Span], page_size: int) -> dict[str, int] | None:
    """Bytes of each kind among some pages of a live machine; None for others, and where it cannot be read."""
    frames = [("memory0", span) for span in pfns]
    online = SpanSet(span for _, span in frames)
    text = of_file(Path(KPAGEFLAGS), frames, online) if source.kind == "live" else None
    if text is None:
        return None
    return by_kind(parse(text) if text else (), page_size)


def online_pages(source: Source, memory: MemoryBlocks, page_size: int) -> SpanSet:
    """The PFNs of online memory: of the System RAM in online blocks, or of all of these where none is shown."""
    shown = source.get("/proc/iomem") or ""
    resources = () if not shown or hides_addresses(shown) else iomem.parse(shown, where=source.where("/proc/iomem"))
    ram = SpanSet(each.span for each in iomem.system_ram(resources))
    online = (memory.span(block) for block in memory.blocks if block.state != "offline")
    parts = (part for span in online for part in (ram.runs(*span) if ram else (span,)))
    return SpanSet(Span(start // page_size, -(-end // page_size)) for start, end in parts)


def read(
    source: Source, memory: MemoryBlocks, page_size: int, only: Collection[int] | None = None
) -> tuple[PageRun, ...]:
    """What the pages of online memory blocks are; nothing where the machine does not tell, as to all but root.

    On a live machine only the blocks of `only` are looked at, if they are named, and of a large one some of them
    (:func:`looked_at`): 8 bytes a page take their time.

    Raises :class:`BadInput` for a line of a summary that is none.
    """
    text = source.get(SUMMARY)
    if text is None and source.kind == "live":
        online = [block for block in memory.blocks if block.state == "online" and (only is None or block.index in only)]
        spans = {block.name: memory.span(block) for block in looked_at(online, memory.block_size // page_size)}
        blocks = ((name, Span(start // page_size, end // page_size)) for name, (start, end) in spans.items())
        text = of_file(Path(KPAGEFLAGS), blocks, online_pages(source, memory, page_size))
    there = {block.index for block in memory.blocks if block.state != "offline"}
    runs = parse(text, where=source.where(SUMMARY)) if text else ()
    return tuple(run for run in runs if run.block in there)


def looked_at(blocks: Sequence[MemoryBlock], pages: int, most: int = PAGES_LOOKED_AT.most) -> Sequence[MemoryBlock]:
    """Those of some memory blocks of so many pages each that are looked at: as many as may be, evenly spread."""
    return blocks[:: div_round_up(len(blocks) * pages, most)] if blocks else blocks


def parse(text: str, *, where: str = "kpageflags.tsv") -> tuple[PageRun, ...]:
    """The lines of a summary. Raises :class:`BadInput` naming one that is none."""
    return tuple(_run(line, where, number) for number, line in lines(text, where))


def _run(line: str, where: str, number: int) -> PageRun:
    try:
        name, flags, pages, first, last = line.split("\t")
        run = PageRun(
            int(name.removeprefix("memory")), int(flags, 16), int(pages), Span(int(first, 16), int(last, 16) + 1)
        )
    except ValueError as error:
        raise bad_line(where, number, line, "block, flags, pages, first and last PFN") from error
    if not 0 < run.pages <= run.span.size:
        raise bad_line(where, number, line, "as many pages as lie between the two PFNs, or fewer")
    return run


def summary(block: str, first_pfn: int, flags: Flags, online: SpanSet) -> str:
    """The lines of one memory block, its pages' flags given in order: ``block flags pages first-PFN last-PFN``.

    `online` has the PFNs of :func:`online_pages`.
    """
    kept = _kept(flags)
    for start, end in online.gaps(first_pfn, first_pfn + len(flags)):
        part = kept[start - first_pfn : end - first_pfn]
        part[part == 0] = 1 << KEPT["NOPAGE"]
    hosted = kept & _HOSTED != 0
    kept[hosted.size if hosted.all() else int(np.argmin(hosted)) :] &= ~_HOSTED
    values, place, counts = np.unique(kept, return_inverse=True, return_counts=True)
    lines = []
    for index, (value, count) in enumerate(zip(values.tolist(), counts.tolist(), strict=True)):
        at = np.flatnonzero(place == index)
        first, last = first_pfn + int(at[0]), first_pfn + int(at[-1])
        lines.append(f"{block}\t{value:#x}\t{count}\t{first:#x}\t{last:#x}\n")
    return "".join(lines)


def of_file(path: Path, blocks: Iterable[tuple[str, Span]], online: SpanSet) -> str | None:
    """The summary of a machine's blocks (name, PFNs); None where the file cannot be read, as by all but root."""
    try:
        with path.open("rb", buffering=0) as file:
            return "".join(_read(file.fileno(), name, span, online) for name, span in blocks)
    except OSError:
        return None


def _read(fd: int, name: str, span: Span, online: SpanSet) -> str:
    data = b""
    while len(data) < span.size * ENTRY:
        part = os.pread(fd, span.size * ENTRY - len(data), span.start * ENTRY + len(data))
        if not part:
            break
        data += part
    return summary(name, span.start, np.frombuffer(data, dtype=np.uint64), online) if data else ""
