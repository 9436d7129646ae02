"""Races of memory hotplug on the kernel code of the model, every access a point of choice."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from kernels import picture
from memhp.errors import BadInput
from memhp.explore.cases import CASES, Kind, hot_add, take_pages
from memhp.explore.doors import KernelProgram, KernelRun
from memhp.explore.replay import replay
from memhp.explore.search import Limits, search
from memhp.explore.shortest import decide
from memhp.linux.state import Kernel


def run_of(case: str, variant: str) -> KernelRun:
    return CASES[case].program(variant).run()


@pytest.mark.parametrize("arch", ["riscv64", "arm64", "x86_64"])
def test_a_dump_without_the_hotplug_lock_reads_a_freed_table(arch: str) -> None:
    run = run_of("ptdump-vs-hot-remove", f"{arch}-6.12-unlocked")
    verdict = search(run, Limits(executions=50))
    assert verdict.word == "broken"
    assert verdict.failure is not None
    assert verdict.failure.reason.startswith("freed-table: ")
    trace = replay(run_of("ptdump-vs-hot-remove", f"{arch}-6.12-unlocked"), verdict.failure.schedule)
    assert trace.reason == verdict.failure.reason
    assert trace.lines[-1].text.startswith("mm/ptdump.py:walk_range: load PMD ")


@pytest.mark.parametrize("arch", ["riscv64", "arm64", "x86_64"])
def test_a_dump_under_the_hotplug_lock_comes_before_or_after(arch: str) -> None:
    verdict = search(run_of("ptdump-vs-hot-remove", f"{arch}-6.12-locked"))
    assert (verdict.word, verdict.coverage.executions, verdict.coverage.cut) == ("safe", 2, 0)


@pytest.mark.parametrize("arch", ["riscv64", "arm64", "x86_64"])
def test_two_hot_adds_of_one_range_exclude_each_other(arch: str) -> None:
    verdict = search(run_of("two-hotplugs", f"{arch}-6.12"), Limits(keep_behaviours=True))
    assert (verdict.word, verdict.coverage.executions) == ("safe", 2)
    returned = {(None, "EEXIST"), ("EEXIST", None)}
    assert verdict.coverage.behaviours == {(results, (), (None, None)) for results in returned}


@pytest.mark.parametrize("arch", ["riscv64", "x86_64"])
def test_struct_page_storage_freed_before_the_flush_reaches_its_next_user(arch: str) -> None:
    """linux-6.12 arch/riscv/mm/init.c:remove_pmd_mapping, arch/x86/mm/init_64.c:remove_pmd_table: it flushes last."""
    run = run_of("free-before-flush", f"{arch}-6.12")
    verdict = decide(run)
    assert verdict.word == "broken"
    assert verdict.failure is not None
    assert verdict.failure.reason.startswith("flush-before-free: ")
    trace = replay(run, verdict.failure.schedule)
    assert trace.preemptions == 1
    texts = [line.text for line in trace.lines if line.name == "hot-remove"]
    assert any("free_pages: release PFN" in text for text in texts)
    assert not any("flush" in text for text in texts)
    assert "claim PFN" in trace.lines[-1].text


def test_arm64_flushes_before_it_frees() -> None:
    """linux-6.12 arch/arm64/mm/mmu.c:unmap_hotplug_pmd_range."""
    verdict = search(run_of("free-before-flush", "arm64-6.12"))
    assert verdict.word == "safe"
    assert verdict.coverage.executions > 1


def test_without_the_reduction_kernel_code_behaves_the_same() -> None:
    k = Kind("x86_64", "linux-6.12", 48).boot()
    program = KernelProgram(k, (take_pages, take_pages), ("cpu 0", "cpu 1"), frozenset({0, 1}))
    every = Limits(stop_at_failure=False, keep_behaviours=True, keep_classes=True)
    reduced, full = (search(program.run(), every, reduce=reduce).coverage for reduce in (True, False))
    assert reduced.behaviours == full.behaviours
    assert reduced.classes == full.classes
    assert reduced.executions == len(full.classes) < full.executions


def test_under_the_explorer_the_kernel_does_what_it_does_without() -> None:
    kind = Kind("riscv64", "linux-6.12", 48)
    alone = kind.boot()
    hot_add(alone)
    seen: list[Kernel] = []

    def look(k: Kernel) -> None:
        seen.append(k)

    run = KernelProgram(kind.boot(), (hot_add,), ("cpu 0",), check=look).run()
    assert search(run).word == "safe"
    assert picture(seen[0]) == picture(alone)


def test_a_schedule_steps_through_kernel_code_with_old_and_new_values() -> None:
    program = CASES["free-before-flush"].program("riscv64-6.12")
    trace = replay(program.run(), "a", extend=8)
    assert trace.lines[0].text == "mm/memory_hotplug_remove.py:remove_memory: lock device_hotplug_lock"
    assert trace.end == "unfinished"
    stores = [line.text for line in trace.lines if " store PMD " in line.text]
    assert stores
    assert all(text.endswith("-> 0x0") for text in stores)
    assert trace == replay(program.run(), trace.schedule)


def test_an_allocation_fails_only_for_the_actors_that_were_named() -> None:
    k = Kind("x86_64", "linux-6.12", 48).boot()
    both = Limits(stop_at_failure=False, keep_behaviours=True)
    fails = search(KernelProgram(k, (take_pages,), ("cpu 0",), frozenset({0})).run(), both)
    never = search(KernelProgram(k, (take_pages,), ("cpu 0",)).run(), both)
    assert (fails.coverage.executions, len(fails.coverage.behaviours)) == (2, 2)
    assert never.coverage.executions == 1


def test_a_lock_order_turned_round_is_a_deadlock() -> None:
    def one(k: Kernel) -> None:
        with k.hw.locked("device_hotplug_lock"), k.hw.locked("mem_hotplug_lock", write=False):
            pass

    def other(k: Kernel) -> None:
        with k.hw.locked("mem_hotplug_lock"), k.hw.locked("device_hotplug_lock"):
            pass

    k = Kind("arm64", "linux-6.12", 48).boot()
    verdict = decide(KernelProgram(k, (one, other), ("cpu 0", "cpu 1")).run())
    assert verdict.failure is not None
    assert (
        verdict.failure.reason == "deadlock: cpu 0 at lock mem_hotplug_lock shared, cpu 1 at lock device_hotplug_lock"
    )
    assert verdict.failure.schedule == "ab"


def test_a_try_lock_does_not_block() -> None:
    def trier(k: Kernel) -> bool:
        got = k.hw.trylock("device_hotplug_lock")
        if got:
            k.hw.unlock("device_hotplug_lock")
        return got

    k = Kind("arm64", "linux-6.12", 48).boot()
    kept = Limits(stop_at_failure=False, keep_behaviours=True)
    coverage = search(KernelProgram(k, (trier, trier), ("cpu 0", "cpu 1")).run(), kept).coverage
    assert (coverage.executions, len(coverage.behaviours), coverage.deadlocks) == (4, 3, 0)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(BadInput, match="no variant 'sparc'"):
        CASES["two-hotplugs"].program("sparc")
