"""A memory block that somebody has found while it is removed."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

from deciding import counterexample, decided
from memhp.explore.case import Configuration
from memhp.explore.cases.memory_block_lookup import CASE
from memhp.explore.cases.near_dimm import add_near, boot_near, near_dimm, remove_near
from memhp.hw.lifetime import SlabObject, kfree
from memhp.linux.drivers.base.memory_lookup import find_memory_block_by_id, memblk_nr_poison_inc, memory_block_put
from memhp.linux.state import Kernel

WHERE = ("riscv64-4K-48-linux-6.12", "arm64-64K-48-linux-7.2", "x86_64-4K-48-linux-7.2")


def machine() -> tuple[Kernel, int]:
    """A machine with an offline memory block: the kernel, the block's id."""
    k = boot_near(CASE.variant("reference-held").config(Configuration("riscv64", 4096, 48)))
    add_near(k)
    return k, near_dimm(k).start // k.memory_block_size


@pytest.mark.parametrize("configuration", WHERE)
def test_a_pointer_without_a_reference_outlives_the_block(configuration: str) -> None:
    reason, lines = counterexample(CASE, "reference-missing", configuration)
    assert reason.startswith("use-after-free: memory")
    assert "memory_block_release" in reason
    assert lines[-1].name == "reader"


@pytest.mark.parametrize("configuration", WHERE)
def test_a_reference_keeps_the_block_until_it_is_given_back(configuration: str) -> None:
    verdict = decided(CASE, "reference-held", configuration)
    assert (verdict.word, verdict.coverage.executions) == ("safe", 4)


def test_without_the_hotplug_lock_the_block_may_go_before_the_reference_is_taken() -> None:
    """drivers/base/memory.c:find_memory_block_by_id, in 7.2 memory_block_get(): xa_load(), then get_device()."""
    reason, lines = counterexample(CASE, "lookup-unlocked", WHERE[1])
    assert reason.endswith("(drivers/base/core.c:get_device)")
    assert not any(line.kind == "lock" for line in lines if line.name == "memory failure")
    assert CASE.variant("lookup-unlocked").current(CASE.variant("lookup-unlocked").configuration(WHERE[1]))


def test_a_removed_block_is_freed_with_its_last_reference_and_found_no_more() -> None:
    k, block_id = machine()
    dev = find_memory_block_by_id(k, block_id)
    assert dev is not None and dev.refs == 2
    remove_near(k)
    assert (dev.refs, dev.slab.freed_by) == (1, "")
    assert find_memory_block_by_id(k, block_id) is None
    memory_block_put(k, dev)
    assert dev.slab.freed_by == "drivers/base/memory.c:memory_block_release"
    assert not k.hw.violations


def test_a_block_added_again_is_another_device() -> None:
    k, block_id = machine()
    old = find_memory_block_by_id(k, block_id)
    remove_near(k)
    add_near(k)
    new = find_memory_block_by_id(k, block_id)
    assert old is not None and new is not None and old is not new
    assert memblk_nr_poison_inc(k, near_dimm(k).start >> k.config.page_shift)


def test_freeing_twice_is_a_use_after_free() -> None:
    k, _ = machine()
    thing = SlabObject("memory9")
    kfree(k.hw, thing, "first")
    kfree(k.hw, thing, "second")
    assert [(each.law, each.where) for each in k.hw.violations] == [("use-after-free", "second")]
