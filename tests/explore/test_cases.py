"""Races of memory hotplug on the kernel code of the model, every access a point of choice."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import pytest

from kernels import picture
from memhp.errors import BadInput
from memhp.explore import cases
from memhp.explore.case import Configuration
from memhp.explore.cases import CASES, case
from memhp.explore.cases.actors import boot, hot_add, take_pages
from memhp.explore.doors.run import KernelProgram, KernelRun
from memhp.explore.engine.replay import replay
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.shortest import decide
from memhp.linux.state import Kernel

CONFIGURATIONS = {
    "riscv64": "riscv64-4K-48-linux-6.12",
    "arm64": "arm64-4K-48-linux-6.12",
    "x86_64": "x86_64-4K-48-linux-6.12",
}


def program_of(name: str, variant: str, arch: str) -> KernelProgram:
    return case(name).program(variant, CONFIGURATIONS[arch])


def run_of(name: str, variant: str, arch: str) -> KernelRun:
    return program_of(name, variant, arch).run()


def machine(arch: str) -> Kernel:
    variant = case("two-hotplugs").variant("two-adds")
    return boot(variant.config(variant.configuration(CONFIGURATIONS[arch])))


def test_names_are_unique_and_every_variant_can_be_built() -> None:
    names = [(one.name, variant.name) for one in CASES for variant in one.variants]
    assert len(set(names)) == len(names)
    for one in CASES:
        for variant in one.variants:
            where = [configuration.name for configuration in variant.configurations]
            assert where
            assert len(set(where)) == len(where)
            assert one.program(variant.name).names


def test_every_race_that_there_is_a_module_of_is_listed() -> None:
    folder = Path(cases.__file__).parent
    modules = [path.stem for path in folder.glob("*.py") if "\nCASE = " in path.read_text(encoding="utf-8")]
    assert len(modules) == len(CASES)


def test_a_kernel_of_today_that_is_known_as_broken_is_written_up() -> None:
    page = (Path(__file__).parents[2] / "docs" / "findings.md").read_text(encoding="utf-8")
    headings = {line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")}
    for one in CASES:
        for variant in one.variants:
            assert not variant.finding or variant.finding in headings, variant.name
            if variant.stands_for == "broken" and any(variant.current(where) for where in variant.configurations):
                assert variant.finding, f"{one.name} {variant.name}"


def test_a_variant_without_choices_is_the_kernel_of_today() -> None:
    variant = case("free-before-flush").variant("arm64-order")
    assert variant.current(variant.configurations[0])
    changed = case("ptdump-vs-hot-remove").variant("no-lock")
    assert not changed.current(changed.configurations[0])
    assert not variant.current(Configuration("arm64", 4096, 48, "arm64-hotremove-v5"))


def test_without_the_reduction_kernel_code_behaves_the_same() -> None:
    k = machine("x86_64")
    program = KernelProgram(k, (take_pages, take_pages), ("cpu 0", "cpu 1"), frozenset({0, 1}))
    every = Limits(stop_at_failure=False, keep_behaviours=True, keep_classes=True)
    reduced, full = (search(program.run(), every, reduce=reduce).coverage for reduce in (True, False))
    assert reduced.behaviours == full.behaviours
    assert reduced.classes == full.classes
    assert reduced.executions == len(full.classes) < full.executions


def test_under_the_explorer_the_kernel_does_what_it_does_without() -> None:
    alone = machine("riscv64")
    hot_add(alone)
    seen: list[Kernel] = []

    def look(k: Kernel) -> None:
        seen.append(k)

    run = KernelProgram(machine("riscv64"), (hot_add,), ("cpu 0",), check=look).run()
    assert search(run).word == "safe"
    assert picture(seen[0]) == picture(alone)


def test_a_schedule_steps_through_kernel_code_with_old_and_new_values() -> None:
    program = program_of("free-before-flush", "riscv-order", "riscv64")
    trace = replay(program.run(), "a", extend=40)
    assert [line.text for line in trace.lines[:2]] == ["begin", "lock device_hotplug_lock"]
    assert trace.lines[1].place == "mm/memory_hotplug.c:remove_memory"
    assert trace.end == "unfinished"
    stores = [line.text for line in trace.lines if line.text.startswith("store PMD ")]
    assert stores
    assert all(text.endswith("-> 0x0") for text in stores)
    assert trace == replay(program.run(), trace.schedule)


def test_an_allocation_fails_only_for_the_actors_that_were_named() -> None:
    k = machine("x86_64")
    both = Limits(stop_at_failure=False, keep_behaviours=True)
    fails = search(KernelProgram(k, (take_pages,), ("cpu 0",), frozenset({0})).run(), both)
    never = search(KernelProgram(k, (take_pages,), ("cpu 0",)).run(), both)
    assert (fails.coverage.executions, len(fails.coverage.behaviours)) == (2, 2)
    assert never.coverage.executions == 1


def test_a_lock_order_turned_round_is_told_and_is_a_deadlock() -> None:
    def one(k: Kernel) -> None:
        with k.hw.locked("device_hotplug_lock"), k.hw.locked("mem_hotplug_lock", write=False):
            pass

    def other(k: Kernel) -> None:
        with k.hw.locked("mem_hotplug_lock"), k.hw.locked("device_hotplug_lock"):
            pass

    run = KernelProgram(machine("arm64"), (one, other), ("cpu 0", "cpu 1")).run()
    verdict = decide(run)
    assert verdict.failure is not None
    assert verdict.failure.reason.startswith("lock-order: ")
    every = search(run, Limits(stop_at_failure=False)).coverage
    # One after the other, either way round, the deadlock, and the writer in the queue before the reader lets go.
    assert (every.executions, every.failed, every.deadlocks) == (4, 4, 1)
    trace = replay(run, "a2b2")
    assert trace.end == "deadlock"
    assert trace.reason == "deadlock: cpu 0 at lock mem_hotplug_lock shared, cpu 1 at lock device_hotplug_lock"


def test_a_try_lock_does_not_block() -> None:
    def trier(k: Kernel) -> bool:
        got = k.hw.trylock("device_hotplug_lock")
        if got:
            k.hw.unlock("device_hotplug_lock")
        return got

    k = machine("arm64")
    kept = Limits(stop_at_failure=False, keep_behaviours=True)
    coverage = search(KernelProgram(k, (trier, trier), ("cpu 0", "cpu 1")).run(), kept).coverage
    assert (coverage.executions, len(coverage.behaviours), coverage.deadlocks) == (4, 3, 0)


def test_unknown_names_are_refused_with_those_there_are() -> None:
    with pytest.raises(BadInput, match="no race 'nothing'"):
        case("nothing")
    with pytest.raises(BadInput, match="not explored on 'sparc'"):
        case("two-hotplugs").program("two-adds", "sparc")
    with pytest.raises(BadInput, match="no variant 'sparc'"):
        case("two-hotplugs").program("sparc")
