"""Locks taken in a circle are found though nobody waits for anybody, as lockdep finds them."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence
from copy import deepcopy

import pytest

from kernels import PLUG_AT, kernel, plug
from memhp.check import check_all
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.shortest import decide
from memhp.hw.locks import LockKind
from memhp.hw.machine import Machine
from memhp.linux.arch.registry import Arch
from memhp.linux.drivers.base.memory_state import state_store
from memhp.linux.formats import FORMATS
from memhp.linux.kernel.rcu import rcu_read_lock, synchronize_rcu
from memhp.linux.mm.memory_hotplug_add import MHP_NONE, add_memory
from memhp.linux.mm.memory_hotplug_remove import offline_and_remove_memory
from memhp.linux.state import Kernel


def nest(hw: Machine, names: Sequence[str]) -> None:
    """Take locks, each under those before it, and let them go."""
    if names:
        with hw.locked(names[0]):
            nest(hw, names[1:])


@pytest.fixture
def hw() -> Machine:
    return Machine(FORMATS["riscv64-sv48"])


def test_two_locks_in_both_orders_are_a_circle(hw: Machine) -> None:
    nest(hw, ["a", "b"])
    nest(hw, ["a", "c", "b"])
    assert hw.violations == []
    nest(hw, ["b", "a"])
    assert [violation.law for violation in hw.violations] == ["lock-order"]
    assert hw.violations[0].text == "a under b under a: locks that are taken in a circle"


def test_a_circle_may_have_any_number_of_locks_and_be_closed_on_another_cpu(hw: Machine) -> None:
    nest(hw, ["a", "b", "c"])
    nest(hw, ["c", "d"])
    hw.cpu = 1
    later = deepcopy(hw)
    nest(later, ["d", "a"])
    assert hw.violations == []
    assert [violation.text.partition(":")[0] for violation in later.violations] == ["a under d under c under a"]


def test_locks_let_go_before_the_next_is_taken_have_no_order(hw: Machine) -> None:
    nest(hw, ["a"])
    nest(hw, ["b"])
    hw.lock("a")
    hw.unlock("a")
    nest(hw, ["b", "a"])
    nest(hw, ["b", "a"])
    assert hw.violations == []


def test_who_only_tries_never_waits_but_makes_others_wait(hw: Machine) -> None:
    nest(hw, ["a", "b"])
    with hw.locked("b"):
        assert hw.trylock("a")
        hw.unlock("a")
    assert hw.violations == []
    assert hw.trylock("b")
    hw.lock("a")
    assert [violation.law for violation in hw.violations] == ["lock-order"]


def test_a_device_lock_has_no_place_in_the_order(hw: Machine) -> None:
    nest(hw, ["a", "b"])
    with hw.locked("b", ordered=False):
        nest(hw, ["a"])
    assert hw.violations == []


def test_a_circle_is_found_where_a_third_lock_keeps_it_from_being_a_deadlock() -> None:
    def first(k: Kernel) -> None:
        nest(k.hw, ["gate", "a", "b"])

    def second(k: Kernel) -> None:
        nest(k.hw, ["gate", "b", "a"])

    verdict = decide(KernelProgram(kernel("riscv64"), (first, second), ("first", "second")).run())
    assert verdict.failure is not None
    assert verdict.failure.reason.startswith("lock-order: ")


def test_a_circle_breaks_the_law_of_locks() -> None:
    k = kernel("riscv64")
    nest(k.hw, ["a", "b"])
    nest(k.hw, ["b", "a"])
    assert [breach.law for breach in check_all(k)] == ["locks"]


@pytest.mark.parametrize("name", ["zone0/DMA32.lock", "resource_lock", "init_mm.page_table_lock"])
@pytest.mark.parametrize("write", [True, False])
def test_nobody_sleeps_under_a_lock_that_spins_shared_or_not(name: str, write: bool) -> None:
    """zone->lock is a spinlock_t, resource_lock an rwlock_t; device_hotplug_lock is a mutex, mem_hotplug_lock a
    percpu rwsem: mmzone.h, kernel/resource.c, drivers/base/core.c, mm/memory_hotplug.c."""
    k = kernel("riscv64")
    with k.hw.locked(name, write=write):
        assert k.hw.trylock("device_hotplug_lock")
        k.hw.unlock("device_hotplug_lock")
        assert k.hw.violations == []
        with k.hw.locked("mem_hotplug_lock", write=False):
            pass
        synchronize_rcu(k.hw)
    assert [(one.law, one.text.rpartition(": ")[2]) for one in k.hw.violations] == [
        ("atomic-sleep", f"mem_hotplug_lock is taken under {name}"),
        ("atomic-sleep", f"wait for a grace period under {name}"),
    ]
    assert {breach.law for breach in check_all(k)} == {"locks"}


def test_nobody_sleeps_in_a_reader_of_rcu_but_a_lock_that_spins_may_be_taken() -> None:
    k = kernel("riscv64")
    with rcu_read_lock(k.hw):
        nest(k.hw, ["resource_lock"])
        assert k.hw.violations == []
        nest(k.hw, ["mf_mutex"])
    assert [one.text.rpartition(": ")[2] for one in k.hw.violations] == ["mf_mutex is taken under rcu_read_lock()"]


def test_once_it_is_let_go_of_a_cpu_may_sleep_and_others_may_all_along() -> None:
    k = kernel("riscv64")
    nest(k.hw, ["resource_lock"])
    k.hw.lock("init_mm.page_table_lock")
    k.hw.cpu = 1
    nest(k.hw, ["mf_mutex"])
    k.hw.cpu = 0
    k.hw.unlock("init_mm.page_table_lock")
    nest(k.hw, ["mf_mutex", "mem_hotplug_lock", "resource_lock"])
    assert k.hw.violations == []


def test_of_a_lock_that_is_no_kernels_nothing_is_known(hw: Machine) -> None:
    k = kernel("riscv64")
    for machine in (hw, k.hw):
        nest(machine, ["resource_lock", "mine"])
        assert machine.violations == []


@pytest.mark.parametrize("arch", ["riscv64", "arm64", "x86_64"])
def test_of_every_lock_that_memory_takes_as_it_comes_and_goes_the_kind_is_known(arch: Arch) -> None:
    k = kernel(arch)
    plug(k, k.memory_block_size)
    add_memory(k, 0, PLUG_AT, k.memory_block_size, MHP_NONE)
    state_store(k, k.block_id(PLUG_AT >> k.config.page_shift), "online_movable")
    offline_and_remove_memory(k, PLUG_AT, k.memory_block_size)
    assert len(k.hw.locks) > 5
    assert [name for name, lock in k.hw.locks.items() if lock.kind is LockKind.UNKNOWN] == []
    assert k.hw.violations == []
