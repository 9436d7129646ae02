"""Waiting until something about a variable is so: ``kernel/sched/wait_bit.c``.

Whoever waits stands in a queue before it looks; whoever changes the variable wakes those in the queue. A waiter that
nobody wakes sleeps, whatever the variable says.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass, field

from memhp.hw.shared import marked
from memhp.linux.place import kernel_function
from memhp.linux.state import Kernel

KERNEL_FILE = "kernel/sched/wait_bit.c"
QUEUE = "wait_queue_head"


@dataclass
class WaitQueues:
    """The variables that somebody waits for, by address: here the PFN whose page it belongs to."""

    asleep: set[int] = field(default_factory=set, metadata=marked(QUEUE))


@kernel_function(None)
def wait_var_event(k: Kernel, pfn: int, ready: Callable[[], bool], why: str, lock: str = "") -> None:
    """Sleep until somebody calls :func:`wake_up_var`, unless `ready()`: one round of ``___wait_var_event()``.

    `lock`, which the caller holds, is let go of while it sleeps. KernelBug when nobody is left who would wake it.
    """
    queues = k.statics(WaitQueues)
    k.hw.atomic(QUEUE)
    queues.asleep.add(pfn)
    if ready():
        k.hw.atomic(QUEUE)
        queues.asleep.discard(pfn)
        return
    if lock:
        k.hw.unlock(lock)
    k.hw.wait(lambda: pfn not in queues.asleep, why, on=QUEUE)
    if lock:
        k.hw.lock(lock)


def wake_up_var(k: Kernel, pfn: int) -> None:
    """Wake those who wait for the page's variable."""
    k.hw.atomic(QUEUE)
    k.statics(WaitQueues).asleep.discard(pfn)
