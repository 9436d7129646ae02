"""What may be unequal for a stated reason, and what may not."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.conform.rules import Context, reason_for

PROMO = "/proc/zoneinfo node 0 DMA32 promo"


def test_a_promo_watermark_is_excused_only_where_the_kernel_prints_none() -> None:
    after = Context()
    assert "no line" in reason_for(PROMO, None, 1234, after)
    assert reason_for(PROMO, 1233, 1234, after) == ""
    assert reason_for(PROMO, 1233, None, after) == ""
    assert reason_for(PROMO.replace("promo", "high"), None, 1234, after) == ""


def test_a_boost_of_watermarks_is_what_tasks_made_of_it() -> None:
    assert "kswapd" in reason_for("/proc/zoneinfo node 0 DMA32 boost", 1024, 0, Context())


def test_struct_pages_and_a_resource_are_left_behind_only_where_the_log_tells_of_it() -> None:
    pages, memory = "/proc/vmstat nr_memmap_pages", "/proc/iomem 10000000000-4ffffffffff : System RAM"
    assert reason_for(pages, 45568, 0, Context(steps_from_facts=True)) == ""
    assert "ran out of memory" in reason_for(pages, 45568, 0, Context(steps_from_facts=True, add_failed=True))
    assert reason_for(pages, 45568, 0, Context(add_failed=True)) == ""
    assert reason_for(memory, 0, None, Context(steps_from_facts=True, add_failed=True)) == ""
    assert "oops" in reason_for(memory, 0, None, Context(steps_from_facts=True, died=True))
