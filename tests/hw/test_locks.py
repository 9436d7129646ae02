"""Locks taken in a circle are found though nobody waits for anybody, as lockdep finds them."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Sequence
from copy import deepcopy

import pytest

from kernels import kernel
from memhp.check import check_all
from memhp.explore.doors.run import KernelProgram
from memhp.explore.engine.shortest import decide
from memhp.hw.machine import Machine
from memhp.linux.formats import FORMATS
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
