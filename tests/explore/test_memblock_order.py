"""The order in which memblock and the architecture forget removed memory."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from deciding import counterexample, decided
from memhp.explore.cases.memblock_order import CASE

SERIES = ("arm64-4K-48-arm64-hotremove-v6", "arm64-64K-48-arm64-hotremove-v6", "arm64-4K-39-arm64-hotremove-v7")


@pytest.mark.parametrize("configuration", SERIES)
def test_memblock_first_leaves_a_link_that_who_adds_the_memory_again_runs_into(configuration: str) -> None:
    """get_nid_for_pfn() finds no page that pfn_valid() knows, so the link below the node stays."""
    reason, lines = counterexample(CASE, "memblock-first", configuration)
    assert reason.startswith("hot-add: KernelBug: BUG_ON: node 0 has a link to memory")
    names = [line.name for line in lines]
    assert "hot-add" in names[names.index("hot-remove") :], "one after the other, under the lock"


@pytest.mark.parametrize("configuration", [*SERIES, "arm64-16K-48-linux-7.2"])
def test_the_architecture_first_is_safe_in_both_orders(configuration: str) -> None:
    verdict = decided(CASE, "arch-first", configuration)
    assert (verdict.word, verdict.coverage.executions) == ("safe", 2)


@pytest.mark.parametrize("variant", ["sections", "stored-node"])
def test_either_of_two_later_changes_would_have_done(variant: str) -> None:
    verdict = decided(CASE, variant, SERIES[0])
    assert (verdict.word, verdict.coverage.executions) == ("safe", 2)
