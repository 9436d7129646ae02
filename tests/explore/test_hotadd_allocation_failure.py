"""Hot-add when memory runs out half-way, every allocation in turn, and the add that follows."""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import pytest

from memhp.explore.cases import case
from memhp.explore.engine.replay import replay
from memhp.explore.engine.search import search
from memhp.explore.engine.shortest import decide
from memhp.explore.engine.verdict import Verdict

NAME = "hotadd-allocation-failure"


def decided(variant: str, where: str) -> Verdict:
    limits = replace(case(NAME).limits, keep_behaviours=True)
    return search(case(NAME).program(variant, where).run(), limits)


@pytest.mark.parametrize(
    ("variant", "where"),
    [
        ("one-block", "arm64-4K-48-linux-7.2"),
        ("one-block", "arm64-16K-47-linux-7.2"),
        ("one-block", "riscv64-4K-39-linux-6.12"),
        ("memmap-on-memory", "arm64-4K-39-linux-7.2"),
        ("table-failure-handled", "arm64-64K-48-linux-6.12"),
    ],
)
def test_an_add_that_fails_leaves_nothing_and_the_next_one_succeeds(variant: str, where: str) -> None:
    verdict = decided(variant, where)
    assert verdict.word == "safe up to 2 failed allocations"
    returned = {state[0][0] for state in verdict.coverage.behaviours if isinstance(state, tuple)}
    assert returned == {(), ("ENOMEM",), ("ENOMEM", "ENOMEM")}
    assert verdict.coverage.never_fired == []


@pytest.mark.parametrize(
    ("variant", "where", "words"),
    [
        ("one-block", "riscv64-4K-48-linux-7.2", "BUG_ON: no memory for a page table of the direct map"),
        ("one-block", "arm64-16K-48-linux-6.12", "BUG_ON: no memory for a page table of the direct map"),
        ("one-block", "x86_64-4K-48-linux-7.2", "which is not present"),
        ("two-blocks", "arm64-4K-48-linux-7.2", "is not mapped at"),
        ("two-blocks", "riscv64-4K-39-linux-7.2", "is not mapped at"),
        ("memmap-on-memory", "x86_64-4K-57-linux-6.12", "which is not present"),
        ("altmap-forgotten", "x86_64-4K-48-linux-5.13", "is not all struct pages"),
    ],
)
def test_kernels_that_die_or_leave_memory_half_added_are_found(variant: str, where: str, words: str) -> None:
    run = case(NAME).program(variant, where).run()
    failure = decide(run, case(NAME).limits).failure
    assert failure is not None
    assert words in failure.reason
    trace = replay(run, failure.schedule)
    assert trace.reason == failure.reason
    assert 1 <= sum(line.text.endswith("fails") for line in trace.lines) <= 2
