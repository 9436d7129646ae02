"""Memory errors and allocations while memory goes: what holds a page keeps its struct page, and nothing else does."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from deciding import behaviours, decided
from memhp.explore.case import Case
from memhp.explore.cases import allocation_vs_offline
from memhp.explore.cases.memory_error_vs_removal import CASE

WHERE = "arm64-64K-42-linux-6.12"
BEFORE = "arm64-64K-42-linux-6.1"


def why(case: Case, variant: str, where: str) -> str:
    failure = decided(case, variant, where).failure
    assert failure is not None
    return failure.reason


def test_the_struct_page_of_a_free_page_goes_under_memory_failure() -> None:
    reason = why(CASE, "block-removed", BEFORE)
    assert reason.startswith("memory error: KernelBug: oops at ")
    assert reason.endswith("(mm/memory-failure.c:memory_failure)")


@pytest.mark.parametrize(
    ("where", "race"),
    [
        (BEFORE, "write of page_flags by offline and write of page_flags by memory error"),
        (WHERE, "read of page_zone by memory error and write of page_zone by offline"),
    ],
)
def test_offlining_writes_over_the_struct_page_that_is_marked_as_poisoned(where: str, race: str) -> None:
    """Since 6.3 it is asked for its node afterwards, by update_per_node_mf_stats(): the same word of struct page."""
    assert why(CASE, "block-offline", where).startswith(f"data race: {race}")


def test_with_hotplug_kept_out_the_error_is_handled_or_finds_no_memory() -> None:
    assert decided(CASE, "removal-locked", WHERE).word == "safe"
    results = {results for results, _ in behaviours(CASE, "removal-locked", WHERE)}
    assert results == {("recovered", None), ("ENXIO", None)}


def test_a_devices_mapping_waits_for_whoever_handles_an_error_in_it() -> None:
    assert decided(CASE, "device-unbound", WHERE).word == "safe"


def test_a_page_that_is_allocated_from_a_block_that_goes_offline_is_elsewhere_in_the_end() -> None:
    case = allocation_vs_offline.CASE
    assert decided(case, "zone-locked", WHERE).word == "safe"
    assert behaviours(case, "zone-locked", WHERE) == {(("offline", 1), ())}
