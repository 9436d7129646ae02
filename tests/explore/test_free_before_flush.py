"""Frames that hot-remove frees and somebody is handed, against the flush that covers what led to them."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from memhp.explore.cases import case
from memhp.explore.cases.lone_dimm import add_lone, boot_lone, remove_lone
from memhp.explore.engine.replay import replay
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.shortest import decide
from memhp.explore.engine.verdict import Verdict

NAME = "free-before-flush"
STOPS = Limits(executions=100)


def decided(variant: str, configuration: str) -> Verdict:
    return search(case(NAME).program(variant, configuration).run(), STOPS)


def reason(variant: str, configuration: str) -> str:
    verdict = decided(variant, configuration)
    assert verdict.word == "broken"
    assert verdict.failure is not None
    return verdict.failure.reason


@pytest.mark.parametrize("release", ["linux-6.12", "linux-7.2"])
@pytest.mark.parametrize(("variant", "arch"), [("riscv-order", "riscv64"), ("x86-order", "x86_64")])
def test_riscv_and_x86_hand_frames_out_before_their_last_flush(variant: str, arch: str, release: str) -> None:
    """arch/riscv/mm/init.c:remove_pgd_mapping and arch/x86/mm/init_64.c:remove_pagetable flush when all is freed."""
    assert reason(variant, f"{arch}-4K-48-{release}").startswith("flush-before-free: ")


def test_the_posted_order_hands_frames_out_where_its_removal_works() -> None:
    assert reason("riscv-posted", "riscv64-4K-57-riscv-hotplug-v1").startswith("flush-before-free: ")


@pytest.mark.parametrize("arch", ["riscv64", "x86_64"])
def test_tlb_and_walk_cache_are_each_enough(arch: str) -> None:
    where = f"{arch}-4K-48-linux-6.12"
    assert "through the PUD entry for" in reason("tables-early", where)
    assert "through the PMD leaf for" in reason("storage-early", where)


def test_sv39_frees_no_table_and_says_so() -> None:
    where = case(NAME).variant("tables-early").configuration("riscv64-4K-39-linux-6.12")
    assert decided("tables-early", where.name).word == "safe"
    assert "none is freed" in where.note


@pytest.mark.parametrize("variant", ["flush-then-free", "flush-each"])
@pytest.mark.parametrize("where", ["riscv64-4K-39-linux-6.12", "riscv64-4K-48-linux-6.12", "x86_64-4K-48-linux-6.12"])
def test_a_flush_before_freeing_repairs_it(variant: str, where: str) -> None:
    verdict = decided(variant, where)
    assert verdict.word == "safe"
    assert verdict.coverage.executions > 1
    assert verdict.coverage.never_fired == []


@pytest.mark.parametrize("va_bits", [39])
def test_arm64_flushes_before_it_frees(va_bits: int) -> None:
    """arch/arm64/mm/mmu.c:unmap_hotplug_pmd_range, free_empty_pte_table."""
    verdict = decided("arm64-order", f"arm64-4K-{va_bits}-linux-7.2")
    assert verdict.word == "safe"
    assert verdict.coverage.executions > 1


@pytest.mark.parametrize(
    "where",
    ["riscv64-4K-48-linux-6.12", "arm64-4K-39-linux-6.12", "arm64-16K-47-linux-6.12", "x86_64-4K-48-linux-6.12"],
)
def test_tables_are_freed_too_so_that_safe_says_something_of_walk_caches(where: str) -> None:
    variant = next(one for one in case(NAME).variants if where in [each.name for each in one.configurations])
    k = boot_lone(variant.config(variant.configuration(where)))
    add_lone(k)
    before = k.hw.ledger.tables_freed.total()
    remove_lone(k)
    assert k.hw.ledger.tables_freed.total() > before


def test_the_shortest_trace_ends_where_somebody_gets_what_was_freed_last() -> None:
    """On Sv39: arch/riscv/mm/init.c:free_vmemmap_storage, and no flush since."""
    run = case(NAME).program("riscv-order", "riscv64-4K-39-linux-7.2").run()
    failure = decide(run).failure
    assert failure is not None
    trace = replay(run, failure.schedule)
    assert trace.reason == failure.reason
    assert trace.preemptions == 1
    kinds = [line.kind for line in trace.lines]
    assert "flush" not in kinds[kinds.index("release") :]
    assert "claim PFN" in trace.lines[-1].text
