"""Read-copy-update: ``kernel/rcu/``.

A grace period waits for the readers that there were when it began. Others may begin meanwhile: nobody waits for them,
and they wait for nobody. What ``call_rcu()`` is given is done after one, in the order in which it was given, by whoever
has nothing else to do: the last reader, or a CPU of its own where schedules are explored
(:mod:`memhp.explore.doors.callbacks`).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from contextlib import AbstractContextManager

from memhp.hw.callback import must_take_nothing
from memhp.hw.lifetime import RCU, SlabObject, kfree
from memhp.hw.machine import Machine
from memhp.linux.place import kernel_function

KERNEL_FILE = "kernel/rcu/tree.c"


@kernel_function(None)
def rcu_read_lock(hw: Machine) -> AbstractContextManager[None]:
    """What is read within a ``with`` block stays for as long."""
    return hw.section(RCU)


def synchronize_rcu(hw: Machine) -> None:
    """Wait until whoever may have read what was there before has finished.

    KernelBug, or a deadlock, within a read-side section: it would wait for itself.
    """
    wait_for_readers(hw, hw.grace_period(RCU))


@kernel_function(None)
def wait_for_readers(hw: Machine, before: frozenset[int]) -> None:
    """Wait until none of these read-side sections is left."""
    hw.wait(lambda: not before & hw.readers_of(RCU), "a grace period", RCU)


def call_rcu(hw: Machine, callback: Callable[[], None]) -> None:
    """Have something done after a grace period, once; the caller goes on at once. TypeError: it cannot be done so."""
    must_take_nothing(callback, "call_rcu()")
    before = hw.grace_period(RCU)
    hw.callbacks.append((RCU, before, callback))
    hw.do_due_callbacks()


def rcu_do_batch(hw: Machine) -> None:
    """Do all that ``call_rcu()`` was given, each once its grace period is over."""
    while hw.callbacks:
        _, before, callback = hw.callbacks[0]
        wait_for_readers(hw, before)
        del hw.callbacks[0]
        callback()


@kernel_function(f"{KERNEL_FILE}:kvfree_call_rcu")
def kfree_rcu(hw: Machine, thing: SlabObject, where: str) -> None:
    """Free an object once whoever may have found it before has finished; the caller goes on at once."""
    kfree(hw, thing, where, hw.grace_period(RCU))
