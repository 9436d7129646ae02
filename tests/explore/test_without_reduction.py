"""Without the reduction, every schedule one by one, the cases come to the same verdict.

Those are held against each other here that are small enough; ``bench/soundness.py --cases`` tries all of them.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import replace

import pytest

from memhp.explore.cases import case
from memhp.explore.engine.search import search

SMALL = (
    ("vmalloc-fault", "no-fault-handler", "riscv64-4K-39-linux-6.12"),
    ("vmalloc-fault", "vmalloc-fault", "riscv64-4K-39-riscv-hotplug-v1"),
    ("vmalloc-fault", "sync", "x86_64-4K-48-linux-6.12"),
    ("vmalloc-fault", "sync-two-callers", "x86_64-4K-48-linux-6.12"),
    ("vmalloc-fault", "patch-7", "riscv64-4K-39-riscv-hotplug-v1"),
    ("vmalloc-fault", "preallocate", "riscv64-4K-39-linux-6.12"),
    ("pgd-sync-existing-process", "policy-none", "riscv64-4K-39-linux-6.12"),
    ("pagemap-lookup-vs-unmap", "no-reference", "arm64-4K-39-linux-5.13"),
    ("two-hotplugs", "two-adds", "riscv64-4K-39-linux-6.12"),
)


@pytest.mark.parametrize(("name", "variant", "configuration"), SMALL)
def test_without_the_reduction_the_verdict_is_the_same(name: str, variant: str, configuration: str) -> None:
    program = case(name).program(variant, configuration)
    limits = replace(case(name).limits, executions=None, keep_behaviours=True)
    reduced = search(program.run(), limits)
    full = search(program.run(), limits, reduce=False, budget=200_000)
    assert reduced.finished or reduced.failure is not None
    assert full.word == reduced.word
    if full.finished:
        assert full.coverage.behaviours == reduced.coverage.behaviours
        assert full.coverage.executions >= reduced.coverage.executions
