"""Root entries that are newer than a process: which orders of hot-add, fork and vmalloc let it fault."""
# SPDX-License-Identifier: GPL-2.0-or-later

import numpy as np
import pytest

from memhp.explore.case import Configuration, Variant
from memhp.explore.cases import case
from memhp.explore.cases.far_dimm import CHILD, boot_far, half_made, root_places
from memhp.explore.doors.run import KernelRun
from memhp.explore.engine.replay import replay
from memhp.explore.engine.search import Limits, search
from memhp.explore.engine.shortest import decide
from memhp.explore.engine.verdict import Verdict

EXISTING, NEW, VMALLOC = "pgd-sync-existing-process", "pgd-sync-new-process", "vmalloc-fault"


def rows(*wanted: str, stands_for: str) -> list[tuple[str, str, str]]:
    """Every variant known as broken or repaired, on some of its configurations: `memhp races` decides them all."""
    return [
        (name, variant.name, configuration.name)
        for name in wanted
        for variant in case(name).variants
        if variant.stands_for == stands_for
        for configuration in variant.configurations[::3]
    ]


def run_of(name: str, variant: str, configuration: str) -> KernelRun:
    return case(name).program(variant, configuration).run()


def decided(name: str, variant: str, configuration: str) -> tuple[KernelRun, Verdict]:
    run = run_of(name, variant, configuration)
    return run, search(run, Limits(executions=2_000, keep_behaviours=True))


@pytest.mark.parametrize(("name", "variant", "configuration"), rows(EXISTING, NEW, VMALLOC, stands_for="broken"))
def test_a_process_faults_for_want_of_a_root_entry_that_init_mm_has(
    name: str, variant: str, configuration: str
) -> None:
    run, verdict = decided(name, variant, configuration)
    assert verdict.failure is not None
    assert "lacks entry" in verdict.failure.reason
    trace = replay(run, verdict.failure.schedule)
    assert trace.reason == verdict.failure.reason


@pytest.mark.parametrize(("name", "variant", "configuration"), rows(EXISTING, NEW, VMALLOC, stands_for="repaired"))
def test_a_process_that_comes_upon_new_memory_can_use_it(name: str, variant: str, configuration: str) -> None:
    _, verdict = decided(name, variant, configuration)
    assert verdict.word == "safe"
    assert verdict.classes is not None
    assert verdict.classes > 1
    states = [state for state in verdict.coverage.behaviours if isinstance(state, tuple)]
    used = {said for state in states for said in state[0] if isinstance(said, str)}
    fixed = "vmalloc_fault fixed" if variant == "vmalloc-fault" else "ok"
    assert used == ({"no area yet", fixed} if name == VMALLOC else {"no page yet", "a page"})


def machine(variant: Variant, configuration: Configuration) -> list[int]:
    """Which entries the DIMM needs, and what init_mm holds there before it is added."""
    k = boot_far(variant.config(configuration))
    return [k.hw.load(k.init_mm, place) for place in root_places(k)]


@pytest.mark.parametrize(
    "configuration", case(EXISTING).variant("policy-none").configurations, ids=lambda one: one.name
)
def test_the_dimm_needs_root_entries_that_boot_left_empty(configuration: Configuration) -> None:
    found = machine(case(EXISTING).variant("policy-none"), configuration)
    assert found.count(0) == (1 if (configuration.arch, configuration.va_bits) == ("x86_64", 57) else 2)


def test_preallocated_entries_are_there_before_the_dimm() -> None:
    variant = case(EXISTING).variant("preallocate")
    assert all(machine(variant, variant.configurations[0]))


@pytest.mark.parametrize(
    "configuration", case(VMALLOC).variant("no-fault-handler").configurations, ids=lambda one: one.name
)
def test_vmalloc_needs_a_root_entry_that_boot_left_empty(configuration: Configuration) -> None:
    k = case(VMALLOC).program("no-fault-handler", configuration.name).kernel
    assert k.hw.load(k.init_mm, k.hw.fmt.index(k.layout.vmalloc.start, k.hw.fmt.root_height)) == 0


def test_a_table_half_made_has_all_but_the_entries_that_the_dimm_needs() -> None:
    """The reduction of the fork: what is copied beforehand is what a whole copy would have found."""
    variant = case(NEW).variant("preallocate")
    k = boot_far(variant.config(variant.configurations[0]))
    whole = k.hw.load_run(k.init_mm, 256, 256)
    child = k.hw.load_run(half_made(k, CHILD), 256, 256)
    missing = (np.flatnonzero(whole != child) + 256).tolist()
    assert missing == root_places(k)
    assert CHILD not in k.pgd


def test_synchronisation_is_seen_in_the_trace() -> None:
    """What a caller of vmalloc finds filled is not yet in every table: the trace ends before the other's sync."""
    run = run_of(VMALLOC, "sync-two-callers", "x86_64-4K-48-linux-6.12")
    verdict = decide(run)
    assert verdict.failure is not None
    trace = replay(run, verdict.failure.schedule)
    linked = [line.text for line in trace.lines if "store" in line.text and line.name == "vmalloc"]
    assert linked
    assert not any("pgd_lock" in line.text for line in trace.lines if line.name == "vmalloc")
