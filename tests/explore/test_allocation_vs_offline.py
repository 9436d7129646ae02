"""Pages that are allocated and freed while their block goes offline: zone->lock, isolation, lists of CPUs."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from deciding import behaviours, counterexample, decided
from memhp.explore.cases.allocation_vs_offline import CASE
from memhp.explore.doors.run import KernelRun
from memhp.explore.engine.search import search
from memhp.explore.lock_removal import removed, sites

WHERE = "arm64-64K-42-linux-6.12"
PCPLISTS = "memhp.linux.mm.pcplists"


def test_a_page_that_is_allocated_from_a_block_that_goes_offline_is_elsewhere_in_the_end() -> None:
    assert decided(CASE, "zone-locked", WHERE).word == "safe"
    assert behaviours(CASE, "zone-locked", WHERE) == {(("offline", 1), ())}


def test_lists_that_are_emptied_once_may_keep_a_page_for_which_offlining_waits_for_ever() -> None:
    """Whether the pageblock is isolated was looked at before it was; the page comes to the list after the lists were
    emptied: what commit 968318261221 of 5.9 tells.
    """
    reason, lines = counterexample(CASE, "free-drained-once", WHERE)
    assert reason.startswith("livelock: offline repeats ")
    frees = [line.step for line in lines if line.name == "free" and "write" in line.text and "->count" in line.text]
    assert len(frees) == 1
    drains = [line.step for line in lines if line.name == "offline" and "pcpu_drain_mutex" in line.text]
    assert drains
    assert max(drains) < frees[0]


@pytest.mark.parametrize("variant", ["free-drained-again", "free-pcp-disabled"])
def test_lists_that_are_emptied_again_or_disabled_let_the_block_go(variant: str) -> None:
    assert decided(CASE, variant, WHERE).word == "safe"
    assert behaviours(CASE, variant, WHERE) == {(("offline", None), ())}


@pytest.mark.parametrize("place", ["free_unref_page pcp.lock", "drain_all_pages pcp.lock"])
def test_without_the_lock_of_the_list_freeing_and_draining_race(place: str) -> None:
    (site,) = [one for one in sites() if str(one).endswith(place)]
    with removed(site):
        run: KernelRun = CASE.program("free-pcp-disabled", WHERE).run()
        run.tell_apart(frozenset())
        failure = search(run, CASE.limits).failure
    assert failure is not None
    assert failure.reason.startswith("data race: ")
    assert ".pages" in failure.reason
