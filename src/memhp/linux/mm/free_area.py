"""The buddy's free lists, worked out from the free spans: how many blocks of each order they hold.

A buddy merges free neighbours until none is left to merge, so that what is free says how it is cut into blocks: see
``mm/page_alloc.c:__free_one_page``. Pages on per-CPU lists, which the kernel does not count as free either, are not
modelled.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterable

import numpy as np

from memhp.linux.mmzone import MigrateType, Zone
from memhp.linux.state import Kernel
from memhp.spans import Span, SpanSet


def nr_free_pages(zone: Zone) -> int:
    """Free pages outside isolated pageblocks: ``NR_FREE_PAGES``."""
    return zone.free.size


def blocks_by_order(spans: Iterable[Span], max_page_order: int) -> list[int]:
    """How many blocks of each order, 0 to `max_page_order`, free `spans` (PFNs) of one list are merged into.

    A span holds the aligned blocks of an order that lie in it, less two for each of the next order.
    """
    runs = np.array([tuple(span) for span in spans], dtype=np.int64).reshape(-1, 2)
    whole = [_aligned_blocks(runs, order) for order in range(max_page_order + 1)]
    below = [whole[order] - 2 * whole[order + 1] for order in range(max_page_order)]
    return [*below, whole[max_page_order]]


def _aligned_blocks(runs: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]", order: int) -> int:
    size = 1 << order
    return int(np.maximum((runs[:, 1] >> order) - ((runs[:, 0] + size - 1) >> order), 0).sum())


def free_by_order(k: Kernel, zone: Zone) -> list[int]:
    """Free blocks of each order, 0 to MAX_PAGE_ORDER, as a line of /proc/buddyinfo counts them.

    Those in isolated pageblocks count too, as they do there.
    """
    lists = [blocks_by_order(spans, k.config.max_page_order) for spans in _lists_that_merge(zone)]
    return [sum(counts) for counts in zip(*lists, strict=True)]


def largest_free_order(k: Kernel, zone: Zone) -> int:
    """The order of the largest free block; -1 when nothing is free."""
    counts = free_by_order(k, zone)
    return max((order for order, count in enumerate(counts) if count), default=-1)


def _lists_that_merge(zone: Zone) -> list[Iterable[Span]]:
    """Free spans by what may merge: ordinary types among themselves, but not with CMA or isolated pageblocks."""
    if not zone.cma_pages:
        return [zone.free, zone.isolated_free]
    cma = SpanSet(
        free for start, end, kind in zone.migratetypes if kind is MigrateType.CMA for free in zone.free.runs(start, end)
    )
    ordinary = zone.free.copy()
    for span in cma:
        ordinary.remove(*span)
    return [ordinary, cma, zone.isolated_free]
