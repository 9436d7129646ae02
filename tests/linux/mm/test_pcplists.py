"""Lists of pages that CPUs keep: how long they may be, when pages in them get to the buddy, and what offlining does."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from captures import archive, captures, facts, guests
from memhp.facts.open_source import steps
from memhp.linux.mm.page_alloc import take_pages_off_buddy
from memhp.linux.mm.page_isolation import start_isolate_page_range
from memhp.linux.mm.pcplists import (
    IN_A_LIST,
    PCP_BATCH_HIGH_LOCK,
    drain_all_pages,
    free_unref_page,
    pcp_disabled,
    setup_zone_pageset,
    zone_batchsize,
    zone_highsize,
)
from memhp.linux.mmzone import PerCpuPages, Zone, ZoneType
from memhp.linux.profiles import PROFILES
from memhp.linux.state import Kernel
from memhp.spans import Span
from memhp.units import GiB
from zoned import RISCV, accounts, booted, owners_agree

START = 2 * GiB >> 12
CPUS = (0, 1)


def machine() -> tuple[Kernel, Zone]:
    k = booted(replace(RISCV, profile=PROFILES["linux-6.12"]), [(2 * GiB, 4 * GiB, 0)])
    zone = k.nodes[0].zones[ZoneType.DMA32]
    setup_zone_pageset(k, zone, CPUS)
    return k, zone


def held(k: Kernel, count: int, start: int = START) -> list[int]:
    """Pages that nobody holds any more, and that are not freed yet."""
    assert take_pages_off_buddy(k, Span(start, start + count), IN_A_LIST, "test")
    return list(range(start, start + count))


def free(k: Kernel, pages: list[int], cpu: int = 0) -> None:
    k.hw.cpu = cpu
    for pfn in pages:
        free_unref_page(k, pfn, "test")
    k.hw.cpu = 0


def in_buddy(zone: Zone, pages: list[int]) -> list[int]:
    return [pfn for pfn in pages if pfn in zone.free or pfn in zone.isolated_free]


def asked(zone: Any, page_size: int) -> Any:
    """As much of a kernel as the sizes are worked out from."""
    return SimpleNamespace(config=SimpleNamespace(page_size=page_size)), SimpleNamespace(
        managed=zone.managed, watermark_low=zone.low
    )


@pytest.mark.parametrize("name", [*captures(), *guests()])
def test_lists_are_as_long_as_on_real_machines(name: str) -> None:
    """``batch:`` of /proc/zoneinfo before anything was unplugged; ``high:`` as long as kernels do not tune it (6.1),
    ``high_min:`` where they print it.
    """
    seen = facts(name, next(iter(steps(archive(name)))))
    assert seen.page_size is not None
    for zone in seen.zones:
        if not zone.populated or not zone.pagesets:
            continue
        k, like = asked(zone, seen.page_size)
        batch = zone_batchsize(k, like)
        assert {each.batch for each in zone.pagesets} == {batch}
        high = zone_highsize(like, batch, len(zone.pagesets))
        if zone.pagesets[0].high_min is not None:
            assert {each.high_min for each in zone.pagesets} == {high}
        elif str(seen.release).startswith("6.1."):
            assert {each.high for each in zone.pagesets} == {high}


def test_a_page_that_is_freed_is_in_no_free_list_until_the_lists_are_drained() -> None:
    k, zone = machine()
    pages = held(k, 3)
    free(k, pages[:2], cpu=1)
    free(k, pages[2:], cpu=0)
    assert not in_buddy(zone, pages)
    assert [each.count for each in zone.per_cpu_pageset.values()] == [1, 2]
    drain_all_pages(k, zone)
    assert in_buddy(zone, pages) == pages
    assert not any(each.count or each.pages for each in zone.per_cpu_pageset.values())
    assert owners_agree(k)
    assert all(a == b for a, b in accounts(k).values())


def test_from_high_on_a_batch_goes_to_the_buddy_what_was_freed_first() -> None:
    k, zone = machine()
    pages = held(k, zone.pageset_high_min)
    free(k, pages[:-1])
    assert not in_buddy(zone, pages)
    free(k, pages[-1:])
    assert in_buddy(zone, pages) == pages[: zone.pageset_batch]
    assert zone.per_cpu_pageset[0].count == zone.pageset_high_min - zone.pageset_batch


def test_a_page_of_an_isolated_pageblock_goes_to_the_buddy_at_once() -> None:
    k, zone = machine()
    pages = held(k, 1)
    start_isolate_page_range(k, START, START + k.config.pageblock_nr_pages)
    free(k, pages)
    assert pages[0] in zone.isolated_free


def test_a_page_in_a_list_goes_to_where_its_pageblock_is_by_then() -> None:
    k, zone = machine()
    pages = held(k, 1)
    free(k, pages)
    start_isolate_page_range(k, START, START + k.config.pageblock_nr_pages)
    drain_all_pages(k, zone)
    assert pages[0] in zone.isolated_free


def test_without_lists_of_its_own_a_zone_keeps_nothing_back() -> None:
    k, zone = machine()
    zone.per_cpu_pageset = {}
    pages = held(k, 1)
    free(k, pages)
    assert in_buddy(zone, pages) == pages


def test_while_lists_are_disabled_nothing_is_in_them_and_later_again() -> None:
    k, zone = machine()
    before, meanwhile, after = ([pfn] for pfn in held(k, 3))
    free(k, before, cpu=1)
    with pcp_disabled(k, zone):
        assert k.hw.locks[PCP_BATCH_HIGH_LOCK].writer == 0
        assert in_buddy(zone, before) == before
        free(k, meanwhile, cpu=1)
        assert in_buddy(zone, meanwhile) == meanwhile
    free(k, after, cpu=1)
    assert not in_buddy(zone, after)


def test_an_error_on_the_way_leaves_the_lists_as_they_were() -> None:
    def sizes(pcp: PerCpuPages) -> tuple[int, int]:
        return pcp.high_min, pcp.batch

    k, zone = machine()
    usual = [sizes(each) for each in zone.per_cpu_pageset.values()]
    with pytest.raises(RuntimeError), pcp_disabled(k, zone):
        assert [sizes(each) for each in zone.per_cpu_pageset.values()] == [(0, 1), (0, 1)]
        raise RuntimeError
    assert [sizes(each) for each in zone.per_cpu_pageset.values()] == usual
    assert k.hw.locks[PCP_BATCH_HIGH_LOCK].writer is None
