"""Memory errors while memory goes: what holds a page keeps its struct page, and nothing else does."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from deciding import behaviours, decided
from memhp.explore.case import Case
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


@pytest.mark.parametrize("where", [BEFORE, WHERE])
def test_offlining_writes_over_the_struct_page_that_is_asked_for_its_zone(where: str) -> None:
    """mm/page_alloc.c:take_page_off_buddy() looks at ``page_zone()`` before it takes that zone's lock."""
    told = "data race: read of page_zone by memory error and write of page_zone by offline"
    assert why(CASE, "block-offline", where) == told


def test_with_hotplug_kept_out_the_error_is_handled_or_finds_no_memory() -> None:
    assert decided(CASE, "removal-locked", WHERE).word == "safe"
    results = {results for results, _ in behaviours(CASE, "removal-locked", WHERE)}
    assert results == {("recovered", None), ("ENXIO", None)}


def test_a_devices_mapping_waits_for_whoever_handles_an_error_in_it() -> None:
    assert decided(CASE, "device-unbound", WHERE).word == "safe"
