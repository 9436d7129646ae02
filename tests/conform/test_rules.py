"""What may be unequal for a stated reason, and what may not."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.conform.rules import Context, reason_for

PROMO = "/proc/zoneinfo node 0 DMA32 promo"


def test_a_promo_watermark_is_excused_only_where_the_kernel_prints_none() -> None:
    after = Context(resized=True)
    assert "no line" in reason_for(PROMO, None, 1234, after)
    assert reason_for(PROMO, 1233, 1234, after) == ""
    assert reason_for(PROMO, 1233, None, after) == ""
    assert reason_for(PROMO.replace("promo", "high"), None, 1234, after) == ""


def test_a_boost_of_watermarks_is_what_tasks_made_of_it() -> None:
    assert "kswapd" in reason_for("/proc/zoneinfo node 0 DMA32 boost", 1024, 0, Context(resized=True))
