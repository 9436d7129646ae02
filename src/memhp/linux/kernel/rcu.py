"""Read-copy-update, as a read/write lock: ``kernel/rcu/``.

A writer waits until no reader is left at all, where the kernel waits for those only that were there when it began. With
one reader at a time that is the same.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from contextlib import AbstractContextManager

from memhp.hw.machine import Machine

RCU = "rcu"


def rcu_read_lock(hw: Machine) -> AbstractContextManager[None]:
    """What is read within a ``with`` block stays for as long."""
    return hw.locked(RCU, write=False)


def synchronize_rcu(hw: Machine) -> None:
    """Wait until whoever may have read what was there before has finished."""
    with hw.locked(RCU):
        pass
