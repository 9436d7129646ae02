"""Memory and node notifiers: whoever wants to hear of memory going online or offline, and may refuse.

``memory_notify()`` of drivers/base/memory.c and, since 6.17, ``node_notify()`` of drivers/base/node.c. A chain stops at
the first refusal; all of it, those behind the refusal as well, hear of that by a second action, ``MEM_CANCEL_*`` or
``NODE_CANCEL_*``. A refusal is ``NOTIFY_BAD``, which ``notifier_to_errno()`` makes EPERM, or has an errno of its own
(``notifier_from_errno()``).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from errno import EPERM
from typing import Literal

from memhp.linux.place import of_file
from memhp.linux.state import Kernel

KERNEL_FILE = "drivers/base/memory.c"
NOTIFY_BAD_ERRNO = EPERM
MEMORY_CHAIN = "memory_chain.rwsem"
"""The chain's lock, shared while notifiers are told, alone while one comes or goes; of nodes none does after boot.

It has no place in the order of locks here: a virtio-mem device's mutex is taken by one call of its notifier and let go
by another, with lockdep off (``virtio_mem_memory_notifier_cb()``).
"""

MemoryAction = Literal[
    "MEM_PREPARE_ONLINE",
    "MEM_GOING_ONLINE",
    "MEM_CANCEL_ONLINE",
    "MEM_ONLINE",
    "MEM_GOING_OFFLINE",
    "MEM_CANCEL_OFFLINE",
    "MEM_OFFLINE",
    "MEM_FINISH_OFFLINE",
]
NodeAction = Literal[
    "NODE_ADDING_FIRST_MEMORY",
    "NODE_CANCEL_ADDING_FIRST_MEMORY",
    "NODE_ADDED_FIRST_MEMORY",
    "NODE_REMOVING_LAST_MEMORY",
    "NODE_CANCEL_REMOVING_LAST_MEMORY",
    "NODE_REMOVED_LAST_MEMORY",
]


@dataclass(frozen=True)
class Refusal:
    """Why a notifier will not have it, and what ``notifier_to_errno()`` makes of its answer."""

    reason: str
    errno: int = NOTIFY_BAD_ERRNO


MemoryNotifier = Callable[[Kernel, str, int, int], str | Refusal]
"""``(k, action, start_pfn, nr_pages) -> "" or why not``: a text is NOTIFY_BAD with a reason."""

NodeNotifier = Callable[[Kernel, str, int], str | Refusal]
"""``(k, action, nid) -> "" or why not``."""


@dataclass
class Chains:
    """``memory_chain`` and ``node_chain``: who is told, in this order."""

    memory: list[MemoryNotifier] = field(default_factory=list)
    node: list[NodeNotifier] = field(default_factory=list)


def register_memory_notifier(k: Kernel, notifier: MemoryNotifier) -> None:
    """Somebody wants to hear of memory from now on."""
    with k.hw.locked(MEMORY_CHAIN, ordered=False):
        k.statics(Chains).memory.append(notifier)


def unregister_memory_notifier(k: Kernel, notifier: MemoryNotifier) -> None:
    """Somebody does not any more, and is in no call when this returns."""
    with k.hw.locked(MEMORY_CHAIN, ordered=False):
        k.statics(Chains).memory.remove(notifier)


def memory_notify(k: Kernel, action: MemoryAction, start_pfn: int, nr_pages: int) -> Refusal | None:
    """Tell the memory notifiers in the order in which they registered: how the first that refused did."""
    with k.hw.locked(MEMORY_CHAIN, write=False, ordered=False):
        return _first(notifier(k, action, start_pfn, nr_pages) for notifier in k.statics(Chains).memory)


@of_file("drivers/base/node.c")
def node_notify(k: Kernel, action: NodeAction, nid: int) -> Refusal | None:
    """Tell the node notifiers: how the first that refused did."""
    return _first(notifier(k, action, nid) for notifier in k.statics(Chains).node)


def _first(answers: Iterable[str | Refusal]) -> Refusal | None:
    """The first answer that is a refusal; those behind it are not asked."""
    for answer in answers:
        if answer:
            return Refusal(answer) if isinstance(answer, str) else answer
    return None
