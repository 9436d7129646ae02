"""Read-copy-update: ``kernel/rcu/``.

A grace period waits for the readers that there were when it began. Others may begin meanwhile: nobody waits for them,
and they wait for nobody.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Iterator
from contextlib import contextmanager

from memhp.hw.machine import Machine
from memhp.linux.place import kernel_function

KERNEL_FILE = "kernel/rcu/tree.c"
RCU = "rcu"


@contextmanager
@kernel_function(None)
def rcu_read_lock(hw: Machine) -> Iterator[None]:
    """What is read within a ``with`` block stays for as long."""
    hw.enter(RCU)
    try:
        yield
    finally:
        hw.leave(RCU)


def synchronize_rcu(hw: Machine) -> None:
    """Wait until whoever may have read what was there before has finished.

    KernelBug, or a deadlock, within a read-side section: it would wait for itself.
    """
    hw.atomic(RCU)
    before = hw.readers_of(RCU)
    hw.wait(lambda: not before & hw.readers_of(RCU), "a grace period", RCU)
