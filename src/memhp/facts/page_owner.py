"""Who allocated pages: ``/sys/kernel/debug/page_owner`` of kernels that keep it (``page_owner=on``; mm/page_owner.c).

The kernel has a record for each allocation, and gives one a read; where a reader stands in the file is a PFN, so that
those of a memory block are found at once (``lseek_page_owner()``).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from memhp.facts.source import Source
from memhp.spans import Span

PAGE_OWNER = "/sys/kernel/debug/page_owner"
RECORD = 1 << 16
"""Bytes asked for at a time: the kernel gives one record, of a page at most."""
UNMOVABLE = frozenset({"Unmovable", "Reclaimable"})
"""Migratetypes of allocations that do not move (``migratetype_names[]``)."""

_HEAD = re.compile(
    r"Page allocated via order (\d+), .*? pid (\d+),(?: tgid \d+ \((.*?)\),)?.*\n"
    r"PFN (?:0x)?([0-9a-f]+) type (\w+) Block"
)
_FRAME = re.compile(r"^ ([\w.]+)\+0x", re.M)
_ALLOCATOR = re.compile(
    r"(__)?(set_page_owner|post_alloc_hook|prep_new_page|get_page_from_freelist|alloc_frozen_pages\w*|(__)?alloc_pages\w*|"
    r"alloc_pages\w*|folio_alloc\w*|vma_alloc_folio\w*|get_free_pages\w*|get_zeroed_page\w*|_*alloc_slab_page|new_slab|"
    r"allocate_slab|_*slab_alloc\w*|_*kmem_cache_alloc\w*|_*kmalloc\w*|_*do_kmalloc\w*|krealloc\w*|kvmalloc\w*|"
    r"kmem_cache_charge|refill_\w+|kmalloc_\w+)(\.\w+)*"
)
"""Functions that allocate for whoever called them."""


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Whose pages some are: the process that ran then, the function that wanted them."""

    process: str
    function: str
    pages: int


class _Record(msgspec.Struct, frozen=True):
    pfn: int
    kind: str
    holder: Holder


def unmovable(source: Source, pfns: Span) -> list[Holder] | None:
    """Who holds pages of a range that do not move, those with most first; None where the machine does not tell."""
    records = list(_live(pfns)) if source.kind == "live" else _told(source, pfns)
    if not records:
        return None
    counts: Counter[tuple[str, str]] = Counter()
    for record in records:
        if record.kind in UNMOVABLE:
            counts[record.holder.process, record.holder.function] += record.holder.pages
    return [Holder(process=who, function=what, pages=pages) for (who, what), pages in counts.most_common()]


def parse(text: str) -> Iterator[_Record]:
    """The records in a text, as far as they are whole; 6.1 has PFNs in decimal, later kernels in hexadecimal."""
    heads = list(_HEAD.finditer(text))
    for at, head in enumerate(heads):
        stack = text[head.end() : heads[at + 1].start() if at + 1 < len(heads) else len(text)]
        order, pid, name, pfn, kind = head.groups()
        base = 16 if head[0].splitlines()[1].startswith("PFN 0x") else 10
        holder = Holder(process=name or f"pid {pid}", function=_wanted(stack), pages=1 << min(int(order), 20))
        yield _Record(int(pfn, base), kind, holder)


def _wanted(stack: str) -> str:
    """The innermost function that is not the allocator's."""
    frames = _FRAME.findall(stack)
    return next((frame for frame in frames if not _ALLOCATOR.fullmatch(frame)), frames[-1] if frames else "?")


def _told(source: Source, pfns: Span) -> list[_Record]:
    return [record for record in parse(source.get(PAGE_OWNER) or "") if pfns.start <= record.pfn < pfns.end]


def _live(pfns: Span, path: Path = Path(PAGE_OWNER)) -> Iterator[_Record]:
    """The records of a running kernel; none where it keeps none, and for all but root."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.lseek(fd, max(pfns.start, 1), os.SEEK_SET)
        yield from _until(pfns.end, iter(lambda: os.read(fd, RECORD), b""))
    except OSError:
        return
    finally:
        os.close(fd)


def _until(end: int, parts: Iterable[bytes]) -> Iterator[_Record]:
    for part in parts:
        for record in parse(part.decode("utf-8", "replace")):
            if record.pfn >= end:
                return
            yield record
