"""Part of a large leaf of the direct map is removed while another part is split for a page that changes."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.explore.cases import case
from memhp.explore.doors.run import KernelRun
from memhp.explore.engine.replay import replay
from memhp.explore.engine.search import Limits, search

NAME = "split-vs-remove"


def run_of(variant: str, configuration: str) -> KernelRun:
    return case(NAME).program(variant, configuration).run()


@pytest.mark.parametrize(
    ("variant", "configuration", "what"),
    [
        # Removal takes the whole leaf: what it mapped beyond the block is gone.
        ("boot-memory-removable", "arm64-4K-48-linux-7.2", "direct-map: present PFN 0x88000-0xbffff is not mapped"),
        ("partial-removal", "arm64-4K-48-linux-7.2", "direct-map: present PFN 0x208000-0x23ffff is not mapped"),
        # The hint is taken from a leaf that was cleared in the meantime, which brings it back.
        ("boot-memory-removable", "arm64-16K-48-linux-7.2", "which is not present"),
        # Who splits follows an entry that removal has cleared.
        ("riscv-as-it-is", "riscv64-4K-48-linux-6.12", "is followed as if it pointed to a table"),
        ("riscv-as-it-is", "riscv64-4K-57-linux-7.2", "is followed as if it pointed to a table"),
        # Removal follows the leaf.
        ("x86-as-it-is", "x86_64-4K-48-linux-6.12", "is to go in part, and is walked as if it pointed to a table"),
        ("x86-as-it-is", "x86_64-4K-57-linux-7.2", "is to go in part, and is walked as if it pointed to a table"),
    ],
)
def test_part_of_a_larger_leaf_cannot_be_removed(variant: str, configuration: str, what: str) -> None:
    run = run_of(variant, configuration)
    verdict = search(run, Limits(executions=500))
    assert verdict.failure is not None
    assert what in verdict.failure.reason
    assert replay(run, verdict.failure.schedule).reason == verdict.failure.reason


def test_a_leaf_that_is_split_already_can_be_removed_in_part_and_one_that_is_not_is_refused() -> None:
    """linux-7.2 arch/arm64/mm/mmu.c:can_unmap_without_split asks without the lock of those who split."""
    verdict = search(run_of("split-refused", "arm64-4K-48-linux-7.2"), Limits(keep_behaviours=True))
    assert verdict.word == "safe"
    assert verdict.classes is not None
    assert verdict.classes > 1
    returned = {state[0] for state in verdict.coverage.behaviours if isinstance(state, tuple)}
    assert returned == {("EPERM", None), (None, None)}


def test_where_boot_memory_stays_the_two_never_meet() -> None:
    """That the search sees one class only is what the notifier is for, and noted with each configuration."""
    for configuration in case(NAME).variant("bootmem-notifier").configurations:
        verdict = search(run_of("bootmem-notifier", configuration.name), Limits(keep_behaviours=True))
        assert (verdict.word, verdict.classes) == ("safe", 1)
        assert {state[0] for state in verdict.coverage.behaviours if isinstance(state, tuple)} == {("EPERM", None)}
        assert configuration.note


def test_a_hint_that_is_half_gone_lets_the_last_block_go() -> None:
    """linux-7.2 arch/arm64/mm/mmu.c: the notifier asks at the block's first leaf, split_contpmd() is at its last.

    It writes back what it read there before the block was removed.
    """
    run = run_of("split-refused-last-block", "arm64-16K-48-linux-7.2")
    verdict = search(run, Limits(executions=500))
    assert verdict.failure is not None
    assert "which is not present" in verdict.failure.reason
    trace = replay(run, verdict.failure.schedule)
    assert trace.reason == verdict.failure.reason
    assert any(line.text.startswith("store PMD") and ": 0x0 -> " in line.text for line in trace.lines)
