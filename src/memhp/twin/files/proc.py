"""Files of ``/proc`` that tell of memory: ``kernel/resource.c``, ``mm/vmstat.c``, ``fs/proc/meminfo.c``, ``page.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from errno import EINVAL

import numpy as np
import numpy.typing as npt

from memhp.errors import KernelError
from memhp.facts import buddyinfo, counters, iomem, pagetypeinfo, zoneinfo
from memhp.facts.derive import buddyinfo_of, meminfo_of, pagetypeinfo_of, resources_of, vmstat_of, zones_of
from memhp.facts.kpageflags import ENTRY, KEPT
from memhp.hw.memory import Use
from memhp.linux.fs.proc.page import flags_of_no_page
from memhp.linux.mm.sparse import pfn_to_online_page
from memhp.linux.mmzone import PageFlags
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.twin.tree import Attribute, Entry, Window

COMPOUND = ("HUGE", "COMPOUND_HEAD")
SHOWN: dict[Use, tuple[str, ...]] = {
    Use.FREE: ("BUDDY",),
    Use.BOOT: (),
    Use.MEMMAP: (),
    Use.TABLE: ("PGTABLE",),
    Use.KERNEL: (),
    Use.SLAB: ("SLAB",),
    Use.RECLAIMABLE: ("SLAB",),
    Use.MOVABLE: ("LRU", "MMAP", "ANON", "SWAPBACKED"),
    Use.PINNED: ("LRU", "MMAP", "ANON", "SWAPBACKED"),
    Use.SECRETMEM: ("LRU", "MMAP", "UNEVICTABLE"),
    Use.GUEST_MEMFD: ("LRU", "UNEVICTABLE"),
    Use.HUGETLB: ("MMAP", *COMPOUND),
    Use.HUGETLB_FREE: COMPOUND,
    Use.GIGANTIC: ("MMAP", *COMPOUND),
    Use.GIGANTIC_FREE: COMPOUND,
    Use.FROZEN: ("COMPOUND_HEAD",),
    Use.BALLOON: ("OFFLINE",),
    Use.BALLOON_FIXED: ("OFFLINE",),
    Use.OFFLINE: ("OFFLINE",),
    Use.HWPOISON: ("HWPOISON",),
}
"""The flags by which ``/proc/kpageflags`` shows what a page is used for (``fs/proc/page.c:stable_page_flags``)."""

MARKED = {
    PageFlags.RESERVED: "RESERVED",
    PageFlags.HWPOISON: "HWPOISON",
    PageFlags.VMEMMAP_SELF_HOSTED: "OWNER_PRIVATE",
}
"""The flags of pages that are shown besides. Struct pages are reserved at boot, and up to 6.10 those that lie in the
memory that they describe; those that the buddy gave room for never."""

MAPPED = frozenset({Use.MOVABLE, Use.PINNED, Use.SECRETMEM, Use.HUGETLB, Use.GIGANTIC})
"""Uses that processes have mapped, each page once."""

Words = npt.NDArray[np.uint64]


def proc_files(k: Kernel, cmdline: str) -> dict[str, Entry]:
    """The files by their path."""
    return {
        "/proc/iomem": _text(0o444, lambda: iomem.render(resources_of(k.iomem_resource))),
        "/proc/zoneinfo": _text(0o444, lambda: zoneinfo.render(tuple(zones_of(k)))),
        "/proc/meminfo": _text(0o444, lambda: counters.render_meminfo(meminfo_of(k))),
        "/proc/vmstat": _text(0o444, lambda: counters.render_vmstat(vmstat_of(k))),
        "/proc/buddyinfo": _text(0o444, lambda: buddyinfo.render(buddyinfo_of(k))),
        "/proc/pagetypeinfo": _text(0o400, lambda: pagetypeinfo.render(tuple(pagetypeinfo_of(k)))),
        "/proc/cmdline": _text(0o444, lambda: f"{cmdline}\n"),
        "/proc/kpageflags": Window(0o400, lambda at, size: _window(k, at, size, flags)),
        "/proc/kpagecount": Window(0o400, lambda at, size: _window(k, at, size, counts)),
    }


def _text(mode: int, show: Callable[[], str]) -> Attribute:
    return Attribute(mode, show, size=0)


def _window(k: Kernel, at: int, size: int, words: Callable[[Kernel, Span], Words]) -> bytes:
    """Bytes of a file with a word a page, up to the last memory block. Raises EINVAL for anything but whole words."""
    if at % ENTRY or size % ENTRY:
        raise KernelError(EINVAL, f"{size} bytes at {at} are no whole words", place="fs/proc/page.c:kpage_read")
    last = max((end for _, end, _ in k.memory_blocks), default=0) * k.pages_per_block
    pfns = Span(at // ENTRY, min((at + size) // ENTRY, last))
    if pfns.start >= pfns.end:
        return b""
    return words(k, pfns).tobytes()


def flags(k: Kernel, pfns: Span) -> Words:
    """``kpageflags`` of some pages; NOPAGE or nothing where none is online."""
    found = np.full(pfns.size, flags_of_no_page(k), dtype=np.uint64)
    there = np.zeros(pfns.size, dtype=np.bool_)
    for start, end, owner in k.hw.memory.owners.runs(*pfns):
        if owner.use in SHOWN:
            value = sum(1 << KEPT[name] for name in SHOWN[owner.use])
            found[start - pfns.start : end - pfns.start] = value
            there[start - pfns.start : end - pfns.start] = True
    for start, end, each in k.page_flags.runs(*pfns):
        marks = sum(1 << KEPT[name] for flag, name in MARKED.items() if flag in each)
        part = slice(start - pfns.start, end - pfns.start)
        found[part] |= np.uint64(marks) * there[part]
        if PageFlags.OFFLINE in each and pfn_to_online_page(k, start):
            found[part][~there[part]] = 1 << KEPT["OFFLINE"]
    return found


def counts(k: Kernel, pfns: Span) -> Words:
    """``kpagecount``: how often each page is mapped."""
    found = np.zeros(pfns.size, dtype=np.uint64)
    for start, end, owner in k.hw.memory.owners.runs(*pfns):
        if owner.use in MAPPED:
            found[start - pfns.start : end - pfns.start] = 1
    return found
