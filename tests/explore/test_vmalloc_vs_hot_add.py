"""Hot-add and vmalloc() that make the page table which both need."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re

import pytest

from memhp.explore.cases.vmalloc_vs_hot_add import CASE, SHARED
from memhp.explore.engine.replay import replay
from memhp.explore.engine.search import search

NAMES = [one.name for one in SHARED]


def test_the_two_meet_below_an_entry_in_five_layouts() -> None:
    """4K and 16K pages with 48 bits and more, and 47 of 16K: 64K pages and 39 bits keep the areas apart."""
    assert {(one.page_size // 1024, one.va_bits) for one in SHARED} == {(4, 48), (4, 52), (16, 47), (16, 48), (16, 52)}


@pytest.mark.parametrize("configuration", NAMES)
def test_both_may_make_the_table_and_the_later_store_drops_what_the_other_put_below_it(configuration: str) -> None:
    """linux-6.12 mm/sparse-vmemmap.c: vmemmap_p4d_populate() fills an entry that it found empty without a lock, and
    mm/memory.c:__pud_alloc() one that it finds empty under init_mm.page_table_lock: both may have looked before.
    """
    program = CASE.program("first-table", configuration)
    verdict = search(program.run())
    assert verdict.failure is not None
    trace = replay(program.run(), verdict.failure.schedule)
    assert trace.reason == verdict.failure.reason
    links = [line.text for line in trace.lines if re.search(r"store P\w+ .*: 0x\w+ -> 0x1", line.text)]
    assert len([text for text in links if ": 0x0 -> " not in text]) == 1, "one table pointer is overwritten by another"


def test_once_the_table_is_there_they_leave_each_other_alone() -> None:
    verdict = search(CASE.program("table-there", NAMES[0]).run())
    assert verdict.word == "safe"
    assert verdict.coverage.executions > 1
