"""Pages that CPUs keep for themselves before the buddy gets them: the per-CPU lists of mm/page_alloc.c.

A page that is freed goes to a list of the CPU that frees it, and to the buddy together with others. Offlining waits for
it to get there; so it empties the lists, or sees to it that nothing stays in them while it is at work.

Here pages go through the lists where they are freed by :func:`free_unref_page` and the zone has some
(:func:`setup_zone_pageset`): those of actors that are about them. All other code frees to the buddy at once, as with
lists that are disabled, and nothing is allocated from a list.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from memhp.hw.memory import Owner, Use
from memhp.linux.mm.page_alloc import FREE, free_pages, sound_parts
from memhp.linux.mm.rmqueue import put_free
from memhp.linux.mmzone import PerCpuPages, Zone
from memhp.linux.place import here, kernel_function
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import MiB

KERNEL_FILE = "mm/page_alloc.c"
PCP_BATCH_HIGH_LOCK = "pcp_batch_high_lock"
"""What is held from :func:`zone_pcp_disable` to :func:`zone_pcp_enable`, of any zone."""
PCPU_DRAIN_MUTEX = "pcpu_drain_mutex"
IN_A_LIST = Owner(Use.FROZEN)
"""Nobody holds the page, and the buddy has not got it."""


def zone_batchsize(k: Kernel, zone: Zone) -> int:
    """How many pages go from a list to the buddy at a time: ``zone_batchsize()``, at least 1."""
    batch = max(1, min(zone.managed >> 10, MiB // k.config.page_size) // 4)
    return max(1, (1 << (batch + batch // 2).bit_length() - 1) - 1)


def zone_highsize(zone: Zone, batch: int, cpus: int) -> int:
    """From how many pages on a list is too long, where `cpus` CPUs share the low watermark: ``zone_highsize()``."""
    return max(zone.watermark_low // cpus, batch << 2)


def setup_zone_pageset(k: Kernel, zone: Zone, cpus: Sequence[int]) -> None:
    """Give a zone lists for these CPUs: ``setup_zone_pageset()``, of a zone that gets its first pages."""
    zone.pageset_batch = zone_batchsize(k, zone)
    zone.pageset_high_min = zone_highsize(zone, zone.pageset_batch, len(cpus))
    zone.per_cpu_pageset = {
        cpu: PerCpuPages(zone.field(f"per_cpu_pageset[{cpu}]"), zone.pageset_high_min, zone.pageset_batch)
        for cpu in cpus
    }


def free_unref_page(k: Kernel, pfn: int, where: str) -> None:
    """A page that nobody holds (`IN_A_LIST`) goes to a list of this CPU; in an isolated pageblock, to the buddy.

    Whether the pageblock is isolated is looked at before, without a lock: mm/page_alloc.c:free_unref_page.
    """
    for zone, page in sound_parts(k, [Span(pfn, pfn + 1)], where):
        pcp = zone.per_cpu_pageset.get(k.hw.cpu)
        if pcp is None or zone.isolated.test(*page):
            free_pages(k, [page], where)
            continue
        with k.hw.locked(pcp.lock):
            free_unref_page_commit(k, zone, pcp, page.start)


def free_unref_page_commit(k: Kernel, zone: Zone, pcp: PerCpuPages, pfn: int) -> None:
    """Put a page on a list, and what is too much into the buddy; the caller holds the list's lock.

    mm/page_alloc.c:free_unref_page_commit.
    """
    pcp.pages.append(pfn)
    count = _count(k, pcp, 1)
    high = pcp.high_min
    if count >= high:
        free_pcppages_bulk(k, zone, pcp, min(count, pcp.batch) if high else count)


def free_pcppages_bulk(k: Kernel, zone: Zone, pcp: PerCpuPages, count: int) -> None:
    """The pages that were freed first, so many, go to the buddy, to the list that their pageblocks are for now.

    The caller holds the lock of the CPU's lists. mm/page_alloc.c:free_pcppages_bulk.
    """
    with k.hw.locked(zone.lock):
        for pfn in pcp.pages[:count]:
            k.hw.release(Span(pfn, pfn + 1), FREE, here())
            put_free(zone, Span(pfn, pfn + 1))
        del pcp.pages[:count]
        _count(k, pcp, -count)


@kernel_function(None)
def _count(k: Kernel, pcp: PerCpuPages, more: int) -> int:
    """So many pages more are on the lists: how many there are then; the caller holds their lock."""
    k.hw.writes(pcp.count_field)
    count = pcp.count + more
    pcp.count = count
    return count


def drain_all_pages(k: Kernel, zone: Zone, *, force_all_cpus: bool = False) -> None:
    """The lists of all CPUs that seem to have pages, or of all, are emptied into the buddy.

    mm/page_alloc.c:__drain_all_pages.
    """
    with k.hw.locked(PCPU_DRAIN_MUTEX):
        for pcp in [each for each in zone.per_cpu_pageset.values() if force_all_cpus or each.count]:
            with k.hw.locked(pcp.lock):
                if pcp.pages:
                    free_pcppages_bulk(k, zone, pcp, len(pcp.pages))


@kernel_function(f"{KERNEL_FILE}:__zone_set_pageset_high_and_batch")
def _set_high_and_batch(zone: Zone, high_min: int, batch: int) -> None:
    for pcp in zone.per_cpu_pageset.values():
        pcp.batch = batch
        pcp.high_min = high_min


def zone_pcp_disable(k: Kernel, zone: Zone) -> None:
    """Nothing stays in the lists of a zone from now on; `PCP_BATCH_HIGH_LOCK` is held until they are enabled again."""
    k.hw.lock(PCP_BATCH_HIGH_LOCK)
    _set_high_and_batch(zone, 0, 1)
    drain_all_pages(k, zone, force_all_cpus=True)


def zone_pcp_enable(k: Kernel, zone: Zone) -> None:
    """The lists of a zone are used again."""
    _set_high_and_batch(zone, zone.pageset_high_min, zone.pageset_batch)
    k.hw.unlock(PCP_BATCH_HIGH_LOCK)


@contextmanager
@kernel_function(None)
def pcp_disabled(k: Kernel, zone: Zone) -> Iterator[None]:
    """From :func:`zone_pcp_disable` to :func:`zone_pcp_enable`."""
    zone_pcp_disable(k, zone)
    try:
        yield
    finally:
        zone_pcp_enable(k, zone)
