"""Pages in a balloon: logically offline, and not the buddy's while it is inflated: ``mm/balloon_compaction.c``.

Virtio's balloon has pages that migrate. Others, such as Hyper-V's (drivers/hv/hv_balloon.c), keep theirs in place.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable

from memhp.hw.memory import Use
from memhp.linux.mm.page_alloc import adjust_managed_page_count, free_pages
from memhp.linux.mmzone import PageFlags
from memhp.linux.place import here
from memhp.linux.state import Kernel
from memhp.spans import Span

KERNEL_FILE = "mm/balloon_compaction.c"
BALLOON_USES = frozenset({Use.BALLOON, Use.BALLOON_FIXED})


def balloon_page_enqueue(k: Kernel, spans: Iterable[Span]) -> None:
    """Pages that were allocated (PFNs) go into a balloon: marked offline, and managed no more."""
    for span in spans:
        k.page_flags.set_flags(*span, PageFlags.OFFLINE)
        _manage(k, span, -1)


def balloon_page_dequeue(k: Kernel, spans: Iterable[Span]) -> None:
    """Pages come out of a balloon and are free; those that a memory error took stay out of use."""
    for span in spans:
        _manage(k, span, 1)
        k.page_flags.clear_flags(*span, PageFlags.OFFLINE)
        free_pages(k, [span], here())


def _manage(k: Kernel, span: Span, sign: int) -> None:
    for start, end, _ in list(k.page_zone.runs(*span)):
        adjust_managed_page_count(k, start, sign * (end - start))
