"""Read-copy-update: ``kernel/rcu/``.

A grace period waits for the readers that there were when it began. Others may begin meanwhile: nobody waits for them,
and they wait for nobody.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import AbstractContextManager

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
    before = hw.grace_period(RCU)
    hw.wait(lambda: not before & hw.readers_of(RCU), "a grace period", RCU)


@kernel_function(f"{KERNEL_FILE}:kvfree_call_rcu")
def kfree_rcu(hw: Machine, thing: SlabObject, where: str) -> None:
    """Free an object once whoever may have found it before has finished; the caller goes on at once."""
    thing.spares = hw.grace_period(RCU)
    kfree(hw, thing, where)
