"""A device's page is looked up, or held by DMA, while its mapping goes."""
# SPDX-License-Identifier: GPL-2.0-or-later

from copy import deepcopy

import pytest

from deciding import behaviours, counterexample, decided
from memhp.explore.cases.near_dimm import boot_near
from memhp.explore.cases.pagemap_lookup_vs_unmap import CASE, DEVICES, device
from memhp.explore.engine.trace import Line
from memhp.linux.mm.dev_pagemap import MemoryType, Memremap
from memhp.linux.mm.memremap import devm_memremap_pages_release, memremap_pages, memunmap_pages

THEN, NOW = "arm64-64K-48-linux-5.13", "riscv64-4K-48-linux-7.2"


def kinds(lines: tuple[Line, ...], name: str) -> list[str]:
    return [f"{line.kind} {line.what}" for line in lines if line.name == name]


def test_without_references_the_struct_page_goes_under_the_lookup() -> None:
    reason, lines = counterexample(CASE, "no-reference", THEN)
    assert "nothing maps the struct page" in reason
    assert kinds(lines, "lookup")[-1].startswith("read memory at ")
    assert not any("reference" in step or ".ref" in step for step in kinds(lines, "lookup"))


def test_a_reference_helps_nothing_when_it_is_waited_for_after_unmapping() -> None:
    """As from 4.20 to 5.2: percpu_ref_kill(), arch_remove_memory(), and the wait in the driver's last action."""
    reason, lines = counterexample(CASE, "kill-only", THEN)
    assert "nothing maps the struct page" in reason
    assert "add dev_pagemap.ref.percpu_count" in kinds(lines, "lookup")
    assert "atomic dev_pagemap.ref.percpu_count_ptr" in kinds(lines, "unbind")


@pytest.mark.parametrize("configuration", ["riscv64-4K-48-linux-7.2", "x86_64-4K-48-linux-6.12"])
def test_a_reference_that_is_counted_while_the_count_is_switched_is_lost_but_for_the_grace_period(
    configuration: str,
) -> None:
    """percpu_ref_tryget_live_rcu() looks at the mode, and then counts: lib/percpu-refcount.c sums up after RCU.

    One that is dropped meanwhile is lost as well, and then waited for for ever.
    """
    ends = behaviours(CASE, "no-grace-period", configuration)
    assert ((None, "KernelBug"), ()) in ends, "the struct page is gone under who holds a reference"
    reason, lines = counterexample(CASE, "no-grace-period", configuration)
    assert reason == "deadlock: unbind at wait for 1 references to the device's mapping"
    assert kinds(lines, "lookup")[-2:] == ["add dev_pagemap.ref.percpu_count", "leave rcu"]
    assert decided(CASE, "generic", configuration).word == "safe"


@pytest.mark.parametrize("variant", ["generic", "fs-dax", "p2pdma", "private", "two-ranges"])
def test_kill_and_wait_is_safe_for_every_type_and_for_two_ranges(variant: str) -> None:
    verdict = decided(CASE, variant, NOW)
    assert verdict.word == "safe"
    assert verdict.coverage.executions > 2
    assert verdict.coverage.deadlocks == 0


def test_kill_and_cleanup_of_the_drivers_own_are_safe() -> None:
    verdict = decided(CASE, "own-count", THEN)
    assert (verdict.word, verdict.coverage.executions > 2) == ("safe", True)


def test_pages_under_dma_are_waited_for_where_each_drops_its_own_reference_and_else_not() -> None:
    """5.13 mm/memremap.c:memunmap_pages puts each page; by 6.12 it puts all references itself."""
    then = decided(CASE, "dma-each-page", THEN)
    assert (then.word, then.coverage.executions > 1) == ("safe", True)
    reason, lines = counterexample(CASE, "dma-at-once", NOW)
    assert "mm/gup.c:unpin_user_page" in reason
    assert lines[-1].name == "DMA"


def test_the_variants_cover_the_types_that_drivers_use() -> None:
    assert set(DEVICES) == {variant.name for variant in CASE.variants}
    types = {shape.type for shape in DEVICES.values()}
    assert types == set(MemoryType) - {MemoryType.COHERENT}


def test_a_copy_of_a_kernel_drains_the_copy_of_its_mapping() -> None:
    variant = CASE.variant("generic")
    k = boot_near(variant.config(variant.configurations[0]))
    pgmap = device(k, DEVICES["generic"])
    memremap_pages(k, pgmap, 0)
    again = deepcopy(k)
    copied = again.statics(Memremap).pgmap_array.get(next(iter(again.statics(Memremap).pgmap_array))[0])
    assert copied is not None and copied is not pgmap
    memunmap_pages(again, copied)
    assert copied.done
    assert not pgmap.done
    devm_memremap_pages_release(k, pgmap)
    assert pgmap.done and pgmap.slab.freed_by
    assert not k.hw.violations
