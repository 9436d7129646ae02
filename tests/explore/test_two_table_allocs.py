"""Two CPUs make the same page table."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from deciding import counterexample, decided
from memhp.explore.cases.two_table_allocs import CASE

WHERE = ("arm64-16K-48-linux-7.2", "x86_64-4K-48-linux-7.2")


@pytest.mark.parametrize("configuration", WHERE)
def test_without_a_second_look_the_first_table_is_lost_with_what_it_maps(configuration: str) -> None:
    """mm/memory.c:__pte_alloc_kernel() asks pmd_none() under init_mm.page_table_lock for this."""
    reason, lines = counterexample(CASE, "not-looked-at-again", configuration)
    assert reason.startswith(("page-tables: ", "oops: "))
    stores = [line.name for line in lines if line.text.startswith("store") and "PMD" in line.text]
    assert not stores or len(set(stores)) == 2


@pytest.mark.parametrize("configuration", WHERE)
def test_with_it_one_table_serves_both(configuration: str) -> None:
    assert decided(CASE, "looked-at-again", configuration).word == "safe"
