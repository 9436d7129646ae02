"""The CPU on which what ``call_rcu()`` was given is done while schedules are explored.

It is one more thread behind the actors, and has ended until somebody gives it something: then it waits for the grace
period, and what it does from there on comes at any time. There is one of them, so that callbacks are done one after the
other, where a kernel does those of each CPU so.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.linux.kernel.rcu import rcu_do_batch
from memhp.linux.state import Kernel

RCU_CALLBACKS = "RCU callbacks"
"""The thread's name."""


def do_callbacks(k: Kernel) -> None:
    """Do all that there is, and end."""
    rcu_do_batch(k.hw)
